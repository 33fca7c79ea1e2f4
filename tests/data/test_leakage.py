"""Copies of training lines in a validation store are found, whatever was done to their pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.leakage import find_leakage
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

GEOMETRY = Geometry(max_width=1024)
RNG = np.random.default_rng(0)


def picture(text: str) -> np.ndarray:
    pixels = np.full((48, 900, 3), 245, np.uint8)
    cv2.putText(pixels, text, (8, 34), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
    return pixels


TEXTS = [
    f"Rad {number} om {number * number} kr och {number % 7} till" for number in range(40)
]


def write(
    path: Path, lines: list[tuple[np.ndarray, str]], prefix: str, source: str = ""
) -> Path:
    with LineStoreWriter(path, GEOMETRY, NORDIC) as writer:
        for number, (pixels, text) in enumerate(lines):
            row = LineRow(f"{prefix}{number}", f"{number}.png", text, source=source)
            writer.add(resize_line(pixels, GEOMETRY), row)
    return path


def leakage(trained: Path, tested: Path):
    with LineStore(trained) as first, LineStore(tested) as second:
        return find_leakage([first], [second])


COPIES = {
    "exact": lambda pixels: pixels,
    "noise": lambda p: np.clip(p + RNG.normal(0, 6, p.shape), 0, 255).astype(np.uint8),
    "jpeg": lambda p: cv2.imdecode(
        cv2.imencode(".jpg", p, (cv2.IMWRITE_JPEG_QUALITY, 40))[1], 1
    ),
    "recrop": lambda p: np.ascontiguousarray(p[2:-2, 4:-4]),
    "rescale": lambda p: cv2.resize(p, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_found_whatever_was_done_to_them(tmp_path: Path, copy: str) -> None:
    trained = write(tmp_path / "a.lmdb", [(picture(text), text) for text in TEXTS], "t")
    lines = [(COPIES[copy](picture(text)), text) for text in TEXTS]
    found = leakage(trained, write(tmp_path / "b.lmdb", lines, "v"))
    assert (found.exact if copy == "exact" else found.near) >= 38
    assert found.examples[0].startswith("'v0' is 't0'")
    assert "of 40 lines in b, a has" in found.describe("b", "a")


def test_other_lines_are_no_copies(tmp_path: Path) -> None:
    trained = write(
        tmp_path / "a.lmdb", [(picture(text), text) for text in TEXTS[:20]], "t"
    )
    tested = write(tmp_path / "b.lmdb", [(picture(text), text) for text in TEXTS[20:]], "v")
    assert not leakage(trained, tested).is_found


def test_lines_of_one_document_are_told(tmp_path: Path) -> None:
    lines = [(picture(text), text) for text in TEXTS]
    trained = write(tmp_path / "a.lmdb", lines[:20], "t", source="bok/0001:p1:r1")
    tested = write(tmp_path / "b.lmdb", lines[20:], "v", source="bok/0001:p1:r9")
    found = leakage(trained, tested)
    assert (found.of_documents, found.documents) == (20, 1)
