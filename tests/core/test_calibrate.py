import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.artifact.contract import LineConfidence
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import Charset
from nordocr_cli.core.calibrate import (
    TEMPERATURES,
    _fit,
    _Lines,
    calibrate_model,
    plan_calibration,
)
from nordocr_cli.core.predict.run import predict
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.deploy.onnx_export import in_torch, reference
from nordocr_cli.deploy.parity import check_parity, make_cases
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.metrics.calibration import calibrate
from nordocr_cli.models.weights import load_model, save_weights

LINES = Path(__file__).parents[2] / "samples" / "lines"


def test_the_curve_that_made_the_truth_is_found():
    """Lines that are exact as often as a known curve says of their surprise."""
    random = np.random.default_rng(0)
    truth = LineConfidence(nats=0.8, power=1.3)
    characters = random.integers(1, 80, 4000)
    means = np.exp(-random.exponential(1.5, 4000) / characters)
    exact = [
        truth.of(*line) for line in zip(means.tolist(), characters.tolist(), strict=True)
    ]
    right = random.random(4000) < np.array(exact)

    found = _fit(_Lines(means[:, None], characters, right)).curve
    assert found.nats == pytest.approx(truth.nats, rel=0.15)
    assert found.power == pytest.approx(truth.power, rel=0.15)


def test_confidences_fitted_on_some_lines_hold_on_others():
    """Lines of several characters, each right as often as its probability at temperature 2 says."""
    random = np.random.default_rng(0)
    count, length = 3000, 12
    logits = np.zeros((count, length * 2, 5), np.float32)
    logits[:, ::2, 1:] = random.normal(size=(count, length, 4)) * 9
    logits[:, ::2, 0] = -50  # characters, and blanks between them
    logits[:, 1::2, 0] = 50
    frames, charset = np.full(count, length * 2), Charset("abcd", "abcd")
    means = np.array(
        [
            decode_greedy(logits, frames, charset, temperature=t).confidences
            for t in TEMPERATURES.tolist()
        ]
    ).T
    at_two = np.array(decode_greedy(logits, frames, charset, temperature=2.0).confidences)
    right = random.random(count) < at_two**length
    lines = _Lines(means, np.full(count, length), right)

    even = np.arange(count) % 2 == 0
    fit = _fit(lines.part(even))
    other = lines.part(~even)
    promised = [fit.curve.of(mean, length) for mean in other.means[:, fit.column].tolist()]
    found = calibrate(zip(promised, other.right.tolist(), strict=True))
    assert found.ece < 0.04


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)])
def test_a_curve_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        LineConfidence(*wrong)


def test_a_curve_falls_with_length_and_stays_in_its_range():
    curve = LineConfidence(nats=0.5, power=1.2)
    falling = [curve.of(0.97, characters) for characters in (1, 5, 20, 80)]
    assert falling == sorted(falling, reverse=True)
    assert curve.of(1.0, 40) == 1.0
    assert 0 < curve.of(1e-9, 200) < 0.01
    assert 0 <= LineConfidence(nats=1e-3, power=140.0).of(1e-9, 200) < 1e-9


@pytest.fixture(scope="module")
def some_lines(tmp_path_factory):
    """Sixty narrow sample lines, every second with a wrong text."""
    rows = [
        json.loads(row)
        for row in (LINES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rows = sorted(rows, key=lambda row: (LINES / row["image"]).stat().st_size)[:60]
    path = tmp_path_factory.mktemp("lines") / "manifest.jsonl"
    for number, row in enumerate(rows):
        shutil.copy(LINES / row["image"], path.parent)
        row["image"] = Path(row["image"]).name
        row["text"] = row["text"] if number % 2 else "x"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_calibrated_model_reads_the_same_and_promises_less(
    some_lines, tmp_path, valid_output
):
    found = calibrate_model(
        plan_calibration(Path("nordocr-default.onnx"), some_lines, tmp_path / "cool.onnx"),
        threads=1,
    )
    assert found.after.ece < found.before.ece
    assert found.to_json()["before"]["lines"] == 60
    valid_output("contract calibrate", found.to_json())
    contract, before = (
        read_contract(tmp_path / "cool.onnx"),
        read_contract(find_weights(Path("nordocr-default.onnx"))),
    )
    assert contract == replace(
        before, temperature=found.temperature, line_confidence=found.line_confidence
    )
    image = [
        LINES
        / json.loads(
            (LINES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()[0]
        )["image"]
    ]
    (warm,), (cool,) = (
        [page.lines[0].reading for page in predict(image, str(model), device="cpu").pages]
        for model in ("nordocr-default.onnx", tmp_path / "cool.onnx")
    )
    assert cool.text == warm.text
    assert cool.spans == warm.spans
    assert 0 < cool.confidence < warm.confidence


def test_a_network_that_gives_probabilities_divides_by_itself(tiny_checkpoint, tmp_path):
    network, contract = load_model(tiny_checkpoint)
    contract = replace(contract, temperature=3.0, output_activation="argmax+confidence")
    cases = make_cases(reference(network, contract), 32, [(2, 64)])
    check_parity(in_torch(network, contract), cases, contract, name="warm")
    with pytest.raises(ArtifactError, match="does not compute the same as the network"):
        check_parity(
            in_torch(network, replace(contract, temperature=1.0)),
            cases,
            contract,
            name="cold",
        )
    save_weights(tmp_path / "m.safetensors", network.state_dict(), contract)
    with pytest.raises(
        UsageError, match=r"gives argmax\+confidence, computed at temperature 3 inside"
    ):
        plan_calibration(tmp_path / "m.safetensors", tmp_path, tmp_path / "n.safetensors")


def test_what_cannot_be_calibrated(tiny_checkpoint, tiny_onnx, some_lines, tmp_path):
    for model, store, output, match in (
        (tiny_onnx, tmp_path / "none.lmdb", "n.onnx", "no line store"),
        (tiny_onnx, some_lines, "n.safetensors", "stays one"),
        (some_lines, some_lines, "n.onnx", "weights"),
    ):
        with pytest.raises(UsageError, match=match):
            plan_calibration(model, store, tmp_path / output)
    with pytest.raises(UsageError, match="would overwrite the input"):
        plan_calibration(tiny_checkpoint, some_lines, tiny_checkpoint)
    few = some_lines.with_name("few.jsonl")
    few.write_text(
        "".join(some_lines.read_text(encoding="utf-8").splitlines(keepends=True)[:9]),
        encoding="utf-8",
    )
    with pytest.raises(DataError, match="9 lines are too few"):
        calibrate_model(plan_calibration(tiny_onnx, few, tmp_path / "n.onnx"))
    with pytest.raises(
        DataError, match="are read wrong; confidences are fitted on lines of both kinds"
    ):
        calibrate_model(plan_calibration(tiny_onnx, some_lines, tmp_path / "n.onnx"))
    assert not (tmp_path / "n.onnx").exists()
