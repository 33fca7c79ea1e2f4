"""Read line images, or the regions of a document's pages, a page at a time: nothing is held but what is being read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.data.layouts import read_layout
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Box, Recognition
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.specs import parse_spec, require_options

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document
    from nordocr_cli.data.layout import Layout
    from nordocr_cli.runtime.protocols import Image, Recognizer
    from nordocr_cli.runtime.results import ReadLine, ReadPage

Format = Literal["text", "json", "jsonl", "tsv", "alto", "hocr"]
FORMATS: tuple[str, ...] = get_args(Format)
Wide = Literal["split", "squash"]

_LINES_AT_A_TIME = 256
_PIXELS_AT_A_TIME = 64_000_000
_SORTED_UP_TO = 10_000  # images of a folder; a larger folder is read in its own order


@dataclass
class Prediction:
    """What comes of reading: iterate it for the pages; while that runs it counts what was read and what could not be."""

    pages: Iterator["ReadPage"]
    counts: "Counts"
    single: bool  # one image, one line: its name says nothing

    def write(self, kind: str) -> Iterator[str]:
        """Yield the result in one of FORMATS, piece by piece. Raises DataError at the end when not one line could be read."""
        from nordocr_cli.runtime.results import WRITERS

        writer: Callable[..., Iterator[str]] = WRITERS[require_format(kind)]
        yield from writer(self.pages, named=not self.single) if kind == "text" else writer(self.pages)


@dataclass
class Counts:
    """Lines read, and images, pages and lines that could not be; `first` is the reason of the first failure."""

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
            raise DataError(f"{self.failed} of {self.failed + self.read} could not be read; the first: {self.first}")


def require_format(kind: str) -> str:
    """Return `kind` when results can be written so. Raises UsageError."""
    if kind not in FORMATS:
        raise UsageError(f"--format {kind!r}: {nearest(kind, FORMATS)}")
    return kind


def plan_predict(
    inputs: Sequence[Path],
    model: str,
    *,
    regions: Path | None = None,
    device: str = "auto",
    precision: str = "fp32",
    decoder: str = "greedy",
    beam_width: int = 10,
    wide: str = "split",
    output: Path | None = None,
) -> dict[str, Any]:
    """Return what `predict` would do; no image and no network is opened.

    Raises UsageError for options that do not go together, an unknown name, what is not there, and an output that is an input;
    DataError for damaged regions.
    """
    if wide not in get_args(Wide):
        raise UsageError(f"--wide {wide!r}: {nearest(wide, get_args(Wide))}")
    if regions and len(inputs) != 1:
        raise UsageError(f"--regions belongs to one document, {len(inputs)} inputs were given")
    parse_device(device)
    spec = parse_spec(model)
    require_options(spec, precision, decoder)
    for path in inputs:
        if not (path.is_file() if regions else path.exists()):
            raise UsageError(f"no {'document' if regions else 'image or folder'} {path}")
    if output:
        refuse_inputs(output, filter(None, (*inputs, regions, Path(model))))
    plan: dict[str, Any] = {"inputs": [str(path) for path in inputs], "model": model, "backend": spec.backend, "device": device}
    plan |= {"precision": precision, "decoder": decoder, "wide": wide}
    plan |= {"beam_width": beam_width} if decoder == "beam" else {}
    return plan | ({"regions": str(regions), "lines": read_layout(regions).num_regions} if regions else {})


def predict(
    inputs: Sequence[Path],
    model: str,
    *,
    regions: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    language: str = "",
    decoder: str = "greedy",
    beam_width: int = 10,
    wide: str = "split",
    progress: Progress = SILENT,
) -> Prediction:
    """Open `model` (a path, or `tesseract`) and return what reads `inputs`: images of one line and folders of them, or with
    `regions` the lines of one document.

    A line wider than the network takes is cut into windows that overlap (`wide="split"`) or squashed as in training. What
    cannot be read is warned about, counted and left out; the rest is read. Raises UsageError when an input is missing, holds no
    images or has pages without regions, DataError for a damaged document or layout, and what opening the model raises.
    """
    from nordocr_cli.data.documents import read_pages
    from nordocr_cli.runtime.recognizers import RunnerRecognizer, open_recognizer
    from nordocr_cli.runtime.wide_lines import WideLines

    plan_predict(inputs, model, regions=regions, device=device, precision=precision, decoder=decoder, wide=wide)
    files = None if regions else find_images(inputs)
    recognizer: Recognizer = open_recognizer(
        model, device=device, threads=threads, precision=precision, decoder=decoder, beam_width=beam_width
    )
    if isinstance(recognizer, RunnerRecognizer):
        recognizer = WideLines(recognizer, split=wide == "split")
    counts = Counts(progress)
    if regions:
        pages = _read_document(read_pages(inputs[0]), read_layout(regions), regions, recognizer, language, counts)
    else:
        assert files is not None
        pages = _read_images(files, recognizer, language, counts)
    return Prediction(_or_fail(pages, counts), counts, single=len(inputs) == 1 and inputs[0].is_file())


def find_images(inputs: Sequence[Path]) -> Iterator[Path]:
    """Yield the image files that `inputs` mean; a folder means the images in it, by name up to 10,000 of them.

    Checks every input before the first is yielded. Raises UsageError for one that is not there, a folder without images, and
    a file of several pages.
    """
    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    for path in inputs:
        if path.is_dir():
            if next(_images_in(path), None) is None:
                raise UsageError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
        elif path.is_file():
            _require_one_page(path, UsageError)
        else:
            raise UsageError(f"no image or folder {path}")
    return chain.from_iterable(_in_order(path) if path.is_dir() else [path] for path in inputs)


def _images_in(folder: Path) -> Iterator[Path]:
    import os

    from nordocr_cli.data.documents import IMAGE_SUFFIXES

    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file():
                yield folder / entry.name


def _in_order(folder: Path) -> Iterator[Path]:
    images = _images_in(folder)
    first = list(islice(images, _SORTED_UP_TO + 1))
    yield from sorted(first) if len(first) <= _SORTED_UP_TO else first
    yield from images


def _require_one_page(path: Path, error: type[UsageError] | type[DataError]) -> None:
    from nordocr_cli.data.documents import read_pages

    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff", ".pdf") and ((count := len(read_pages(path))) > 1 or suffix == ".pdf"):
        raise error(f"{path} has {count} page{'s' if count > 1 else ''}; say where the lines are: --regions FILE")


def _or_fail(pages: Iterator["ReadPage"], counts: Counts) -> Iterator["ReadPage"]:
    yield from pages
    counts.progress.finish()
    if not counts.read:
        raise DataError(f"not one line of {counts.failed} could be read; the first: {counts.first or 'there are no lines'}")


def _read_images(files: Iterable[Path], recognizer: "Recognizer", language: str, counts: Counts) -> Iterator["ReadPage"]:
    from nordocr_cli.runtime.results import ReadPage

    counts.progress.start("reading")
    for batch in _batches(files, counts):
        readings = recognizer.recognize([crop for _, crop in batch], [language] * len(batch))
        for (path, crop), reading in zip(batch, readings, strict=True):
            height, width = crop.shape[:2]
            counts.read += 1
            yield ReadPage(path, None, (height, width), (_line(Box(0, 0, width, height), crop, reading, recognizer),))
        counts.progress.advance(len(batch))


def _batches(files: Iterable[Path], counts: Counts) -> Iterator[list[tuple[Path, "Image"]]]:
    """Yield readable images, as many at a time as a batch sorted by width wants and memory holds."""
    from nordocr_cli.data.resize import read_image

    batch: list[tuple[Path, Image]] = []
    pixels = 0
    for path in files:
        try:
            _require_one_page(path, DataError)
            crop = read_image(path)
        except DataError as error:
            counts.fail(error)
            continue
        batch.append((path, crop))
        pixels += crop.shape[0] * crop.shape[1]
        if len(batch) == _LINES_AT_A_TIME or pixels >= _PIXELS_AT_A_TIME:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _read_document(
    document: "Document", layout: "Layout", regions: Path, recognizer: "Recognizer", language: str, counts: Counts
) -> Iterator["ReadPage"]:
    from nordocr_cli.data.documents import crop_box
    from nordocr_cli.runtime.results import ReadPage
    from nordocr_cli.runtime.tesseract import LANGUAGES

    # Other programs write "swe", "Swedish" or their own default: no name that a recognizer here knows.
    language = language or (layout.language if layout.language in LANGUAGES else "")
    counts.progress.start("reading", total=layout.num_regions)
    sizes = layout.sizes or ((0, 0),) * len(layout.pages)
    for page, size in zip(layout.pages, sizes, strict=True):
        where = f"{document.path}, page {page.index + 1}"
        try:
            if page.index >= len(document):
                raise DataError(f"{regions}: page_index {page.index}, but {document.path} has {len(document)} pages")
            image = document.page(page.index, size if all(size) else None)
            if all(size) and size != image.shape[:2]:
                raise DataError(
                    f"{where} is {image.shape[0]} x {image.shape[1]} px (height x width), its regions in {regions} were found on "
                    f"{size[0]} x {size[1]} px: another scan?"
                )
        except DataError as error:
            counts.fail(error)
            continue
        found: list[tuple[Box, Image]] = []
        for region in page.regions:
            try:
                found.append((region.box, crop_box(image, region.box)))
            except DataError as error:
                counts.fail(DataError(f"{where}: {error}"))
        readings = recognizer.recognize([crop for _, crop in found], [language] * len(found))
        pairs = zip(found, readings, strict=True)
        lines = tuple(_line(box, crop, reading, recognizer) for (box, crop), reading in pairs)
        counts.read += len(lines)
        counts.progress.advance(len(found))
        yield ReadPage(document.path, page.index, (image.shape[0], image.shape[1]), lines)


def _line(box: Box, crop: "Image", reading: Recognition, recognizer: "Recognizer") -> "ReadLine":
    """Put a reading at its place on the page."""
    from nordocr_cli.runtime.results import ReadLine
    from nordocr_cli.runtime.wide_lines import WideLines

    if not isinstance(recognizer, WideLines):
        return ReadLine(box, reading)
    left = max(0, int(box.x))  # where crop_box begins
    edges = recognizer.edges(crop.shape[0], crop.shape[1], reading)
    return ReadLine(box, reading, tuple((left + first, left + last) for first, last in edges))
