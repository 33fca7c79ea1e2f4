"""finetune: labelled lines to a better recognizer, and every way in which the data may not do."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.finetune import run as core
from nordocr_cli.core.finetune.choices import (
    SHARES,
    choose_charset,
    choose_training,
    keeps_ordinary,
)
from nordocr_cli.core.finetune.plan import FinetuneRequest, _RowSample, plan_finetune
from nordocr_cli.core.finetune.result import SetResult, replacement_problem
from nordocr_cli.core.finetune.run import resumed_request, run_finetune
from nordocr_cli.errors import ArtifactError, DataError, Interrupted, UsageError
from nordocr_cli.models.weights import load_weights
from nordocr_cli.profile import load_profile

FONT_LIST = Path(__file__).parents[2] / "samples" / "train" / "fonts.tsv"


def write_lines(folder, count=30, documents=3, text=lambda number: str(100 + number)):
    """Digits that OpenCV writes, with a manifest."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        image = np.full((32, 80), 255, np.uint8)
        cv2.putText(image, str(100 + number), (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, 0, 2)
        cv2.imwrite(str(folder / f"{number}.png"), image)
        row = {"id": f"line-{number}", "image": f"{number}.png", "text": text(number)}
        rows.append(json.dumps(row | {"source": f"doc{number % documents}"}))
    (folder / "manifest.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(folder)


@pytest.fixture
def few_rendered(monkeypatch):
    monkeypatch.setattr(core, "_GUARD_LINES", 8)
    monkeypatch.setattr(core, "_ORDINARY_LINES", 8)
    monkeypatch.setattr("nordocr_cli.training.reporting.can_draw", lambda: False)


def request_of(lines, tmp_path, model, **changes):
    settings = {
        "max_steps": 2,
        "rendered_share": 0.0,
        "threads": 1,
        "device": "cpu",
        "fonts": str(FONT_LIST),
    } | changes
    return FinetuneRequest((lines,), tmp_path / "run", str(model), **settings)


def test_a_fine_tuning_stops_continues_and_leaves_its_models(
    tmp_path, tiny_checkpoint, few_rendered, valid_output
):
    lines = write_lines(tmp_path / "lines")
    request = request_of(lines, tmp_path, tiny_checkpoint, trust_labels=True)
    calls = iter(range(1000))
    with pytest.raises(Interrupted, match=r"Resume with: nordocr finetune --resume"):
        run_finetune(plan_finetune(request), stop=lambda: next(calls) >= 3)
    assert set(json.loads((tmp_path / "run" / "finetune.json").read_text())["done"]) == {
        "prepare",
        "render",
        "start",
    }

    resumed = resumed_request(tmp_path / "run")
    assert resumed == request
    result = run_finetune(plan_finetune(resumed))
    valid_output("finetune", result.to_json())
    assert result.steps == 2
    assert [one.name for one in result.sets] == ["held-out", "guard"]
    assert result.accepted == (not replacement_problem(result.sets))
    chosen = json.loads((tmp_path / "run" / "finetune.json").read_text())["done"]["choose"]
    assert result.share == chosen["share"] == chosen["tried"][-1]["share"]
    assert [one["share"] for one in chosen["tried"]] == list(SHARES[: len(chosen["tried"])])
    if result.accepted:
        assert (tmp_path / "run" / "model.onnx").is_file()
    else:
        assert not (tmp_path / "run" / "model.safetensors").exists()


def test_labels_that_do_not_fit_the_images_end_before_training(
    tmp_path, tiny_checkpoint, few_rendered
):
    lines = write_lines(tmp_path / "lines", text=lambda number: "Helt annan text")
    with pytest.raises(DataError, match=r"do not fit the images.*--trust-labels"):
        run_finetune(plan_finetune(request_of(lines, tmp_path, tiny_checkpoint)))
    assert not (tmp_path / "run" / "train").exists()


@pytest.mark.parametrize(
    ("count", "documents", "text", "said"),
    [
        (10, 3, str, "10 usable labelled lines"),
        (30, 3, lambda number: " ", "30 rows that have no text.*nordocr adapt"),
        (30, 1, str, "all 30 lines come from one document"),
        (60, 3, lambda number: chr(0x4E00 + number), "another script"),
        (60, 3, lambda number: chr(0x3B1 + number % 15) * 9, "another script"),
    ],
)
def test_data_that_is_not_enough_is_refused_with_a_clear_word(
    tmp_path, tiny_checkpoint, count, documents, text, said
):
    lines = write_lines(tmp_path / "lines", count, documents, text)
    with pytest.raises(DataError, match=said):
        plan_finetune(request_of(lines, tmp_path, tiny_checkpoint))


def test_images_that_are_not_there_end_it_before_anything_is_made(
    tmp_path, tiny_checkpoint
):
    lines = write_lines(tmp_path / "lines")
    request = request_of(lines, tmp_path, tiny_checkpoint)
    for image in (tmp_path / "lines").rglob("*.png"):
        image.unlink()
    with pytest.raises(DataError, match=r"none of 30 images .* can be read: .*png"):
        plan_finetune(request)
    assert not (tmp_path / "run").exists()


def test_images_missing_at_the_start_of_a_source_are_left_to_prep(
    tmp_path, tiny_checkpoint
):
    lines = write_lines(tmp_path / "lines", count=100)
    for number in range(90):
        (tmp_path / "lines" / f"{number}.png").unlink()

    plan_finetune(request_of(lines, tmp_path, tiny_checkpoint))


@pytest.mark.parametrize("count", [0, 7, 40, 41, 1000])
def test_the_images_looked_for_are_from_all_parts_of_a_source(count):
    sample = _RowSample()
    for number in range(count):
        sample.add(number)

    entries = sorted(sample.entries)
    assert len(set(entries)) == len(entries) == min(count, 40)
    if count <= 40:
        assert entries == list(range(count))
        return
    assert {number % 2 for number in entries} == {0, 1}
    assert entries[0] < count / 5
    assert entries[-1] > count * 4 / 5


def test_a_folder_of_something_else_is_not_written_to(tmp_path, tiny_checkpoint):
    lines = write_lines(tmp_path / "lines")
    plan = plan_finetune(request_of(lines, tmp_path, tiny_checkpoint))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty and holds no finetune\.json"):
        run_finetune(plan)
    with pytest.raises(UsageError, match=r"no finetune\.json there"):
        resumed_request(tmp_path / "run")


def test_the_charset_covers_the_labels():
    assert choose_charset(NORDIC, {"a": 1}).name == "nordic"
    assert choose_charset(NORDIC, {"a": 1, "þ": 2, "ý": 1}).name == NORDIC_EXT.name
    own = choose_charset(NORDIC, {"Ω": 3})
    assert (own.name, own.new) == ("", "Ω")
    assert own.charset.characters == NORDIC.characters + "Ω"


def test_length_and_rate_follow_the_amount_of_data():
    profile = load_profile("default").profile
    found = [choose_training(profile, lines, 0.5) for lines in (50, 200, 1000, 5000)]
    steps = [steps for _, steps in found]
    assert steps == sorted(steps)
    assert found[0][0].lr < found[1][0].lr < profile.train.lr
    assert {train.lr_batch for train, _ in found} == {profile.train.batch_size}


def test_the_share_of_the_change_shrinks_until_ordinary_lines_are_read_as_before(
    tmp_path, tiny_checkpoint, few_rendered, monkeypatch
):
    """The error rates are given; weights, stages and judging are real."""
    rates = {0.0: 0.10, 1.0: 0.14, 0.75: 0.12, 0.5: 0.10}
    monkeypatch.setattr(core.FinetuneRun, "_ordinary_cer", lambda _, share: rates[share])
    lines = write_lines(tmp_path / "lines")
    request = request_of(lines, tmp_path, tiny_checkpoint, trust_labels=True)
    result = run_finetune(plan_finetune(request))

    assert result.share == 0.5
    folder = tmp_path / "run"
    start, _ = load_weights(folder / "start.safetensors")
    trained, _ = load_weights(folder / "train" / "last.safetensors")
    half, contract = load_weights(folder / "train" / "share-0.5.safetensors")
    changed = 0
    for name, tensor in half.items():
        if tensor.is_floating_point():
            expected = (start[name] + trained[name]) / 2
            torch.testing.assert_close(tensor, expected)
            changed += not torch.equal(start[name], trained[name])
    assert changed
    assert (
        contract.charset.characters == load_weights(tiny_checkpoint)[1].charset.characters
    )


def test_a_few_more_errors_are_read_as_before():
    assert keeps_ordinary(0.03, 0.0310)
    assert not keeps_ordinary(0.03, 0.0340)
    assert keeps_ordinary(0.0, 0.0004)
    assert not keeps_ordinary(0.0, 0.001)
    assert keeps_ordinary(None, None)


def test_a_set_that_got_worse_is_named():
    def one(name, verdict, after=0.1):
        return SetResult(name, 10, 0.1, after, 0.5, 0.5, verdict)

    same, few = "no difference shown", "too few documents"
    assert replacement_problem((one("held-out", "better"), one("guard", same, 0.2))) == ""
    assert replacement_problem((one("held-out", few, 0.1), one("guard", same))) == ""
    assert "reads guard worse" in replacement_problem(
        (one("held-out", "better"), one("guard", "worse"))
    )
    assert "reads held-out worse" in replacement_problem(
        (one("held-out", few, 0.2), one("guard", same))
    )
    by_chance = replacement_problem((one("held-out", few, 0.2), one("guard", same)))
    assert "to 20.00%); nothing was written" in by_chance
    assert "With so few documents it may be chance: add some." in by_chance
    # Labels that are readings of engines hold errors: only a clear verdict counts.
    unclear = (one("held-out", few, 0.2), one("guard", same))
    assert replacement_problem(unclear, certain_labels=False) == ""
    clear = (one("held-out", "worse"), one("guard", same))
    assert "reads held-out worse" in replacement_problem(clear, certain_labels=False)
    guard = (one("held-out", "better"), one("guard", few, 0.2))
    assert "reads guard worse" in replacement_problem(guard, certain_labels=False)


def damaged_state(folder, change):
    """Save a state as nordocr does, and then change its JSON."""
    request = FinetuneRequest(("lines",), folder)
    value = {"schema": 2, "request": {**vars(request), "run_dir": str(folder)}, "done": {}}
    write_sealed_json(folder / "finetune.json", value)
    path = folder / "finetune.json"
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "[" * 100_000,
        lambda text: "[]",
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"seed": 1', '"seed": 7'),
        lambda text: text.replace('"done": {}', '"done": {"train": null}'),
        lambda text: text.replace("sha256", "sha"),
        lambda text: text.replace('"val"', '"vol"').replace("sha256", "sha"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path, change):
    damaged_state(tmp_path, change)
    with pytest.raises(ArtifactError, match=r"finetune\.json.*start again in a new folder"):
        resumed_request(tmp_path)
