"""PAGE-XML (2019-07-15): a file a page."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from nordocr_cli.pages.outline import Outline
from nordocr_cli.printable import shown_path
from nordocr_cli.writers.read_page import ReadLine, ReadPage, Word, box_around
from nordocr_cli.writers.xml_text import attribute, content

_NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"


def page_xml(page: ReadPage) -> str:
    """Return the file of one page."""
    return "".join((_head(), *_page(page), "</PcGts>\n"))


def _head() -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<PcGts xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE}/pagecontent.xsd">\n'
        f"<Metadata><Creator>nordocr</Creator><Created>{now}</Created>"
        f"<LastChange>{now}</LastChange></Metadata>\n"
    )


def _page(page: ReadPage) -> Iterator[str]:
    height, width = page.size
    resolution = ""
    if page.resolution is not None:
        resolution = (
            f' imageXResolution="{page.resolution.x_dpi:.2f}"'
            f' imageYResolution="{page.resolution.y_dpi:.2f}" imageResolutionUnit="PPI"'
        )
    name = attribute(shown_path(page.source.name))
    yield (
        f'<Page imageFilename={name} imageWidth="{width}" imageHeight="{height}"{resolution}>\n'
    )
    paragraphs = page.paragraphs()
    if paragraphs:
        yield '<ReadingOrder><OrderedGroup id="order">'
        for at in range(len(paragraphs)):
            yield f'<RegionRefIndexed index="{at}" regionRef="region_{at + 1}"/>'
        yield "</OrderedGroup></ReadingOrder>\n"
    number = 0
    for block, lines in enumerate(paragraphs, start=1):
        around = Outline.of_box(box_around([line.box for line in lines]))
        yield f'<TextRegion id="region_{block}">{_coordinates(around, page)}\n'
        for line in lines:
            number += 1
            yield _line(f"line_{number}", line, page)
        yield "</TextRegion>\n"
    yield "</Page>\n"


def _line(name: str, line: ReadLine, page: ReadPage) -> str:
    words = line.words()
    has_places = len(words) > 1 or bool(line.edges)
    inside = "".join(
        _word(f"{name}_{at}", word, page)
        for at, word in enumerate(words if has_places else [], 1)
    )
    text = _text(line.reading.text, line.reading.confidence)
    return (
        f'<TextLine id="{name}">{_coordinates(line.shape, page)}{inside}{text}</TextLine>\n'
    )


def _word(name: str, word: Word, page: ReadPage) -> str:
    text = _text(word.text, word.confidence)
    return f'<Word id="{name}">{_coordinates(word.outline, page)}{text}</Word>'


def _text(text: str, confidence: float | None) -> str:
    if confidence is None:
        sure = ""
    else:
        sure = f' conf="{min(1.0, max(0.0, confidence)):.3f}"'
    return f"<TextEquiv{sure}><Unicode>{content(text)}</Unicode></TextEquiv>"


def _coordinates(outline: Outline, page: ReadPage) -> str:
    """Corners as whole pixels of the page: the schema has no others."""
    height, width = page.size
    corners: Sequence[tuple[float, float]] = outline.points
    points = " ".join(
        f"{min(max(round(x), 0), width)},{min(max(round(y), 0), height)}"
        for x, y in corners
    )
    return f'<Coords points="{points}"/>'
