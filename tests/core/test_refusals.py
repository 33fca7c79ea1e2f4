"""Damaged or mismatched data, profiles and checkpoints: each is refused by one
sentence that says how to fix it, and nothing is made.
"""

import re
import shutil

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC, Charset
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow


def write_store(path, text="12", charset=NORDIC, geometry=None, width=80):
    geometry = geometry or Geometry(max_width=160)
    with LineStoreWriter(path, geometry, charset) as writer:
        image = np.full((geometry.height, width, 3), 255, np.uint8)
        cv2.putText(image, "12", (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
        writer.add(image, LineRow(id="line-0", image="0.png", text=text))
    return path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def place(tiny_run, tmp_path_factory):
    """A folder with the good store `digits.lmdb` and run `a`, and what is wrong beside them."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(tiny_run, folder / "a")
    shutil.copytree(tiny_run.parent / "digits.lmdb", folder / "digits.lmdb")
    shutil.copytree(folder / "digits.lmdb", folder / "damaged.lmdb")
    (folder / "damaged.lmdb" / "data.mdb").write_bytes(b"not LMDB" * 2000)
    write_store(folder / "few.lmdb", charset=Charset("few", "0123456789"))
    write_store(folder / "tall.lmdb", geometry=Geometry(height=48, max_width=160))
    write_store(folder / "crowded.lmdb", text="1111222233334444", width=20)
    for name in ("flipped", "stateless", "unproved"):
        shutil.copytree(tiny_run, folder / name)
    flip(folder / "flipped" / "best.safetensors")
    flip(folder / "flipped" / "state.pt")
    (folder / "stateless" / "state.pt").unlink()
    (folder / "unproved" / "state.pt.sha256").unlink()
    return folder


GOOD = (
    "--train",
    "digits.lmdb",
    "--val",
    "digits.lmdb",
    "--run-dir",
    "new",
    "--max-steps",
    "1",
    "--device",
    "cpu",
)


def stores(name):
    return ("--train", name, *GOOD[2:])


@pytest.mark.parametrize(
    ("arguments", "code", "problem", "remedy"),
    [
        # the profile
        (
            (*GOOD, "--set", "train.lrr=1e-3"),
            2,
            "unknown key 'train.lrr'",
            "did you mean 'lr'",
        ),
        (
            (*GOOD, "--set", "train.warmup_ratio=2"),
            2,
            "train.warmup_ratio",
            "should be less than 1",
        ),
        ((*GOOD, "--set", "charset=nordik"), 2, "--set.*charset", "did you mean 'nordic'"),
        (
            (*GOOD, "--set", "train.trainable=['classifer']"),
            2,
            "'classifer' matches no parameter",
            "classifier",
        ),
        # the data
        (
            stores("nowhere.lmdb"),
            2,
            "no line store nowhere.lmdb",
            "make one with `nordocr prep`",
        ),
        (stores("damaged.lmdb"), 3, "damaged.lmdb", "prep"),
        (stores("few.lmdb"), 3, "few.lmdb.*charset", "prep"),
        (stores("tall.lmdb"), 3, "tall.lmdb.*height", "prep"),
        (
            stores("crowded.lmdb"),
            3,
            "'line-0' needs 28 CTC frames and has 5",
            "prepare again",
        ),
        # the checkpoint
        ((*GOOD, "--load", "flipped"), 3, "best.safetensors", "again|another"),
        (
            (*GOOD, "--load", "a", "--set", "model.dims=[24, 48, 96]"),
            3,
            "model options",
            r"--set .model\.dims=",
        ),
        (("--resume", "flipped"), 3, "is damaged", "Start a new run with"),
        (("--resume", "unproved"), 3, "sha256 is missing", "copy it too"),
        (("--resume", "stateless"), 2, "holds no state.pt", "Start a new run with --load"),
        (
            ("--resume", "a", "--set", "train.lr=2e-3"),
            2,
            "train.lr is 0.001 there and 0.002 now",
            "A new run from its weights: --load",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_the_remedy(
    place, tiny_sets, monkeypatch, arguments, code, problem, remedy
):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    # those of run `a`
    values = [*tiny_sets, "train.log_every=1", "train.batch_size=4", "train.lr=1e-3"]
    given = [part for value in values for part in ("--set", value)]
    bare = arguments[0] == "--resume" and "--set" not in arguments
    done = CliRunner().invoke(
        app, ["train", *([] if bare else ["-p", "svtrv2-nano", *given]), *arguments]
    )
    said = str(done.exception)
    assert getattr(done.exception, "exit_code", None) == code, said
    assert re.search(problem, said), said
    assert re.search(remedy, said), said
    assert said.count("\n") <= 1
    assert sorted(place.rglob("*")) == before
