"""Read line images, or the lines of documents, a page at a time: only what is being read is held in
memory.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.atomic import is_stream, replacing
from nordocr_cli.core.predict.contents import Contents
from nordocr_cli.core.predict.counts import Counts
from nordocr_cli.core.predict.doubts import MINIMUM_CONFIDENCE, image_doubts
from nordocr_cli.core.predict.inputs import find_images, require_one_page
from nordocr_cli.core.predict.pages import (
    PageOf,
    PageReader,
    character_edges,
    read_document,
)
from nordocr_cli.core.predict.plan import PredictOptions, PredictPlan, plan_predict
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import STDIN, Box, Recognition
from nordocr_cli.writers.read_page import ReadLine, ReadPage
from nordocr_cli.writers.registry import FORMATS, Format, require_format

if TYPE_CHECKING:
    from nordocr_cli.pages.finder import LineFinder
    from nordocr_cli.runtime.backends.tesseract.recognizer import (
        TesseractLineFinder,
    )
    from nordocr_cli.runtime.protocols import Image, Recognizer

__all__ = [
    "FORMATS",
    "Counts",
    "Prediction",
    "Reader",
    "open_reader",
    "plan_predict",
    "predict",
]

ImageBatch = list[tuple[Path, "Image | DataError"]]  # images, or why one cannot be read

_FIRST_LINES = 64
_LINES_AT_A_TIME = 256
_PIXELS_AT_A_TIME = 64_000_000


@dataclass
class Prediction:
    """The result of reading: iterate it for the pages; while that runs, `counts` counts what was
    read and what could not be. `single` says that it is of one image, whose name is not shown.
    """

    pages: Iterator[ReadPage]
    counts: Counts
    single: bool

    def __iter__(self) -> Iterator[ReadPage]:
        return self.pages

    def write(self, kind: str) -> Iterator[str]:
        """Yield the result in one of the formats that are text, piece by piece.

        What could not be read is an object with its `error` in json and jsonl, and left out
        elsewhere; `counts.require_all` raises for it afterwards.
        """
        form = require_format(kind)
        if form.is_binary:
            raise UsageError(f"--format {kind} is written to a file: give -o FILE")
        options = {"named": not self.single} if kind == "text" else {}
        pieces: Iterator[str] = form.write(self._pages_for(form), **options)
        if form.is_one_file_a_page:
            return _require_one(pieces, kind)
        return pieces

    def save(self, kind: str, output: Path) -> list[Path]:
        """Write the result to a file in any format, which appears complete; return the files.

        Some formats are one file a page: NAME.png, or NAME-1.png, NAME-2.png and so on when there
        are several. Raises DataError for a full disk, and when nothing could be read: then a file
        that cannot hold the reason, such as an empty PDF, is not written.
        """
        form = require_format(kind)
        if form.is_one_file_a_page:
            return self._save_pages(form, output)
        with replacing(output) as temporary:
            if form.is_binary:
                with temporary.open("wb") as file:
                    file.writelines(form.write(self._pages_for(form)))
            else:
                with temporary.open("w", encoding="utf-8", newline="\n") as text:
                    text.writelines(self.write(kind))
            if not form.keeps_errors:
                self.counts.require_some()
        return [output]

    def _save_pages(self, form: Format, output: Path) -> list[Path]:
        saved: list[Path] = []
        pieces = form.write(self._pages_for(form))
        if is_stream(output):  # it has no second file
            pieces = _require_one(pieces, form.name)
        for number, content in enumerate(pieces, start=1):
            target = _numbered(output, number) if number > 1 else output
            with replacing(target) as temporary:
                temporary.write_bytes(
                    content.encode() if isinstance(content, str) else content
                )
            saved.append(target)
        self.counts.require_some()
        if len(saved) > 1:
            saved[0] = output.replace(_numbered(output, 1))
        return saved

    def _pages_for(self, form: Format) -> Iterator[ReadPage]:
        pages = self.pages
        if not form.draws_pages:
            pages = _without_pixels(pages)
        if form.keeps_errors:
            return pages
        return (page for page in pages if not page.error)


def _without_pixels(pages: Iterator[ReadPage]) -> Iterator[ReadPage]:
    """The pages without their pixels, so that none is held while the next one is decoded."""
    for page in pages:
        light = replace(page, pixels=None)
        del page
        yield light


def _numbered(path: Path, number: int) -> Path:
    """NAME-3.page.xml for NAME.page.xml and 3."""
    stem, dot, suffixes = path.name.partition(".")
    return path.with_name(f"{stem}-{number}{dot}{suffixes}")


def _require_one(pieces: Iterator[str], kind: str) -> Iterator[str]:
    """The only file. Raises UsageError at a second one."""
    for number, piece in enumerate(pieces, start=1):
        if number > 1:
            raise UsageError(
                f"--format {kind} is a file a page: give -o FILE for several pages"
            )
        yield piece


def predict(
    inputs: Sequence[Path],
    model: str | None = None,
    *,
    regions: Path | None = None,
    done: Container[Path] = (),
    recognizer: "Recognizer | None" = None,
    progress: Progress = SILENT,
    **options: Any,
) -> Prediction:
    """Open `model` (a path, `tesseract`, or None for the one that ships) and return what reads
    `inputs`: images of one line and folders of them, or with `regions` the lines of one document,
    or the lines that are found on pages. `options` are those of PredictOptions.

    Images in `done` are skipped; `recognizer` is `model`, opened already. What cannot be read is
    warned about, counted and left out. Raises UsageError when an input is missing or holds no
    images, DataError for a damaged document or layout, and what opening the model raises.
    """
    plan = plan_predict(inputs, model, regions=regions, **options)
    return Reader(plan.options, progress, recognizer).run(plan, done=done)


def open_reader(
    model: str | None = None, *, progress: Progress = SILENT, **options: Any
) -> "Reader":
    """Open a model once, for many documents; `options` are those of PredictOptions."""
    return Reader(PredictOptions(model, **options), progress)


class Reader:
    """An opened recognizer and, once pages are read, what finds their lines.

    `recognizer` is the model of `options`, opened already. Raises what opening it raises.
    """

    def __init__(
        self,
        options: PredictOptions,
        progress: Progress = SILENT,
        recognizer: "Recognizer | None" = None,
    ) -> None:
        options.check()
        self.options = options
        self._progress = progress
        self.recognizer = self._for_wide_lines(recognizer or self._open_recognizer())

    def read(
        self,
        inputs: Sequence[Path],
        *,
        regions: Path | None = None,
        done: Container[Path] = (),
        progress: Progress | None = None,
    ) -> Prediction:
        """Return what reads `inputs`; see `predict`."""
        given = {
            name: getattr(self.options, name) for name in self.options.__dataclass_fields__
        }
        model = given.pop("model")
        plan = plan_predict(inputs, model, regions=regions, **given)
        return self.run(plan, done=done, progress=progress)

    def run(
        self,
        plan: PredictPlan,
        *,
        done: Container[Path] = (),
        progress: Progress | None = None,
    ) -> Prediction:
        """Return what carries out a plan."""
        counts = Counts(progress or self._progress)
        if plan.regions is not None:
            pages = self._read_regions(plan, counts)
        elif plan.layout == "line":
            files = find_images(plan.inputs, "line", self.options.limits, plan.contents)
            remaining = (file for file in files if file not in done)
            pages = self._read_images(remaining, plan.contents, counts)
        else:
            pages = self._read_pages(plan, counts)
        single = len(plan.inputs) == 1 and not plan.inputs[0].is_dir()
        return Prediction(_until_done(pages, counts), counts, single)

    def _open_recognizer(self) -> "Recognizer":
        from nordocr_cli.runtime.recognizers import TextSearch, open_recognizer

        options = self.options
        recognizer = open_recognizer(
            options.model_name,
            device=options.device,
            threads=options.threads,
            precision=options.precision,
            decoder=options.decoder,
            search=TextSearch(options.beam_width, options.lm),
            compiled=options.compiled,
        )
        if options.model is None:
            self._progress.note(
                f"read by {options.model_name}, the recognizer that ships; --model takes another"
            )
        return recognizer

    def _for_wide_lines(self, recognizer: "Recognizer") -> "Recognizer":
        """The recognizer, for networks with what cuts lines that are too wide."""
        from nordocr_cli.runtime.recognizers import RunnerRecognizer
        from nordocr_cli.runtime.wide_lines import WideLines

        if isinstance(recognizer, RunnerRecognizer):
            return WideLines(recognizer, split=self.options.wide == "split")
        return recognizer

    @property
    def finder(self) -> "LineFinder":
        """What finds lines on pages: the detector that ships, opened once."""
        return _shared_finder(self.options.threads)

    @cached_property
    def tesseract_finder(self) -> "TesseractLineFinder":
        """What finds lines on pages: Tesseract."""
        from nordocr_cli.runtime.backends.tesseract.recognizer import TesseractLineFinder

        return TesseractLineFinder(self.options.language)

    def _page_reader(self, language: str, counts: Counts) -> PageReader:
        return PageReader(self.recognizer, language, self.options.crop, counts)

    def _read_regions(self, plan: PredictPlan, counts: Counts) -> Iterator[ReadPage]:
        from nordocr_cli.data.documents import read_pages
        from nordocr_cli.runtime.backends.tesseract.recognizer import LANGUAGES

        assert plan.regions is not None
        assert plan.regions_file is not None
        document = read_pages(plan.inputs[0], self.options.limits)
        # Other programs write "swe", "Swedish" or their own default: a name that no recognizer
        # here knows is none.
        if plan.regions.language in LANGUAGES:
            known = plan.regions.language
        else:
            known = ""
        reader = self._page_reader(self.options.language or known, counts)
        return read_document(document, plan.regions, plan.regions_file, reader, counts)

    def _read_pages(self, plan: PredictPlan, counts: Counts) -> Iterator[ReadPage]:
        """Find and read the lines of pages."""
        files = find_images(plan.inputs, "page", self.options.limits)
        # Before minutes of reading.
        finder: LineFinder | TesseractLineFinder
        if plan.layout == "tesseract":
            finder = self.tesseract_finder
        else:
            finder = self.finder
        reader = self._page_reader(self.options.language, counts)
        return self._find_and_read(files, plan.contents, finder, reader, counts)

    def _find_and_read(
        self,
        files: Iterable[Path],
        contents: Contents,
        finder: "LineFinder | TesseractLineFinder",
        reader: PageReader,
        counts: Counts,
    ) -> Iterator[ReadPage]:
        from nordocr_cli.data.documents import read_pages

        counts.progress.start("reading")
        for path in files:
            try:
                # Gray: a page at 600 dpi takes 35 MB instead of 105.
                document = read_pages(
                    path,
                    self.options.limits,
                    keep_gray=True,
                    content=contents.take(path),
                )
            except DataError as error:
                counts.fail(error)
                yield ReadPage(path, 0, (0, 0), (), error=str(error))
                continue
            for index in range(len(document)):
                try:
                    pixels = document[index]
                    resolution = document.resolution(index, pixels.shape[:2])
                    page = PageOf(path, index, pixels, resolution)
                    read = reader.read_found(page, finder)
                except DataError as error:  # of one page: the next may be intact
                    counts.fail(error)
                    yield ReadPage(path, index, (0, 0), (), error=str(error))
                    continue
                counts.pages += 1
                yield read
                del read, page, pixels  # before the next page is decoded

    def _read_images(
        self, files: Iterable[Path], contents: Contents, counts: Counts
    ) -> Iterator[ReadPage]:
        counts.progress.start("reading")
        recognizer = self.recognizer
        language = self.options.language
        for batch in _ahead(_batches(files, contents)):
            crops = [crop for _, crop in batch if not isinstance(crop, DataError)]
            readings = iter(recognizer.recognize(crops, [language] * len(crops)))
            for path, crop in batch:
                if isinstance(crop, DataError):
                    counts.fail(crop)
                    yield ReadPage(path, None, (0, 0), (), error=str(crop))
                    continue
                counts.read += 1
                yield self._image_read(path, crop, next(readings), counts)
            counts.progress.advance(len(batch))

    def _image_read(
        self, path: Path, crop: "Image", reading: Recognition, counts: Counts
    ) -> ReadPage:
        """The result of an image of one line."""
        reading = without_text(crop, reading)
        height, width = crop.shape[:2]
        doubts = image_doubts(crop, reading)
        if doubts:
            counts.doubt(f"{path}: {doubts[0]}")
        edges = character_edges(self.recognizer, crop, reading)
        line = ReadLine(Box(0, 0, width, height), reading, edges)
        return ReadPage(path, None, (height, width), (line,), crop, doubts=doubts)


@cache
def _shared_finder(threads: int | None) -> "LineFinder":
    from nordocr_cli.pages.finder import LineFinder

    return LineFinder(threads)


def without_text(crop: "Image", reading: Recognition) -> Recognition:
    """Return an empty reading for a line that is read without confidence and holds no ink of a
    letter's size: a network finds some text in specks and rules too.
    """
    from nordocr_cli.pages.ink import has_letters

    is_sure = reading.confidence is None or reading.confidence >= MINIMUM_CONFIDENCE
    if not reading.text or is_sure or has_letters(crop):
        return reading
    return replace(reading, text="", confidence=0.0, char_confidences=(), spans=())


def _until_done(pages: Iterator[ReadPage], counts: Counts) -> Iterator[ReadPage]:
    """The pages; then the progress ends."""
    yield from pages
    counts.progress.finish()


def _ahead(batches: "Iterator[ImageBatch]") -> "Iterator[ImageBatch]":
    """Yield `batches`; the next one is read from disk and decoded while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _batches(files: Iterable[Path], contents: Contents) -> "Iterator[ImageBatch]":
    """Yield images, or why one cannot be read, as many at a time as a batch sorted by width needs
    and memory holds; few the first time, so that the network begins at once.
    """
    batch: ImageBatch = []
    pixels = 0
    maximum = _FIRST_LINES
    for path in files:
        try:
            crop = _read_line_image(path, contents)
            batch.append((path, crop))
            pixels += crop.shape[0] * crop.shape[1]
        except DataError as error:
            batch.append((path, error))
        if len(batch) >= maximum or pixels >= _PIXELS_AT_A_TIME:
            yield batch
            batch = []
            pixels = 0
            maximum = _LINES_AT_A_TIME
    if batch:
        yield batch


def _read_line_image(path: Path, contents: Contents) -> "Image":
    from nordocr_cli.data.documents import read_content
    from nordocr_cli.data.resize import decode_image, read_image_bytes

    if path == STDIN:
        return decode_image(read_content(path), "standard input")
    content = contents.take(path)
    if content is None:
        content = read_image_bytes(path)
    require_one_page(path, content, DataError)
    return decode_image(content, str(path))
