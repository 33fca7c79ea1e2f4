"""TensorRT engines: everything that can be checked of one without running it.

Engines are not run yet: running one has never been tried on a GPU of ours, and untried code that returns text would be worse
than none. `open_engine` verifies the file and then says so.
"""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from nordocr_cli.artifact import Contract, read_contract
from nordocr_cli.atomic import sha256_of
from nordocr_cli.deploy.gpu_arch import local_arch
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError

_LIBRARY = {"tensorrt": ("tensorrt", "pip install -e '.[tensorrt]'"), "tensorrt-rtx": ("tensorrt_rtx", "pip install -e '.[rtx]'")}


@dataclass(frozen=True)
class VerifiedEngine:
    """An engine whose bytes are those that its sidecar was written for. `arches` are GPU names such as `sm120`."""

    path: Path
    contract: Contract
    backend: str
    backend_version: str
    arches: tuple[str, ...]


def verify_engine(path: Path) -> VerifiedEngine:
    """Check that an engine has its sidecar, a contract, and the bytes that the sidecar was written for.

    An engine is a program: nothing of it is read before its hash is right. Raises UsageError when there is no such file and
    ArtifactError naming what does not hold.
    """
    if not path.is_file():
        raise UsageError(f"no engine {path}")
    contract = read_contract(path)
    sidecar = Path(f"{path}.json")
    value: Mapping[str, Any] = json.loads(sidecar.read_text(encoding="utf-8"))
    try:
        engine = VerifiedEngine(
            path, contract, str(value["backend"]), str(value["backend_version"]), tuple(str(arch) for arch in value["arches"])
        )
        wanted = str(value["engine_sha256"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{sidecar}: damaged sidecar ({error}); build the engine again") from None
    if sha256_of(path) != wanted:
        raise ArtifactError(f"{path} is not the file that its sidecar describes (sha256 differs); build the engine again")
    return engine


def open_engine(path: Path) -> NoReturn:
    """Verify an engine, then say what keeps it from running here.

    Raises what verify_engine raises, ArtifactError for a backend that is not known, and MissingBackendError otherwise: with the
    install line when the library is missing, and with the engine that this GPU needs when it was built for another.
    """
    engine = verify_engine(path)
    if engine.backend not in _LIBRARY:
        raise ArtifactError(f"{path}: unknown backend {engine.backend!r} in its sidecar")
    module, install = _LIBRARY[engine.backend]
    if importlib.util.find_spec(module) is None:
        raise MissingBackendError(f"{path} needs {engine.backend} {engine.backend_version}: {install}")
    built_for = ", ".join(engine.arches)
    here = local_arch()
    if here is None:
        raise MissingBackendError(
            f"{path} is verified but cannot run: no NVIDIA GPU answers here (built for {built_for}); use the .onnx here"
        )
    if here.name not in engine.arches:
        raise MissingBackendError(
            f"{path} is built for {built_for}, this GPU is {here.name}: nordocr build-engine MODEL.onnx --arch {here.name}"
        )
    raise MissingBackendError(f"{path} is verified, but this nordocr does not run engines yet; use the .onnx, or the pipeline")
