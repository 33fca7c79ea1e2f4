"""What was read, a page at a time, and the formats that it is written in: text, JSON, JSONL, TSV,
ALTO, hOCR.

Every writer is a generator from pages to pieces of text, so that a folder of a million images is
never held in memory.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import nordocr_cli
from nordocr_cli.data.layouts.result_json import box_to_json, result_to_json
from nordocr_cli.data.resize import Pixels
from nordocr_cli.records import Box, Page, Recognition, Region


@dataclass(frozen=True)
class ReadLine:
    """One line that was read. `edges` are the left and right edge of each character in pixels of
    the page, as frames tell them (a frame is a few pixels wide); empty where the recognizer does
    not say.
    """

    box: Box
    reading: Recognition
    edges: tuple[tuple[float, float], ...] = ()

    def words(self) -> list[tuple[str, Box, float | None]]:
        """Return text, box and confidence of each word; a line whose letters have no place is one
        piece with its box.
        """
        text, confidences = self.reading.text, self.reading.char_confidences
        if len(self.edges) != len(text) or len(confidences) != len(text):
            return [(text, self.box, self.reading.confidence)] if text.strip() else []
        words: list[tuple[str, Box, float | None]] = []
        for found in re.finditer(r"\S+", text):
            inside = slice(found.start(), found.end())
            left, right = self.edges[inside][0][0], self.edges[inside][-1][1]
            mean = math.exp(
                sum(math.log(max(c, 1e-12)) for c in confidences[inside]) / len(confidences[inside])
            )
            words.append(
                (found[0], Box(left, self.box.y, max(right - left, 1.0), self.box.height), mean)
            )
        return words


@dataclass(frozen=True)
class ReadPage:
    """One page that was read. `index` counts from 0; None means an image of one line. `size` is
    (height, width) in pixels, `pixels` the page itself for those who draw it, `error` why it could
    not be read (then it has no lines).
    """

    source: Path
    index: int | None
    size: tuple[int, int]
    lines: tuple[ReadLine, ...]
    pixels: Pixels | None = field(default=None, compare=False, repr=False)
    error: str = ""

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield one JSON object a line, and one for a page that could not be read."""
        if self.error:
            yield (
                {"image": str(self.source)}
                | ({} if self.index is None else {"page_index": self.index})
                | {"error": self.error}
            )
        for line in self.lines:
            reading = line.reading
            place = (
                {}
                if self.index is None
                else {"page_index": self.index, "bbox": box_to_json(line.box)}
            )
            yield {
                "image": str(self.source),
                **place,
                "text": reading.text,
                "confidence": reading.confidence,
                "char_confidences": list(reading.char_confidences),
                "char_edges_px": [[round(left, 1), round(right, 1)] for left, right in line.edges],
            }


def write_text(pages: Iterable[ReadPage], *, named: bool) -> Iterator[str]:
    """One line of text a line; `named` puts the image's path and a tab before it."""
    for page in pages:
        for line in page.lines:
            yield (
                f"{_cell(str(page.source))}\t{line.reading.text}\n"
                if named and page.index is None
                else f"{line.reading.text}\n"
            )


def write_json(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Pages in the shape of the pipeline's results; images of lines as a list of objects."""
    opened = ""
    for page in pages:
        if page.index is None:
            items = [
                json.dumps(record, ensure_ascii=False, allow_nan=False) for record in page.records()
            ]
        else:
            regions = (
                Region(ln.box, ln.reading.text, ln.reading.confidence, ln.reading.char_confidences)
                for ln in page.lines
            )
            (shape,) = result_to_json([Page(page.index, tuple(regions))])["pages"]
            shape |= {"error": page.error} if page.error else {}
            items = [json.dumps(shape, ensure_ascii=False, allow_nan=False, indent=1)]
        for item in items:
            yield (",\n" if opened else "[\n" if page.index is None else '{"pages": [\n') + item
            opened = "]" if page.index is None else "]}"
    yield f"\n{opened}\n" if opened else "[]\n"


def write_jsonl(pages: Iterable[ReadPage]) -> Iterator[str]:
    """One JSON object a line of text."""
    for page in pages:
        for record in page.records():
            yield json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"


def write_tsv(pages: Iterable[ReadPage]) -> Iterator[str]:
    """One row a line with a header: image, page (from 1; empty for an image of one line), box,
    confidence, text.
    """
    yield "image\tpage\tleft\ttop\twidth\theight\tconfidence\ttext\n"
    for page in pages:
        number = "" if page.index is None else page.index + 1
        for line in page.lines:
            box, reading = line.box, line.reading
            sure = "" if reading.confidence is None else f"{reading.confidence:.4f}"
            place = "\t".join(f"{edge:g}" for edge in (box.x, box.y, box.width, box.height))
            yield f"{_cell(str(page.source))}\t{number}\t{place}\t{sure}\t{_cell(reading.text)}\n"


def _cell(text: str) -> str:
    """`text` without what would end a cell or a row: file names may hold it."""
    return re.sub(r"[\t\r\n]", " ", text)


def write_alto(pages: Iterable[ReadPage]) -> Iterator[str]:
    """ALTO 4: one file with every page of one document."""
    opened = False
    for count, page in enumerate(pages, start=1):
        if not opened:
            opened = True
            yield (
                '<?xml version="1.0" encoding="UTF-8"?>\n<alto'
                ' xmlns="http://www.loc.gov/standards/alto/ns-v4#">\n'
                "<Description><MeasurementUnit>pixel</MeasurementUnit><sourceImageInformation><fileName>"
                f"{escape(_legal(page.source.name))}</fileName></sourceImageInformation>"
                "<Processing"
                ' ID="ocr"><processingSoftware><softwareName>nordocr</softwareName>'
                "<softwareVersion>"
                f"{nordocr_cli.__version__}</softwareVersion></processingSoftware></Processing></Description>\n<Layout>\n"
            )
        height, width = page.size
        yield (
            f'<Page ID="page_{count}" PHYSICAL_IMG_NR="{(page.index or 0) + 1}" HEIGHT="{height}"'
            f' WIDTH="{width}">\n'
        )
        yield f'<PrintSpace HPOS="0" VPOS="0" WIDTH="{width}" HEIGHT="{height}">\n'
        for number, line in enumerate(page.lines, start=1):
            name = f"{count}_{number}"
            yield (
                f'<TextBlock ID="block_{name}" {_alto_box(line.box)}><TextLine ID="line_{name}"'
                f" {_alto_box(line.box)}>"
            )
            words = line.words()
            for position, (text, box, confidence) in enumerate(words):
                sure = "" if confidence is None else f' WC="{min(1.0, max(0.0, confidence)):.3f}"'
                yield (
                    "<SP/>" if position else ""
                ) + f"<String CONTENT={quoteattr(_legal(text))} {_alto_box(box)}{sure}/>"
            yield "</TextLine></TextBlock>\n"
        yield "</PrintSpace></Page>\n"
    if opened:
        yield "</Layout></alto>\n"


def _alto_box(box: Box) -> str:
    sides = (("HPOS", box.x), ("VPOS", box.y), ("WIDTH", box.width), ("HEIGHT", box.height))
    return " ".join(f'{name}="{round(value, 1):g}"' for name, value in sides)


def write_hocr(pages: Iterable[ReadPage]) -> Iterator[str]:
    """hOCR 1.2 as XHTML without a document type: one ocr_page a page, which names its image."""
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n<html'
        ' xmlns="http://www.w3.org/1999/xhtml">\n<head><title>nordocr</title>\n<meta'
        ' http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n<meta name="ocr-system"'
        f' content="nordocr {nordocr_cli.__version__}"/>\n<meta name="ocr-capabilities"'
        ' content="ocr_page ocr_line ocrx_word"/></head>\n<body>\n'
    )
    for count, page in enumerate(pages):
        image = str(page.source).replace('"', "%22")
        title = (
            f'image "{image}"; bbox 0 0 {page.size[1]} {page.size[0]}; ppageno {page.index or 0}'
        )
        yield f'<div class="ocr_page" id="page_{count + 1}" title={quoteattr(_legal(title))}>\n'
        for line in page.lines:
            words = [
                f'<span class="ocrx_word" title="{_hocr_box(box)}'
                + ("" if confidence is None else f"; x_wconf {round(100 * confidence)}")
                + f'">{escape(_legal(text))}</span>'
                for text, box, confidence in line.words()
            ]
            yield (
                '<span class="ocr_line"'
                f' title="{_hocr_box(line.box)}">{" ".join(words)}</span><br/>\n'
            )
        yield "</div>\n"
    yield "</body></html>\n"


def _hocr_box(box: Box) -> str:
    return (
        f"bbox {math.floor(box.x)} {math.floor(box.y)} {math.ceil(box.right)}"
        f" {math.ceil(box.bottom)}"
    )


def _legal(text: str) -> str:
    """`text` without the control characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


WRITERS: dict[str, Callable[..., Iterator[str]]] = {
    "text": write_text,
    "json": write_json,
    "jsonl": write_jsonl,
    "tsv": write_tsv,
    "alto": write_alto,
    "hocr": write_hocr,
}
