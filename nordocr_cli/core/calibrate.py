"""contract calibrate: the temperature at which a network's confidences say how often its lines are
right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.core.contract import write_with_contract
from nordocr_cli.core.eval.fit import require_fit
from nordocr_cli.core.eval.lines import known_charset, open_lines
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineResult, Recognition

if TYPE_CHECKING:
    from nordocr_cli.metrics.calibration import Calibration

TEMPERATURES = np.geomspace(0.25, 8, 121)  # 3 % apart; 1 is among them
LINES = 2000
_FEWEST_LINES = 50
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
    """What was found. `before` is the calibration at the model's own temperature, `after` at the
    fitted one, each half of the lines judged by the temperature that fits the other half.
    """

    output: Path
    temperature: float
    before: "Calibration"
    after: "Calibration"

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        sides = {"before": self.before.to_json(), "after": self.after.to_json()}
        return {"output": str(self.output), "temperature": self.temperature, **sides}


def plan_calibration(
    model: Path, store: Path, output: Path, lines: int = LINES
) -> CalibrationPlan:
    """Read the contract of `model` and say what `calibrate_model` would do; no network is opened.

    Raises UsageError for what is not there, a file of another kind, a network whose output holds no
    logits any more, and an output that is an input or of another kind than the model.
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
    return CalibrationPlan(source, store, output, contract, lines)


def calibrate_model(
    plan: CalibrationPlan,
    *,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> CalibratedModel:
    """Read the lines, take the temperature at which the confidences predict best which lines are
    right (log loss, Guo et al. 2017), and write the model with it in its contract; nothing else of
    it changes, and no greedy reading does.

    Raises ArtifactError when the network does not fit the store, DataError when there are too few
    lines, or none is read wrong: then any confidence below 1 would be too low, and nothing can be
    fitted.
    """
    from nordocr_cli.metrics.calibration import calibrate

    confidences, right = _read(plan, device, threads, progress)  # (L, K) and (L,)
    if right.all() or not right.any():
        every = "right" if right.all() else "wrong"
        raise DataError(
            f"{plan.store}: all {len(right)} lines are read {every}; a temperature is fitted on"
            " lines of both kinds"
        )
    own = int(np.abs(TEMPERATURES - plan.contract.temperature).argmin())
    half = np.arange(len(right)) % 2 == 0
    # (L,)
    cross = np.where(
        half, _fit(confidences[~half], right[~half]), _fit(confidences[half], right[half])
    )
    before, after = (
        calibrate(
            zip(
                confidences[np.arange(len(right)), at].tolist(), right.tolist(), strict=True
            )
        )
        for at in (own, cross)
    )
    assert before is not None
    assert after is not None
    best = _fit(confidences, right)
    temperature = round(float(TEMPERATURES[best]), 3)
    if best in (0, len(TEMPERATURES) - 1):
        progress.warn(
            f"the temperature is at the end of what is tried, {temperature:g}: do these lines"
            " resemble those it reads?"
        )
    contract = replace(plan.contract, temperature=temperature)
    if plan.model.suffix == ".onnx":
        write_with_contract(plan.model, contract, plan.output)
    else:
        from nordocr_cli.models.weights import load_weights, save_weights

        state, _ = load_weights(plan.model)
        save_weights(
            plan.output, state, replace(contract, parent_sha256=sha256_of(plan.model))
        )
    return CalibratedModel(plan.output, temperature, before, after)


def _fit(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> int:
    """The column of (L, K) confidences with the least log loss."""
    sure = np.clip(confidences, 1e-6, 1 - 1e-6)
    return int(
        np.where(right[:, None], -np.log(sure), -np.log1p(-sure)).mean(axis=0).argmin()
    )


def _read(
    plan: CalibrationPlan, device: str, threads: int | None, progress: Progress
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Read the lines once; return each one's confidence at every temperature, (L, K), and whether
    it is right, (L,).
    """
    from nordocr_cli.decode.autoregressive import greedy_decoder
    from nordocr_cli.metrics.score import score_lines
    from nordocr_cli.runtime.recognizers import RunnerRecognizer
    from nordocr_cli.runtime.runners import open_runner

    runner = open_runner(plan.model, device=device, threads=threads)
    recognizer = RunnerRecognizer(
        runner, decode=_at_every_temperature(greedy_decoder(plan.contract.decoding))
    )
    with open_lines(plan.store, plan.contract, None) as lines:
        require_fit(lines, plan.contract, str(plan.model), progress)
        count = min(plan.lines, len(lines))
        if count < _FEWEST_LINES:
            raise DataError(
                f"{plan.store}: {count} lines are too few to fit a temperature; give at least"
                f" {_FEWEST_LINES}"
            )
        chosen = np.linspace(0, len(lines) - 1, count).round().astype(int)
        order = chosen[np.argsort(lines.widths[chosen], kind="stable")].tolist()
        charset, results, found = known_charset(lines), [], []
        progress.start(f"calibrate {runner.name}", total=count)
        for start in range(0, count, _LINES_AT_A_TIME):
            chunk = order[start : start + _LINES_AT_A_TIME]
            for index, reading in zip(
                chunk, recognizer.recognize([lines.image(i) for i in chunk]), strict=True
            ):
                results.append(
                    LineResult(lines.row(index).id, lines.row(index).text, reading.text)
                )
                found.append(reading.char_confidences)
            progress.advance(len(chunk))
        progress.finish()
    return np.array(found), np.array(
        [score.exact for score in score_lines(results, charset)]
    )


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
