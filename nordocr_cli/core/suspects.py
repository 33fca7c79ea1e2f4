"""data suspects: lines of a store whose label and image disagree, the likeliest wrong labels first.

For a network of this project the score is how much likelier its own text is than the label (the
logarithm of the ratio, from the CTC forward algorithm). It is large for a wrong label of a clearly
printed line, and small where the network itself is unsure. For other recognizers it is the edits
per character, weighted by their confidence. A second engine that agrees with the first one, and not
with the label, increases the score.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli import atomic
from nordocr_cli.charset import Charset
from nordocr_cli.core.data import profile_of
from nordocr_cli.core.eval.lines import open_lines
from nordocr_cli.data.resize import pad_batch, resize_line
from nordocr_cli.data.store import LineStore
from nordocr_cli.data.text_band import tightened
from nordocr_cli.decode.likelihood import ctc_log_likelihood, log_softmax
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.metrics.text import canonical, normalized_distance
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineRow, Recognition
from nordocr_cli.runtime.specs import default_model

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.runtime.protocols import Image, Recognizer
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

# The weight of an edit per character, on the scale of the log-likelihood ratio, without a network.
_EDITS_WEIGHT = 50.0
# Two engines that agree against the label count as much as one clearly printed letter.
_AGREEMENT = 10.0
_SHEET_LINES = 60


@dataclass(frozen=True)
class SuspectsRequest:
    """The store or other source to check, the recognizers, and the files to write: the manifest of
    the `limit` most suspicious lines, and a picture of them (`sheet`, PNG).
    """

    store: Path
    model: str | None = None
    second: str | None = None
    limit: int = 50
    output: Path | None = None
    sheet: Path | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class Suspect:
    """A line, the hypothesis that differs from its label, and its score (0: not suspicious)."""

    index: int
    row: LineRow
    hypothesis: str
    confidence: float | None
    suspicion: float
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the row with the suggestion. Its `text` is the label, to be corrected."""
        return self.row.to_json() | {
            "suggestion": self.hypothesis,
            "confidence": self.confidence,
            "suspicion": round(self.suspicion, 3),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class SuspectsResult:
    """All lines by descending score, and the written files.

    `profile` is the one that the store was prepared for, `root` the folder that the names of its
    images start from; both are None where that is not known.
    """

    lines: int
    suspects: tuple[Suspect, ...]
    written: tuple[Path, ...] = ()
    profile: str | None = None
    root: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "lines": self.lines,
            "suspects": [suspect.to_json() for suspect in self.suspects],
            "written": [str(path) for path in self.written],
        }


def plan(request: SuspectsRequest) -> dict[str, Any]:
    """Check a request; nothing is read. Raises UsageError for missing files and for an output that
    is also an input.
    """
    if not request.store.exists():
        raise UsageError(f"no line store {request.store}")
    writes = [path for path in (request.output, request.sheet) if path]
    for path in writes:
        atomic.refuse_inputs(path, [request.store])
    return {
        "store": str(request.store),
        "model": request.model or default_model(request.device),
        "second": request.second,
        "writes": [str(path) for path in writes],
    }


def run(request: SuspectsRequest, progress: Progress = SILENT) -> SuspectsResult:
    """Rank the lines of a store by how much their labels disagree with the hypotheses.

    Raises what `plan` and opening the recognizers raise, and DataError for a store without lines.
    """
    from nordocr_cli.runtime.recognizers import open_recognizer

    planned = plan(request)
    with open_lines(request.store, contract=None, resampler=None) as lines:
        if not len(lines):
            raise DataError(f"{request.store} holds no lines")
        rows = [lines.row(index) for index in range(len(lines))]
        crops = [lines.image(index) for index in range(len(lines))]
        profile, root = _origin_of(lines, rows[0])

    first = open_recognizer(
        planned["model"], device=request.device, threads=request.threads
    )
    readings, ratios = _read(first, crops, rows, progress)
    second: list[str | None] = []
    if request.second:
        other = open_recognizer(
            request.second, device=request.device, threads=request.threads
        )
        progress.note(f"reading {len(crops)} lines with {other.name}")
        languages = [row.language for row in rows]
        second = [reading.text for reading in other.recognize(crops, languages)]

    suspects = [
        _judge(
            index,
            rows[index],
            readings[index],
            ratios[index],
            second[index] if second else None,
        )
        for index in range(len(rows))
    ]
    suspects.sort(key=lambda suspect: (-suspect.suspicion, suspect.index))
    shown = tuple(suspect for suspect in suspects if suspect.suspicion > 0)[: request.limit]
    written = tuple(_write(request, shown, crops))
    return SuspectsResult(len(rows), shown, written, profile, root)


def _origin_of(
    lines: "LineStore | ManifestLines", row: LineRow
) -> tuple[str | None, Path | None]:
    """The profile that the lines were prepared for, and the folder of their images; None each where
    it is not known.
    """
    if isinstance(lines, LineStore):
        return profile_of(lines), _root_of(lines, row)
    folder = lines.path if lines.path.is_dir() else lines.path.parent
    root = folder if (folder / row.image).is_file() else None
    return None, root


def _root_of(store: LineStore, row: LineRow) -> Path | None:
    """The folder of the only label file that a store was made from, if its images are there."""
    sources: list[dict[str, str]] = store.header.made.get("sources") or []
    if len(sources) != 1:
        return None
    folder = Path(sources[0]["path"]).parent
    if (folder / row.image).is_file():
        return folder
    return None


def _read(
    recognizer: "Recognizer",
    crops: "Sequence[Image]",
    rows: Sequence[LineRow],
    progress: Progress,
) -> tuple[list[Recognition], list[float | None]]:
    """Return the hypothesis for each line, and how much likelier it is than the label (None when
    the recognizer gives no likelihood).
    """
    from nordocr_cli.runtime.recognizers import RunnerRecognizer

    progress.note(f"reading {len(crops)} lines with {recognizer.name}")
    if not isinstance(recognizer, RunnerRecognizer) or not _tells_likelihoods(recognizer):
        readings = recognizer.recognize(crops, [row.language for row in rows])
        return list(readings), [None] * len(crops)

    readings = [Recognition("")] * len(crops)
    ratios: list[float | None] = [None] * len(crops)
    for index, reading, log_probabilities in _outputs(recognizer, crops):
        readings[index] = reading
        charset = recognizer.runner.contract.charset
        ratios[index] = _ratio(log_probabilities, reading.text, rows[index].text, charset)
    return readings, ratios


def _tells_likelihoods(recognizer: "RunnerRecognizer") -> bool:
    contract = recognizer.runner.contract
    return contract.decoding == "ctc" and contract.output_activation in (
        "logits",
        "softmax",
    )


def _outputs(
    recognizer: "RunnerRecognizer", crops: "Sequence[Image]"
) -> Iterator[tuple[int, Recognition, NDArray[np.float64]]]:
    """Yield the number, hypothesis and log-probabilities (T, C) of each line."""
    contract = recognizer.runner.contract
    geometry = contract.geometry
    tight = [tightened(crop, geometry) for crop in crops]
    lines = [resize_line(crop, geometry) for crop in tight]  # (height, w, 3) each
    for width, members in recognizer.batches([line.shape[1] for line in lines]):
        batch = [lines[index] for index in members]
        images, widths = pad_batch(batch, contract.geometry, width)
        outputs = recognizer.runner.run(images, widths)  # (N, T, C)
        frames = np.array([contract.out_length(int(own)) for own in widths])
        readings = recognizer.decode(
            outputs,
            frames,
            contract.charset,
            contract.output_activation,
            contract.temperature,
        )
        for number, index in enumerate(members):
            output = outputs[number, : frames[number]]
            if contract.output_activation == "logits":
                log_probabilities = log_softmax(output, contract.temperature)
            else:
                log_probabilities = np.log(np.maximum(output, 1e-12))
            yield index, readings[number], log_probabilities


def _ratio(
    log_probabilities: NDArray[np.float64], hypothesis: str, label: str, charset: Charset
) -> float | None:
    """Return ln P(hypothesis) - ln P(label), at least 0; None for a label with characters outside
    the charset.
    """
    if charset.missing(label):
        return None
    own = ctc_log_likelihood(log_probabilities, charset.encode(hypothesis))
    of_label = ctc_log_likelihood(log_probabilities, charset.encode(label))
    return max(0.0, own - of_label)


def _judge(
    index: int, row: LineRow, reading: Recognition, ratio: float | None, second: str | None
) -> Suspect:
    label = canonical(row.text)
    hypothesis = canonical(reading.text)
    edits = normalized_distance(label, hypothesis)
    reasons = []
    if ratio is not None:
        suspicion = ratio if edits else 0.0
        reasons.append(f"e^{ratio:.0f} times likelier")
    else:
        if reading.confidence is None:
            confidence = 1.0
        else:
            confidence = reading.confidence
        suspicion = _EDITS_WEIGHT * edits * confidence
        reasons.append(f"{100 * edits:.0f} % of the characters differ")
    if second is not None and edits and canonical(second) == hypothesis:
        suspicion += _AGREEMENT
        reasons.append("two engines agree")
    return Suspect(
        index,
        row,
        reading.text,
        reading.confidence,
        suspicion,
        tuple(reasons) if edits else (),
    )


def _write(
    request: SuspectsRequest, suspects: Sequence[Suspect], crops: "Sequence[Image]"
) -> Iterator[Path]:
    if request.output:
        rows = (json.dumps(suspect.to_json(), ensure_ascii=False) for suspect in suspects)
        atomic.write_text(request.output, "".join(f"{row}\n" for row in rows))
        yield request.output
    if request.sheet:
        _write_sheet(request.sheet, suspects[:_SHEET_LINES], crops)
        yield request.sheet


def _write_sheet(path: Path, suspects: Sequence[Suspect], crops: "Sequence[Image]") -> None:
    """Draw the lines below each other, each with its hypothesis and its label."""
    import cv2

    from nordocr_cli.charset import NORDIC
    from nordocr_cli.training.sample_sheet import sample_sheet, sheet_font

    if not suspects:
        raise DataError("no line is suspicious; there is nothing to draw")
    images = [np.ascontiguousarray(crops[suspect.index]) for suspect in suspects]
    pairs = [(suspect.row.text, suspect.hypothesis) for suspect in suspects]
    sheet = sample_sheet(images, pairs, sheet_font(NORDIC))
    encoded, png = cv2.imencode(".png", sheet[..., ::-1])
    if not encoded:
        raise DataError(f"cannot draw {path}")
    atomic.write_bytes(path, png.tobytes())
