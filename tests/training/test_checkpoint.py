import sys

import pytest
import torch

from nordocr_cli.errors import ArtifactError, DataError
from nordocr_cli.training import checkpoint
from nordocr_cli.training.checkpoint import load_state, restore_rng, rng_state, save_state


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_state_survives_kills_between_its_hash_and_its_name(tmp_path, monkeypatch):
    save_state(tmp_path, {"step": 0})
    write = checkpoint.write_text

    def write_and_die(path, text):
        write(path, text)
        raise Killed

    monkeypatch.setattr(checkpoint, "write_text", write_and_die)
    for step in (1, 2, 3):
        with pytest.raises(Killed):
            save_state(tmp_path, {"step": step})
        assert load_state(tmp_path)["step"] == 0
    monkeypatch.undo()
    save_state(tmp_path, {"step": 4})
    assert load_state(tmp_path)["step"] == 4
    (tmp_path / "state.pt").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="damaged"):
        load_state(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_full_disk_is_an_error_that_keeps_the_old_state(tmp_path, small_files):
    save_state(tmp_path, {"step": 1})
    with small_files(), pytest.raises(DataError, match=r"cannot write .*state\.pt"):
        save_state(tmp_path, {"step": 2, "model": torch.zeros(100_000)})
    assert load_state(tmp_path)["step"] == 1


def test_random_numbers_come_back_and_those_of_another_device_are_missed():
    cpu = torch.device("cpu")
    state = rng_state(cpu)
    drawn = torch.rand(3)
    assert restore_rng(state, cpu)
    assert torch.equal(torch.rand(3), drawn)
    assert not restore_rng({**state, "cuda": [state["cpu"]]}, cpu)
    assert not restore_rng(state, torch.device("cuda", 0))
