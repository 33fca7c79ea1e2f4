"""Parquet and Arrow tables with image bytes in them, as Hugging Face datasets are stored.

Needs pyarrow (the extra `parquet`). An image is a struct of `bytes` and `path`, or bytes alone. A
column `alto`, `page` or `xml` with a layout makes the images pages, and each line of the layout a
row.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.data.entry import (
    IMAGE_NAMES,
    TEXT_NAMES,
    Entry,
    Place,
    make_entry,
    named_keys,
)
from nordocr_cli.data.images import resolve_image
from nordocr_cli.data.labels.label_file import NO_COLUMNS, Columns
from nordocr_cli.data.layouts import alto, page
from nordocr_cli.data.layouts.layout import BadLines, Layout
from nordocr_cli.errors import DataError
from nordocr_cli.extras import missing
from nordocr_cli.limits import MAX_PAGE_PIXELS
from nordocr_cli.pages.outline import outline_of
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.pixels import Pixels

TABLE_SUFFIXES = (".parquet", ".arrow", ".feather")
_LAYOUT_COLUMNS = ("alto", "page", "xml", "alto_xml", "page_xml")
_BATCH_ROWS = 256
_KEPT_BATCHES = 8
_KEPT_PAGES = 3


class TableSource:
    """Parquet or Arrow files with images inside. See Source; `key` is file, batch and row.

    Raises MissingBackendError without pyarrow, DataError for a damaged file and for a table without
    images or texts.
    """

    kind = "table"

    def __init__(
        self, path: Path, tables: Sequence[Path], columns: Columns = NO_COLUMNS
    ) -> None:
        self.path = path
        self.tables = tuple(tables)
        self._columns = columns
        self._lock = threading.Lock()
        self._batches = lru_cache(maxsize=_KEPT_BATCHES)(self._load_batch)
        self._pages = lru_cache(maxsize=_KEPT_PAGES)(self._load_page)
        # Number of the table that is being read, its next batch, and the batches from there on.
        self._reading: tuple[int, int, Iterator[Any]] = (-1, 0, iter(()))
        self._names = [self._column_names(table) for table in self.tables]

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return self.tables

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for number, table in enumerate(self.tables):
            image_column, layout_column = self._names[number]
            columns = [name for name in _schema(table).names if name != image_column]
            row_number = 0
            for batch_number, batch in enumerate(_batches(table, columns)):
                for index, row in enumerate(batch.to_pylist()):
                    row_number += 1
                    where = f"{table}: row {row_number}"
                    key = f"{number}:{batch_number}:{index}"
                    if layout_column:
                        yield from self._lines(row, layout_column, key, where, row_number)
                        continue
                    try:
                        yield self._entry(
                            row, image_column, key, where, f"{table.stem}:{row_number}"
                        )
                    except ValueError as error:
                        yield Entry(where, key, problem=str(error))

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        from nordocr_cli.data.resize import decode_image
        from nordocr_cli.pages.cut import cut_line

        if entry.place is not None:
            with self._lock:
                page_pixels = self._pages(entry.key)
            return cut_line(page_pixels, entry.place.outline).copy()
        return decode_image(self._image_bytes(entry.key), entry.where, keep_gray=True)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        from nordocr_cli.data.pages import crop_size
        from nordocr_cli.data.resize import image_size

        if entry.place is not None:
            return crop_size(entry.place)
        return image_size(self._image_bytes(entry.key), entry.where)

    def close(self) -> None:
        """See Source."""

    def _column_names(self, table: Path) -> tuple[str, str]:
        """The columns of the image and of the layout (empty where rows are lines)."""
        names = _schema(table).names
        image = self._columns.image or _first(names, ("image", "im", *sorted(IMAGE_NAMES)))
        layout = _first(names, _LAYOUT_COLUMNS)
        text = self._columns.text or _first(names, sorted(TEXT_NAMES))
        if not image or image not in names or not (layout or text):
            raise DataError(
                f"{table}: no column with images, or none with texts; its columns are"
                f" {', '.join(names)}: name them with --image-key and --text-key"
            )
        return image, "" if text else layout

    def _entry(
        self, row: Mapping[str, Any], image_column: str, key: str, where: str, name: str
    ) -> Entry:
        named = named_keys(row, "", self._columns.text)
        # The row's own path is inside of the image; here it is named by its place in the table.
        entry = make_entry({"id": name, **_plain(named), "image": name}, where, key)
        return entry

    def _lines(
        self, row: Mapping[str, Any], column: str, key: str, where: str, number: int
    ) -> Iterator[Entry]:
        bad_lines: BadLines = {}
        try:
            layout = _layout_of(row[column], where, bad_lines)
        except (DataError, TypeError, AttributeError) as error:
            yield Entry(where, key, problem=str(error).removeprefix(f"{where}: "))
            return
        for found in layout.pages[:1]:
            if layout.sizes and all(layout.sizes[0]):
                size = layout.sizes[0]
            else:
                size = None
            numbers = (line for line in count(1) if (found.index, line) not in bad_lines)
            for line, region in zip(numbers, found.regions, strict=False):
                name = f"{number}:r{line}"
                outline = outline_of(
                    region.box, region.polygon, region.baseline, region.text
                )
                yield Entry(
                    f"{where}, line {line}",
                    key,
                    LineRow(name, str(number), region.text, layout.language, source=name),
                    place=Place(0, outline, size),
                    is_named_by_file=True,
                )
        for problem in bad_lines.values():
            yield Entry(where, key, problem=problem)

    def _image_bytes(self, key: str) -> bytes:
        number, batch, index = (int(part) for part in key.split(":"))
        with self._lock:
            value = self._batches(number, batch)[index].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(value, dict) and content is None:
            content = value.get("path")
        if isinstance(content, str):
            return _bytes_beside(self.tables[number], content)
        if not isinstance(content, bytes):
            raise DataError(f"the image is {type(content).__name__}, not bytes")
        return content

    def _load_batch(self, number: int, batch: int) -> Any:
        """The images of a batch. Batches are requested nearly in order: the file is read further,
        and from its beginning only for an earlier one.
        """
        table, at, following = self._reading
        if table != number or at > batch:
            following = _batches(self.tables[number], [self._names[number][0]])
            at = 0
        found = None
        while at <= batch:
            found = next(following, None)
            at += 1
        self._reading = (number, at, following)
        if found is None:
            raise DataError(f"{self.tables[number]}: the file changed while it was read")
        return found.column(0)

    def _load_page(self, key: str) -> "Pixels":
        from nordocr_cli.data.resize import decode_image

        number, batch, index = (int(part) for part in key.split(":"))
        value = self._batches(number, batch)[index].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        return decode_image(content or b"", f"row {index + 1}", max_pixels=MAX_PAGE_PIXELS)


def _bytes_beside(table: Path, image: str) -> bytes:
    """The bytes of an image that a table names, in the table's folder."""
    from nordocr_cli.data.resize import read_image_bytes

    path = resolve_image(table.parent, image)
    if not Path(path).is_file():
        raise FileNotFoundError(path)
    return read_image_bytes(path)


def _first(names: Sequence[str], known: Sequence[str]) -> str:
    return next((name for name in known if name in names), "")


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a row that JSON has; others (dates, bytes) as text."""
    kinds = str | int | float | bool | list | dict | None
    return {
        name: item if isinstance(item, kinds) else str(item) for name, item in row.items()
    }


def _layout_of(xml: str, where: str, bad_lines: BadLines) -> Layout:
    content = xml.encode("utf-8")
    head = content[:4096].lstrip()
    for layout_format in (alto, page):
        if layout_format.sniff(head):
            return layout_format.read(content, Path(where), bad_lines)
    raise DataError(f"{where}: the layout is neither ALTO nor PAGE-XML")


def _schema(table: Path) -> Any:
    arrow = _import_pyarrow()
    try:
        if table.suffix == ".parquet":
            return arrow.parquet.read_schema(table)
        with _open_arrow(table) as reader:
            return _flat_schema(reader.schema)
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{table}: damaged table: {error}") from error


def _batches(table: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a table, some hundred at a time."""
    arrow = _import_pyarrow()
    try:
        if table.suffix == ".parquet":
            with arrow.parquet.ParquetFile(table) as file:
                yield from file.iter_batches(_BATCH_ROWS, columns=list(columns))
            return
        with _open_arrow(table) as reader:
            if hasattr(reader, "num_record_batches"):
                found = (
                    reader.get_batch(index) for index in range(reader.num_record_batches)
                )
            else:
                found = reader
            for batch in found:
                yield _flat(batch).select(list(columns))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{table}: damaged table: {error}") from error


def _flat_schema(schema: Any) -> Any:
    """The columns of a table; those inside of its only column, as kraken compiles data sets."""
    arrow = _import_pyarrow()
    if len(schema) == 1 and arrow.types.is_struct(schema.field(0).type):
        struct = schema.field(0).type
        return arrow.schema([struct.field(index) for index in range(struct.num_fields)])
    return schema


def _flat(batch: Any) -> Any:
    """The rows of a batch under the columns of `_flat_schema`."""
    arrow = _import_pyarrow()
    schema = _flat_schema(batch.schema)
    if schema is batch.schema:
        return batch
    return arrow.RecordBatch.from_arrays(batch.column(0).flatten(), schema=schema)


def _open_arrow(table: Path) -> Any:
    """Open an Arrow file of either kind: `datasets` writes streams."""
    arrow = _import_pyarrow()
    source = arrow.memory_map(str(table))
    try:
        return arrow.ipc.open_stream(source)
    except arrow.ArrowInvalid:
        return arrow.ipc.open_file(source)


def _import_pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise missing("pyarrow", "a Parquet or Arrow table") from error
    return pyarrow
