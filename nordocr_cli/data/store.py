"""The line store: prepared line images and their rows in one LMDB folder, in the layout that PARSeq
and OpenOCR read.

| key | value |
|---|---|
| `num-samples` | number of lines n, decimal |
| `image-%09d`, `label-%09d` | line 1…n as binary PPM, gray ones as PGM: a short header and the
    pixels; its text in UTF-8 |
| `nordocr-row-%09d` | the LineRow as JSON |
| `nordocr-header` | JSON: schema, geometry, charset, counts, content hash, how it was made |
| `nordocr-widths` | little-endian int32 (n,): widths in pixels, so that bucketing decodes nothing |
| `nordocr-crc32` | little-endian uint32 (n, 2): CRC32 of each image and of each row |
| `nordocr-prints` | little-endian uint64 (n, 2): the first 8 bytes of the SHA-256 of each image,
    and its fingerprint; not in older stores |
| `nordocr-left-out` | the LineRows that the geometry or the charset could not hold, a JSON object
    each on a line, compressed (zlib); not in older stores |

The form of images and rows is line_record's. Schema 1 held PNGs; it is still read.
"""

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb
import numpy as np
from numpy.typing import NDArray

from nordocr_cli import atomic
from nordocr_cli.charset import Charset
from nordocr_cli.data.line_record import (
    EncodedLine,
    decode_netpbm,
    decode_png,
    decode_row,
    encode_line,
    encode_row,
    netpbm_header,
)
from nordocr_cli.data.lmdb_file import HEADER_KEY, LmdbReader, refuse_to_replace
from nordocr_cli.data.lmdb_pages import bytes_in_use
from nordocr_cli.data.store_header import CharsetId, StoreHeader
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import LineRow

_PRINTS_KEY = "nordocr-prints"
_LEFT_OUT_KEY = "nordocr-left-out"
_MAX_LEFT_OUT_BYTES = 1 << 30
_FIRST_MAP_BYTES = 16 << 20
_LINES_PER_TRANSACTION = 100  # lines that are not committed yet stay in the cache


class LineStoreWriter(AbstractContextManager["LineStoreWriter"]):
    """Writes a line store in the folder of `path` and renames it to `path` when the `with` block
    succeeds. Otherwise nothing is left.

        with LineStoreWriter(Path("lines.lmdb"), geometry, charset) as writer:
            writer.add(image, row)

    An existing line store at `path` is replaced; anything else there is rejected with UsageError.
    `counts` and `made` may be set until the block ends; `header` is available afterwards. With
    `folder` the store is built there and the caller renames it, so that several stores get their
    names together (atomic.replacing_all). Raises DataError when the disk is full.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        charset: Charset | CharsetId,
        *,
        made: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self.charset = charset
        self.made: dict[str, Any] = dict(made or {})
        self.counts: dict[str, int] = {}
        self.header: StoreHeader | None = None
        self.widths: list[int] = []
        self._ids: set[str] = set()
        self._crcs: list[tuple[int, int]] = []
        self._prints: list[tuple[int, int]] = []
        self._left_out: list[bytes] = []
        self._content = hashlib.sha256()
        self._pending: list[tuple[bytes, bytes]] = []
        refuse_to_replace(self.path)
        self._target: AbstractContextManager[Path] = (
            nullcontext(folder) if folder else atomic.replacing(self.path)
        )

    def __enter__(self) -> Self:
        self._folder = self._target.__enter__()
        try:
            self._environment = lmdb.open(
                str(self._folder),
                map_size=_FIRST_MAP_BYTES,
                sync=False,
                metasync=False,
                # Only this writer uses the folder, so no lock file is needed. A lock file is mapped
                # into memory, and mapping one on a full disk ends the process with SIGBUS.
                lock=False,
            )
        except lmdb.Error as error:
            self._target.__exit__(type(error), error, error.__traceback__)
            raise DataError(f"cannot write {self.path}: {error}") from error
        return self

    def __len__(self) -> int:
        return len(self.widths)

    def add(self, image: Pixels, row: LineRow) -> None:
        """Append one line. `image` is uint8 (geometry.height, width[, 3]) with an allowed width;
        see `add_encoded`.
        """
        if image.shape[0] != self.geometry.height:
            raise ValueError(
                f"row {row.id!r}: height {image.shape[0]} is not the geometry's"
                f" {self.geometry.height}"
            )
        self.add_encoded(encode_line(image), row)

    def add_encoded(self, line: EncodedLine, row: LineRow) -> None:
        """Append one line that `encode_line` has encoded, for example in another thread. Raises
        ValueError for a width that the geometry does not allow and for an id that already exists.
        """
        geometry = self.geometry
        if not 0 < line.width <= geometry.max_width or line.width % geometry.width_multiple:
            raise ValueError(
                f"row {row.id!r}: width {line.width} is not a multiple of {geometry.width_multiple}"
                " up to max_width"
            )
        if row.id in self._ids:
            raise ValueError(f"row id {row.id!r} is already in {self.path}")
        self._ids.add(row.id)
        self.widths.append(line.width)
        row_bytes = encode_row(row)
        self._crcs.append((line.crc32, zlib.crc32(row_bytes)))
        self._prints.append(
            (int.from_bytes(line.pixels_sha256[:8], "little"), line.fingerprint)
        )
        self._content.update(line.pixels_sha256 + hashlib.sha256(row_bytes).digest())
        number = len(self.widths)
        self._pending += [
            (b"image-%09d" % number, line.record),
            (b"label-%09d" % number, row.text.encode("utf-8")),
            (b"nordocr-row-%09d" % number, row_bytes),
        ]
        if number % _LINES_PER_TRANSACTION == 0:
            self.commit()

    def leave_out(self, row: LineRow) -> None:
        """Record a row whose line does not fit the geometry or the charset. Evaluations count it as
        a failure.
        """
        self._left_out.append(encode_row(row))

    def commit(self) -> None:
        """Write the added lines to disk. If the process is killed, they are in the unfinished
        store.
        """
        while self._pending:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        transaction.put(key, value)
                self._pending.clear()
            except lmdb.MapFullError:
                # The transaction is undone. A map that started at its final size would be a file of
                # that size on Windows.
                self._environment.set_mapsize(self._environment.info()["map_size"] * 2)
            except lmdb.Error as error:
                raise DataError(
                    f"cannot write {self.path}: {error}; is the disk full?"
                ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        try:
            if kind is None:
                self._finish()
        except BaseException as failure:
            self._environment.close()
            self._target.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._environment.close()
        if kind is None:
            _trim(self._folder)
        return self._target.__exit__(kind, error, trace)

    def _finish(self) -> None:
        lines = len(self.widths)
        self.header = StoreHeader(
            geometry=self.geometry,
            charset_name=self.charset.name,
            charset_sha256=self.charset.sha256,
            lines=lines,
            content_sha256=self._content.hexdigest(),
            counts={"read": lines, "kept": lines} | self.counts,
            made=self.made,
        )
        self._pending += [
            (b"num-samples", str(lines).encode()),
            (b"nordocr-widths", np.array(self.widths, dtype="<i4").tobytes()),
            (b"nordocr-crc32", np.array(self._crcs, dtype="<u4").reshape(-1, 2).tobytes()),
            (
                _PRINTS_KEY.encode(),
                np.array(self._prints, dtype="<u8").reshape(-1, 2).tobytes(),
            ),
            (_LEFT_OUT_KEY.encode(), zlib.compress(b"\n".join(self._left_out))),
            (
                HEADER_KEY.encode(),
                json.dumps(
                    self.header.to_json(), ensure_ascii=False, allow_nan=False
                ).encode("utf-8"),
            ),
        ]
        self.commit()


def _trim(folder: Path) -> None:
    """Cut the data file to the pages in use (on Windows it is as large as the map) and delete the
    lock file.
    """
    data = folder / "data.mdb"
    needed = bytes_in_use(data)
    if needed:
        os.truncate(data, needed)
    (folder / "lock.mdb").unlink(missing_ok=True)


class LineStore(AbstractContextManager["LineStore"]):
    """A line store, open for reading: `len(store)`, `.header`, `.widths` int32 (n,), `.image(i)`,
    `.row(i)`; i counts from 0.

    May be shared by threads, and sent to worker processes (fork or spawn). Raises DataError when it
    is not a line store, was truncated, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._reader = LmdbReader(self.path)
        self._lock = threading.Lock()
        self._located: tuple[Pixels, NDArray[np.int64], NDArray[np.bool_]] | None = None
        # Where each record (header and pixels) begins in the mapped file, and its bytes.
        self._records: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._checked: NDArray[np.bool_] | None = None
        try:
            self.header = self._read_header()
            self.widths = self._read_array("nordocr-widths", "<i4", (self.header.lines,))
            self._crcs = self._read_array("nordocr-crc32", "<u4", (self.header.lines, 2))
        except BaseException:
            self._reader.close()
            raise

    def __reduce__(self) -> tuple[type["LineStore"], tuple[Path]]:
        return LineStore, (self.path,)  # opened again in the other process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.header.lines

    def close(self) -> None:
        """Close the store."""
        self._reader.close()

    def image(self, index: int) -> Pixels:
        """Return line `index` as uint8 (height, widths[index], 3) RGB after checking its
        checksum.
        """
        stored = self._stored(index)
        if stored.ndim == 2:
            return np.repeat(stored[:, :, None], 3, axis=2)
        return stored.copy()

    def images(
        self, indices: Sequence[int] | NDArray[np.int64], width: int | None = None
    ) -> Pixels:
        """Return several lines as uint8 (N, height, width, channels), padded on the right with the
        geometry's pad value.

        `channels` is 1 when all the lines are gray, else 3. The default of `width` is that of the
        widest line. See `fill`.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if width is None:
            width = int(self.widths[indices].max(initial=0))
        else:
            width = width
        channels = 1 if self.are_gray(indices).all() else 3
        images = np.empty(
            (len(indices), self.header.geometry.height, width, channels), dtype=np.uint8
        )
        self.fill(images, np.arange(len(indices)), indices, self.header.geometry.pad_value)
        return images

    def fill(
        self,
        images: Pixels,
        slots: NDArray[np.int64],
        indices: NDArray[np.int64],
        pad_value: int,
    ) -> None:
        """Write lines `indices` into `images[slots]`, padded on the right; `images` is uint8 (N,
        height, width, channels).

        Far faster than `image`, as the pixels are copied from the mapped file. The checksum of a
        line is compared when it is read for the first time (see `require_undamaged`).

        Raises DataError for a damaged line, ValueError when a line is wider than the images or has
        colour while they have one channel, and IndexError for an index out of range.
        """
        if not len(indices):
            return
        if not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"{self.path} has lines 0…{len(self) - 1}, not {indices.min()}…{indices.max()}"
            )
        (height, width, channels), widths, gray = (
            images.shape[1:],
            self.widths[indices],
            self.are_gray(indices),
        )
        widest = int(widths.max())
        if widest > width or (channels == 1 and not gray.all()):
            colour = "gray" if gray.all() else "colour"
            raise ValueError(
                f"{colour} lines up to {widest} px wide do not fit images of shape {images.shape}"
            )
        if self.header.schema == 1:
            for slot, index in zip(slots, indices, strict=True):
                images[slot, :, : self.widths[index]] = self.image(int(index))
                images[slot, :, self.widths[index] :] = pad_value
            return
        self.require_undamaged(indices)
        mapped, starts, _ = self.located()
        rows = zip(
            slots.tolist(),
            starts[indices].tolist(),
            widths.tolist(),
            gray.tolist(),
            strict=True,
        )
        for slot, start, line_width, is_gray in rows:
            stored = 1 if is_gray else 3
            line = mapped[start : start + height * line_width * stored]
            if stored == channels:
                flat = images[slot].reshape(height, width * channels)
                flat[:, : line_width * channels] = line.reshape(
                    height, line_width * channels
                )
                flat[:, line_width * channels :] = pad_value
            else:
                images[slot, :, :line_width] = line.reshape(height, line_width, 1)
                images[slot, :, line_width:] = pad_value

    def require_undamaged(self, indices: NDArray[np.int64]) -> None:
        """Compare the checksums of lines that were not read before, once for each line.

        Raises DataError naming the first damaged line. Stores of schema 1 are checked whenever a
        line is read instead. Most of the cost is the CRC itself, about a microsecond for 1 to 4 kB.
        """
        if self.header.schema == 1 or not len(indices):
            return
        mapped, _, gray = self.located()
        assert self._records is not None
        assert self._checked is not None
        unchecked = indices[~self._checked[indices]]
        if not len(unchecked):
            return
        begins, lengths = self._records
        content = mapped.data  # its slices cost less than those of an array
        lines = zip(
            unchecked.tolist(),
            begins[unchecked].tolist(),
            lengths[unchecked].tolist(),
            self.widths[unchecked].tolist(),
            gray[unchecked].tolist(),
            self._crcs[unchecked, 0].tolist(),
            strict=True,
        )
        for index, begin, length, width, is_gray, crc in lines:
            record = content[begin : begin + length]
            header = netpbm_header(self.header.geometry.height, width, is_gray)
            if record[: len(header)] != header or zlib.crc32(record) != crc:
                raise DataError(_damaged(self.path, f"image-{index + 1:09d}"))
        self._checked[unchecked] = True

    def are_gray(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the lines `indices` are stored with one channel (of schema 1: none)."""
        if self.header.schema == 1:
            return np.zeros(len(indices), dtype=bool)
        return self.located()[2][indices]

    def row(self, index: int) -> LineRow:
        """Return the row of line `index`."""
        return decode_row(self._record(index, "nordocr-row-", 1))

    @cached_property
    def left_out(self) -> tuple[LineRow, ...]:
        """Return the rows that prep read but whose lines did not fit the geometry or the charset;
        empty for older stores. Raises DataError when the record is damaged.
        """
        value = self._reader.get(_LEFT_OUT_KEY)
        if value is None:
            return ()
        try:
            content = zlib.decompressobj().decompress(value, _MAX_LEFT_OUT_BYTES)
            return tuple(decode_row(line) for line in content.split(b"\n") if line)
        except (zlib.error, ValueError, TypeError) as error:
            raise DataError(
                f"{self.path}: {_LEFT_OUT_KEY!r} is damaged ({error}); make the store again"
            ) from error

    def prints(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Return for each line a hash of its pixels and its fingerprint, uint64 (n,) each. For
        older stores they are computed.
        """
        if self._reader.get(_PRINTS_KEY) is not None:
            found = self._read_array(_PRINTS_KEY, "<u8", (len(self), 2))
        else:
            lines = (self.encoded(index) for index in range(len(self)))
            pairs = [
                (int.from_bytes(x.pixels_sha256[:8], "little"), x.fingerprint)
                for x in lines
            ]
            found = np.array(pairs, dtype=np.uint64).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def content_sha256(self, index: int) -> bytes:
        """Return the bytes that line `index` adds to the header's `content_sha256`, from the stored
        pixels and row.
        """
        row_bytes = self._record(index, "nordocr-row-", 1)
        return self.encoded(index).pixels_sha256 + hashlib.sha256(row_bytes).digest()

    def encoded(self, index: int) -> EncodedLine:
        """Return line `index` for another store's `add_encoded`."""
        return encode_line(self._stored(index))

    def label(self, index: int) -> str:
        """Return the text under `label-%09d`, as other readers see it."""
        key = f"label-{self._number(index):09d}"
        try:
            return self._get(key).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path}: {key} is damaged (not UTF-8); make the store again with `nordocr"
                " prep`"
            ) from error

    def _stored(self, index: int) -> Pixels:
        """Return line `index` as (h, w, 3) RGB or (h, w) gray, read-only."""
        record = self._record(index, "image-", 0)
        try:
            if self.header.schema > 1:
                stored = decode_netpbm(record)
            else:
                stored = decode_png(record)
        except ValueError as error:
            raise DataError(
                f"{self.path}: image-{index + 1:09d} is not a line image ({error}); make the store"
                " again"
            ) from None
        expected = (self.header.geometry.height, int(self.widths[index]))
        if stored.shape[:2] != expected:
            raise DataError(
                f"{self.path}: image-{index + 1:09d} has shape {stored.shape[:2]}, not {expected};"
                " make the store again"
            )
        return stored

    def located(self) -> tuple[Pixels, NDArray[np.int64], NDArray[np.bool_]]:
        """Return the mapped file (bytes,), the offset of each line's pixels in it, and which lines
        are gray. Computed once and valid while the store is open. Not for stores of schema 1.
        """
        with self._lock:
            if self._located is None:
                keys = (b"image-%09d" % number for number in range(1, len(self) + 1))
                mapped, starts, lengths = self._reader.locate(keys)
                pixels = self.widths.astype(np.int64) * self.header.geometry.height
                gray = lengths < 3 * pixels
                pixel_bytes = np.where(gray, pixels, 3 * pixels)
                self._records = starts, lengths
                self._checked = np.zeros(len(self), dtype=bool)
                self._located = mapped, starts + lengths - pixel_bytes, gray
            self._reader.require_open()
            return self._located

    def _record(self, index: int, prefix: str, column: int) -> bytes:
        key = f"{prefix}{self._number(index):09d}"
        value = self._get(key)
        if zlib.crc32(value) != self._crcs[index, column]:
            raise DataError(_damaged(self.path, key))
        return value

    def _number(self, index: int) -> int:
        if not 0 <= index < self.header.lines:
            raise IndexError(
                f"{self.path} has lines 0…{self.header.lines - 1}, not {index}"
            )
        return index + 1

    def _get(self, key: str) -> bytes:
        value = self._reader.get(key)
        if value is None:
            raise DataError(
                f"{self.path}: {key!r} is missing; make the store again with `nordocr prep`"
            )
        return value

    def _read_array(self, key: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        values = np.frombuffer(self._get(key), dtype=dtype)
        if values.size != np.prod(shape):
            raise DataError(
                f"{self.path}: {key!r} holds {values.size} numbers, not {np.prod(shape)}; the store"
                " is damaged"
            )
        return values.reshape(shape).astype(dtype[1:])  # native byte order

    def _read_header(self) -> StoreHeader:
        text = self._reader.get(HEADER_KEY)
        if text is None:
            raise DataError(
                f"{self.path}: an LMDB, but not a line store; make one from it: nordocr prep"
                f" {self.path} -o NEW.lmdb"
            )
        return StoreHeader.from_json(text, str(self.path))


def _damaged(store: Path, key: str) -> str:
    return (
        f"{store}: {key} is damaged (its checksum differs); copy the store again, or make it again"
        " with `nordocr prep`"
    )
