"""hOCR 1.2 as XHTML without a document type: one ocr_page a page, with paragraphs, lines, words."""

import math
from collections.abc import Iterable, Iterator

import nordocr_cli
from nordocr_cli.printable import shown_path
from nordocr_cli.records import Box
from nordocr_cli.writers.read_page import ReadLine, ReadPage, box_around, quad_of
from nordocr_cli.writers.xml_text import attribute, content

# Letters stand about a fifth of the height of their line above its lower edge.
_BASELINE_SHARE = 0.2
_CAPABILITIES = "ocr_page ocr_carea ocr_par ocr_line ocrx_word"


def write_hocr(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Yield the file piece by piece."""
    yield (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<html xmlns="http://www.w3.org/1999/xhtml">\n<head><title>nordocr</title>\n'
        '<meta http-equiv="Content-Type" content="text/html;charset=utf-8"/>\n'
        f'<meta name="ocr-system" content="nordocr {nordocr_cli.__version__}"/>\n'
        f'<meta name="ocr-capabilities" content="{_CAPABILITIES}"/></head>\n<body>\n'
    )
    for count, page in enumerate(pages, start=1):
        yield from _page(count, page)
    yield "</body></html>\n"


def _page(count: int, page: ReadPage) -> Iterator[str]:
    image = shown_path(page.source).replace('"', "%22")
    height, width = page.size
    title = f'image "{image}"; bbox 0 0 {width} {height}; ppageno {page.index or 0}'
    if page.resolution is not None:
        title += f"; scan_res {round(page.resolution.x_dpi)} {round(page.resolution.y_dpi)}"
    yield f'<div class="ocr_page" id="page_{count}" title={attribute(title)}>\n'
    for block, lines in enumerate(page.paragraphs(), start=1):
        around = _box(box_around([line.box for line in lines]))
        name = f"{count}_{block}"
        yield f'<div class="ocr_carea" id="block_{name}" title="{around}">'
        yield f'<p class="ocr_par" id="par_{name}" title="{around}">\n'
        for line in lines:
            yield _line(line)
        yield "</p></div>\n"
    yield "</div>\n"


def _line(line: ReadLine) -> str:
    words = []
    for word in line.words():
        if word.confidence is None:
            sure = ""
        else:
            sure = f"; x_wconf {round(100 * word.confidence)}"
        title = f"{_box(word.box)}{sure}"
        words.append(f'<span class="ocrx_word" title="{title}">{content(word.text)}</span>')
    return f'<span class="ocr_line" title="{_line_title(line)}">{" ".join(words)}</span>\n'


def _line_title(line: ReadLine) -> str:
    title = _box(line.box)
    if line.outline is None:
        return title
    first, second, third, fourth = quad_of(line.outline)
    angle = math.degrees(math.atan2(second[1] - first[1], second[0] - first[0]))
    turn = round(angle / 90) * 90
    polygon = " ".join(f"{x:.1f} {y:.1f}" for x, y in line.outline.points)
    if turn:
        # hOCR's angle is counterclockwise, that of the outline clockwise.
        return f"{title}; textangle {-angle % 360:.2f}; poly {polygon}"
    # Slope and offset, in pixels, from the lower left corner of the box.
    rise = (third[1] - fourth[1]) / max(1.0, third[0] - fourth[0])
    offset = fourth[1] - line.box.bottom - _BASELINE_SHARE * math.dist(first, fourth)
    return f"{title}; baseline {rise:.4f} {offset:.1f}; poly {polygon}"


def _box(box: Box) -> str:
    left = math.floor(box.x)
    top = math.floor(box.y)
    return f"bbox {left} {top} {math.ceil(box.right)} {math.ceil(box.bottom)}"
