"""Pictures of pages with their wrong lines marked."""

import json

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.core.eval.overlay import require_pages
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.errors import UsageError
from nordocr_cli.records import Recognition

TEXTS = ["Summa", "Årets resultat", "1 234"]
GREEN, RED = (30, 140, 60), (210, 50, 40)


class ReadsOneLineWrongly:
    """Reads the texts in order of the lines' widths, and one of them wrongly."""

    name = "reader"

    def recognize(self, images, languages):
        by_width = {120: "Summa", 180: "Arets resultat", 60: "1 234"}
        return [Recognition(by_width[image.shape[1]], 0.9) for image in images]


@pytest.fixture
def layout(tmp_path):
    """Two pages of 300 x 400 px, three lines on the first and one on the second."""
    page = Image.fromarray(np.full((300, 400), 255, dtype=np.uint8))
    page.save(tmp_path / "doc.tif", save_all=True, append_images=[page])
    widths = (120, 180, 60)
    regions = [
        {"text": text, "bbox": [20, 20 + 60 * at, 20 + width, 50 + 60 * at]}
        for at, (text, width) in enumerate(zip(TEXTS, widths, strict=True))
    ]
    pages = [{"page": 1, "regions": regions}, {"page": 2, "regions": regions[:1]}]
    path = tmp_path / "doc.json"
    path.write_text(json.dumps({"pages": pages}), encoding="utf-8")
    return path


def colors_of(picture, box):
    left, top, right, _ = box
    edge = np.asarray(picture)[top, left:right]
    return {tuple(int(value) for value in pixel) for pixel in edge}


def test_a_page_with_a_wrong_line_gets_a_picture_and_others_none(layout, tmp_path):
    folder = tmp_path / "pictures"
    result = evaluate("reader", layout, recognizer=ReadsOneLineWrongly(), overlay=folder)
    assert [path.name for path in folder.iterdir()] == ["doc-1.png"]
    assert str(folder / "doc-1.png") in result.files
    picture = Image.open(folder / "doc-1.png")
    assert picture.size == (800, 300)
    assert GREEN in colors_of(picture, (30, 20, 120, 50))
    assert RED in colors_of(picture, (30, 80, 190, 110))
    assert RED not in colors_of(picture, (30, 20, 120, 50))


def test_cut_lines_have_no_page_to_draw(layout, tmp_path):
    Image.new("L", (120, 30), 255).save(tmp_path / "a.png")
    manifest = tmp_path / "lines.jsonl"
    manifest.write_text(
        '{"id": "a", "image": "a.png", "text": "Summa"}\n', encoding="utf-8"
    )
    with pytest.raises(UsageError, match="no line of .* stands on a page"):
        evaluate(
            "reader", manifest, recognizer=ReadsOneLineWrongly(), overlay=tmp_path / "p"
        )
    with pytest.raises(UsageError, match="--overlay draws pages"):
        require_pages(None)
