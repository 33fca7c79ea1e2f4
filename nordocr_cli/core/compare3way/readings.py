"""The two engines' readings of a document: read from files, or made on the spot where a recognizer
is named instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nordocr_cli.artifact.shipped import DEFAULT_MODEL
from nordocr_cli.core.predict.plan import plan_predict
from nordocr_cli.data.layouts.layout import Layout
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Page, Region
from nordocr_cli.runtime.specs import AS_SERVED, AUTO, PROGRAMS, default_model, parse_spec

_MODELS = (".safetensors", ".onnx", ".engine")


@dataclass(frozen=True)
class ReadingSource:
    """Where one engine's readings come from: a `result` file, or a recognizer (`model`) that reads
    the document now.
    """

    result: Path | None = None
    model: str | None = None
    as_served: bool = False  # in batches as the Rust pipeline makes them

    @property
    def path(self) -> Path | None:
        """The file or folder behind it; None for Tesseract."""
        return self.result or (parse_spec(self.model).path if self.model else None)

    def read_with(self) -> dict[str, str]:
        """Return what reads the document, for the result."""
        if self.path or not str(self.model).startswith("tesseract"):
            return {"read_with": f"{self.model}{', as served' if self.as_served else ''}"}

        from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract

        return {"read_with": str(self.model), "version": find_tesseract().version}

    def __str__(self) -> str:
        if self.result:
            return str(self.result)
        return f"read with {self.model}"


def parse_reading_source(text: str) -> ReadingSource:
    """Return what `text` names: a result file, `tesseract`, `tesseract:swe`, a run folder, a model
    file, or one that ships.
    """
    path = Path(text)
    name = text.partition(":")[0]
    is_named = name in PROGRAMS or text.startswith(DEFAULT_MODEL)
    if is_named and not path.exists():
        return ReadingSource(model=text)
    if path.is_dir() or path.suffix in _MODELS:
        return ReadingSource(model=text)
    return ReadingSource(result=path)


def network_source(text: str | None, *, as_served: bool = False) -> ReadingSource:
    """Return the first engine's source: the recognizer that ships where nothing is given. With
    `as_served` it reads as the Rust pipeline does. Raises UsageError for a result with `as_served`.
    """
    source = parse_reading_source(text) if text else ReadingSource(model=default_model())
    if not as_served:
        return source
    if source.model is None:
        raise UsageError(
            f"--as-served reads with a model; {text} is a result that was read already"
        )
    return replace(source, as_served=True)


def tesseract_source(text: str | None) -> ReadingSource:
    """Return the second engine's source: Tesseract itself where no file is given."""
    if text:
        return parse_reading_source(text)
    return ReadingSource(model="tesseract")


def find_regions(
    regions: Path | None, truth: Path | None, sources: Sequence[ReadingSource]
) -> Path | None:
    """Return the file with the positions of the lines, for an engine that reads now: given, or
    ground truth, or another engine's boxes.

    None when all engines have results. Raises UsageError when no file holds any line.
    """
    if all(source.result for source in sources):
        return None
    found = (
        regions
        or truth
        or next((source.result for source in sources if source.result), None)
    )
    if found is None:
        raise UsageError(
            "where are the lines? Give --regions FILE (JSON, ALTO, PAGE, hOCR or TSV), or one"
            " engine's result"
        )
    return found


def parse_names(text: str) -> tuple[str, str]:
    """Return the two engines' names. Raises UsageError when there are not two."""
    first, _, second = (part.strip() for part in text.partition(","))
    if not (first and second) or "," in second or first == second:
        raise UsageError(f"--names {text!r}: expected two names, e.g. v1,v2")
    return first, second


def recorded_layout(source: ReadingSource) -> Layout | None:
    """Return the readings in the file of a source, None for a model that reads now. Raises what
    read_layout raises.
    """
    if source.result:
        return read_layout(source.result)
    return None


def count_lines(source: ReadingSource, document: Path, regions: Path | None) -> int:
    """Return how many lines a model will read. Raises what planning to read the document raises."""
    assert regions is not None
    assert source.model is not None
    return plan_predict([document], source.model, regions=regions).num_regions


def readings(
    source: ReadingSource,
    document: Path,
    regions: Path | None,
    language: str,
    threads: int | None,
    progress: Progress = SILENT,
) -> Layout:
    """Return the readings of a model. Raises what predict raises."""
    from nordocr_cli.core.predict.run import predict

    assert source.model is not None
    progress.note(f"reading {document} with {source.model}")
    prediction = predict(
        [document],
        source.model,
        regions=regions,
        language=language,
        threads=threads,
        decoder=AS_SERVED if source.as_served else AUTO,
        progress=progress,
    )
    pages = []
    for page in prediction.pages:
        assert page.index is not None
        read = (
            Region(
                line.box,
                line.reading.text,
                line.reading.confidence,
                line.reading.char_confidences,
            )
            for line in page.lines
        )
        pages.append(Page(page.index, tuple(read)))
    prediction.counts.require_some()
    return Layout(tuple(pages))
