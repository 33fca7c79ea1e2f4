"""Weights files of other programs: what wraps the tensors, what stands beside them, and what is
refused.
"""

import os

import numpy as np
import pytest
import torch

from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.checkpoints.foreign import read_tensors

STATE = {"a.weight": torch.zeros(2), "a.bias": torch.zeros(1)}


class Code:
    def __reduce__(self):
        return (os.system, ("touch executed",))


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3, "optimizer": None},
        {
            "model": {
                "state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}
            }
        },
        {"model_state_dict": STATE},
        {
            "state_dict": STATE,
            "metrics": {
                "acc": np.float64(0.5),
                "lines": np.int64(3),
                "loss": np.float32(1),
                "best": np.bool_(1),
            },
        },
    ],
)
def test_the_tensors_under_whatever_wraps_them(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    assert read_tensors(tmp_path / "w.pth", "CHECKPOINT").keys() == STATE.keys()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**STATE, "x": Code()}, r"carries (posix|nt)\.system, which could run code"),
        (
            torch.nn.Linear(2, 2),
            r"carries torch\.nn\.modules\.linear\.Linear, which could run code",
        ),
        ({"weights": STATE}, "holds no tensors by name, but weights"),
        ({}, "holds no tensors by name, but nothing"),
        ([1, 2], "holds a list"),
    ],
)
def test_what_is_no_weights_file_is_named_and_nothing_runs(
    content, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ArtifactError, match=said):
        read_tensors(tmp_path / "w.pth", "CHECKPOINT")
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -100])
def test_a_file_cut_short_is_damaged_and_no_one_is_told_to_run_it(cut, tmp_path):
    """torch advises `weights_only=False` for some of them."""
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ArtifactError, match="damaged") as caught:
        read_tensors(path, "CHECKPOINT")
    assert "weights_only" not in str(caught.value)


def test_zeros_as_large_as_a_checkpoint_are_damaged(tmp_path):
    with open(tmp_path / "w.pth", "wb") as file:
        file.truncate(1 << 30)  # 1 GiB of nothing: it takes no room
    with pytest.raises(ArtifactError, match="damaged") as caught:
        read_tensors(tmp_path / "w.pth", "CHECKPOINT")
    assert "False" not in str(caught.value)
