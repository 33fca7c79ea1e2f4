"""Every line of every layout of pages is kept, or counted under the reason why it is not."""

import json
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.core.prep.run import prep
from nordocr_cli.profile import load_profile

PROFILE = load_profile("svtrv2-nano").profile
LINE_HEIGHT, WIDTH = 50, 400

# What a line of a page may be, and what becomes of it: `kept` or a reason.
KINDS = {
    "good": "kept",
    "empty": "empty-text",
    "foreign": "oov",
    "blank": "no-ink",
    "long": "ctc-infeasible",
    "broken": "bad-row",
    "illegible": "illegible",
}
TEXTS = {"empty": "", "foreign": "丁", "long": "x" * 300, "illegible": "###"}
# Only label files of photographs mark what nobody could read.
MARKS_ILLEGIBLE = ("paddle", "coco", "icdar")

Line = tuple[str, tuple[int, int, int, int]]


def lines_of(kinds: list[str]) -> list[Line]:
    """Text and box (left, top, right, bottom) of a line of each kind; the box of a broken one has
    no area.
    """
    found = []
    for number, kind in enumerate(kinds):
        top = 10 + number * LINE_HEIGHT
        bottom = top if kind == "broken" else top + 40
        found.append((TEXTS.get(kind, f"Rad {number}"), (10, top, 390, bottom)))
    return found


def draw_page(path: Path, kinds: list[str]) -> None:
    page = np.full((20 + LINE_HEIGHT * len(kinds), WIDTH), 255, np.uint8)
    for number, kind in enumerate(kinds):
        if kind != "blank":
            where = (14, 40 + number * LINE_HEIGHT)
            cv2.putText(page, f"Rad {number}", where, cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2)
    cv2.imwrite(str(path), page)


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def write_page_xml(folder: Path, lines: list[Line]) -> None:
    body = ""
    for text, box in lines:
        points = " ".join(f"{x},{y}" for x, y in corners(box))
        body += f'<TextLine><Coords points="{points}"/><TextEquiv><Unicode>{escape(text)}'
        body += "</Unicode></TextEquiv></TextLine>"
    (folder / "page.xml").write_text(
        f'<PcGts><Page imageFilename="page.png"><TextRegion>{body}</TextRegion></Page></PcGts>',
        encoding="utf-8",
    )


def write_alto(folder: Path, lines: list[Line]) -> None:
    body = ""
    for text, (left, top, right, bottom) in lines:
        place = f'HPOS="{left}" VPOS="{top}" WIDTH="{right - left}" HEIGHT="{bottom - top}"'
        body += f'<TextLine {place}><String CONTENT="{escape(text)}" {place}/></TextLine>'
    (folder / "page.xml").write_text(
        f"<alto><Layout><Page><PrintSpace><TextBlock>{body}</TextBlock></PrintSpace></Page>"
        "</Layout></alto>",
        encoding="utf-8",
    )


def write_hocr(folder: Path, lines: list[Line]) -> None:
    body = ""
    for text, box in lines:
        title = "bbox " + " ".join(map(str, box))
        body += f'<span class="ocr_line" title="{title}">{escape(text)}</span>'
    (folder / "page.hocr").write_text(
        f'<html><body><div class="ocr_page" title="image page.png">{body}</div></body></html>',
        encoding="utf-8",
    )


def write_paddle(folder: Path, lines: list[Line]) -> None:
    regions = [{"transcription": text, "points": corners(box)} for text, box in lines]
    label = f"page.png\t{json.dumps(regions, ensure_ascii=False)}\n"
    (folder / "Label.txt").write_text(label, encoding="utf-8")


def write_coco(folder: Path, lines: list[Line]) -> None:
    annotations = []
    for number, (text, (left, top, right, bottom)) in enumerate(lines):
        box = [left, top, right - left, bottom - top]
        legibility = "illegible" if text == "###" else "legible"
        annotation = {"id": number, "image_id": 1, "bbox": box, "legibility": legibility}
        annotations.append({**annotation, "utf8_string": text})
    content = {"imgs": {"1": {"id": 1, "file_name": "page.png"}}}
    content["anns"] = {str(each["id"]): each for each in annotations}
    (folder / "cocotext.json").write_text(json.dumps(content), encoding="utf-8")


def write_icdar(folder: Path, lines: list[Line]) -> None:
    rows = []
    for text, box in lines:
        numbers = ",".join(str(number) for corner in corners(box) for number in corner)
        rows.append(f"{numbers},{text}")
    (folder / "gt").mkdir()
    (folder / "gt" / "gt_page.txt").write_text("\n".join(rows), encoding="utf-8")


def write_result(folder: Path, lines: list[Line]) -> None:
    regions = []
    for text, (left, top, right, bottom) in lines:
        box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
        regions.append({"text": text, "bbox": box, "confidence": 0.9})
    content = {"pages": [{"page_index": 0, "regions": regions}]}
    (folder / "page.json").write_text(json.dumps(content), encoding="utf-8")


FORMS = {
    "page": write_page_xml,
    "alto": write_alto,
    "hocr": write_hocr,
    "paddle": write_paddle,
    "coco": write_coco,
    "icdar": write_icdar,
    "result": write_result,
}


@pytest.mark.parametrize("form", sorted(FORMS))
@given(kinds=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=10))
@settings(max_examples=6, deadline=None)
def test_every_line_is_kept_or_counted_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, form: str, kinds: list[str]
) -> None:
    folder = tmp_path_factory.mktemp(form)
    if form not in MARKS_ILLEGIBLE:
        kinds = [kind for kind in kinds if kind != "illegible"]
    kinds = ["good", *kinds]
    draw_page(folder / "page.png", kinds)
    FORMS[form](folder, lines_of(kinds))
    result = prep([folder], folder / "o.lmdb", PROFILE, oov="skip", on_bad="skip")
    expected = Counter(KINDS[kind] for kind in kinds)
    if form == "coco":
        # There an annotation without text is one that nobody could read.
        expected["illegible"] += expected.pop("empty-text", 0)
    expected = +expected
    assert result.kept == expected.pop("kept")
    assert Counter(result.left_out) == expected
    assert result.read == result.kept + sum(result.left_out.values()) == len(kinds)
