"""Opening recognizers and reading with them; what `nordocr.read` and `Recognizer` do."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nordocr.documents import Document, Line, Page, Word
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Recognition
from nordocr_cli.writers import registry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nordocr_cli.core.predict.plan import PredictOptions
    from nordocr_cli.core.predict.run import Prediction
    from nordocr_cli.core.predict.run import Reader as CoreReader
    from nordocr_cli.writers.read_page import ReadLine, ReadPage

    Pixels: TypeAlias = NDArray[np.uint8]
    Source: TypeAlias = str | Path | bytes | Pixels

FORMATS = tuple(registry.FORMATS)

# How the first bytes of a file tell its kind: (offset, bytes, file name ending).
_MAGIC = (
    (0, b"%PDF", ".pdf"),
    (0, b"II*\x00", ".tif"),
    (0, b"MM\x00*", ".tif"),
    (0, b"\x89PNG", ".png"),
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"BM", ".bmp"),
    (8, b"WEBP", ".webp"),
)


def read(source: "Source", **options: Any) -> Document:
    """Read a document: a PDF, a TIFF or an image of a page.

    `source` is a path, the bytes of a file, or an array of uint8 (height, width) gray or
    (height, width, 3) RGB. `options` are those of `Reader` and of `Reader.read`. To read many
    documents, open one `Reader`: the model is then loaded once.

    Raises UsageError for an unknown option or model, DataError if nothing could be read. A single
    page that cannot be read is a `Page` with an `error`.
    """
    of_reading = {
        name: options.pop(name) for name in ("regions", "name") if name in options
    }
    return Reader(**options).read(source, **of_reading)


class Reader:
    """Reads documents with one model, which is opened once.

    `model` is a shipped name, a run folder, a .safetensors, .onnx or .engine file, or
    `tesseract[:swe]`; None is the recognizer that ships. The other options have the names and
    defaults of `nordocr read`: `layout` ("auto": an image in the shape of a line is one), `crop`,
    `device`, `threads`, `precision`, `language`, `decoder`, `beam_width`, `wide`, `compiled`,
    `char_lm`, `lexicon`, `lm_weight`, `max_pixels`, `max_pages`.
    """

    def __init__(self, model: str | Path | None = None, **options: Any) -> None:
        self._reader = _open(model, {"layout": "auto", **options})

    @property
    def model(self) -> str:
        """The model: its name or its path."""
        return self._reader.options.model_name

    def read(
        self, source: "Source", *, regions: str | Path | None = None, name: str = ""
    ) -> Document:
        """Read one document; see `nordocr.read`.

        `regions` is a layout file with the positions of the lines (JSON, ALTO, PAGE, hOCR, TSV);
        without it the lines are found. `name` is what the document is called in results; the
        default is its path, or "page".
        """
        pages: list[ReadPage] = []
        with _as_file(source, name) as (path, shown):
            prediction = self._predict(path, regions)
            for page in prediction:
                pages.append(replace(page, source=shown, pixels=None))
        prediction.counts.require_some()
        file = Path(source) if isinstance(source, (str, Path)) else None
        return Document(shown, tuple(_page(page) for page in pages), tuple(pages), file)

    def convert(
        self,
        source: str | Path,
        target: str | Path,
        *,
        format: str | None = None,
        regions: str | Path | None = None,
        progress: Progress = SILENT,
    ) -> int:
        """Read a document straight into a file and return the number of lines.

        One page at a time is in memory, whatever the number of pages. The format follows the file
        name as in `Document.save`. Raises DataError if anything could not be read; what could be
        read is written all the same.
        """
        from nordocr.documents import format_of

        path = Path(target)
        prediction = self._predict(Path(source), regions, progress)
        prediction.save(format or format_of(path), path)
        prediction.counts.require_all()
        return prediction.counts.read

    def _predict(
        self, path: Path, regions: str | Path | None, progress: Progress = SILENT
    ) -> "Prediction":
        from nordocr_cli.core.predict.plan import plan_predict

        options = _fields(self._reader.options)
        if regions:
            # Given lines need not be found.
            options["layout"] = "auto"
        plan = plan_predict([path], regions=Path(regions) if regions else None, **options)
        return self._reader.run(plan, progress=progress)


class Recognizer:
    """Reads images of single lines with one model, which is opened once; options as for `Reader`.

    Example: [reading.text for reading in Recognizer("nordocr-default").read(["line.png"])]
    """

    def __init__(self, model: str | Path | None = None, **options: Any) -> None:
        self._reader = _open(model, {"layout": "line", **options})

    @property
    def model(self) -> str:
        """The model: its name or its path."""
        return self._reader.options.model_name

    def read(self, images: "Iterable[Source]", *, language: str = "") -> list[Recognition]:
        """Return what stands on each image, in the order given.

        An image is a path, the bytes of an image file, or an array of uint8 (height, width) gray or
        (height, width, 3) RGB. `language` (sv, no, da, is) is for Tesseract. Raises DataError,
        naming the image, if one cannot be read.
        """
        from nordocr_cli.core.predict.run import without_text

        crops = [_pixels(image, number) for number, image in enumerate(images)]
        languages = [language or self._reader.options.language] * len(crops)
        readings = self._reader.recognizer.recognize(crops, languages)
        return [
            without_text(crop, reading)
            for crop, reading in zip(crops, readings, strict=True)
        ]


# Options whose values the API takes apart: a record of the core holds them.
_LANGUAGE_FILES = ("char_lm", "lexicon", "lm_weight")
_LIMITS = ("max_pixels", "max_pages")


def _open(model: str | Path | None, options: dict[str, Any]) -> "CoreReader":
    """Open a model with the options of `Reader`. Raises UsageError naming an unknown one."""
    from nordocr_cli.core.predict.plan import PredictOptions
    from nordocr_cli.core.predict.run import open_reader
    from nordocr_cli.decode.language import WEIGHT, LanguageFiles
    from nordocr_cli.errors import nearest
    from nordocr_cli.limits import Limits

    plain = set(PredictOptions.__dataclass_fields__) - {"model", "lm", "limits"}
    known = plain | {*_LANGUAGE_FILES, *_LIMITS}
    for name in options:
        if name not in known:
            raise UsageError(f"unknown option {name!r}: {nearest(name, known)}")

    char_lm, lexicon = (
        Path(options[name]) if options.get(name) else None
        for name in ("char_lm", "lexicon")
    )
    weight = options.get("lm_weight")
    files = LanguageFiles(char_lm, lexicon, WEIGHT if weight is None else weight)
    limits = Limits(**{name: options[name] for name in _LIMITS if name in options})
    chosen = {name: value for name, value in options.items() if name in plain}
    return open_reader(
        str(model) if model else None,
        lm=files if char_lm or lexicon else None,
        limits=limits,
        **chosen,
    )


def _fields(options: "PredictOptions") -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__dataclass_fields__}


def save(document: Document, path: Path, kind: str) -> None:
    """Write a document in one of FORMATS; see `Document.save`."""
    from nordocr_cli.core.predict.counts import Counts
    from nordocr_cli.core.predict.run import Prediction
    from nordocr_cli.writers.registry import require_format

    pages: Iterator[ReadPage] = iter(document.read_pages)
    if require_format(kind).is_binary:
        pages = _with_pixels(document)
    Prediction(pages, Counts(), single=False).save(kind, path)


def _with_pixels(document: Document) -> "Iterator[ReadPage]":
    """Yield the pages with their pixels, which are read from the source again."""
    from nordocr_cli.data.documents import read_pages

    if document.file is None:
        raise UsageError(
            "this format shows the pages: read the document from a file, not from bytes"
        )
    source = read_pages(document.file)
    for page in document.read_pages:
        yield page if page.error else replace(page, pixels=source[page.index or 0])


def with_texts(document: Document, texts: Mapping[tuple[int, int], str]) -> Document:
    """Return a document with other texts on some lines; see `Document.corrected`."""
    for page, line in texts:
        if not 0 <= page < len(document.pages) or not 0 <= line < len(
            document.pages[page].lines
        ):
            raise UsageError(f"{document.source} has no line {line} on page {page}")

    pages = []
    for page_number, page_read in enumerate(document.read_pages):
        lines = []
        for line_number, line_read in enumerate(page_read.lines):
            text = texts.get((page_number, line_number), line_read.reading.text)
            if text != line_read.reading.text:
                line_read = replace(line_read, reading=Recognition(text, 1.0), edges=())
            lines.append(line_read)
        pages.append(replace(page_read, lines=tuple(lines)))
    shown = tuple(_page(page) for page in pages)
    return replace(document, pages=shown, read_pages=tuple(pages))


# From what the core returns to what the API returns
# ----------------------------------------


def _page(page: "ReadPage") -> Page:
    height_px, width_px = page.size
    return Page(
        index=page.index,
        height_px=height_px,
        width_px=width_px,
        lines=tuple(_line(line) for line in page.lines),
        error=page.error,
        doubts=page.doubts,
    )


def _line(line: "ReadLine") -> Line:
    reading = line.reading
    return Line(
        text=reading.text,
        box=line.box,
        confidence=reading.confidence,
        words=tuple(Word(word.text, word.box, word.confidence) for word in line.words()),
        char_confidences=reading.char_confidences,
        outline=line.shape.points,
        paragraph=line.paragraph,
    )


# Images from paths, bytes and arrays
# ----------------------------------------


class _as_file:
    """A context with (path, name to show) of a source; bytes and arrays become a temporary file."""

    def __init__(self, source: "Source", name: str) -> None:
        self._source = source
        self._name = name
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> tuple[Path, Path]:
        if isinstance(self._source, (str, Path)):
            return Path(self._source), Path(self._name or self._source)
        content, suffix = _encoded(self._source)
        self._folder = tempfile.TemporaryDirectory(prefix="nordocr-")
        path = Path(self._folder.name) / f"page{suffix}"
        path.write_bytes(content)
        return path, Path(self._name or "page")

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _encoded(source: "bytes | Pixels") -> tuple[bytes, str]:
    """Return the bytes of a file and the ending for its kind. An array becomes a PNG."""
    if not isinstance(source, bytes):
        import cv2

        pixels = _checked_array(source, "the array")
        done, content = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        if not done:
            raise DataError(f"an array of shape {pixels.shape} cannot be written as PNG")
        return content.tobytes(), ".png"
    return source, suffix_of_content(source)


def suffix_of_content(content: bytes) -> str:
    """Return the file name ending that the first bytes of a file stand for, e.g. ".pdf".

    Raises DataError if it is no PDF, TIFF, PNG, JPEG, BMP or WebP.
    """
    for offset, magic, suffix in _MAGIC:
        if content[offset : offset + len(magic)] == magic:
            return suffix
    raise DataError(
        "these bytes are no PDF, TIFF, PNG, JPEG, BMP or WebP file: the first are"
        f" {content[:8].hex(' ') or 'missing'}"
    )


def _pixels(image: "Source", number: int) -> "Pixels":
    from nordocr_cli.data.resize import decode_image, read_image

    if isinstance(image, (str, Path)):
        return read_image(Path(image))
    if isinstance(image, bytes):
        return decode_image(image, f"image {number}")
    return _checked_array(image, f"image {number}")


def _checked_array(array: Any, what: str) -> "Pixels":
    """Return a uint8 (height, width, 3) array. Raises DataError naming any other type or shape."""
    import numpy as np

    pixels: NDArray[np.uint8] = np.asarray(array)
    if pixels.dtype != np.uint8:
        raise DataError(f"{what}: expected uint8 pixels, not {pixels.dtype}")
    if pixels.ndim == 2:
        return np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise DataError(
            f"{what}: expected shape (height, width) or (height, width, 3), not {pixels.shape}"
        )
    return pixels
