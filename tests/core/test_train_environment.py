"""Environment variables stand in for options of train and prep that are not given."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.core.train.environment import apply_environment
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.errors import UsageError


def dry_run(*args):
    done = CliRunner().invoke(app, [*map(str, args), "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), done.stderr


def test_a_dry_run_shows_the_variables_values_and_where_they_came_from(
    tiny_sets, tiny_run, monkeypatch
):
    store = tiny_run.parent / "digits.lmdb"
    monkeypatch.setenv("RUN_NAME", "sv-2026")
    monkeypatch.setenv("TRAIN_DATASETS", f"{store}, {store}=2")
    monkeypatch.setenv("PRECISION", "16-mixed")
    kept = [value for value in tiny_sets if "precision" not in value]
    arguments = [part for value in kept for part in ("--set", value)]

    plan, notes = dry_run("train", "-p", "svtrv2-nano", *arguments)

    assert plan["run_dir"] == "runs/sv-2026"
    assert plan["train"]["precision"] == "fp16"
    assert [entry.get("ratio") for entry in plan["train"]["stores"]] == [None, 2.0]
    assert plan["from_environment"] == {
        "--run-dir": "runs/sv-2026 (from RUN_NAME)",
        "--train": f"{store}, {store}=2 (from TRAIN_DATASETS)",
        "train.precision": "16-mixed (from PRECISION)",
    }
    assert "--run-dir: runs/sv-2026 (from RUN_NAME)" in notes

    plan, _ = dry_run(
        *("train", "-p", "svtrv2-nano", *arguments, "--set", "train.precision=fp32"),
        *("--train", store, "--run-dir", "runs/x"),
    )
    assert plan["run_dir"] == "runs/x"
    assert plan["train"]["precision"] == "fp32"
    assert plan["from_environment"] == {}


@pytest.mark.parametrize("named", ["", "best.safetensors", "checkpoint-1200"])
def test_resume_from_names_the_run_or_something_in_it(tiny_run, monkeypatch, named):
    monkeypatch.setenv("RESUME_FROM", str(tiny_run / named))
    monkeypatch.setenv("RUN_NAME", "unused")

    request, used = apply_environment(TrainRequest())

    assert request.resume == tiny_run
    assert request.run_dir is None
    assert used == {"--resume": f"{tiny_run} (from RESUME_FROM)"}


@pytest.mark.parametrize(
    "given",
    [{"load": Path("a")}, {"run_dir": Path("a")}, {"resume": Path("a")}, {"check": 3}],
)
def test_options_win_over_resume_from(monkeypatch, given):
    monkeypatch.setenv("RESUME_FROM", "other")
    request = TrainRequest(**given)
    assert apply_environment(request) == (request, {})


def test_a_value_that_cannot_be_used_is_refused_with_its_variable(monkeypatch):
    monkeypatch.setenv("RUN_NAME", "../elsewhere")
    with pytest.raises(UsageError, match=r"RUN_NAME=\.\./elsewhere: give a name"):
        apply_environment(TrainRequest())
    monkeypatch.delenv("RUN_NAME")
    monkeypatch.setenv("PRECISION", "fp8")
    done = CliRunner().invoke(app, ["train", "-p", "svtrv2-nano", "--dry-run"])
    assert "PRECISION: train.precision" in str(done.exception)


def test_prep_takes_the_languages_of_the_variable(tmp_path, monkeypatch):
    samples = Path(__file__).parents[2] / "samples" / "lines"
    monkeypatch.setenv("INCLUDE_LANGUAGES", "sv,da")
    command = ("prep", samples, "-o", tmp_path / "a.lmdb", "-p", "svtrv2-nano")
    plan, _ = dry_run(*command)
    assert plan["from_environment"] == {
        "--include-language": "sv, da (from INCLUDE_LANGUAGES)"
    }

    done = CliRunner().invoke(app, [*map(str, command), "--json"])
    rows = [
        json.loads(line)["language"]
        for line in (samples / "manifest.jsonl").read_text("utf-8").splitlines()
    ]
    assert json.loads(done.stdout)["kept"] == sum(row in ("sv", "da") for row in rows)
