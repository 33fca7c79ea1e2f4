"""Text files with a line per region of one image, as ICDAR's competitions and SROIE give them.

| data | a line |
|---|---|
| ICDAR 2015, SROIE, ReCTS | `x1,y1,x2,y2,x3,y3,x4,y4,text` |
| ICDAR 2017 MLT, 2019 | `x1,y1,x2,y2,x3,y3,x4,y4,script,text` |
| ICDAR 2013 | `x0, y0, x1, y1, "text"`, with commas or spaces |

Corners go clockwise from the top left. `###` marks a region that nobody could read: it is left out
of the layout.
"""

import re
from pathlib import Path

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.layouts.layout import (
    ILLEGIBLE_TEXTS,
    BadLines,
    Layout,
    box_from_json,
    box_of_points,
)
from nordocr_cli.errors import DataError
from nordocr_cli.records import Page, Region

_NUMBER = r"-?\d+(?:\.\d+)?"
_QUAD = re.compile(rf"\s*((?:{_NUMBER}\s*,\s*){{8}})(.*)")
_BOX = re.compile(rf"\s*((?:{_NUMBER}\s*[,\s]\s*){{4}})\s*\"(.*)\"\s*")
# Of ICDAR 2017 MLT and 2019: a column before the text.
_SCRIPT = re.compile(
    "(Arabic|Bangla|Chinese|Hindi|Italian|French|German|English|Japanese|Korean|Latin|Symbols|Mixed"
    "|None),(.*)"
)


def sniff(head: bytes) -> bool:
    """Whether a file that begins so has coordinates and a text on its first line."""
    first = head.lstrip().split(b"\n", 1)[0].decode("utf-8", errors="replace")
    return bool(_QUAD.fullmatch(first.rstrip()) or _BOX.fullmatch(first))


def read(content: bytes, path: Path, bad_lines: BadLines | None = None) -> Layout:
    """Read the regions of one image. Raises DataError naming file:line; see `read_layout`."""
    regions: list[Region] = []
    illegible: list[int] = []
    for number, line in enumerate(_decoded(content, path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            region = _region(line.rstrip("\r"), f"{path}:{number}")
        except DataError as error:
            if bad_lines is None:
                raise
            bad_lines[0, number] = str(error)
            continue
        if region.text in ILLEGIBLE_TEXTS:
            illegible.append(number)
        else:
            regions.append(region)
    return Layout((Page(0, tuple(regions)),), illegible=tuple(illegible))


def _decoded(content: bytes, path: Path) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error


def _region(line: str, where: str) -> Region:
    found = _BOX.fullmatch(line)
    if found:
        edges = [float(edge) for edge in re.findall(_NUMBER, found[1])]
        return Region(box_from_json(edges, where), to_nfc(found[2]))
    quad = _QUAD.fullmatch(line)
    if quad is None:
        raise DataError(
            f'{where}: expected x1,y1,x2,y2,x3,y3,x4,y4,text or x0,y0,x1,y1,"text"; found'
            f" {line[:60]!r}"
        )
    numbers = [float(number) for number in re.findall(_NUMBER, quad[1])]
    corners = tuple(zip(numbers[0::2], numbers[1::2], strict=True))
    script = _SCRIPT.fullmatch(quad[2])
    text = script[2] if script else quad[2]
    return Region(box_of_points(corners, where), to_nfc(text.strip()), polygon=corners)
