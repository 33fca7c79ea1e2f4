"""contract calibrate: confidences that tell how often lines are exact.

Two things are fitted together: the temperature of the characters' probabilities, and the curve from
a line's characters to the share of such lines that are exact (LineConfidence).
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract, LineConfidence
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.core.contract import write_with_contract
from nordocr_cli.core.eval.fit import require_line_fit
from nordocr_cli.core.eval.lines import known_charset, line_image, open_lines
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineResult, Recognition

if TYPE_CHECKING:
    from nordocr_cli.decode.language import LanguageModel
    from nordocr_cli.metrics.calibration import Calibration

TEMPERATURES = np.geomspace(0.25, 8, 121)  # 3 % apart; 1 is among them
SAMPLED_LINES = 2000
_MIN_LINES = 50
_STEEPEST = 5.0  # of ln nats and ln power; real networks have a power of about 1
_LINES_AT_A_TIME = 256


@dataclass(frozen=True)
class CalibrationPlan:
    """A model to calibrate, the lines to do it by (`lines` of them at most, evenly spread), and the
    file to write.
    """

    model: Path
    store: Path
    output: Path
    contract: Contract
    lines: int

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "model": str(self.model),
            "temperature": self.contract.temperature,
            "store": str(self.store),
            "lines": self.lines,
            "output": str(self.output),
        }


@dataclass(frozen=True)
class CalibratedModel:
    """What was found. `before` is the calibration of the model as it was, `after` that of the
    fitted one, each half of the lines judged by what fits the other half.
    """

    output: Path
    temperature: float
    line_confidence: LineConfidence
    before: "Calibration"
    after: "Calibration"

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        sides = {"before": self.before.to_json(), "after": self.after.to_json()}
        return {
            "output": str(self.output),
            "temperature": self.temperature,
            "line_confidence": asdict(self.line_confidence),
            **sides,
        }


def plan_calibration(
    model: Path,
    store: Path,
    output: Path,
    lines: int = SAMPLED_LINES,
    language_model: str | None = None,
) -> CalibrationPlan:
    """Read the contract of `model` and say what `calibrate_model` would do; no network is opened.
    `language_model` is the name of one that ships, which the model is read with from now on, or
    `none`; None keeps what the contract says.

    Raises ArtifactError for a language model that does not ship, UsageError for what is not there,
    a file of another kind, a network whose output holds no logits any more, and an output that is
    an input or of another kind than the model.
    """
    source = find_weights(model)
    if source.suffix not in (".safetensors", ".onnx"):
        raise UsageError(
            f"{source}: a temperature is put into weights (.safetensors) or an ONNX model"
        )
    contract = read_contract(source)
    if contract.output_activation != "logits":
        raise UsageError(
            f"{source} gives {contract.output_activation}, computed at temperature"
            f" {contract.temperature:g} inside the network; calibrate its weights and export them"
            " again"
        )
    if output.suffix != source.suffix:
        raise UsageError(f"-o {output}: a calibrated {source.suffix} stays one")
    if not store.exists():
        raise UsageError(f"no line store {store}")
    refuse_inputs(output, [source, store])
    if language_model is not None:
        contract = replace(
            contract, language_model=_language_model(language_model, contract)
        )
    return CalibrationPlan(source, store, output, contract, lines)


def _language_model(name: str, contract: Contract) -> str | None:
    """The name of a language model, None for `none`."""
    from nordocr_cli.decode.language import shipped_language_model

    if name == "none":
        return None
    if contract.decoding != "ctc":
        raise UsageError(
            f"--language-model is for CTC networks, not for {contract.decoding}"
        )
    shipped_language_model(name, contract.charset)  # it must exist
    return name


def calibrate_model(
    plan: CalibrationPlan,
    *,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> CalibratedModel:
    """Read the lines, fit temperature and curve so that the confidences predict best which lines
    are exact (log loss; temperature: Guo et al. 2017), and write the model with both in its
    contract; nothing else of it changes, and no greedy reading does.

    Raises ArtifactError when the network does not fit the store, DataError when there are too few
    lines, or none is read wrong: then any confidence below 1 would be too low, and nothing can be
    fitted.
    """
    from nordocr_cli.metrics.calibration import calibrate

    lines = _read(plan, device, threads, progress)
    right = lines.right
    if right.all() or not right.any():
        every = "right" if right.all() else "wrong"
        raise DataError(
            f"{plan.store}: all {len(right)} lines are read {every}; confidences are fitted on"
            " lines of both kinds"
        )
    fitted = _fit(lines)
    before = calibrate(
        zip(_confidences_of(lines, plan.contract), right.tolist(), strict=True)
    )
    after = calibrate(zip(_cross_fitted(lines), right.tolist(), strict=True))
    assert before is not None
    assert after is not None

    temperature = round(float(TEMPERATURES[fitted.column]), 3)
    if fitted.column in (0, len(TEMPERATURES) - 1):
        progress.warn(
            f"the temperature is at the end of what is tried, {temperature:g}: do these lines"
            " resemble those it reads?"
        )
    contract = replace(plan.contract, temperature=temperature, line_confidence=fitted.curve)
    _write(plan, contract)
    return CalibratedModel(plan.output, temperature, fitted.curve, before, after)


def _write(plan: CalibrationPlan, contract: Contract) -> None:
    if plan.model.suffix == ".onnx":
        write_with_contract(plan.model, contract, plan.output)
        return
    from nordocr_cli.models.weights import load_weights, save_weights

    state, _ = load_weights(plan.model)
    save_weights(plan.output, state, replace(contract, parent_sha256=sha256_of(plan.model)))


@dataclass(frozen=True)
class _Lines:
    """L lines as they were read: the geometric mean of their characters' confidences at each of K
    temperatures (L, K), the characters of each (L,), and whether it is exact (L,).
    """

    means: NDArray[np.float64]
    characters: NDArray[np.int64]
    right: NDArray[np.bool_]

    def surprises(self) -> NDArray[np.float64]:
        """Return S of each line at each temperature, (L, K), in nats."""
        logs: NDArray[np.float64] = np.log(np.clip(self.means, 1e-9, 1 - 1e-9))
        return -logs * self.characters[:, None]

    def part(self, chosen: NDArray[np.bool_]) -> "_Lines":
        """Return some of the lines."""
        return _Lines(self.means[chosen], self.characters[chosen], self.right[chosen])


@dataclass(frozen=True)
class _Fit:
    """The column of the temperature, and the curve fitted at it."""

    column: int
    curve: LineConfidence
    loss: float


def _fit(lines: _Lines) -> _Fit:
    """Return the temperature and the curve with the smallest log loss. Lines read as empty have no
    characters and take no part.
    """
    written = lines.characters > 0
    surprises = np.log(lines.part(written).surprises())  # (l, K)
    right = lines.right[written]
    fits = [
        _curve(surprises[:, column], right, column) for column in range(surprises.shape[1])
    ]
    return min(fits, key=lambda fit: fit.loss)


def _curve(
    log_surprise: NDArray[np.float64], right: NDArray[np.bool_], column: int
) -> _Fit:
    """Return the logistic regression of `right` on the logarithm of the surprise, both (l,)."""
    from scipy.optimize import minimize

    sign = np.where(right, 1.0, -1.0)

    def loss(weights: NDArray[np.float64]) -> float:
        log_nats, log_power = weights
        odds = np.exp(log_power) * (log_nats - log_surprise)  # log odds of being exact
        return float(np.logaddexp(0, -sign * odds).mean())

    found = minimize(loss, np.array([float(np.median(log_surprise)), 0.0]))
    # Few lines may be separated completely: the steepest curve would then have no bound.
    log_nats, log_power = np.clip(found.x, -_STEEPEST, _STEEPEST)
    curve = LineConfidence(
        nats=round(float(np.exp(log_nats)), 6), power=round(float(np.exp(log_power)), 6)
    )
    return _Fit(column, curve, float(found.fun))


def _confidences_of(lines: _Lines, contract: Contract) -> list[float]:
    """Return what the model says of each line as it is."""
    column = int(np.abs(TEMPERATURES - contract.temperature).argmin())
    means = lines.means[:, column].tolist()
    curve = contract.line_confidence
    if curve is None:
        return list(means)
    return _applied(curve, means, lines.characters)


def _cross_fitted(lines: _Lines) -> list[float]:
    """Return the confidence of each line by what was fitted on the other half of the lines."""
    even = np.arange(len(lines.right)) % 2 == 0
    confidences = np.zeros(len(lines.right))
    for half in (even, ~even):
        fit = _fit(lines.part(~half))
        own = lines.part(half)
        means = own.means[:, fit.column].tolist()
        confidences[half] = _applied(fit.curve, means, own.characters)
    return list(confidences.tolist())


def _applied(
    curve: LineConfidence, means: Sequence[float], characters: NDArray[np.int64]
) -> list[float]:
    return [
        curve.of(mean, count) if mean else 0.0
        for mean, count in zip(means, characters.tolist(), strict=True)
    ]


def _read(
    plan: CalibrationPlan, device: str, threads: int | None, progress: Progress
) -> _Lines:
    """Read the lines once, at every temperature."""
    from nordocr_cli.decode.language import shipped_language_model
    from nordocr_cli.metrics.score import score_lines
    from nordocr_cli.runtime.recognizers import RunnerRecognizer, contract_decoder
    from nordocr_cli.runtime.runners import open_runner

    runner = open_runner(plan.model, device=device, threads=threads)
    if plan.contract.language_model is None:
        graded = _at_every_temperature(contract_decoder(plan.contract))
    else:
        language = shipped_language_model(
            plan.contract.language_model, plan.contract.charset
        )
        graded = _corrected_at_every_temperature(language)
    recognizer = RunnerRecognizer(runner, decode=graded)
    with open_lines(plan.store, plan.contract, None) as lines:
        require_line_fit(lines, plan.contract, str(plan.model), progress)
        count = min(plan.lines, len(lines))
        if count < _MIN_LINES:
            raise DataError(
                f"{plan.store}: {count} lines are too few to fit a temperature; give at least"
                f" {_MIN_LINES}"
            )
        chosen = np.linspace(0, len(lines) - 1, count).round().astype(int)
        order = chosen[np.argsort(lines.widths[chosen], kind="stable")].tolist()
        charset = known_charset(lines)
        results = []
        found = []
        progress.start(f"calibrate {runner.name}", total=count)
        for start in range(0, count, _LINES_AT_A_TIME):
            chunk = order[start : start + _LINES_AT_A_TIME]
            for index, reading in zip(
                chunk,
                recognizer.recognize([line_image(lines, i, plan.contract) for i in chunk]),
                strict=True,
            ):
                results.append(
                    LineResult(lines.row(index).id, lines.row(index).text, reading.text)
                )
                found.append(reading.char_confidences)
            progress.advance(len(chunk))
        progress.finish()
    right = np.array([score.exact for score in score_lines(results, charset)])
    characters = np.array([len(result.hypothesis) for result in results])
    return _Lines(np.array(found), characters, right)


def _at_every_temperature(
    decode: Callable[..., Sequence[Recognition]],
) -> Callable[..., list[Recognition]]:
    """Return a decoder that puts the line's confidence at each of TEMPERATURES where those of the
    characters are else.
    """

    def graded(
        logits: Any, frames: Any, charset: Any, activation: Any, _: float
    ) -> list[Recognition]:
        texts = [reading.text for reading in decode(logits, frames, charset, activation)]
        by_temperature = [
            [r.confidence for r in decode(logits, frames, charset, activation, t)]
            for t in TEMPERATURES.tolist()
        ]
        return [
            Recognition(text, None, tuple(line))
            for text, line in zip(texts, zip(*by_temperature, strict=True), strict=True)
        ]

    return graded


def _corrected_at_every_temperature(
    language: "LanguageModel",
) -> Callable[..., list[Recognition]]:
    """As `_at_every_temperature`, for decoding with a language model, which takes longer than its
    confidences: it decodes once.
    """
    from nordocr_cli.decode.rescoring import decode_lines

    def graded(
        logits: Any, frames: Any, charset: Any, activation: Any, _: float
    ) -> list[Recognition]:
        readings = []
        for line in decode_lines(logits, frames, activation, language=language):
            by_temperature = [
                line.recognition(charset, temperature)
                for temperature in TEMPERATURES.tolist()
            ]
            confidences = tuple(reading.confidence or 0.0 for reading in by_temperature)
            readings.append(Recognition(by_temperature[0].text, None, confidences))
        return readings

    return graded
