"""The proof on a GPU, tried on a CPU: its pack, its steps at a tiny scale, and that every branch for
GPUs in the package has a step that runs it.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nordocr_cli
from nordocr_cli.core.gpu_proof import run as proof_run
from nordocr_cli.core.gpu_proof.plan import BRANCHES, STEPS, Step, plan_proof
from nordocr_cli.core.gpu_proof.run import run_proof, targets
from nordocr_cli.core.gpu_proof.steps import RUN
from nordocr_cli.errors import UsageError

ROOT = Path(__file__).parents[2]
PACKAGE = Path(nordocr_cli.__file__).parent
# What makes code a branch for GPUs: CUDA calls, streams, graphs, pinned memory, fused optimizers,
# and everything that asks for the kind of a device.
BRANCH = re.compile(
    r"torch\.cuda|torch\.backends\.cuda|(?:type|kind) [!=]= .cuda|GradScaler|reduce-overhead"
    r"|CUDAGraph|cuda_graph|cuda\.stream|pin_memory|pin=|\bfused=|non_blocking|\.is_cuda"
    r"|CUDAExecutionProvider|libcuda|nccl"
)
# Files that speak of GPUs and run nothing on one.
NO_BRANCH = {"settings.py", "core/gpu_proof/measure.py", "core/gpu_proof/steps.py"}
FULL = os.environ.get("NORDOCR_FULL_PROOF")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("travels") / "gpu"
    command = [sys.executable, ROOT / "scripts" / "on_gpu.py", "pack", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def code_lines(path):
    """The lines of a module with their numbers, comments left out."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        code = line.split("#", 1)[0]
        if code.strip():
            yield number, code


def test_every_branch_for_gpus_has_a_step_that_runs_it():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        lines = [
            f"{name}:{number}" for number, code in code_lines(path) if BRANCH.search(code)
        ]
        if lines and name not in NO_BRANCH:
            found[name] = lines
    without = {name: lines for name, lines in found.items() if name not in BRANCHES}
    assert without == {}, "name the step that runs them in core/gpu_proof/plan.py, BRANCHES"
    steps = {step.name for step in STEPS}
    assert {step for names in BRANCHES.values() for step in names} <= steps
    assert [name for name in BRANCHES if not (PACKAGE / name).is_file()] == []


def test_every_step_has_its_function():
    assert [step.name for step in STEPS] == list(RUN)


def test_the_pack_travels_within_its_limit(pack):
    size = sum(path.stat().st_size for path in pack.rglob("*") if path.is_file())
    assert size < 60e6
    for name in ("on_gpu.py", "train.lmdb", "dev.lmdb", "short.lmdb", "source/nordocr_cli"):
        assert (pack / name).exists()


def run_pack(pack, output, *arguments):
    """Run the proof from the folder, on a CPU at a tiny scale, as on a machine without the
    repository.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [
        sys.executable,
        pack / "on_gpu.py",
        "run",
        "--tiny",
        "--device",
        "cpu",
        "-o",
        output,
    ]
    return subprocess.run(
        [*map(str, command), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=output.parent,
    )


def test_the_steps_run_from_the_folder_on_a_cpu(pack, tmp_path):
    """All steps with NORDOCR_FULL_PROOF=1, which takes minutes; else those of a few seconds, and
    those that a CPU skips.
    """
    quick = ("environment", "loader", "tensorrt", "tensorrt_rtx", "data_rates")
    only = () if FULL else tuple(flag for name in quick for flag in ("--only", name))
    done = run_pack(pack, tmp_path / "proof.json", "--minutes", "60", *only)
    value = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    status = {step["name"]: (step["status"], step.get("reason")) for step in value["steps"]}
    assert done.returncode == 0, (status, done.stderr)
    assert set(status) == ({step.name for step in STEPS} if FULL else set(quick))
    assert status["tensorrt"][0] == status["tensorrt_rtx"][0] == "skipped"
    assert all(reason for state, reason in status.values() if state == "skipped")
    known = {step["name"]: step.get("result") for step in value["steps"]}
    assert known["environment"]["peak_tflops"]["fp32"] > 0
    assert known["loader"]["batches_per_s"] > 0
    assert known["data_rates"]["prep_lines_per_s"] > 0
    assert {target["what"] for target in value["targets"]} >= {
        "data wait",
        "loader batches a second",
    }


@pytest.fixture
def stepped(pack, tmp_path, monkeypatch):
    """A plan of steps that are programs given as text; the worker is replaced by them."""

    def make(programs, minutes=1.0, limit_s=30):
        steps = tuple(Step(name, name, limit_s) for name in programs)
        plan = plan_proof(pack, tmp_path / "proof.json", device="cpu", minutes=minutes)
        started = subprocess.Popen

        def start(command, **options):
            name, file = command[-2:]
            program = f"FILE = {file!r}\n{programs[name]}"
            return started([sys.executable, "-c", program], **options)

        monkeypatch.setattr(proof_run.subprocess, "Popen", start)
        return proof_run.ProofPlan(
            plan.folder, plan.output, steps, "cpu", minutes, tiny=False
        )

    return make


WRITES = "import json; json.dump({'result': {'n': 1}}, open(FILE, 'w'))"


def test_a_step_that_hangs_is_ended_and_the_next_one_runs(stepped):
    plan = stepped({"hangs": "import time; time.sleep(60)", "writes": WRITES}, limit_s=6)
    began = time.monotonic()
    result = run_proof(plan)
    assert time.monotonic() - began < 30
    assert [step["status"] for step in result.value["steps"]] == ["timed out", "ok"]
    assert "over its limit of 6 s" in result.value["steps"][0]["reason"]
    assert result.failed == ["hangs"]


def test_a_step_that_dies_says_so_and_what_was_done_is_kept(stepped):
    seen = "import json, pathlib; p = pathlib.Path(FILE).parent.with_suffix('.json')"
    dies = (
        f"{seen}; assert json.loads(p.read_text())['steps'][0]['name'] == 'writes'; 1 / 0"
    )
    result = run_proof(stepped({"writes": WRITES, "dies": dies}))
    assert [step["status"] for step in result.value["steps"]] == ["ok", "failed"]
    assert "ZeroDivisionError" in result.value["steps"][1]["reason"]
    assert json.loads(result.output.read_text(encoding="utf-8")) == result.to_json()


def test_no_step_begins_without_time(stepped):
    result = run_proof(stepped({"writes": WRITES}, minutes=0.01))
    assert result.value["steps"][0]["status"] == "skipped"
    assert result.value["steps"][0]["reason"] == "no time left"


def test_targets_are_judged_from_the_steps():
    speed = {
        "eager": {"share_of_peak": 0.21, "data_wait": 0.01},
        "compiled": {"share_of_peak": 0.34, "data_wait": 0.06},
    }
    engine_rows = [
        {"backend": "onnxruntime", "same_text": 448, "lines": 448},
        {"backend": "tensorrt", "same_text": 447, "lines": 448},
    ]
    steps = [
        {"name": "train_speed", "status": "ok", "result": speed},
        {"name": "loader", "status": "ok", "result": {"batches_per_s": 1200}},
        {"name": "tensorrt_rtx", "status": "ok", "result": {"rows": engine_rows}},
        {"name": "recipe", "status": "failed", "reason": "x"},
    ]
    met = {target["what"]: target["met"] for target in targets(steps)}
    assert met == {
        "training share of peak, compiled": False,
        "training share of peak, eager": True,
        "loader batches a second": True,
        "inference fp16 share of peak": None,
        "engine's texts as ONNX Runtime's": False,  # 447 of 448 are 99.8 %
        "data wait": False,
        "svtrv2-1024 beats the shipped recognizer on dev": None,
    }


def test_a_wrong_step_or_folder_is_named(pack, tmp_path):
    with pytest.raises(UsageError, match="unknown step 'resum'.*'resume'"):
        plan_proof(pack, tmp_path / "p.json", only=["resum"])
    with pytest.raises(UsageError, match=r"holds no train\.lmdb; make it with"):
        plan_proof(tmp_path, tmp_path / "p.json")
