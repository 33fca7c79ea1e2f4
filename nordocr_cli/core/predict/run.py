"""Read line images, or the regions of a document's pages, a page at a time: nothing is held but
what is being read.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nordocr_cli.artifact.shipped import DEFAULT_MODEL
from nordocr_cli.atomic import refuse_inputs, replacing
from nordocr_cli.core.predict.inputs import find_images, require_one_page, resolve_layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.decode.language import LanguageFiles
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Box, Recognition
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.specs import default_model, parse_spec, require_options

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document
    from nordocr_cli.data.layouts.layout import Layout
    from nordocr_cli.runtime.backends.tesseract.recognizer import LineFinder
    from nordocr_cli.runtime.protocols import Image, Recognizer
    from nordocr_cli.writers.results import ReadLine, ReadPage

Batch = list[tuple[Path, "Image | DataError"]]  # images, or why one cannot be read
Format = Literal["text", "json", "jsonl", "tsv", "alto", "hocr", "pdf"]
FORMATS: tuple[str, ...] = get_args(Format)
Wide = Literal["split", "squash"]

_FIRST_LINES, _LINES_AT_A_TIME = 64, 256
_PIXELS_AT_A_TIME = 64_000_000


@dataclass
class Prediction:
    """What comes of reading: iterate it for the pages; while that runs it counts what was read and
    what could not be.
    """

    pages: Iterator["ReadPage"]
    counts: "Counts"
    single: bool  # one image, one line: its name says nothing

    def write(self, kind: str) -> Iterator[str]:
        """Yield the result in one of FORMATS but pdf, piece by piece. Raises DataError at the end
        when not one line could be read. What could not be read is an object with its `error` in
        json and jsonl, and left out elsewhere.
        """
        from nordocr_cli.writers.results import WRITERS

        writer: Callable[..., Iterator[str]] = WRITERS[require_format(kind)]
        pages = self.pages if kind in ("json", "jsonl") else self._without_errors()
        yield from writer(pages, named=not self.single) if kind == "text" else writer(pages)

    def save(self, kind: str, output: Path) -> None:
        """Write the result to a file in any of FORMATS; it appears whole. Raises what `write` does,
        and DataError for a full disk.
        """
        from nordocr_cli.writers.pdf import write_pdf

        with replacing(output) as temporary:
            if kind == "pdf":
                with temporary.open("wb") as file:
                    file.writelines(write_pdf(self._without_errors()))
            else:
                with temporary.open("w", encoding="utf-8", newline="\n") as text:
                    text.writelines(self.write(kind))

    def _without_errors(self) -> Iterator["ReadPage"]:
        return (page for page in self.pages if not page.error)


@dataclass
class Counts:
    """Lines read, and images, pages and lines that could not be; `first` is the reason of the first
    failure.
    """

    progress: Progress = SILENT
    read: int = 0
    failed: int = 0
    first: str = field(default="")

    def fail(self, error: DataError) -> None:
        """Name one failure and go on."""
        self.failed += 1
        self.first = self.first or str(error)
        self.progress.warn(str(error))

    def require_all(self) -> None:
        """Raise DataError when something could not be read."""
        if self.failed:
            raise DataError(
                f"{self.failed} of {self.failed + self.read} could not be read; the first:"
                f" {self.first}"
            )


def require_format(kind: str) -> str:
    """Return `kind` when results can be written so. Raises UsageError."""
    if kind not in FORMATS:
        raise UsageError(f"--format {kind!r}: {nearest(kind, FORMATS)}")
    return kind


def plan_predict(
    inputs: Sequence[Path],
    model: str | None = None,
    *,
    regions: Path | None = None,
    layout: str = "auto",
    device: str = "auto",
    precision: str = "fp32",
    decoder: str = "greedy",
    beam_width: int = 10,
    wide: str = "split",
    compiled: bool = False,
    lm: LanguageFiles | None = None,
    output: Path | None = None,
) -> dict[str, Any]:
    """Return what `predict` would do; no network is opened, and of images the headers only.

    Raises UsageError for options that do not go together, an unknown name, what is not there, and
    an output that is an input; DataError for damaged regions.
    """
    model = model or (DEFAULT_MODEL if compiled else default_model(device, precision))
    if wide not in get_args(Wide):
        raise UsageError(f"--wide {wide!r}: {nearest(wide, get_args(Wide))}")
    if regions and len(inputs) != 1:
        raise UsageError(f"--regions belongs to one document, {len(inputs)} inputs were given")
    if regions and layout != "auto":
        raise UsageError(
            "--regions says where the lines are, --layout how they are found; give one of them"
        )
    parse_device(device)
    spec = parse_spec(model)
    require_options(spec, precision, decoder, compiled)
    if lm:
        lm.require()
        if decoder != "beam":
            raise UsageError(
                "--char-lm and --lexicon put in a word on what the beam keeps: say --decoder beam"
            )
    for path in inputs:
        if not (path.is_file() if regions else path.exists()):
            raise UsageError(f"no {'document' if regions else 'image or folder'} {path}")
    if output:
        refuse_inputs(output, filter(None, (*inputs, regions, Path(model))))
    plan: dict[str, Any] = {
        "inputs": [str(path) for path in inputs],
        "model": model,
        "backend": spec.backend,
        "device": device,
    }
    plan |= {"precision": precision, "decoder": decoder, "wide": wide}
    plan |= {} if regions else {"layout": resolve_layout(inputs, layout)}
    plan |= {"beam_width": beam_width, **(lm.to_json() if lm else {})} if decoder == "beam" else {}
    return plan | (
        {"regions": str(regions), "lines": read_layout(regions).num_regions} if regions else {}
    )


def predict(
    inputs: Sequence[Path],
    model: str | None = None,
    *,
    regions: Path | None = None,
    layout: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    language: str = "",
    decoder: str = "greedy",
    beam_width: int = 10,
    wide: str = "split",
    compiled: bool = False,
    lm: LanguageFiles | None = None,
    done: Container[Path] = (),
    recognizer: "Recognizer | None" = None,
    progress: Progress = SILENT,
) -> Prediction:
    """Open `model` (a path, `tesseract`, or None for the one that ships) and return what reads
    `inputs`: images of one line and folders of them, or with `regions` the lines of one document,
    or with `layout="page"` those that Tesseract finds on pages.

    A line wider than the network takes is cut into windows that overlap (`wide="split"`) or
    squashed as in training; `compiled` lets torch compile the network. Images in `done` are passed
    over. `recognizer` is `model`, opened already: many calls then load it once. What cannot be read
    is warned about, counted and left out. Raises UsageError when an input
    is missing or holds no images, DataError for a damaged document or layout, and what opening the
    model raises.
    """
    from nordocr_cli.data.documents import read_pages
    from nordocr_cli.runtime.backends.tesseract.recognizer import LineFinder
    from nordocr_cli.runtime.recognizers import RunnerRecognizer, open_recognizer
    from nordocr_cli.runtime.wide_lines import WideLines

    plan = plan_predict(
        inputs,
        model,
        regions=regions,
        layout=layout,
        device=device,
        precision=precision,
        decoder=decoder,
        wide=wide,
        compiled=compiled,
        lm=lm,
    )
    of_pages = plan.get("layout") == "page"
    files = iter(()) if regions else find_images(inputs, plan["layout"])
    if of_pages:
        progress.note(
            "the lines of the pages are found by Tesseract; --regions FILE takes those of another"
            " program"
        )
        finder = LineFinder(language)  # before minutes of loading
    if recognizer is None:
        recognizer = open_recognizer(
            plan["model"],
            device=device,
            threads=threads,
            precision=precision,
            decoder=decoder,
            beam_width=beam_width,
            compiled=compiled,
            lm=lm,
        )
    if model is None:
        progress.note(f"read by {plan['model']}, the recognizer that ships; --model takes another")
    if isinstance(recognizer, RunnerRecognizer):
        recognizer = WideLines(recognizer, split=wide == "split")
    counts = Counts(progress)
    if regions:
        pages = _read_document(
            read_pages(inputs[0]), read_layout(regions), regions, recognizer, language, counts
        )
    elif of_pages:
        pages = _find_and_read(files, finder, recognizer, language, counts)
    else:
        pages = _read_images(
            (file for file in files if file not in done), recognizer, language, counts
        )
    return Prediction(
        _or_fail(pages, counts), counts, single=len(inputs) == 1 and inputs[0].is_file()
    )


def _or_fail(pages: Iterator["ReadPage"], counts: Counts) -> Iterator["ReadPage"]:
    yield from pages
    counts.progress.finish()
    if not counts.read:
        raise DataError(
            f"not one line of {counts.failed} could be read; the first:"
            f" {counts.first or 'there are no lines'}"
        )


def _read_images(
    files: Iterable[Path], recognizer: "Recognizer", language: str, counts: Counts
) -> Iterator["ReadPage"]:
    from nordocr_cli.writers.results import ReadPage

    counts.progress.start("reading")
    for batch in _ahead(_batches(files)):
        crops = [crop for _, crop in batch if not isinstance(crop, DataError)]
        readings = iter(recognizer.recognize(crops, [language] * len(crops)))
        for path, crop in batch:
            if isinstance(crop, DataError):
                counts.fail(crop)
                yield ReadPage(path, None, (0, 0), (), error=str(crop))
                continue
            height, width = crop.shape[:2]
            counts.read += 1
            line = _line(Box(0, 0, width, height), crop, next(readings), recognizer)
            yield ReadPage(path, None, (height, width), (line,), crop)
        counts.progress.advance(len(batch))


def _ahead(batches: "Iterator[Batch]") -> "Iterator[Batch]":
    """Yield `batches`, the next one being read from disk and decoded while one is worked on."""
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _batches(files: Iterable[Path]) -> "Iterator[Batch]":
    """Yield images, or why one cannot be read, as many at a time as a batch sorted by width wants
    and memory holds; few the first time, so that the network begins at once.
    """
    from nordocr_cli.data.resize import read_image

    batch: Batch = []
    pixels, most = 0, _FIRST_LINES
    for path in files:
        try:
            require_one_page(path, DataError)
            crop = read_image(path)
            batch.append((path, crop))
            pixels += crop.shape[0] * crop.shape[1]
        except DataError as error:
            batch.append((path, error))
        if len(batch) >= most or pixels >= _PIXELS_AT_A_TIME:
            yield batch
            batch, pixels, most = [], 0, _LINES_AT_A_TIME
    if batch:
        yield batch


def _read_document(
    document: "Document",
    layout: "Layout",
    regions: Path,
    recognizer: "Recognizer",
    language: str,
    counts: Counts,
) -> Iterator["ReadPage"]:
    from nordocr_cli.runtime.backends.tesseract.recognizer import LANGUAGES
    from nordocr_cli.writers.results import ReadPage

    # Other programs write "swe", "Swedish" or their own default: no name that a recognizer here
    # knows.
    language = language or (layout.language if layout.language in LANGUAGES else "")
    counts.progress.start("reading", total=layout.num_regions)
    sizes = layout.sizes or ((0, 0),) * len(layout.pages)
    for page, size in zip(layout.pages, sizes, strict=True):
        try:
            if page.index >= len(document) and not document.cut:
                raise DataError(
                    f"{regions}: page_index {page.index}, but {document.path} has {len(document)}"
                    " pages"
                )
            image = document.page(page.index, size if all(size) else None)
            if all(size) and size != image.shape[:2]:
                raise DataError(
                    f"{document.path}, page {page.index + 1} is {image.shape[0]} x {image.shape[1]}"
                    f" px (height x width), its regions in {regions} were found on {size[0]} x"
                    f" {size[1]} px: another scan?"
                )
        except DataError as error:
            counts.fail(error)
            yield ReadPage(document.path, page.index, size, (), error=str(error))
            continue
        yield _read_page(
            document.path,
            page.index,
            image,
            [r.box for r in page.regions],
            recognizer,
            language,
            counts,
        )


def _find_and_read(
    files: Iterable[Path],
    finder: "LineFinder",
    recognizer: "Recognizer",
    language: str,
    counts: Counts,
) -> Iterator["ReadPage"]:
    """Read pages whose lines Tesseract finds."""
    from nordocr_cli.data.documents import read_pages
    from nordocr_cli.writers.results import ReadPage

    counts.progress.start("reading")
    for path in files:
        try:
            document = read_pages(path)
        except DataError as error:
            counts.fail(error)
            yield ReadPage(path, 0, (0, 0), (), error=str(error))
            continue
        for index in range(len(document)):
            try:
                image = document[index]
                boxes = finder.find(image)
            except DataError as error:  # of one page: the next may be whole
                counts.fail(error)
                yield ReadPage(path, index, (0, 0), (), error=str(error))
            else:
                yield _read_page(path, index, image, boxes, recognizer, language, counts)


def _read_page(
    path: Path,
    index: int,
    image: "Image",
    boxes: Iterable[Box],
    recognizer: "Recognizer",
    language: str,
    counts: Counts,
) -> "ReadPage":
    from nordocr_cli.data.documents import crop_box
    from nordocr_cli.writers.results import ReadPage

    found: list[tuple[Box, Image]] = []
    for box in boxes:
        try:
            found.append((box, crop_box(image, box)))
        except DataError as error:
            counts.fail(DataError(f"{path}, page {index + 1}: {error}"))
    readings = recognizer.recognize([crop for _, crop in found], [language] * len(found))
    lines = tuple(
        _line(box, crop, reading, recognizer)
        for (box, crop), reading in zip(found, readings, strict=True)
    )
    counts.read += len(lines)
    counts.progress.advance(len(found))
    return ReadPage(path, index, (image.shape[0], image.shape[1]), lines, image)


def _line(box: Box, crop: "Image", reading: Recognition, recognizer: "Recognizer") -> "ReadLine":
    """Put a reading at its place on the page."""
    from nordocr_cli.runtime.wide_lines import WideLines
    from nordocr_cli.writers.results import ReadLine

    if not isinstance(recognizer, WideLines):
        return ReadLine(box, reading)
    left = max(0, int(box.x))  # where crop_box begins
    edges = recognizer.edges(crop.shape[0], crop.shape[1], reading)
    return ReadLine(box, reading, tuple((left + first, left + last) for first, last in edges))
