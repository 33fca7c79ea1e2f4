"""Opening recognizers and reading with them; what `nordocr.read` and `Recognizer` do."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from nordocr.documents import Document, Line, Page, Word
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Recognition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from nordocr_cli.core.predict.run import Prediction
    from nordocr_cli.runtime.protocols import Recognizer as OpenedRecognizer
    from nordocr_cli.writers.read_page import ReadLine, ReadPage

    Pixels: TypeAlias = NDArray[np.uint8]
    Source: TypeAlias = str | Path | bytes | Pixels

FORMATS = ("text", "json", "jsonl", "tsv", "alto", "hocr", "pdf")
Precision = Literal["fp32", "bf16"]

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
    of_reading = {name: options.pop(name) for name in ("regions", "language") if name in options}
    return Reader(**options).read(source, **of_reading)


@dataclass(frozen=True)
class _Options:
    """How a model is opened; the names are those of the command line."""

    device: str = "auto"
    threads: int | None = None
    precision: Precision = "fp32"
    decoder: str = "greedy"
    beam_width: int = 10
    wide: str = "split"
    char_lm: Path | None = None
    lexicon: Path | None = None
    lm_weight: float | None = None
    compiled: bool = False
    crop: Literal["outline", "box"] = "outline"
    max_pixels: int | None = None
    max_pages: int | None = None

    def limits(self) -> Any:
        """The limits of pages and pixels."""
        from nordocr_cli.limits import Limits

        given = {"max_pixels": self.max_pixels, "max_pages": self.max_pages}
        return Limits(**{name: value for name, value in given.items() if value is not None})

    def language_files(self) -> Any:
        from nordocr_cli.decode.language import WEIGHT, LanguageFiles

        weight = WEIGHT if self.lm_weight is None else self.lm_weight
        return LanguageFiles(self.char_lm, self.lexicon, weight)

    def _default_model(self) -> str:
        from nordocr_cli.artifact.shipped import DEFAULT_MODEL
        from nordocr_cli.runtime.specs import default_model

        # torch alone compiles, so the weights are opened and not the ONNX model.
        return DEFAULT_MODEL if self.compiled else default_model(self.device, self.precision)

    def open(self, model: str | Path | None) -> "tuple[str, OpenedRecognizer]":
        """Open a model; return its name and the recognizer."""
        from nordocr_cli.runtime.recognizers import RunnerRecognizer, open_recognizer
        from nordocr_cli.runtime.wide_lines import WideLines

        name = str(model) if model else self._default_model()
        opened = open_recognizer(
            name,
            device=self.device,
            threads=self.threads,
            precision=self.precision,
            decoder=self.decoder,
            beam_width=self.beam_width,
            compiled=self.compiled,
            lm=self.language_files(),
        )
        if isinstance(opened, RunnerRecognizer):
            return name, WideLines(opened, split=self.wide == "split")
        return name, opened


class Reader:
    """Reads documents with one model, which is opened once.

    `model` is a shipped name, a run folder, a .safetensors, .onnx or .engine file, or
    `tesseract[:swe]`; None is the recognizer that ships. The other options have the names and
    defaults of `nordocr predict`: `device`, `threads`, `precision`, `decoder`, `beam_width`,
    `wide`, `char_lm`, `lexicon`, `lm_weight`, `compiled`, `crop`, `max_pixels`, `max_pages`.
    """

    def __init__(self, model: str | Path | None = None, **options: Any) -> None:
        self._options = _checked(options)
        self.model, self._recognizer = self._options.open(model)

    def read(
        self,
        source: "Source",
        *,
        regions: str | Path | None = None,
        language: str = "",
        name: str = "page",
    ) -> Document:
        """Read one document; see `nordocr.read`.

        `regions` is a layout file with the positions of the lines (JSON, ALTO, PAGE, hOCR, TSV);
        without it the lines are found. `language` (sv, no, da, is) is for Tesseract. `name` is what
        bytes and arrays are called in the result.
        """
        pages: list[ReadPage] = []
        with _as_file(source, name) as (path, shown):
            prediction = self._predict([path], regions, language)
            for page in prediction.pages:
                pages.append(replace(page, source=shown, pixels=None))
        return Document(shown, tuple(_page(page) for page in pages), tuple(pages))

    def _predict(
        self,
        paths: Sequence[Path],
        regions: str | Path | None,
        language: str,
        progress: Progress = SILENT,
    ) -> "Prediction":
        from nordocr_cli.core.predict.run import predict

        layout: dict[str, Any] = {"regions": Path(regions)} if regions else {"layout": "page"}
        return predict(
            paths,
            self.model,
            recognizer=self._recognizer,
            language=language,
            threads=self._options.threads,
            crop=self._options.crop,
            limits=self._options.limits(),
            progress=progress,
            **layout,
        )

    def convert(
        self,
        source: str | Path,
        target: str | Path,
        *,
        format: str | None = None,
        regions: str | Path | None = None,
        language: str = "",
        progress: Progress = SILENT,
    ) -> int:
        """Read a document straight into a file and return the number of lines.

        One page at a time is in memory, whatever the number of pages. The format follows the file
        name as in `Document.save`. Raises DataError if anything could not be read; what could be
        read is written all the same.
        """
        from nordocr.documents import format_of

        path = Path(target)
        prediction = self._predict([Path(source)], regions, language, progress)
        prediction.save(format or format_of(path), path)
        prediction.counts.require_all()
        return prediction.counts.read


class Recognizer:
    """Reads images of single lines with one model, which is opened once; options as for `Reader`.

    Example: [reading.text for reading in Recognizer("nordocr-default").read(["line.png"])]
    """

    def __init__(self, model: str | Path | None = None, **options: Any) -> None:
        self._options = _checked(options)
        self.model, self._recognizer = self._options.open(model)

    def read(self, images: "Iterable[Source]", *, language: str = "") -> list[Recognition]:
        """Return what stands on each image, in the order given.

        An image is a path, the bytes of an image file, or an array of uint8 (height, width) gray or
        (height, width, 3) RGB. Raises DataError, naming the image, if one cannot be read.
        """
        crops = [_pixels(image, number) for number, image in enumerate(images)]
        return list(self._recognizer.recognize(crops, [language] * len(crops)))


def _checked(options: dict[str, Any]) -> _Options:
    """Return options as a record. Raises UsageError naming an unknown one."""
    from nordocr_cli.errors import nearest

    known = _Options.__dataclass_fields__
    for name in options:
        if name not in known:
            raise UsageError(f"unknown option {name!r}: {nearest(name, known)}")
    return _Options(**options)


def save(document: Document, path: Path, kind: str) -> None:
    """Write a document in one of FORMATS; see `Document.save`."""
    from nordocr_cli.core.predict.run import Counts, Prediction

    pages: Iterator[ReadPage] = iter(document.read_pages)
    if kind == "pdf":
        pages = _with_pixels(document)
    Prediction(pages, Counts(), single=False).save(kind, path)


def _with_pixels(document: Document) -> "Iterator[ReadPage]":
    """Yield the pages with their pixels, which are read from the source again."""
    from nordocr_cli.data.documents import read_pages

    source = read_pages(document.source)
    for page in document.read_pages:
        yield page if page.error else replace(page, pixels=source[page.index or 0])


# From what the core returns to what the API returns
# ----------------------------------------


def _page(page: "ReadPage") -> Page:
    height_px, width_px = page.size
    lines = tuple(_line(line) for line in page.lines)
    return Page(page.index, height_px, width_px, lines, page.error)


def _line(line: "ReadLine") -> Line:
    words = tuple(Word(word.text, word.box, word.confidence) for word in line.words())
    reading = line.reading
    return Line(reading.text, line.box, reading.confidence, words, reading.char_confidences)


# Images from paths, bytes and arrays
# ----------------------------------------


class _as_file:
    """A context with (path, name to show) of a source; bytes and arrays become a temporary file."""

    def __init__(self, source: "Source", name: str) -> None:
        self._source, self._name = source, name
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> tuple[Path, Path]:
        if isinstance(self._source, (str, Path)):
            return Path(self._source), Path(self._source)
        content, suffix = _encoded(self._source)
        self._folder = tempfile.TemporaryDirectory(prefix="nordocr-")
        path = Path(self._folder.name) / f"page{suffix}"
        path.write_bytes(content)
        return path, Path(self._name)

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
    for offset, magic, suffix in _MAGIC:
        if source[offset : offset + len(magic)] == magic:
            return source, suffix
    raise DataError(
        "these bytes are no PDF, TIFF, PNG, JPEG, BMP or WebP file: the first are"
        f" {source[:8].hex(' ') or 'missing'}"
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
