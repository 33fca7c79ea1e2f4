"""The lines of any source, open for reading: for evaluations with their original crops, in the
shape in which a line store gives its own.
"""

import hashlib
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.atomic import sha256_of
from nordocr_cli.data.entry import Entry, Place
from nordocr_cli.data.formats import Source, SourceSpec, open_source, parse_source
from nordocr_cli.data.notes import squash_ratio
from nordocr_cli.data.oov import DEFAULT_MAPPING, clean_text
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.text_band import tightened
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.limits import MAX_PAGE_SIDE
from nordocr_cli.pages.outline import Outline
from nordocr_cli.records import Box, LineRow

_SHOWN_PROBLEMS = 5


class ManifestLines(AbstractContextManager["ManifestLines"]):
    """The lines of a source (see data/formats.py): `len(lines)`, `.widths` int32 (n,), `.image(i)`,
    `.row(i)`; i counts from 0.

    With a `geometry`, `.image(i)` is the crop as that geometry makes it (height, widths[i], 3);
    without, the crop as it is, and `.widths` are what the usual geometry would make of it,
    unsquashed. Texts are as prep keeps them: trimmed, with plain spaces. Lines that somebody marked
    as illegible, and lines of layouts without text, are left out and counted in `.left_out`. Raises
    DataError for a row that cannot be used and for an image that is missing, damaged, or outside
    the source's folder.
    """

    def __init__(self, path: Path, geometry: Geometry | None = None) -> None:
        self.path = Path(path)
        self.geometry = geometry
        spec = _spec(self.path)
        self.source: Source = open_source(spec)
        self.left_out = 0
        self._entries = self._usable_entries()
        self._rows = [_clean_row(entry, spec.name) for entry in self._entries]
        sizes = [self._size(entry) for entry in self._entries]
        if geometry:
            measure = geometry.line_width
        else:
            measure = Geometry().natural_width
        self.widths: NDArray[np.int32] = np.array(
            [measure(*size) for size in sizes], dtype=np.int32
        )
        self._squash_ratios = [
            geometry.squash_ratio(*size) if geometry else 1.0 for size in sizes
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return line `index` as uint8 (height, width, 3) RGB."""
        crop = self.source.crop(self._entries[index])
        if crop.ndim == 2:
            crop = np.repeat(crop[:, :, None], 3, axis=2)
        if self.geometry:
            return resize_line(tightened(crop, self.geometry), self.geometry)
        return crop

    def place(self, index: int) -> Place | None:
        """Return where line `index` stands on its page; None for an image of the line itself."""
        return self._entries[index].place

    def image_name(self, index: int) -> str:
        """Return what names the image that holds line `index`: a path, or a key of the source."""
        return self._entries[index].key

    def page(self, index: int) -> NDArray[np.uint8]:
        """Return the page of line `index` as uint8 (height, width, 3) RGB. Raises ValueError for an
        image of the line itself.
        """
        entry = self._entries[index]
        if entry.place is None:
            raise ValueError(f"{entry.where}: the line does not stand on a page")
        # Cut at its edges.
        all_of_it = Outline.of_box(Box(0, 0, MAX_PAGE_SIDE, MAX_PAGE_SIDE))
        return self.source.crop(
            replace(entry, place=replace(entry.place, outline=all_of_it))
        )

    def row(self, index: int) -> LineRow:
        """Return the row of line `index`; `extra` says where the geometry squashes it, as in a line
        store.
        """
        row = self._rows[index]
        ratio = self._squash_ratios[index]
        if ratio <= 1.0:
            return row
        return replace(row, extra={**row.extra, "squash_ratio": ratio * squash_ratio(row)})

    def identity(self) -> dict[str, Any]:
        """Return what was read, for a result: the hash is that of the label files or layouts, the
        images are not in it.
        """
        geometry = self.geometry.to_json() if self.geometry else None
        return {
            "path": str(self.path),
            "lines": len(self),
            "content_sha256": hash_of_files(tuple(self.source.files)),
            "geometry": geometry,
        }

    def _usable_entries(self) -> list[Entry]:
        usable: list[Entry] = []
        problems: list[str] = []
        for entry in self.source.entries():
            if entry.row is None and not entry.illegible:
                problems.append(f"{entry.where}: {entry.problem}")
                continue
            has_text = entry.row is not None and (
                entry.place is None or entry.row.text.strip()
            )
            if has_text:
                usable.append(entry)
            else:
                self.left_out += 1
        if problems:
            hidden = len(problems) - _SHOWN_PROBLEMS
            more = f"\n… and {hidden} more" if hidden > 0 else ""
            raise DataError("\n".join(problems[:_SHOWN_PROBLEMS]) + more)
        return usable

    def _size(self, entry: Entry) -> tuple[int, int]:
        """Return the height and width of the crop as the geometry scales it; tightening shows only
        when the crop is decoded.
        """
        try:
            if self.geometry and self.geometry.tighten:
                height, width = tightened(self.source.crop(entry), self.geometry).shape[:2]
                return height, width
            return self.source.crop_size(entry)
        except FileNotFoundError as error:
            raise DataError(f"{error}: no such image file ({entry.where})") from None


def _spec(path: Path) -> SourceSpec:
    if path.exists():
        return SourceSpec(path)
    return parse_source(str(path))


def _clean_row(entry: Entry, source_name: str) -> LineRow:
    """The row with its text cleaned, and named after its source as prep does."""
    row = entry.row
    assert row is not None
    text = clean_text(row.text, DEFAULT_MAPPING)
    if text != row.text:
        row = replace(row, text=text)
    if not source_name:
        return row
    return replace(
        row,
        subset=row.subset or source_name,
        extra={"corpus": source_name, **row.extra},
    )


@lru_cache(maxsize=8)
def hash_of_files(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 of a file, or of the hashes of several."""
    hashes = [sha256_of(path) for path in files]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
