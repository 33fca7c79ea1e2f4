"""`nordocr doctor`: what is missing, for which job, and what fixes it."""

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import pytest

from nordocr_cli import extras
from nordocr_cli.core import doctor
from nordocr_cli.core.doctor import JOBS, Finding, diagnose, require, time_training
from nordocr_cli.errors import MissingBackendError, UsageError

ROOT = Path(__file__).parents[2]
REAL_VERSION = importlib.metadata.version


def without(monkeypatch, *names):
    def version(name):
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return REAL_VERSION(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)


def found(what, findings=None):
    (finding,) = [f for f in findings or diagnose() if f.what == what]
    return finding


def test_a_missing_extra_is_optional_and_names_its_install_line(monkeypatch):
    without(monkeypatch, "torch", "pypdfium2")
    torch, pdf = found("torch"), found("pypdfium2")
    assert (torch.mark, "[train]" in torch.advice) == ("–", True)
    assert (pdf.mark, pdf.needed) == ("✗", True)


@pytest.mark.parametrize(
    ("job", "missing", "named"),
    [
        ("train", "torch", "torch"),
        ("export", "onnxsim", "onnxsim"),
        ("read", "pypdfium2", "pypdfium2"),
        ("build-engine", "tensorrt-rtx", "TensorRT"),
    ],
)
def test_a_job_that_is_not_possible_ends_with_what_fixes_it(
    monkeypatch, job, missing, named
):
    without(monkeypatch, missing, "tensorrt")
    with pytest.raises(MissingBackendError, match=named) as raised:
        require(job, diagnose())
    assert "pip install" in raised.value.hint


def test_every_job_asks_for_things_that_are_looked_at():
    looked_at = {finding.what for finding in diagnose()}
    assert {name for needs in JOBS.values() for name in needs} <= looked_at
    with pytest.raises(UsageError, match="did you mean 'train'"):
        require("trian", [])


def test_clone_and_wheel_have_install_lines_of_their_own(monkeypatch, tmp_path):
    assert extras.install_line("train") == "pip install -e '.[train]'"
    monkeypatch.setattr(extras, "_PACKAGE", tmp_path / "site-packages" / "nordocr_cli")
    assert extras.install_line("train") == "pip install 'nordocr-cli[train]'"


def test_install_lines_name_extras_that_exist():
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for path in Path(extras.__file__).parent.rglob("*.py")
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = set(project["project"]["optional-dependencies"])
    named = set(re.findall(r"install_line\([\"'](\w+)[\"']\)", source))
    assert named | set(extras.EXTRA_OF.values()) <= known
    # An install line that is written by hand is wrong in a clone or in an installed package.
    assert set(re.findall(r"nordocr-cli\[(\w+)\]", source)) == set()


@pytest.mark.parametrize(
    ("folder", "advice"),
    [
        ("/opt/trt/", "trailing slash"),
        ("C:\\trt", "forward slashes"),
        ("/nowhere", "no such"),
    ],
)
def test_values_of_tensorrt_lib_dir_that_fail_silently_are_named(
    monkeypatch, folder, advice
):
    monkeypatch.setenv("TENSORRT_LIB_DIR", folder)
    assert advice in found("TENSORRT_LIB_DIR").advice


def test_variables_that_are_set_are_shown_but_no_secret(monkeypatch):
    monkeypatch.setenv("NORDOCR_THREADS", "3")
    monkeypatch.setenv("NORDOCR_TOKEN", "a-secret-of-many-letters")
    findings = diagnose()
    assert found("NORDOCR_THREADS", findings).found == "3"
    assert found("NORDOCR_TOKEN", findings).found == "set"
    assert "a-secret" not in json.dumps([f.to_json() for f in findings])


def test_usage_reports_of_libraries_are_off():
    assert found("telemetry").ok


def test_a_busy_machine_is_told(monkeypatch):
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert "--threads" in found("CPU").advice


def test_torch_for_cuda_without_a_gpu_and_the_reverse(monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name: "1.0")
    monkeypatch.setattr(doctor, "_gpu", lambda: Finding("NVIDIA GPU", False, "none"))
    (large,) = doctor._torch_for_a_gpu()
    assert "gigabytes smaller" in large.advice
    monkeypatch.setattr(
        doctor, "_installed", lambda n: "2.13+cpu" if n == "torch" else None
    )
    monkeypatch.setattr(doctor, "_gpu", lambda: Finding("NVIDIA GPU", True, "L40S"))
    (slow,) = doctor._torch_for_a_gpu()
    assert not slow.ok


def test_a_training_step_is_timed():
    timed = time_training(device="cpu")
    assert timed.device == "cpu"
    assert timed.step_s == pytest.approx(timed.batch_size / timed.lines_per_s)
    assert 0 <= timed.data_wait <= 1
    assert timed.advice
