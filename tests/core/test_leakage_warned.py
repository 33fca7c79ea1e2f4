"""Training warns when its validation lines are near copies of its training lines."""

import numpy as np

from nordocr_cli.charset import NORDIC
from nordocr_cli.core.leakage import leakage_of_run, run_of
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.profile import load_profile


def noisy_copy(store, path):
    """The lines of a store with a little noise, under other ids."""
    random = np.random.default_rng(0)
    with (
        LineStore(store) as lines,
        LineStoreWriter(path, lines.header.geometry, NORDIC) as writer,
    ):
        for index in range(len(lines)):
            row, image = lines.row(index), lines.image(index)
            noise = random.normal(0, 4, image.shape)
            noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
            writer.add(noisy, type(row)(f"copy-{index}", row.image, row.text))
    return path


def test_near_copies_in_validation_are_warned_of(
    tiny_run, tiny_sets, tmp_path, heard
) -> None:
    digits = tiny_run.parent / "digits.lmdb"
    copies = noisy_copy(digits, tmp_path / "val.lmdb")
    profile = load_profile("svtrv2-nano", [*tiny_sets, "train.batch_size=4"])
    options = {"max_steps": 1, "threads": 1, "device": "cpu"}
    train(
        profile,
        TrainRequest((digits,), (copies,), tmp_path / "a", **options),
        progress=heard,
    )
    assert "of 12 lines in --val, --train has 12 near copies" in " ".join(heard.warnings)
    heard.warnings.clear()
    allowed = TrainRequest(
        (digits,), (copies,), tmp_path / "b", allow_leakage=True, **options
    )
    train(profile, allowed, progress=heard)
    assert "near copies" not in " ".join(heard.warnings)


def test_a_runs_own_lines_are_found_in_a_store(tiny_run, tmp_path, heard) -> None:
    digits = tiny_run.parent / "digits.lmdb"
    assert run_of(tiny_run / "best.safetensors") == tiny_run
    assert run_of(tmp_path / "elsewhere.safetensors") is None
    assert "12 exact copies" in leakage_of_run(tiny_run, [digits], heard)
