"""The example hosts read every golden line as this package does."""

import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.artifact.shipped import DEFAULT_MODEL, SHIPPED
from nordocr_cli.deploy.golden import golden_crops, write_golden
from nordocr_cli.runtime.runners import open_runner

ROOT = Path(__file__).parents[2]
HOSTS = ROOT / "examples" / "host"
MODEL = SHIPPED / f"{DEFAULT_MODEL}.onnx"


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """Golden lines of the shipped recognizer: drawn ones, and crops of real size."""
    folder = tmp_path_factory.mktemp("golden") / "model.golden"
    crops = golden_crops(6) + golden_crops(10, ROOT / "samples" / "lines" / "images")
    write_golden(MODEL, open_runner(MODEL, device="cpu", threads=1).run, crops, folder)
    return folder


def run(*command):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def library():
    """The library of the ONNX Runtime that is installed, without importing it."""
    spec = find_spec("onnxruntime")
    folder = Path(spec.origin).parent / "capi" if spec and spec.origin else Path("nowhere")
    return next(folder.glob("libonnxruntime.so.*"), None)


def documented_command(library_folder):
    """The line of docs/contract.md that compiles the Rust host."""
    page = (HOSTS.parents[1] / "docs" / "contract.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.strip().startswith("rustc")]
    with_folder = line.replace("DIR", str(library_folder))
    return shlex.split(with_folder.replace("examples/host", str(HOSTS)))


@pytest.fixture(scope="module")
def rust_host(tmp_path_factory):
    """The Rust host, compiled by rustc alone: crates.io is not needed."""
    found = library()
    if shutil.which("rustc") is None or found is None:
        pytest.skip("rustc or libonnxruntime.so is not installed")
    folder = tmp_path_factory.mktemp("rust")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / name).symlink_to(found)
    program = folder / "prove"
    compiled = run(*documented_command(folder), "-o", program)
    assert compiled.returncode == 0, compiled.stderr
    assert not compiled.stderr, "the example compiles without warnings"
    return program


def test_the_python_host_reads_every_golden_line(golden):
    done = run(sys.executable, HOSTS / "host.py", MODEL, golden)
    assert (done.returncode, done.stderr) == (0, "")
    assert "17 cases, 0 wrong" in done.stdout


def test_the_rust_host_reads_every_golden_line(rust_host, golden):
    done = run(rust_host, MODEL, golden)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "20 lines, 0 cases wrong" in done.stdout


def spoil_bytes(path):
    content = np.fromfile(path, np.uint8)
    (~content).tofile(path)


def spoil_text(path):
    """Change the first letter of a text that stands there."""
    content = path.read_text(encoding="utf-8")
    assert "Verksamheten" in content
    path.write_text(content.replace("Verksamheten", "verksamheten"), encoding="utf-8")


@pytest.mark.parametrize(
    ("host", "name", "spoil"),
    [
        ("python", "008.input.bin", spoil_bytes),
        ("python", "008.logits.bin", spoil_bytes),
        ("python", "golden.json", spoil_text),
        ("rust", "008.rgb", spoil_bytes),
        ("rust", "008.logits.bin", spoil_bytes),
        ("rust", "golden.tsv", spoil_text),
    ],
)
def test_the_proof_sees_what_is_wrong(host, name, spoil, request, golden, tmp_path):
    folder = tmp_path / "model.golden"
    shutil.copytree(golden, folder)
    spoil(folder / name)
    program = (sys.executable, HOSTS / "host.py")
    if host == "rust":
        program = (request.getfixturevalue("rust_host"),)
    done = run(*program, MODEL, folder)
    assert done.returncode != 0
    assert "WRONG" in done.stdout


@pytest.mark.parametrize("name", ["host.py", "host.rs", "onnxruntime.rs", "prove.rs"])
def test_a_host_is_short(name):
    assert len((HOSTS / name).read_text(encoding="utf-8").splitlines()) <= 150


def test_the_hosts_know_nothing_of_this_package():
    source = (HOSTS / "host.py").read_text(encoding="utf-8")
    assert "import nordocr" not in source
    assert "from nordocr" not in source
