"""TensorRT engines: everything that can be checked of one without running it.

Engines are not run yet: running one has never been tried on a GPU of ours, and untried code that returns text would be worse
than none. `open_engine` verifies the file and then says so.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nordocr_cli.artifact import Contract, contract_from_json
from nordocr_cli.deploy.engine_file import INSTALL, MODULES, Backend, read_sidecar, sidecar_path
from nordocr_cli.deploy.gpu_arch import local_arch
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError


@dataclass(frozen=True)
class VerifiedEngine:
    """An engine whose bytes are those that its sidecar was written for; `arch` is the GPU's name, e.g. `sm120`, or several as
    `sm86+sm120`."""

    path: Path
    contract: Contract
    backend: Backend
    version: str
    arch: str


def verify_engine(path: Path) -> VerifiedEngine:
    """Check that an engine has its sidecar, a contract, and the bytes that the sidecar was written for.

    An engine is a program: nothing of it is used before its hash is right. Raises UsageError when there is no such file and
    ArtifactError naming what does not hold.
    """
    if not path.is_file():
        raise UsageError(f"no engine {path}")
    value, what = read_sidecar(path), str(sidecar_path(path))
    contract = contract_from_json(value.get("contract"), what)
    backend: Backend
    match value.get("backend"):
        case "tensorrt-rtx" | "tensorrt" as backend:
            pass
        case unknown:
            raise ArtifactError(f"{what}: unknown backend {unknown!r}; build the engine again")
    try:
        return VerifiedEngine(path, contract, backend, str(value["version"]), "+".join(value.get("arches") or [value["arch"]]))
    except KeyError as error:
        raise ArtifactError(f"{what} has no {error}; build the engine again") from None


def open_engine(path: Path) -> NoReturn:
    """Verify an engine, then say what keeps it from running here.

    Raises what verify_engine raises, and MissingBackendError otherwise: with the install line when the library is missing,
    and with the engine that this GPU needs when this one was built for another.
    """
    engine = verify_engine(path)
    if importlib.util.find_spec(MODULES[engine.backend]) is None:
        raise MissingBackendError(f"{path} needs {engine.backend} {engine.version}: {INSTALL[engine.backend]}")
    here = local_arch()
    if here is None:
        raise MissingBackendError(
            f"{path} is intact but cannot run: no NVIDIA GPU answers here (it is built for {engine.arch}); use the .onnx here"
        )
    if here.name not in engine.arch.split("+"):
        raise MissingBackendError(f"{path} is built for {engine.arch}, this GPU is {here.name}: build it with --arch {here.name}")
    raise MissingBackendError(f"{path} is intact, but this nordocr does not run engines yet; use the .onnx, or the pipeline")
