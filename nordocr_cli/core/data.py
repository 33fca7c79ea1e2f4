"""data: look into line stores, check them, join them, and turn them back into images."""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.charset import to_nfc
from nordocr_cli.core.pixel_waste import SQUARE_PX, PixelWaste, pixel_waste
from nordocr_cli.data.notes import squash_ratio
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry, frames_needed, out_length
from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.printable import caption
from nordocr_cli.profile import profile_names
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.data.store import LineStore, LineStoreWriter

_WIDTH_BANDS = 8
# Widths in pixels that profiles have as their maximum.
_USUAL_WIDTHS = (128, 320, 768, 1024, 1792)
_BUCKET_SHARES = (0.25, 0.5, 0.75, 0.9, 1.0)
_BUCKET_STEP_PX = 32
_RARE_CHARACTERS = 8
# Of the contact sheet.
_LABEL_PX = 13
_GAP_PX = 5
_DESK = (255, 236, 214)
_LABEL_INK = (160, 0, 0)


@dataclass(frozen=True)
class Fit:
    """What a maximum width of `max_width` pixels would do to a store's lines: `squashed` of them
    are wider than that, the worst by `worst_squash_ratio`, and `infeasible` have more text than its
    CTC frames can write.
    """

    max_width: int
    squashed: int
    worst_squash_ratio: float
    infeasible: int

    def row(self) -> tuple[str, object]:
        """Return the counts as a table's row."""
        if self.squashed:
            worst = f" (worst {self.worst_squash_ratio:.2f} times)"
        else:
            worst = ""
        return (
            f"at {self.max_width} px",
            f"{self.squashed} squashed{worst}, {self.infeasible} infeasible (CTC)",
        )


@dataclass(frozen=True)
class Ranges:
    """Suggested widths in pixels, from those of the lines: `buckets` to sort batches into (each
    holds a quarter of the lines, the last two the widest tenths), and the minimum, optimal and
    maximum width of an engine.
    """

    buckets: tuple[int, ...]
    engine_min: int
    engine_opt: int
    engine_max: int

    def rows(self) -> list[tuple[str, object]]:
        """Return the suggestions as a table's rows."""
        engine = f"{self.engine_min} / {self.engine_opt} / {self.engine_max}"
        return [
            ("suggested buckets px", ", ".join(map(str, self.buckets))),
            ("suggested engine px (min / opt / max)", engine),
        ]


@dataclass(frozen=True)
class StoreStats:
    """What a line store holds. `width_bands` counts lines by width in pixels, the label being
    `from-to`.

    `px_per_character` gives min, p05, median, p95 and max of a line's width before squashing, in
    pixels at the geometry's height, by its characters. `fits` counts the lines that are in the
    store; prep has left out what did not fit its own width.
    """

    header: dict[str, Any]
    width_bands: dict[str, int]
    languages: dict[str, int]
    subsets: dict[str, int]
    over_wide: int
    px_per_character: dict[str, float]
    fits: tuple[Fit, ...]
    ranges: Ranges
    pixel_waste: PixelWaste
    characters: dict[str, int]
    characters_by_language: dict[str, dict[str, int]]
    natural_widths: dict[int, int]

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as plain JSON values."""
        return asdict(self)

    def rows(self) -> list[tuple[str, object]]:
        """Return the statistics as a table's rows: what, and how many."""
        header = self.header
        geometry = self.header["geometry"]
        rows: list[tuple[str, object]] = [
            ("charset", header["charset"]["name"]),
            ("content sha256", header["content_sha256"]),
            ("geometry", f"{geometry['height']} x up to {geometry['max_width']}"),
            ("lines", header["lines"]),
            ("too wide", f"{self.over_wide} ({geometry['over_width']})"),
        ]
        rows += [(f"width {band} px", count) for band, count in self.width_bands.items()]
        rows += _counted("language", self.languages) + _counted("subset", self.subsets)
        shares = (f"{name} {value:g}" for name, value in self.px_per_character.items())
        rows.append(("px a character", ", ".join(shares)))
        rows += [fit.row() for fit in self.fits]
        in_square = (
            f"{self.pixel_waste.square:.1%} in a square of {SQUARE_PX} x {SQUARE_PX}"
        )
        rows.append(
            (
                "wasted pixels, each line padded to the maximum width",
                f"{self.pixel_waste.fixed:.1%} ({in_square})",
            )
        )
        rows += self.ranges.rows()
        rows += [
            (f"characters, {name or 'no language'}", _shown_characters(counts))
            for name, counts in self.characters_by_language.items()
        ]
        return rows


def _counted(what: str, counts: Mapping[str, int]) -> list[tuple[str, object]]:
    return [(f"{what} {name or 'not given'}", count) for name, count in counts.items()]


def _shown_characters(counts: Mapping[str, int]) -> str:
    """How many characters there are, and the rarest; `counts` begins with the most frequent."""
    rarest = list(counts.items())[: -_RARE_CHARACTERS - 1 : -1]
    shown = ", ".join(f"{character} {count}" for character, count in rarest)
    return f"{sum(counts.values())}, {len(counts)} different; rarest {shown}"


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
    """Outcome of reading every record of a store. `damaged` names each record that is not what was
    written, `profile` the one that the store was prepared for (None where that is not known).
    """

    path: str
    lines: int
    damaged: tuple[str, ...]
    profile: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)


@dataclass
class _Survey:
    """What is counted line by line."""

    languages: Counter[str] = field(default_factory=Counter)
    subsets: Counter[str] = field(default_factory=Counter)
    characters: dict[str, Counter[str]] = field(default_factory=dict)
    # width before squashing, characters, CTC frames that the text needs
    lines: list[tuple[int, int, int]] = field(default_factory=list)
    over_wide: int = 0

    def add(self, row: LineRow, width: int) -> None:
        """Count one line, `width` pixels wide in the store."""
        self.languages[row.language] += 1
        self.subsets[row.subset] += 1
        self.characters.setdefault(row.language, Counter()).update(row.text)
        ratio = squash_ratio(row)
        self.over_wide += ratio > 1
        self.lines.append((round(width * ratio), len(row.text), frames_needed(row.text)))


def stats(path: Path, progress: Progress = SILENT) -> StoreStats:
    """Count what is in the line store at `path`. Raises DataError when it is damaged."""
    from nordocr_cli.data.store import LineStore

    survey = _Survey()
    with LineStore(path) as store:
        progress.start("stats", len(store))
        for index in range(len(store)):
            survey.add(store.row(index), int(store.widths[index]))
            progress.advance()
        progress.finish()
        header = store.header
        widths = [int(width) for width in store.widths]

    lines = survey.lines
    stride = header.geometry.stride
    characters = sum(survey.characters.values(), Counter[str]())
    natural_widths = Counter(width for width, _, _ in lines)
    return StoreStats(
        header=header.to_json(),
        width_bands=_width_bands(widths, header.geometry.max_width),
        languages=dict(survey.languages.most_common()),
        subsets=dict(survey.subsets.most_common()),
        over_wide=survey.over_wide,
        px_per_character=_quantiles(
            [width / length for width, length, _ in lines if length]
        ),
        fits=tuple(_fit(lines, width, stride) for width in _USUAL_WIDTHS),
        ranges=_ranges(widths),
        pixel_waste=_pixel_waste(lines, header.geometry),
        characters=dict(characters.most_common()),
        characters_by_language={
            name: dict(found.most_common()) for name, found in survey.characters.items()
        },
        natural_widths=dict(sorted(natural_widths.items())),
    )


def _pixel_waste(lines: Sequence[tuple[int, int, int]], geometry: Geometry) -> PixelWaste:
    widths = [width for width, _, _ in lines]  # at the height of the store
    return pixel_waste(widths, geometry.height, geometry)


def _width_bands(widths: Sequence[int], max_width: int) -> dict[str, int]:
    step = -(-max_width // _WIDTH_BANDS)
    bands = Counter((width - 1) // step for width in widths)
    return {f"{band * step + 1}-{(band + 1) * step}": bands[band] for band in sorted(bands)}


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values) or [0.0]
    last = max(0, len(values) - 1)
    shares = {"min": 0.0, "p05": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ordered[int(share * last)], 2) for name, share in shares.items()}


def _fit(lines: Sequence[tuple[int, int, int]], max_width: int, stride: int) -> Fit:
    squashed = [width for width, _, _ in lines if width > max_width]
    infeasible = sum(
        out_length(min(width, max_width), stride) < needed for width, _, needed in lines
    )
    return Fit(
        max_width,
        len(squashed),
        round(max(squashed, default=max_width) / max_width, 4),
        infeasible,
    )


def _ranges(widths: Sequence[int]) -> Ranges:
    ordered = sorted(widths)
    last = len(widths) - 1
    edges = [
        -(-ordered[int(share * last)] // _BUCKET_STEP_PX) * _BUCKET_STEP_PX
        for share in _BUCKET_SHARES
    ]
    buckets = tuple(dict.fromkeys(edges))
    return Ranges(buckets, ordered[0], edges[1], max(buckets[-1], ordered[-1]))


def plot(found: StoreStats, path: Path, store: Path) -> None:
    """Draw widths, pixels per character of the usual widths and character frequencies of the line
    store at `store` as a PNG.

    Raises UsageError when `path` lies in the store, MissingBackendError without matplotlib.
    """
    from nordocr_cli.data.plot import plot_png

    atomic.refuse_inputs(path, [store])
    geometry = found.header["geometry"]
    atomic.write_bytes(
        path, plot_png(found.natural_widths, geometry["max_width"], found.characters)
    )


def view(
    path: Path,
    *,
    first: int = 0,
    limit: int = 20,
    row_id: str | None = None,
    sheet: Path | None = None,
) -> list[ViewedLine]:
    """Return `limit` lines from index `first` on, or the line with `row_id`, of a line store or of
    any other source that prep reads; `sheet` gets their images and labels, as PNG.

    Raises UsageError when `sheet` lies in the store or no font of the system draws the labels,
    DataError when the source is damaged or has no such line.
    """
    if sheet is not None:
        atomic.refuse_inputs(sheet, [path])
    with _open_lines(path) as lines:
        chosen: Sequence[int] = range(first, min(first + limit, len(lines)))
        if row_id:
            chosen = [index for index in range(len(lines)) if lines.row(index).id == row_id]
        if not chosen:
            what = f"id {row_id!r}" if row_id else f"index {first}"
            raise DataError(f"{path}: no line with {what} among its {len(lines)} lines")
        if sheet is not None:
            _write_sheet(lines, chosen, sheet)
        rows = [(index, lines.row(index)) for index in chosen]
        return [
            ViewedLine(i, row.id, int(lines.widths[i]), row.language, row.subset, row.text)
            for i, row in rows
        ]


def _open_lines(path: Path) -> "LineStore | ManifestLines":
    """Open a line store, or the lines of another source as the usual geometry scales them."""
    from nordocr_cli.data.lmdb_source import is_line_store

    if is_line_store(path) or not path.exists():
        from nordocr_cli.data.store import LineStore

        return LineStore(path)
    from nordocr_cli.data.manifest_lines import ManifestLines

    return ManifestLines(path, Geometry(over_width="squash"))


def _write_sheet(
    store: "LineStore | ManifestLines", indices: Sequence[int], sheet: Path
) -> None:
    """Draw the lines below each other, each under its index, text, id, language and subset."""
    import numpy as np
    from PIL import Image, ImageDraw

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.synth.fonts import label_font

    widest = max(int(store.widths[index]) for index in indices)
    _require_sheet_size(len(indices), widest, _LABEL_PX)  # before they are all in memory
    lines = [(index, store.row(index), store.image(index)) for index in indices]
    captions = []
    for index, row, _ in lines:
        about = ", ".join(part for part in (row.id, row.language, row.subset) if part)
        captions.append(caption(f"{index}  {row.text}   [{about}]"))
    letters = set(to_nfc("".join(captions)))
    drawable = "".join(sorted(letter for letter in letters if letter.isprintable()))
    font = label_font(Charset("labels", drawable), _LABEL_PX)
    height = max(image.shape[0] for *_, image in lines)
    row_px = height + _LABEL_PX + 3 * _GAP_PX
    width = max(
        *(image.shape[1] for *_, image in lines),
        *(round(font.getlength(shown)) for shown in captions),
        1,
    )
    _require_sheet_size(len(lines), width, row_px)
    page = Image.new("RGB", (width + 2 * _GAP_PX, row_px * len(lines) + _GAP_PX), _DESK)
    draw = ImageDraw.Draw(page)
    for number, (shown, (*_, image)) in enumerate(zip(captions, lines, strict=True)):
        top = _GAP_PX + number * row_px
        draw.text((_GAP_PX, top), shown, fill=_LABEL_INK, font=font)
        page.paste(
            Image.fromarray(np.ascontiguousarray(image)),
            (_GAP_PX, top + _LABEL_PX + _GAP_PX),
        )
    content = io.BytesIO()
    page.save(content, "PNG", optimize=True)
    atomic.write_bytes(sheet, content.getvalue())


def _require_sheet_size(lines: int, width: int, row_px: int) -> None:
    pixels = lines * row_px * width
    if pixels > MAX_PAGE_PIXELS:
        raise UsageError(
            f"a picture of {lines:,} lines would have {pixels / 1e6:,.0f} million pixels;"
            " show fewer with -n"
        )


def verify_store(path: Path, progress: Progress = SILENT) -> VerifyResult:
    """Read every record of a line store: checksums, image sizes, labels, and the hash over all of
    it.

    Raises UsageError when there is none; what is damaged is returned, even when the store cannot be
    opened.
    """
    from nordocr_cli.data.store import LineStore

    damaged: list[str] = []
    content = hashlib.sha256()
    try:
        opened = LineStore(path)
    except DataError as error:
        return VerifyResult(str(path), 0, (str(error),))
    with opened as store:
        progress.start("verify", len(store))
        for index in range(len(store)):
            try:
                content.update(store.content_sha256(index))
                if store.label(index) != store.row(index).text:
                    damaged.append(
                        f"{path}: label-{index + 1:09d} is not the text of its row"
                    )
            except DataError as error:
                damaged.append(str(error))
            except ValueError as error:
                damaged.append(f"{path}: label-{index + 1:09d} is damaged: {error}")
            progress.advance()
        progress.finish()
        if not damaged and content.hexdigest() != store.header.content_sha256:
            damaged.append(
                f"{path}: the content hash in the header does not fit the records"
            )
        return VerifyResult(str(path), len(store), tuple(damaged), profile_of(store))


def profile_of(store: "LineStore") -> str | None:
    """Return the shipped profile that a store was prepared for; None where the store does not say,
    or where the profile was the user's own TOML file.
    """
    name = store.header.made.get("profile")
    if name in profile_names():
        return name
    return None


@dataclass(frozen=True)
class StoreMergeResult:
    """Outcome of joining stores. `renamed` says that the ids got their store's name in front, as
    two stores had one in common; `duplicates` lines have picture and text of an earlier one.
    """

    output: str
    lines: int
    content_sha256: str
    renamed: bool
    duplicates: int

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)


def merge_stores(
    stores: Sequence[Path], output: Path, progress: Progress = SILENT
) -> StoreMergeResult:
    """Write the lines of several stores, one after the other and pixel for pixel, to the store
    `output`.

    Raises UsageError when `output` is one of them or something else stands there, DataError when
    their charsets or geometries differ (the maximum width may), or when one is damaged.
    """
    from nordocr_cli.data.store import LineStore, LineStoreWriter
    from nordocr_cli.data.store_header import CharsetId

    target = os.path.realpath(output)
    if target in [os.path.realpath(path) for path in stores]:
        raise UsageError(
            f"{output} is one of the stores to be merged; give another --output"
        )
    with ExitStack() as stack:
        opened = [stack.enter_context(LineStore(path)) for path in stores]
        first = opened[0].header
        for store in opened[1:]:
            _require_alike(opened[0], store)
        widest = max(store.header.geometry.max_width for store in opened)
        ids = Counter(
            store.row(index).id for store in opened for index in range(len(store))
        )
        renamed = any(count > 1 for count in ids.values())
        made = {"merged": [_merged(store) for store in opened]}
        charset = CharsetId(first.charset_name, first.charset_sha256)
        geometry = replace(first.geometry, max_width=widest)
        writer = stack.enter_context(LineStoreWriter(output, geometry, charset, made=made))
        progress.start("merge", sum(map(len, opened)))
        different: set[tuple[bytes, str]] = set()
        for name, store in zip(_distinct_names(stores), opened, strict=True):
            prefix = f"{name}:" if renamed else ""
            different |= _copy_lines(store, writer, prefix, progress)
        progress.finish()
    assert writer.header is not None
    return StoreMergeResult(
        str(output),
        len(writer),
        writer.header.content_sha256,
        renamed,
        len(writer) - len(different),
    )


def _require_alike(first: "LineStore", other: "LineStore") -> None:
    """Raise DataError when two stores differ in charset or geometry."""
    if other.header.charset_sha256 != first.header.charset_sha256:
        raise DataError(
            f"{other.path} is in charset {other.header.charset_name!r}, {first.path} in"
            f" {first.header.charset_name!r}"
        )
    conflicts = other.header.geometry.conflicts(
        first.header.geometry, ignore=("max_width",)
    )
    if conflicts:
        raise DataError(
            f"{other.path} and {first.path} differ in {'; '.join(conflicts)}; prepare them alike"
        )


def _merged(store: "LineStore") -> dict[str, Any]:
    """What a merged store records about one that it was made from."""
    return {
        "path": str(store.path),
        "lines": len(store),
        "content_sha256": store.header.content_sha256,
    }


def _copy_lines(
    store: "LineStore", writer: "LineStoreWriter", prefix: str, progress: Progress
) -> set[tuple[bytes, str]]:
    """Copy all lines, and the rows that are in no store; `prefix` goes before each id. Returns
    hash and text of each line.
    """
    different: set[tuple[bytes, str]] = set()
    for index in range(len(store)):
        row = store.row(index)
        line = store.encoded(index)
        different.add((line.pixels_sha256, row.text))
        writer.add_encoded(line, replace(row, id=prefix + row.id))
        progress.advance()
    for row in store.left_out:
        writer.leave_out(replace(row, id=prefix + row.id))
    return different


def _distinct_names(stores: Sequence[Path]) -> list[str]:
    """The stores' names, or their numbers where two have the same name."""
    stems = [path.stem for path in stores]
    if len(set(stems)) == len(stems):
        return stems
    return [str(number) for number in range(1, len(stems) + 1)]


@dataclass(frozen=True)
class StoreExportResult:
    """Outcome of an export: the folder, its manifest, the number of lines, the profile that the
    store was prepared for (None where that is not known).
    """

    output: str
    manifest: str
    lines: int
    profile: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain JSON values."""
        return asdict(self)


def export_store(
    path: Path, output: Path, progress: Progress = SILENT
) -> StoreExportResult:
    """Write a store's lines as `images/000000001.png` … with `manifest.jsonl` to the new folder
    `output`.

    The images are as they are in the store, at its height; a row's own image name stays as
    `stored_image`. Raises UsageError when something stands at `output` or it lies in the store,
    DataError when the store is damaged.
    """
    from nordocr_cli.data.line_record import encode_png
    from nordocr_cli.data.store import LineStore

    atomic.refuse_inputs(output, [path])
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UsageError(
            f"{output} is there already; nothing was written: give a new folder"
        )
    with LineStore(path) as store, atomic.replacing(output) as folder:
        (folder / "images").mkdir(parents=True)
        progress.start("export", len(store))
        with open(
            folder / "manifest.jsonl", "w", encoding="utf-8", newline="\n"
        ) as manifest:
            for index in range(len(store)):
                row = store.row(index)
                name = f"images/{index + 1:09d}.png"
                (folder / name).write_bytes(encode_png(store.image(index)))
                stored = {"stored_image": row.image} if row.image else {}
                row = replace(row, image=name, extra={**row.extra, **stored})
                manifest.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
                progress.advance()
        progress.finish()
        return StoreExportResult(
            str(output), str(output / "manifest.jsonl"), len(store), profile_of(store)
        )
