"""Commands of rows, run as a user runs them: what they print and write is what the row asks for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.core.train.request import TrainRequest
from nordocr_cli.core.train.run import train
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.profile import load_profile
from nordocr_cli.progress import Silent


def run(*arguments, columns=80):
    """Run the program in this process; return its result."""
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], env={"COLUMNS": str(columns)}
    )


def printed(*arguments):
    """Run a command that must succeed; return all that it prints, on one line."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def json_of(*arguments):
    """Run a command that must succeed with --json; return its result."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def settings(sets):
    return [part for value in sets for part in ("--set", value)]


@pytest.fixture(scope="module")
def named_run(tiny_run, tiny_sets, tmp_path_factory):
    """A training of four steps by the command, in a folder of its own, named by its experiment:
    (the folder, what it printed, its JSON result).
    """
    folder = tmp_path_factory.mktemp("named")
    store = tiny_run.parent / "digits.lmdb"
    sets = [
        *(value for value in tiny_sets if "precision" not in value),
        "experiment=svtr_pilot",
        "train.precision=16-mixed",
        "train.batch_size=4",
        "train.accumulate=2",
        "train.log_every=1",
    ]
    command = [sys.executable, "-m", "nordocr_cli", "train", "-p", "svtrv2-nano"]
    command += ["--train", store, "--val", store, *settings(sets)]
    command += ["--max-steps", "4", "--threads", "1", "--device", "cpu", "--json"]
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stderr, json.loads(done.stdout)


def test_the_experiment_names_the_run_and_is_a_column_of_runs(named_run, monkeypatch):
    folder, _, result = named_run
    assert result["run_dir"] == "runs/svtr_pilot-1"
    assert (folder / "runs" / "svtr_pilot-1" / "best.safetensors").is_file()
    monkeypatch.chdir(folder)
    (listed,) = json_of("runs")
    assert (listed["experiment"], listed["profile"]) == ("svtr_pilot", "svtrv2-nano")
    assert "svtr_pilot-1" in run("runs", columns=200).output
    (folder / "runs" / "svtr_pilot-1").rename(folder / "runs" / "moved")
    assert "moved (svtr_pilot)" in run("runs", columns=200).output
    (folder / "runs" / "moved").rename(folder / "runs" / "svtr_pilot-1")


def test_an_experiment_that_is_no_folder_name_is_refused():
    for name in ("a/b", "..", ".hidden", "a b"):
        refused = run("profiles", "show", "svtrv2-nano", "--set", f"experiment={name}")
        assert isinstance(refused.exception, UsageError)
        assert "names the run's folder" in str(refused.exception)


def test_training_reports_lines_and_batches_a_second(named_run):
    folder, _, result = named_run
    batches = result["batches_per_s"] * 60 * result["minutes"]
    assert batches == pytest.approx(round(batches))
    assert result["steps"] <= batches <= 2 * result["steps"]  # train.accumulate is 2
    assert result["lines_per_s"] * 60 * result["minutes"] == pytest.approx(result["lines"])
    log = (folder / result["run_dir"] / "metrics.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in log.splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    assert len(rows) == 4
    assert all(0 < row["batches_per_s"] <= row["lines_per_s"] for row in rows)


def test_progress_shows_lines_and_batches_a_second(tiny_run, tiny_sets, tmp_path):
    class Shown(Silent):
        def advance(self, units=1, **fields):
            speeds.append(fields.get("speed", ""))

    speeds = []
    store = (tiny_run.parent / "digits.lmdb",)
    profile = load_profile("svtrv2-nano", [*tiny_sets, "train.log_every=1"])
    request = TrainRequest(
        store, store, tmp_path / "run", max_steps=2, threads=1, device="cpu"
    )
    train(profile, request, progress=Shown())
    assert re.fullmatch(r"[\d.,]+ lines/s, [\d.,]+ batches/s", speeds[-1])


def test_mixed_precision_trains_and_its_weights_read(named_run, tiny_run):
    folder, progress, result = named_run
    assert "bf16" in progress  # what a CPU has of 16 bits
    scores = json_of(
        *("eval", folder / result["run_dir"], tiny_run.parent / "digits.lmdb"),
        *("--threads", "1"),
    )
    assert scores["report"]["total"]["lines"] == 12


def test_a_network_is_chosen_by_name():
    for name in ("svtr", "svtrv2"):
        chosen = json_of(
            "profiles", "show", "svtrv2-nano", "--set", f"model={{name='{name}'}}"
        )
        assert chosen["profile"]["model"]["name"] == name


def test_an_unknown_network_is_refused_by_name():
    refused = run("train", "-p", "svtr-32x128", "--set", "model.name=svtrx", "--dry-run")
    assert isinstance(refused.exception, UsageError)
    assert "did you mean 'svtr'" in str(refused.exception)


def test_the_classes_of_a_run_follow_from_its_charset(tiny_run, tiny_sets):
    store = tiny_run.parent / "digits.lmdb"
    command = ("train", "-p", "svtrv2-nano", *settings(tiny_sets), "--train", store)
    plan = json_of(*command, "--val", store, "--dry-run")
    assert plan["charset"].startswith("nordic, 126 classes")
    other = run(*command, "--val", store, "--dry-run", "--set", "charset=alphanumeric")
    assert isinstance(other.exception, DataError)
    assert "alphanumeric" in str(other.exception)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (
            "svtr-32x128",
            ["waste 6% of the pixels", "a square of 224 x 224 would waste 85%"],
        ),
        ("svtrv2-1024", ["waste 51% of the pixels", "sm86 = 768", "sm120 = 1536"]),
        ("mamba-320", ["padded to 320 px", 'name = "mamba"']),
    ],
)
def test_a_profile_shows_its_numbers_and_its_wasted_pixels(profile, expected):
    shown = printed("profiles", "show", profile)
    for words in expected:
        assert words in shown


def test_every_value_of_a_profile_shows_its_origin():
    profile = json_of("profiles", "show", "mamba-320", "--set", "train.lr=3e-4")
    assert profile["profile"]["train"]["lr"] == 3e-4
    assert profile["origins"]["train.lr"] == "--set"
    assert profile["origins"]["model.adapter_rank"] == "mamba-320.toml"
    assert profile["origins"]["charset"] == "base.toml"


def test_the_sizes_of_trocr_differ_in_network_adapters_length_and_resolution():
    sizes = []
    for name in ("trocr-tiny", "trocr-small", "trocr-dense"):
        profile = json_of("profiles", "show", name)["profile"]
        model, geometry = profile["model"], profile["geometry"]
        sizes.append(
            (
                model["lora_rank"],
                model["max_target_length"],
                geometry["height"],
                geometry["max_width"],
            )
        )
    assert sizes == [(4, 64, 32, 768), (8, 128, 48, 1280), (32, 384, 64, 2048)]


def test_coverage_shows_that_icelandic_needs_the_larger_charset():
    missing = {row["language"]: row["missing"] for row in _coverage("nordic")}
    assert missing["is"] == "ÁÉÍÓÚÝáéíóúý"
    extended = {row["language"]: row["missing"] for row in _coverage("nordic-ext")}
    assert [extended[language] for language in ("sv", "da", "is", "fi")] == [""] * 4


def _coverage(name):
    result = json_of("charset", "coverage", name)
    return [
        {"language": language, "missing": missing}
        for language, missing in result["missing"].items()
    ]


def test_the_commands_of_the_design_card_exist():
    shown = printed("--help")
    for command in (
        "prep",
        "train",
        "eval",
        "export",
        "build-engine",
        "bench",
        "compare3way",
    ):
        assert f" {command} " in shown
        assert f"Usage: nordocr {command}" in printed(command, "--help")
    names = {row["name"] for row in json_of("profiles", "list")}
    assert {"svtr-32x128", "svtrv2-768", "svtrv2-1024", "mamba-320"} <= names


def test_data_to_model_to_training_in_one_recipe(tmp_path, tiny_sets, monkeypatch):
    """prep, train and eval of the sample lines as a recipe's stages, each in a process."""
    monkeypatch.chdir(tmp_path)
    samples = Path(__file__).parents[2] / "samples" / "lines"
    sets = " ".join(f"--set '{value}'" for value in tiny_sets)
    (tmp_path / "recipe.toml").write_text(
        f"""
output = "work"

[[stage]]
name = "prepare"
run = "prep {samples} -o {{output}}/lines.lmdb -p svtrv2-nano {sets} --on-bad skip"
creates = ["{{output}}/lines.lmdb"]

[[stage]]
name = "train"
run = "train -p svtrv2-nano {sets} --train {{output}}/lines.lmdb --val {{output}}/lines.lmdb \
--run-dir {{output}}/run --max-steps 2 --threads 1 --set train.batch_size=8"
creates = ["{{output}}/run/best.safetensors"]

[[stage]]
name = "evaluate"
run = "eval {{output}}/run {{output}}/lines.lmdb -o {{output}}/eval --threads 1"
creates = ["{{output}}/eval/eval.json"]
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "nordocr_cli", "recipe", "recipe.toml", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)["results"]
    assert [stage["exit_code"] for stage in results] == [0, 0, 0]
    report = json.loads((tmp_path / "work" / "eval" / "eval.json").read_text("utf-8"))
    assert report["report"]["total"]["lines"] > 0
    assert (tmp_path / "work" / "recipe-report.md").is_file()


def test_mamba_runs_without_torchvision_and_mamba_ssm():
    """A process in which neither can be imported builds the network and gives frames."""
    program = (
        "import sys; sys.modules['torchvision'] = sys.modules['mamba_ssm'] = None\n"
        "import torch\n"
        "from nordocr_cli.models.registry import build_model\n"
        "from nordocr_cli.profile import load_profile\n"
        "profile = load_profile('mamba-320', ['model.layers=1']).profile\n"
        "with torch.no_grad():\n"
        "    out = build_model(profile.model, 126).eval()(torch.zeros(1, 3, 32, 64))\n"
        "print(tuple(out.shape))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 16, 126)", done.stderr


def test_other_scripts_are_shown_as_they_are(tmp_path):
    """Readings and labels of any script come out in the result, the table and the page, whatever
    the locale of the process.
    """
    readings = tmp_path / "readings.jsonl"
    lines = ["2024 års Årsredovisning", "Ведомость", "年度報告", "تقرير", "það ſ ﬁ"]
    readings.write_text(
        "".join(
            json.dumps({"id": str(n), "reference": text, "hypothesis": f"{text}x"}) + "\n"
            for n, text in enumerate(lines)
        ),
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "nordocr_cli", "eval", str(readings), "-o", "out"]
    command += ["--report", "page.html"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    shown = (done.stdout + done.stderr).decode("utf-8")
    saved = (tmp_path / "out" / "lines.jsonl").read_text(encoding="utf-8")
    for text in lines[:4]:
        assert text in saved
        last_word = text.split()[-1]
        assert last_word in page or json.dumps(last_word)[1:-1] in page
    assert "\ufffd" not in shown + saved + page
