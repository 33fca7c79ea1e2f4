"""recipe: stages run once, continue after an interruption, and run again after a change."""

import json
import textwrap

import pytest

from nordocr_cli.core.recipe.plan import plan
from nordocr_cli.core.recipe.run import StageFailed, run
from nordocr_cli.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(folder, *stages):
    parts = ['output = "work"\n']
    for name, command, *creates in stages:
        parts.append(
            f"[[stage]]\nname = {json.dumps(name)}\nrun = {json.dumps(command)}\n"
            f"creates = {json.dumps(creates)}\n"
        )
    path = folder / "recipe.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


LOCK = ("lock", "charset lock nordic -o {output}/lock.json", "{output}/lock.json")
CHECK = ("check", "charset lock --check {output}/lock.json --file {output}/lock.txt")
EMIT = ("emit", "charset emit nordic -o {output}/lock.txt", "{output}/lock.txt")


def decisions(planned):
    return [stage.decision for stage in planned.stages]


def test_every_stage_runs_once_and_the_second_call_has_nothing_to_do(
    tmp_path, valid_output
):
    recipe = write(tmp_path, LOCK, EMIT, CHECK)

    results = run(plan(recipe))
    again = plan(recipe)

    assert [result.exit_code for result in results] == [0, 0, 0]
    printed = again.to_json() | {"results": [result.to_json() for result in results]}
    valid_output("recipe", printed)
    assert decisions(again) == ["done", "done", "done"]
    report = (tmp_path / "work" / "recipe-report.md").read_text(encoding="utf-8")
    assert report.count("- [x]") == 3


def test_a_changed_stage_and_all_later_ones_run_again(tmp_path):
    recipe = write(tmp_path, LOCK, EMIT, CHECK)
    run(plan(recipe))
    changed = ("emit", "charset emit nordic-ext -o {output}/lock.txt", "{output}/lock.txt")

    write(tmp_path, LOCK, changed, CHECK)

    assert decisions(plan(recipe)) == ["done", "run", "run"]


def test_a_stage_whose_result_is_gone_runs_again(tmp_path):
    recipe = write(tmp_path, LOCK, EMIT, CHECK)
    run(plan(recipe))
    (tmp_path / "work" / "lock.txt").unlink()

    assert decisions(plan(recipe)) == ["done", "run", "run"]


def test_a_failed_stage_ends_the_recipe_with_its_exit_code_and_keeps_what_was_done(
    tmp_path,
):
    recipe = write(tmp_path, LOCK, ("wrong", "charset show no-such-charset"), EMIT)

    with pytest.raises(StageFailed, match="stage 'wrong' ended with exit code 2") as failed:
        run(plan(recipe))

    assert failed.value.exit_code == 2
    assert decisions(plan(recipe)) == ["done", "run", "run"]
    report = (tmp_path / "work" / "recipe-report.md").read_text(encoding="utf-8")
    assert "- [ ] wrong: failed with exit code 2" in report
    assert "- [ ] emit: not run yet" in report


def test_a_stage_that_does_not_write_what_it_promises_is_an_error(tmp_path):
    recipe = write(tmp_path, ("show", "charset show nordic", "{output}/nothing.json"))

    with pytest.raises(DataError, match="without writing"):
        run(plan(recipe))


def test_a_recipe_that_runs_itself_ends(tmp_path, capfd):
    path = write(tmp_path, ("again", f"recipe {tmp_path / 'recipe.toml'}"))
    with pytest.raises(StageFailed) as failed:
        run(plan(path))
    assert failed.value.exit_code == 2
    assert "another process is writing work/recipe-state.json" in capfd.readouterr().err


def test_an_interrupted_stage_is_resumed(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        textwrap.dedent("""
            output = "work"
            [[stage]]
            name = "train"
            run = "train --run-dir {output}/run"
            resume = "train --resume {output}/run"
            resume_if = "{output}/run/state.pt"
        """),
        encoding="utf-8",
    )
    (tmp_path / "work" / "run").mkdir(parents=True)
    assert decisions(plan(recipe)) == ["run"]

    (tmp_path / "work" / "run" / "state.pt").write_bytes(b"")

    planned = plan(recipe)
    assert decisions(planned) == ["resume"]
    assert planned.stages[0].command[:2] == ("train", "--resume")


def test_restart_from_runs_a_stage_and_all_later_ones(tmp_path):
    recipe = write(tmp_path, LOCK, EMIT, CHECK)
    run(plan(recipe))

    assert decisions(plan(recipe, restart_from="emit")) == ["done", "run", "run"]
    with pytest.raises(UsageError, match="no stage 'emitt'"):
        plan(recipe, restart_from="emitt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('output = "w"\n[[stage]]\nname = "a"\nrunn = "eval"\n', "runn|run"),
        ('output = "w"\n[[stage]]\nname = "a"\nrun = "--help"\n', "not a nordocr command"),
        ('output = "w"\n[[stage]]\nname = "a"\nrun = "eval \'x"\n', "No closing quotation"),
        ('output = "w"\n', "stage"),
        (
            'output = "w"\n' + 2 * '[[stage]]\nname = "a"\nrun = "eval x"\n',
            "several stages are named",
        ),
    ],
)
def test_a_wrong_recipe_is_refused_before_anything_runs(tmp_path, text, message):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(text, encoding="utf-8")

    with pytest.raises(UsageError, match=message):
        plan(recipe)


def test_the_sample_recipe_is_valid():
    from pathlib import Path

    samples = Path(__file__).parents[2] / "samples"

    assert len(plan(samples / "recipe.toml").stages) == 5
