"""XML of layout files: parsed without entities, read without namespaces."""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nordocr_cli.data.layouts.layout import require_few_points
from nordocr_cli.errors import DataError
from nordocr_cli.limits import require_few_parts
from nordocr_cli.records import Point

_STARTS = (b"<", b"\xff\xfe<", b"\xfe\xff\0<")


class _WithoutDtd(ElementTree.TreeBuilder):
    """Builds the tree of a document that declares no document type."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuse. Called when the declaration begins, before any entity is expanded."""
        raise DataError(
            "it declares a DTD (<!DOCTYPE …>); take the declaration out, ALTO and PAGE need none"
        )


def starts_as_xml(head: bytes) -> bool:
    """Whether a file that begins with `head` (without a byte order mark of UTF-8) is XML or
    HTML.
    """
    return head.startswith(_STARTS)


def parse_xml(content: bytes, path: Path) -> Element:
    """Return the root element. Raises DataError for what is not XML or declares a DTD: its
    entities can grow without bounds and read other files.
    """
    try:
        require_few_parts(content.count(b"<"), len(content), "elements")
        return ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutDtd()))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{path} is not readable XML ({error})") from error


def root_name(head: bytes) -> str:
    """Name of the first element that `head` opens, without its namespace; empty when there is
    none.
    """
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", errors="replace")
    else:
        text = head.decode("utf-8", errors="replace")
    while "<" in text:
        text = text[text.index("<") + 1 :]
        if text.startswith("!--"):
            text = text.partition("-->")[2]
        elif not text.startswith(("?", "!")):
            name = text.split(">")[0].split("/")[0].split()
            if name:
                return name[0].rpartition(":")[2]
            return ""
    return ""


def name_of(element: Element) -> str:
    """Tag without namespace: ALTO 2, 3, 4 and PAGE of all years differ in it alone."""
    if isinstance(element.tag, str):
        return element.tag.rpartition("}")[2]
    return ""


def children(element: Element, *names: str) -> Iterator[Element]:
    """Yield the direct children with one of these names."""
    return (child for child in element if name_of(child) in names)


def descendants(element: Element, *names: str) -> Iterator[Element]:
    """Yield the element and all below it with one of these names, in document order."""
    return (child for child in element.iter() if name_of(child) in names)


def parse_points(text: str) -> tuple[Point, ...]:
    """Read `x,y x,y …` or `x y x y …`. Raises ValueError when it is neither."""
    pairs = text.split()
    require_few_points(len(pairs))
    if pairs and "," not in text:
        numbers = [float(number) for number in pairs]
        return tuple(zip(numbers[0::2], numbers[1::2], strict=True))
    points: list[Point] = []
    for pair in pairs:
        x, y = pair.split(",")
        points.append((float(x), float(y)))
    return tuple(points)


class ReadingOrder:
    """Where blocks stand in a `ReadingOrder` element: its references, from the first to the last.

    `is_empty` where the document gives no order: then its own order counts.
    """

    def __init__(self, root: Element, attribute: str) -> None:
        self._rank: dict[str, int] = {}
        for order in descendants(root, "ReadingOrder"):
            self._collect(order, attribute)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is ordered."""
        return not self._rank

    def rank(self, name: str, default: int) -> int:
        """Position of the block with that id, `default` where it is not in the order."""
        return self._rank.get(name, default)

    @property
    def length(self) -> int:
        """Number of references."""
        return len(self._rank)

    def _collect(self, group: Element, attribute: str) -> None:
        if group.get(attribute):
            self._rank.setdefault(group.attrib[attribute], len(self._rank))
        for child in sorted(group, key=_position):
            self._collect(child, attribute)


def _position(element: Element) -> int:
    index = element.get("index", "")
    if index.isdecimal():
        return int(index)
    return 0
