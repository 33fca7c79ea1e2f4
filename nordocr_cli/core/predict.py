"""Read line images, or the regions of a document's pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.compare.sources import box_to_json, read_layout, result_to_json
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Page, Recognition, Region

_LINES_AT_A_TIME = 256


@dataclass(frozen=True)
class LineRead:
    """One line image and what it says."""

    path: Path
    reading: Recognition

    def to_json(self) -> dict[str, Any]:
        """Return the line as one JSON object."""
        return {"image": str(self.path), **_reading_to_json(self.reading)}


@dataclass(frozen=True)
class Prediction:
    """Either lines (one an image) or pages (with regions); `failed` gives the reason for each image that could not be read."""

    lines: tuple[LineRead, ...] = ()
    pages: tuple[Page, ...] = ()
    failed: tuple[tuple[Path, str], ...] = ()

    def to_json(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return pages in the consumer's result shape, or the lines as a list."""
        return result_to_json(self.pages) if self.pages else [line.to_json() for line in self.lines]

    def records(self) -> list[dict[str, Any]]:
        """Return one JSON object a line, of pages too."""
        of_pages = [
            {
                "page_index": page.index,
                "bbox": box_to_json(region.box),
                **_reading_to_json(Recognition(region.text, region.confidence, region.char_confidences)),
            }
            for page in self.pages
            for region in page.regions
        ]
        return [line.to_json() for line in self.lines] + of_pages


def predict(
    inputs: Sequence[Path],
    model: str,
    *,
    regions: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    language: str = "",
    progress: Progress = SILENT,
) -> Prediction:
    """Read `inputs` with `model` (a path, or `tesseract`): line images and folders of them, or with `regions` one document.

    An image that cannot be read is warned about and returned in `failed`; the rest is read. Raises UsageError when an input
    is missing or a page comes without regions, DataError when not one image can be read, and what opening the model raises.
    """
    from nordocr_cli.runtime.recognizers import open_recognizer

    if regions:
        if len(inputs) != 1:
            raise UsageError(f"--regions belongs to one document, {len(inputs)} inputs were given")
        recognizer = open_recognizer(model, device=device, threads=threads, precision=precision)
        return _predict_pages(inputs[0], regions, recognizer, language, progress)
    files = find_images(inputs)
    recognizer = open_recognizer(model, device=device, threads=threads, precision=precision)
    return _predict_lines(files, recognizer, language, progress)


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """Return the image files that `inputs` mean; a folder means the images in it, by name. Raises UsageError."""
    from nordocr_cli.runtime.documents import IMAGE_SUFFIXES

    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UsageError(f"{path} holds no images ({', '.join(IMAGE_SUFFIXES)})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(f"no image or folder {path}")
    return files


def _predict_lines(files: Sequence[Path], recognizer: Any, language: str, progress: Progress) -> Prediction:
    from nordocr_cli.data.resize import read_image
    from nordocr_cli.runtime.documents import read_pages

    read: list[LineRead] = []
    failed: list[tuple[Path, str]] = []
    progress.start("reading", total=len(files))
    for at in range(0, len(files), _LINES_AT_A_TIME):
        crops, paths = [], []
        for path in files[at : at + _LINES_AT_A_TIME]:
            if path.suffix.lower() in (".tif", ".tiff") and (count := len(read_pages(path))) > 1:
                raise UsageError(f"{path} has {count} pages; say where their lines are: --regions JSON")
            try:
                crops.append(read_image(path))
                paths.append(path)
            except DataError as error:
                progress.warn(str(error))
                failed.append((path, str(error)))
        readings = recognizer.recognize(crops, [language] * len(crops))
        read += [LineRead(path, reading) for path, reading in zip(paths, readings, strict=True)]
        progress.advance(len(crops))
    progress.finish()
    if not read:
        raise DataError(f"not one of {len(files)} images could be read; the first: {failed[0][1]}")
    return Prediction(lines=tuple(read), failed=tuple(failed))


def _predict_pages(document: Path, regions: Path, recognizer: Any, language: str, progress: Progress) -> Prediction:
    from nordocr_cli.runtime.documents import crop_box, read_pages

    images, layout = read_pages(document), read_layout(regions)
    pages = []
    progress.start("reading", total=layout.num_regions)
    for page in layout.pages:
        if page.index >= len(images):
            raise DataError(f"{regions}: page_index {page.index}, but {document} has {len(images)} pages")
        image = images[page.index]
        crops = [crop_box(image, region.box) for region in page.regions]
        readings = recognizer.recognize(crops, [language or layout.language] * len(crops))
        found = zip(page.regions, readings, strict=True)
        pages.append(Page(page.index, tuple(Region(a.box, b.text, b.confidence, b.char_confidences) for a, b in found)))
        progress.advance(len(crops))
    progress.finish()
    return Prediction(pages=tuple(pages))


def _reading_to_json(reading: Recognition) -> dict[str, Any]:
    return {
        "text": reading.text,
        "confidence": reading.confidence,
        "char_confidences": list(reading.char_confidences),
    }
