"""What is done with finished runs: listed and compared, cleaned, promoted."""

import json
import os
import shutil
import time

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.core.clean import delete, find_waste
from nordocr_cli.core.promote import PromotionRequest, plan, promote
from nordocr_cli.core.runs import differences_of, list_runs
from nordocr_cli.core.signature import verify_promotion
from nordocr_cli.errors import ArtifactError, DataError, GateMissed, UsageError

# The lines of the tiny run are those that it was trained on.
ALLOWED = {"allow_leakage": True, "threads": 1, "device": "cpu"}


@pytest.fixture
def runs(tiny_run, tmp_path):
    """A folder with the finished run `a`, and `b`, which was stopped and has another learning
    rate.
    """
    root = tmp_path / "runs"
    shutil.copytree(tiny_run, root / "a")
    shutil.copytree(tiny_run.parent / "digits.lmdb", tmp_path / "digits.lmdb")
    shutil.copytree(tiny_run, root / "deep" / "b")
    facts = json.loads((root / "deep" / "b" / "run.json").read_text())
    del facts["result"]
    facts["profile"]["train"]["lr"] = 2e-3
    (root / "deep" / "b" / "run.json").write_text(json.dumps(facts))
    return root


def invoke(*arguments, **more):
    # The width of the table; pytest-xdist narrows it.
    wide = {"COLUMNS": "120"}
    return CliRunner().invoke(app, [*map(str, arguments)], env=wide, **more)


def test_runs_are_listed_with_their_state(runs):
    (runs / "broken").mkdir()
    (runs / "broken" / "run.json").write_text("{}")
    found = {run.path.name: run for run in list_runs(runs)}
    assert {name: run.state for name, run in found.items()} == {
        "a": "finished",
        "b": "stopped",
        "broken": "damaged",
    }
    assert found["a"].steps == 4
    assert found["a"].best_cer > 0
    assert found["a"].val == "digits.lmdb"
    assert found["a"].model == "svtrv2-nano"
    assert "environment" in found["broken"].problem
    (runs / "deep" / "b" / "state.pt").unlink()
    assert list_runs(runs / "deep")[0].state == "ended"


def test_a_run_that_writes_is_running_and_a_killed_one_is_stopped(runs):
    file = runs / "deep" / "b" / "run.json"
    facts = json.loads(file.read_text())
    del facts["sessions"][-1]["ended"]  # neither has come to the end
    file.write_text(json.dumps(facts))
    os.utime(runs / "deep" / "b" / "metrics.jsonl")
    assert list_runs(runs / "deep")[0].state == "running"
    before = time.time() - 600
    os.utime(runs / "deep" / "b" / "metrics.jsonl", (before, before))
    assert list_runs(runs / "deep")[0].state == "stopped"


def test_two_runs_are_compared_by_what_they_were_told(runs):
    assert differences_of(runs / "a", runs / "deep" / "b") == [
        ("profile.train.lr", 1e-3, 2e-3)
    ]
    assert differences_of(runs / "a", runs / "a") == []
    with pytest.raises(UsageError, match=r"holds no run\.json"):
        differences_of(runs / "a", runs)


def test_runs_as_table_and_json(runs):
    table = invoke("runs", runs)
    assert table.exit_code == 0
    assert "2 runs in" in table.output
    assert "stopped" in table.output
    listed = json.loads(invoke("runs", runs, "--json").stdout)
    assert {run["state"] for run in listed} == {"finished", "stopped"}
    differences = json.loads(
        invoke("runs", "--diff", runs / "a", runs / "deep" / "b", "--json").stdout
    )
    assert differences == [{"key": "profile.train.lr", "one": 0.001, "other": 0.002}]
    assert "no folder" in str(invoke("runs", runs / "nowhere").exception)


def test_clean_takes_the_states_of_finished_runs_and_what_killed_writers_left(runs):
    old, young = (
        runs / "a" / ".best.safetensors.abcd_123.tmp",
        runs / "a" / ".last.safetensors.abcd1234.tmp",
    )
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    waste = find_waste(runs)
    assert {found.path.relative_to(runs).as_posix() for found in waste} == {
        "a/state.pt",
        "a/state.pt.sha256",
        "a/last.safetensors",
        "a/.best.safetensors.abcd_123.tmp",
    }
    assert delete(runs, waste) == sum(found.size for found in waste)
    assert young.exists()
    assert (runs / "a" / "best.safetensors").exists()
    assert (runs / "deep" / "b" / "state.pt").exists()  # a stopped run needs it
    assert find_waste(runs) == []
    with pytest.raises(UsageError, match=r"holds no run"):
        find_waste(runs / "deep" / "b" / "tensorboard")


def test_clean_lists_each_kind_and_takes_weights_and_data_only_when_they_are_named(runs):
    compiled = runs / "code" / "__pycache__" / "a.pyc"
    compiled.parent.mkdir(parents=True)
    compiled.write_bytes(b"code")
    shutil.copytree(runs.parent / "digits.lmdb", runs / "digits.lmdb")
    foreign = runs / "other.lmdb" / "data.mdb"
    foreign.parent.mkdir()
    foreign.write_bytes(b"another program's database")
    (runs / "labels.jsonl").write_text("{}")

    def listed(*kinds):
        chosen = [part for kind in kinds for part in ("--kind", kind)]
        result = json.loads(invoke("clean", runs, *chosen, "--dry-run", "--json").stdout)
        return {
            (file["kind"], os.path.relpath(file["path"], runs)) for file in result["files"]
        }

    default = {kind for kind, _ in listed()}
    assert default == {"states", "caches"}
    assert ("caches", "code/__pycache__/a.pyc") in listed()
    assert listed("labels") == {("labels", "labels.jsonl")}
    stores = {path for _, path in listed("data")}
    assert stores == {"digits.lmdb/data.mdb", "digits.lmdb/lock.mdb"} or stores == {
        "digits.lmdb/data.mdb"
    }
    checkpoints = {path for _, path in listed("checkpoints")}
    assert {
        "a/best.safetensors",
        "deep/b/best.safetensors",
        "deep/b/state.pt",
    } <= checkpoints
    assert json.loads(invoke("clean", runs, "--kind", "data", "--yes", "--json").stdout)[
        "deleted"
    ]
    refused = invoke("clean", runs, "--kind", "states", "--kind", "dta").exception
    assert "did you mean 'data'" in str(refused)
    assert not (runs / "digits.lmdb" / "data.mdb").exists()
    assert foreign.exists()
    assert (runs / "a" / "best.safetensors").exists()


def test_clean_never_leaves_the_folder(runs, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(runs / "a", outside)
    (runs / "linked").symlink_to(outside)
    (runs / "a" / "state.pt").unlink()
    (runs / "a" / "state.pt").symlink_to(outside / "state.pt")
    waste = find_waste(runs)
    # of `a`, and no link
    assert {found.path.name for found in waste} == {"state.pt.sha256", "last.safetensors"}
    # Between the list and the deletion the run's folder becomes a link that leads out.
    shutil.rmtree(runs / "a")
    (runs / "a").symlink_to(outside)
    with pytest.raises(DataError, match=r"leads out of .*nothing more is deleted"):
        delete(runs, waste)
    assert (outside / "last.safetensors").exists()
    assert (outside / "state.pt").exists()


def test_clean_asks(runs):
    refused = invoke("clean", runs)
    assert "Give --yes" in str(refused.exception)
    assert (runs / "a" / "state.pt").exists()
    assert (
        json.loads(invoke("clean", runs, "--dry-run", "--json").stdout)["deleted"] is False
    )
    assert (runs / "a" / "state.pt").exists()
    done = json.loads(invoke("clean", runs, "--yes", "--json").stdout)
    assert done["deleted"] is True
    assert len(done["files"]) == 3
    assert not (runs / "a" / "state.pt").exists()


def test_a_run_is_promoted_when_every_gate_holds(runs, tmp_path, valid_output):
    targets = tmp_path / "targets.toml"
    targets.write_text('lines = [12, 12]\n"language:sv.exact" = [0, 1]\n')
    target = tmp_path / "models" / "digits.safetensors"
    done = promote(runs / "a", expect=targets, output=target, **ALLOWED)
    valid_output("promote", done.to_json())
    assert sha256_of(target) == sha256_of(runs / "a" / "best.safetensors") == done.sha256
    assert read_contract(target).model["name"] == "svtrv2-nano"
    record = json.loads((tmp_path / "models" / "digits.promotion.json").read_text())
    assert record["results"][0]["report"]["total"]["lines"] == 12
    assert record["training"]["profile"]["train"]["lr"] == 1e-3
    # the same weights are no conflict
    promote(runs / "a", expect=targets, output=target, **ALLOWED)
    target.write_bytes(b"other weights")
    with pytest.raises(
        UsageError, match=r"holds other weights; give another -o, or --replace"
    ):
        promote(runs / "a", expect=targets, output=target)
    promote(
        runs / "a", expect=targets, output=target, replace=True, no_champion=True, **ALLOWED
    )
    assert sha256_of(target) == done.sha256


def test_a_missed_gate_is_exit_4_and_names_what_was_found(runs, tmp_path):
    (tmp_path / "targets.toml").write_text("exact = [0.99, 1]\ncer = [0, 0.01]\n")
    missed = invoke(
        "promote",
        runs / "a",
        "--expect",
        tmp_path / "targets.toml",
        "-o",
        tmp_path / "out",
        "--allow-leakage",
        "--device",
        "cpu",
    )
    assert isinstance(missed.exception, GateMissed)
    assert missed.exception.exit_code == 4
    assert "is not promoted: exact<0.99: found " in str(missed.exception)
    assert "cer>0.01: found " in str(missed.exception)
    assert not (tmp_path / "out").exists()


def test_a_run_judged_by_its_training_lines_is_not_promoted(runs, tmp_path):
    targets = tmp_path / "targets.toml"
    targets.write_text("lines = [12, 12]\n")
    with pytest.raises(
        GateMissed, match=r"the training data has 12 exact copies.*--allow-leakage"
    ):
        promote(
            runs / "a",
            expect=targets,
            output=tmp_path / "m.safetensors",
            threads=1,
            device="cpu",
        )
    assert not (tmp_path / "m.safetensors").exists()


def test_what_cannot_be_promoted_is_said_before_anything_is_read(runs, tiny_run, tmp_path):
    targets = tmp_path / "targets.toml"
    targets.write_text("cer = [0, 0.02]\n")
    planned = plan(PromotionRequest(runs / "a", targets, tmp_path / "m")).to_json()
    assert planned["writes"] == [
        str(tmp_path / "m" / "a.safetensors"),
        str(tmp_path / "m" / "a.promotion.json"),
    ]
    assert planned["stores"] == [str(tiny_run.parent / "digits.lmdb")]
    for run, expect, output, said in (
        (runs, targets, None, r"holds no run\.json"),
        (runs / "a", targets, runs / "a" / "x.safetensors", "would overwrite the input"),
        (runs / "a", tmp_path / "nothing.toml", None, "no file of expectations"),
    ):
        with pytest.raises(UsageError, match=said):
            plan(PromotionRequest(run, expect, output))
    targets.write_text("")
    with pytest.raises(UsageError, match="has no gates"):
        plan(PromotionRequest(runs / "a", targets))
    targets.write_text("cer = [0, 0.02]\n")
    facts = json.loads((runs / "a" / "run.json").read_text())
    for val, kind, said in (
        (
            [{**facts["val"][0], "content_sha256": "0"}],
            DataError,
            "has changed since .*--on STORE",
        ),
        (
            [{**facts["val"][0], "path": "gone.lmdb"}],
            UsageError,
            "gone.lmdb, on which .* does not exist.*--on STORE",
        ),
        (None, ArtifactError, "no validation stores"),
    ):
        (runs / "a" / "run.json").write_text(json.dumps(facts | {"val": val}))
        with pytest.raises(kind, match=said):
            plan(PromotionRequest(runs / "a", targets))


RELATIVE = "cer<=champion+0.3pp"
KEY = "0123456789abcdef-key"


def test_a_gate_may_be_relative_to_the_champion(runs, tmp_path):
    target = tmp_path / "m.safetensors"
    first = promote(runs / "a", gates=["lines>=12"], output=target, **ALLOWED)
    assert first.champion == ()
    changed = runs / "a"
    again = {"output": target} | ALLOWED
    with pytest.raises(UsageError, match="needs a champion, and .* holds none"):
        promote(changed, gates=[RELATIVE], **again)
    perfect, poor = tmp_path / "perfect.jsonl", tmp_path / "poor.jsonl"
    for path, text in ((perfect, "{}"), (poor, "{} and much else")):
        rows = [{"id": f"line-{n}", "hyp": text.format(100 + n)} for n in range(12)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(
        GateMissed, match=r"cer<=champion\+0.3pp: found .*, the limit is 0.003"
    ):
        promote(changed, gates=[RELATIVE], champion=perfect, **again)
    done = promote(changed, gates=[RELATIVE], champion=poor, **again)
    (comparison,) = done.champion
    assert comparison.total.unit == "line"  # these lines have no source document
    assert comparison.total.cer_a == pytest.approx(14 / 3)


def test_a_record_is_signed_and_checked(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMOTION_KEY", KEY)
    target = tmp_path / "m.safetensors"
    options = {"gates": ["lines>=12"], "output": target} | ALLOWED
    done = promote(runs / "a", sign_key_env="PROMOTION_KEY", **options)
    assert verify_promotion(done.record, KEY.encode())["sha256"] == done.sha256
    assert KEY not in done.record.read_text()
    with pytest.raises(ArtifactError, match="signature does not hold"):
        verify_promotion(done.record, b"another key of some length")
    record = json.loads(done.record.read_text())
    done.record.write_text(json.dumps(record | {"gates": []}))
    with pytest.raises(ArtifactError, match="signature does not hold"):
        verify_promotion(done.record, KEY.encode())
    done.record.write_text(json.dumps(record))
    monkeypatch.setenv("PROMOTION_KEY", "short")
    with pytest.raises(UsageError, match="at least 16 characters"):
        promote(runs / "a", sign_key_env="PROMOTION_KEY", **options)
    target.write_bytes(b"other weights")
    with pytest.raises(ArtifactError, match="are not the weights"):
        verify_promotion(done.record, KEY.encode())
