"""Time recognizers side by side over the same lines, and check that they read the same."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli.artifact import read_contract
from nordocr_cli.atomic import refuse_inputs, write_json
from nordocr_cli.core.fit import require_fit
from nordocr_cli.data.layouts import read_layout
from nordocr_cli.data.result_json import write_result
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.metrics.text import canonical
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Page, Recognition, Region
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.specs import parse_spec

if TYPE_CHECKING:
    from nordocr_cli.runtime.protocols import Image, Recognizer

SCHEMA = "nordocr.bench/1"
NETWORK_RESULT, TESSERACT_RESULT = "svtrv2_result.json", "tess_result.json"


@dataclass(frozen=True)
class Lines:
    """Crops to read, uint8 (height, width, 3) RGB each, with their languages and true texts (`` where not known)."""

    source: str
    crops: "Sequence[Image]"
    languages: tuple[str, ...]
    texts: tuple[str, ...]
    pages: tuple[Page, ...] = ()  # where the crops were cut out of a document


@dataclass(frozen=True)
class Row:
    """One recognizer. `lines_per_s` is the median over the rounds of `runs_s` (seconds for all lines); the latencies are of
    single lines, decoding and resize included; `same_text` counts the lines that read as with the first recognizer; `exact`
    those that read as the truth (None where that is not known)."""

    name: str
    backend: str
    device: str
    precision: str
    load_s: float
    lines: int
    lines_per_s: float
    latency_p50_ms: float
    latency_p95_ms: float
    runs_s: tuple[float, ...]
    same_text: int
    exact: int | None


@dataclass(frozen=True)
class BenchResult:
    """The rows in the order asked for, what was skipped and why, and where it was measured."""

    source: str
    rounds: int
    rows: tuple[Row, ...]
    skipped: dict[str, str]
    environment: dict[str, Any]
    written: tuple[Path, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {"schema": SCHEMA, **asdict(self), "written": [str(path) for path in self.written]}


def plan_bench(
    models: Sequence[str],
    lines: Path | None = None,
    document: Path | None = None,
    regions: Path | None = None,
    device: str = "auto",
    output: Path | None = None,
) -> dict[str, Any]:
    """Return what `bench` would do; no image and no network is opened.

    Raises UsageError for a wrong combination, an unknown device, a model or file that is not there, and an output that is an
    input, DataError for damaged regions.
    """
    if (lines is None) == (document is None) or (document is None) != (regions is None):
        raise UsageError("give --lines STORE, or --doc PAGES with --regions JSON")
    parse_device(device)
    if output:
        results = [output.with_name(name) for name in (NETWORK_RESULT, TESSERACT_RESULT)] if document else []
        for path in (output, *results):
            refuse_inputs(path, filter(None, (*map(Path, models), lines, document, regions)))
    plan: dict[str, Any] = {"models": {model: parse_spec(model).backend for model in models}, "device": device}
    if lines:
        if not lines.exists():
            raise UsageError(f"no line store {lines}")
        return plan | {"lines": str(lines)}
    assert document is not None
    assert regions is not None
    if not document.is_file():
        raise UsageError(f"no document {document}")
    return plan | {"doc": str(document), "regions": str(regions), "lines_given": read_layout(regions).num_regions}


def bench(
    models: Sequence[str],
    *,
    lines: Path | None = None,
    document: Path | None = None,
    regions: Path | None = None,
    output: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    rounds: int = 3,
    single_lines: int = 32,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> BenchResult:
    """Time `models` (paths, `tesseract`) over the lines of a store, or over the regions of a document.

    A model whose backend is missing is skipped with a warning, unless it is the only one. Of a document, each recognizer's
    readings are written beside `output` in the consumer's shape: svtrv2_result.json for the first network,
    tess_result.json for Tesseract. `limit` takes so many lines, evenly spread. Raises what plan_bench raises, ArtifactError for
    a store that was not made for a model, MissingBackendError when no model can run here, and what reading lines and models
    raises.
    """
    from nordocr_cli.runtime.recognizers import RunnerRecognizer
    from nordocr_cli.runtime.stopwatch import environment, time_side_by_side

    plan_bench(models, lines, document, regions, device, output)
    source = _read_lines(models, lines, document, regions, limit, progress)
    recognizers, loads, skipped = _open(models, device, threads, precision, progress)
    laps = time_side_by_side(
        recognizers, source.crops, source.languages, rounds=rounds, single_lines=single_lines, progress=progress
    )
    rows = []
    for recognizer, load_s, lap in zip(recognizers, loads, laps, strict=True):
        runner = recognizer.runner if isinstance(recognizer, RunnerRecognizer) else None
        rows.append(
            Row(
                name=recognizer.name,
                backend=runner.backend if runner else "tesseract",
                device=str(getattr(runner, "device", "cpu")),
                precision=str(getattr(runner, "precision", "")),
                load_s=load_s,
                lines=len(source.crops),
                lines_per_s=len(source.crops) / median(lap.all_lines_s),
                latency_p50_ms=lap.latency_ms(0.50),
                latency_p95_ms=lap.latency_ms(0.95),
                runs_s=tuple(lap.all_lines_s),
                same_text=sum(a.text == b.text for a, b in zip(lap.readings, laps[0].readings, strict=True)),
                exact=_exact(source.texts, lap.readings),
            )
        )
    written = []
    if source.pages and output:
        for name, lap in zip(_result_names(rows), laps, strict=True):
            written.append(output.parent / name)
            write_result(written[-1], _pages_read(source.pages, lap.readings))
    result = BenchResult(source.source, rounds, tuple(rows), skipped, environment(threads), tuple(written))
    if output:
        write_json(output, result.to_json())
    return result


def _open(
    models: Sequence[str], device: str, threads: int | None, precision: Literal["fp32", "bf16"], progress: Progress
) -> "tuple[list[Recognizer], list[float], dict[str, str]]":
    from nordocr_cli.runtime.recognizers import open_recognizer

    opened, loads, skipped = [], [], {}
    for spec in models:
        began = time.perf_counter()
        try:
            fits = precision if parse_spec(spec).backend == "torch" else "fp32"
            opened.append(open_recognizer(spec, device=device, threads=threads, precision=fits))
            loads.append(time.perf_counter() - began)
        except MissingBackendError as error:
            if len(models) == 1:
                raise
            progress.warn(f"{spec} is left out: {error}")
            skipped[spec] = str(error)
    if not opened:
        raise MissingBackendError("none of the models can run here: " + "; ".join(skipped.values()))
    return opened, loads, skipped


def _read_lines(
    models: Sequence[str], lines: Path | None, document: Path | None, regions: Path | None, limit: int | None, progress: Progress
) -> Lines:
    if lines:
        from nordocr_cli.data.store import LineStore

        with LineStore(lines) as store:
            for model in models:
                if path := parse_spec(model).path:
                    require_fit(store, read_contract(path), model, progress)
            chosen = _spread(len(store), limit)
            rows = [store.row(i) for i in chosen]
            crops = [store.image(i) for i in chosen]
        found = Lines(str(lines), crops, tuple(r.language for r in rows), tuple(r.text for r in rows))
    else:
        assert document is not None
        assert regions is not None
        found = _cut_regions(document, regions, limit)
    if not found.crops:
        raise DataError(f"{found.source} has no lines")
    return found


def _cut_regions(document: Path, regions: Path, limit: int | None) -> Lines:
    from nordocr_cli.data.documents import crop_box, read_pages

    layout, pages = read_layout(regions), read_pages(document)
    chosen = set(_spread(layout.num_regions, limit))
    number, crops, kept = 0, [], []
    sizes = layout.sizes or ((0, 0),) * len(layout.pages)
    for page, size in zip(layout.pages, sizes, strict=True):
        if page.index >= len(pages):
            raise DataError(f"{regions}: page_index {page.index}, but {document} has {len(pages)} pages")
        numbered = enumerate(page.regions, start=number)
        number += len(page.regions)
        if mine := tuple(region for i, region in numbered if i in chosen):
            image = pages.page(page.index, size if all(size) else None)
            # Copies, so that not every page stays in memory.
            crops += [crop_box(image, region.box).copy() for region in mine]
            kept.append(Page(page.index, mine))
    texts = tuple(region.text for page in kept for region in page.regions)
    return Lines(str(document), crops, (layout.language,) * len(crops), texts, tuple(kept))


def _spread(count: int, limit: int | None) -> list[int]:
    """`limit` of `count` numbers, evenly spread; all when there is no limit."""
    if limit is None or limit >= count:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def _exact(texts: Sequence[str], readings: Sequence[Recognition]) -> int | None:
    if not any(texts):
        return None
    return sum(canonical(text) == canonical(reading.text) for text, reading in zip(texts, readings, strict=True))


def _pages_read(pages: Sequence[Page], readings: Sequence[Recognition]) -> list[Page]:
    """The same boxes with what was read in them."""
    arriving = iter(readings)
    return [Page(page.index, tuple(_region_read(region, next(arriving)) for region in page.regions)) for page in pages]


def _region_read(region: Region, reading: Recognition) -> Region:
    return Region(region.box, reading.text, reading.confidence, reading.char_confidences)


def _result_names(rows: Sequence[Row]) -> list[str]:
    """File names as compare3way's examples and the consumer's scripts have them; further models are named by their file."""
    names: list[str] = []
    for number, row in enumerate(rows, start=1):
        wanted = TESSERACT_RESULT if row.backend == "tesseract" else NETWORK_RESULT
        name = wanted if wanted not in names else f"{row.name.replace(':', '_')}_result.json"
        names.append(name if name not in names else f"{number}_{name}")
    return names
