"""data: look into line stores and check them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nordocr_cli import atomic
from nordocr_cli.errors import DataError
from nordocr_cli.progress import SILENT, Progress

_WIDTH_BANDS = 8


@dataclass(frozen=True)
class StoreStats:
    """What a line store holds. `width_bands` counts lines by width in pixels, the label being `from-to`."""

    header: dict[str, Any]
    width_bands: dict[str, int]
    languages: dict[str, int]
    subsets: dict[str, int]
    over_wide: int
    characters: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class ViewedLine:
    """One line of a store, as `data view` shows it."""

    index: int
    id: str
    width: int
    language: str
    subset: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return the line as one JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class VerifyResult:
    """Outcome of reading every record of a store. `damaged` names each record that is not what was written."""

    path: str
    lines: int
    damaged: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)


def stats(path: Path, progress: Progress = SILENT) -> StoreStats:
    """Count what is in the line store at `path`. Raises DataError when it is damaged."""
    from nordocr_cli.data.store import LineStore

    languages: Counter[str] = Counter()
    subsets: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    over_wide = 0
    with LineStore(path) as store:
        progress.start("stats", len(store))
        for index in range(len(store)):
            row = store.row(index)
            languages[row.language] += 1
            subsets[row.subset] += 1
            characters.update(row.text)
            over_wide += float(row.extra.get("squash_ratio", 1.0)) > 1
            progress.advance()
        progress.finish()
        step = -(-store.header.geometry.max_width // _WIDTH_BANDS)
        bands = Counter((int(width) - 1) // step for width in store.widths)
        return StoreStats(
            header=store.header.to_json(),
            width_bands={f"{band * step + 1}-{(band + 1) * step}": bands[band] for band in sorted(bands)},
            languages=dict(languages.most_common()),
            subsets=dict(subsets.most_common()),
            over_wide=over_wide,
            characters=dict(characters.most_common()),
        )


def view(
    path: Path, *, first: int = 0, limit: int = 20, row_id: str | None = None, sheet: Path | None = None
) -> list[ViewedLine]:
    """Return `limit` lines from index `first` on, or the line with `row_id`; with `sheet` their images below each other, as PNG.

    Raises DataError when the store is damaged or has no such line.
    """
    from nordocr_cli.data.store import LineStore

    with LineStore(path) as store:
        if row_id:
            wanted: Sequence[int] = [index for index in range(len(store)) if store.row(index).id == row_id]
        else:
            wanted = range(first, min(first + limit, len(store)))
        if not wanted:
            what = f"id {row_id!r}" if row_id else f"index {first}"
            raise DataError(f"{path}: no line with {what} among its {len(store)} lines")
        if sheet is not None:
            _write_sheet(store, wanted, sheet)
        rows = [(index, store.row(index)) for index in wanted]
        return [ViewedLine(i, row.id, int(store.widths[i]), row.language, row.subset, row.text) for i, row in rows]


def _write_sheet(store: Any, indices: Sequence[int], sheet: Path) -> None:
    import cv2
    import numpy as np

    gap = 4
    lines = [store.image(index) for index in indices]
    height = store.header.geometry.height
    page = np.full(((height + gap) * len(lines) + gap, max(line.shape[1] for line in lines) + 2 * gap, 3), 200, dtype=np.uint8)
    for number, line in enumerate(lines):
        top = gap + number * (height + gap)
        page[top : top + height, gap : gap + line.shape[1]] = line
    atomic.write_bytes(sheet, cv2.imencode(".png", page[:, :, ::-1])[1].tobytes())


def verify(path: Path, progress: Progress = SILENT) -> VerifyResult:
    """Read every record of a line store: checksums, image sizes, labels, and the hash over all of it.

    Raises DataError when the store cannot be opened; damaged records are returned.
    """
    from nordocr_cli.data.store import LineStore

    damaged: list[str] = []
    content = hashlib.sha256()
    with LineStore(path) as store:
        progress.start("verify", len(store))
        for index in range(len(store)):
            try:
                content.update(store.content_sha256(index))
                if store.label(index) != store.row(index).text:
                    damaged.append(f"{path}: label-{index + 1:09d} is not the text of its row")
            except (DataError, ValueError) as error:
                damaged.append(str(error))
            progress.advance()
        progress.finish()
        if not damaged and content.hexdigest() != store.header.content_sha256:
            damaged.append(f"{path}: the content hash in the header does not fit the records")
        return VerifyResult(str(path), len(store), tuple(damaged))
