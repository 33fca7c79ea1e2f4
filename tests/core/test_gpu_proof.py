"""The proof on a GPU, tried on a CPU: its pack, its steps at a tiny scale, and that every branch for
GPUs in the package has a step that runs it.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from gpu_branches import gpu_branches

import nordocr_cli
from nordocr_cli.core.gpu_proof import run as proof_run
from nordocr_cli.core.gpu_proof.branches import BRANCHES, branch_status
from nordocr_cli.core.gpu_proof.plan import STEPS, ProofStep, plan_proof
from nordocr_cli.core.gpu_proof.run import run_proof
from nordocr_cli.core.gpu_proof.steps import RUN
from nordocr_cli.core.gpu_proof.targets import targets
from nordocr_cli.errors import UsageError

ROOT = Path(__file__).parents[2]
PACKAGE = Path(nordocr_cli.__file__).parent
POPEN = subprocess.Popen
FULL = os.environ.get("NORDOCR_FULL_PROOF")


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("travels") / "gpu"
    command = [sys.executable, ROOT / "scripts" / "on_gpu.py", "pack", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_branch_for_gpus_has_a_step_that_runs_it():
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        if not name.startswith("core/gpu_proof/"):
            found |= gpu_branches(path, name)
    table = "core/gpu_proof/branches.py"
    assert found - BRANCHES.keys() == set(), f"name the steps that run them in {table}"
    assert BRANCHES.keys() - found == set(), f"no longer in the source: remove from {table}"
    steps = {step.name for step in STEPS}
    assert {step for names in BRANCHES.values() for step in names} <= steps


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("torch.cuda.synchronize()", "torch.cuda.synchronize"),
        ("if device.type == 'cuda': pass", "device.type == 'cuda'"),
        ("AdamW(p, fused=True)", "fused=True"),
        ("x.to(d, non_blocking=True)", "non_blocking=True"),
        ("batch.pin_memory()", "batch.pin_memory"),
        ("torch.compile(m, mode='reduce-overhead')", "reduce-overhead"),
        ("torch.cuda.Stream()", "torch.cuda.Stream"),
        ("torch.cuda.CUDAGraph()", "torch.cuda.CUDAGraph"),
        ("if x.is_cuda: pass", "x.is_cuda"),
        ("'CUDA graphs of the device'", ""),
    ],
)
def test_a_new_branch_for_gpus_is_found(tmp_path, code, expected):
    path = tmp_path / "new.py"
    path.write_text(f"def run(x):\n    {code}\n", encoding="utf-8")
    found = gpu_branches(path, "new.py")
    assert found == ({f"new.py:run: {expected}"} if expected else set())


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
def folder(tmp_path):
    """What a plan looks for in the folder that travels; the steps here need no more."""
    for store in ("train.lmdb", "dev.lmdb", "short.lmdb"):
        (tmp_path / "gpu" / store).mkdir(parents=True)
        (tmp_path / "gpu" / store / "data.mdb").touch()
    return tmp_path / "gpu"


@pytest.fixture
def stepped(folder, tmp_path, monkeypatch):
    """A plan of steps that are programs given as text; the worker is replaced by them."""

    def make(programs, minutes=1.0, limit_s=30, **options):
        steps = tuple(ProofStep(name, name, limit_s, alone=False) for name in programs)

        def start(command, **settings):
            name, file = command[-2:]
            program = f"FILE = {file!r}\n{programs[name]}"
            return POPEN([sys.executable, "-c", program], **settings)

        monkeypatch.setattr(proof_run.subprocess, "Popen", start)
        return proof_run.ProofPlan(
            folder, tmp_path / "proof.json", steps, "cpu", minutes, tiny=False, **options
        )

    return make


WRITES = "import json; json.dump({'result': {'n': 1}}, open(FILE, 'w'))"


def test_a_step_that_hangs_is_ended_and_the_next_one_runs(stepped):
    plan = stepped({"hangs": "import time; time.sleep(60)", "writes": WRITES}, limit_s=6)
    began = time.monotonic()
    result = run_proof(plan)
    assert time.monotonic() - began < 55
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


def test_what_a_step_had_found_is_kept_when_it_runs_out_of_time(stepped):
    hangs = "import json, time; json.dump({'partial': {'n': 1}}, open(FILE, 'w')); " + (
        "time.sleep(60)"
    )
    result = run_proof(stepped({"hangs": hangs}, limit_s=6))
    step = result.value["steps"][0]
    assert (step["status"], step["result"]) == ("timed out", {"n": 1})


def test_a_proof_is_resumed_with_the_steps_that_are_missing(stepped, tmp_path):
    marks = f"open({str(tmp_path / 'ran')!r}, 'a').write('x'); {WRITES}"
    assert run_proof(stepped({"writes": marks, "dies": "1 / 0"})).failed == ["dies"]
    result = run_proof(stepped({"writes": marks, "dies": WRITES}, resume=True))
    assert [step["status"] for step in result.value["steps"]] == ["ok", "ok"]
    assert (tmp_path / "ran").read_text() == "x"


def test_a_proof_of_another_device_is_not_resumed(stepped, tmp_path):
    run_proof(stepped({"writes": WRITES}))
    other = json.loads((tmp_path / "proof.json").read_text()) | {"device": "cuda"}
    (tmp_path / "proof.json").write_text(json.dumps(other))
    with pytest.raises(UsageError, match="not a proof with device 'cpu'"):
        run_proof(stepped({"writes": WRITES}, resume=True))


def test_steps_without_timings_run_at_the_same_time(stepped):
    waits = f"import time; time.sleep(4); {WRITES}"
    began = time.monotonic()
    result = run_proof(stepped({"one": waits, "two": waits, "three": waits}, at_once=3))
    assert [step["name"] for step in result.value["steps"]] == ["one", "two", "three"]
    assert result.failed == []
    spent = [step["seconds"] for step in result.value["steps"]]
    assert time.monotonic() - began < sum(spent)


def test_a_stopped_proof_ends_its_step_and_keeps_what_it_had(pack, tmp_path):
    """As on a machine that is taken back in the middle."""
    output = tmp_path / "proof.json"
    command = [sys.executable, pack / "on_gpu.py", "run", "--tiny", "--device", "cpu"]
    command += ["-o", output, "--only", "tensorrt", "--only", "train_losses"]
    process = subprocess.Popen(list(map(str, command)), cwd=tmp_path)
    step = tmp_path / "proof" / "train_losses.step.json"
    deadline = time.monotonic() + 120
    while not step.is_file() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1.0)
    process.terminate()
    assert process.wait(timeout=60) == 130
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(step) not in running
    assert json.loads(output.read_text(encoding="utf-8"))["device"] == "cpu"


def test_no_step_begins_without_time(stepped):
    result = run_proof(stepped({"writes": WRITES}, minutes=0.01))
    assert result.value["steps"][0]["status"] == "skipped"
    assert result.value["steps"][0]["reason"] == "no time left"


def test_targets_are_judged_from_the_steps():
    speed = {
        "eager": {"share_of_peak": 0.21, "data_wait": 0.01},
        "compiled": {"share_of_peak": 0.34, "data_wait": 0.06},
    }
    network = {"bf16": {"share_of_peak": 0.3}, "fp16 compiled": {"share_of_peak": 0.42}}
    engine_rows = [
        {"backend": "onnxruntime", "same_text": 448, "lines": 448},
        {"backend": "tensorrt", "same_text": 447, "lines": 448},
    ]
    steps = [
        {"name": "train_speed", "status": "ok", "result": speed},
        {"name": "loader", "status": "ok", "result": {"batches_per_s": 1200}},
        {"name": "inference", "status": "timed out", "result": {"network": network}},
        {"name": "tensorrt_rtx", "status": "ok", "result": {"rows": engine_rows}},
        {"name": "recipe", "status": "failed", "reason": "x"},
    ]
    met = {target["what"]: target["met"] for target in targets(steps)}
    assert met == {
        "training share of peak, compiled": False,
        "training share of peak, eager": True,
        "loader batches a second": True,
        "inference fp16 share of peak": True,
        "engine's texts as ONNX Runtime's": False,  # 447 of 448 are 99.8 %
        "data wait": False,
        "svtrv2-1024 beats the shipped recognizer on dev": None,
    }


def test_a_branch_counts_as_run_when_one_of_its_steps_ended_well():
    branch = "data/batches.py:LineBatches._load: images.pin_memory"
    assert BRANCHES[branch] == ("loader", "train_speed")
    steps = [
        {"name": "loader", "status": "failed"},
        {"name": "train_speed", "status": "ok"},
    ]
    assert branch_status(steps)[branch] == "run"
    assert branch_status(steps[:1])[branch] == "failed"
    assert branch_status([])[branch] == "not run"


def test_a_wrong_step_or_folder_is_named(folder, tmp_path):
    with pytest.raises(UsageError, match="unknown step 'resum'.*'resume'"):
        plan_proof(folder, tmp_path / "p.json", only=["resum"])
    with pytest.raises(UsageError, match=r"holds no train\.lmdb; make it with"):
        plan_proof(tmp_path, tmp_path / "p.json")
