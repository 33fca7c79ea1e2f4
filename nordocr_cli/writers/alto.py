"""ALTO 4: one file with every page of one document."""

from collections.abc import Iterable, Iterator

import nordocr_cli
from nordocr_cli.printable import shown_path
from nordocr_cli.records import Box
from nordocr_cli.writers.read_page import ReadLine, ReadPage, Word, box_around
from nordocr_cli.writers.xml_text import attribute, content

_NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
_SCHEMA = f"{_NAMESPACE} https://www.loc.gov/standards/alto/v4/alto-4-4.xsd"


def write_alto(pages: Iterable[ReadPage]) -> Iterator[str]:
    """Yield the file piece by piece."""
    count = 0
    for count, page in enumerate(pages, start=1):
        if count == 1:
            yield _head(shown_path(page.source.name), _resolution(page))
        yield from _page(count, page)
    if not count:
        yield _head("", "")  # not one page could be read
    yield "</Layout></alto>\n"


def _head(file_name: str, settings: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<alto xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{_SCHEMA}">\n'
        "<Description><MeasurementUnit>pixel</MeasurementUnit>"
        f"<sourceImageInformation><fileName>{content(file_name)}</fileName>"
        "</sourceImageInformation>"
        f'<Processing ID="ocr">{settings}<processingSoftware>'
        "<softwareName>nordocr</softwareName>"
        f"<softwareVersion>{nordocr_cli.__version__}</softwareVersion>"
        "</processingSoftware></Processing></Description>\n<Layout>\n"
    )


def _resolution(page: ReadPage) -> str:
    """ALTO has no place for the resolution but the settings of the program."""
    if page.resolution is None:
        return ""
    x = page.resolution.x_dpi
    y = page.resolution.y_dpi
    return f"<processingStepSettings>resolution: {x:g} x {y:g} dpi</processingStepSettings>"


def _page(count: int, page: ReadPage) -> Iterator[str]:
    height, width = page.size
    yield (
        f'<Page ID="page_{count}" PHYSICAL_IMG_NR="{(page.index or 0) + 1}" HEIGHT="{height}"'
        f' WIDTH="{width}">\n'
        f'<PrintSpace HPOS="0" VPOS="0" WIDTH="{width}" HEIGHT="{height}">\n'
    )
    number = 0
    for block, lines in enumerate(page.paragraphs(), start=1):
        around = box_around([line.box for line in lines])
        yield f'<TextBlock ID="block_{count}_{block}" {_place(around)}>\n'
        for line in lines:
            number += 1
            yield _line(f"{count}_{number}", line)
        yield "</TextBlock>\n"
    yield "</PrintSpace></Page>\n"


def _line(name: str, line: ReadLine) -> str:
    shape = ""
    if line.outline is not None:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.outline.points)
        shape = f'<Shape><Polygon POINTS="{points}"/></Shape>'
    words = "<SP/>".join(_word(word) for word in line.words())
    # A line without words must have one.
    words = words or f'<String CONTENT="" {_place(line.box)}/>'
    return f'<TextLine ID="line_{name}" {_place(line.box)}>{shape}{words}</TextLine>\n'


def _word(word: Word) -> str:
    sure = ""
    if word.confidence is not None:
        sure = f' WC="{min(1.0, max(0.0, word.confidence)):.3f}"'
    return f"<String CONTENT={attribute(word.text)} {_place(word.box)}{sure}/>"


def _place(box: Box) -> str:
    sides = (("HPOS", box.x), ("VPOS", box.y), ("WIDTH", box.width), ("HEIGHT", box.height))
    return " ".join(f'{name}="{round(value, 1):g}"' for name, value in sides)
