"""Engine files: their names, their 64-byte header, and the JSON sidecar with everything else. An
engine cannot be opened without the GPU that it was built for, and a prefix with metadata would make
it unreadable for trtexec and C++. Everything that a loader needs is therefore in `ENGINE.json` next
to it, and the header is parsed here.
"""

import hashlib
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.artifact.probing import SIDECAR_SCHEMA
from nordocr_cli.artifact.sealing import read_sealed_json
from nordocr_cli.deploy.onnx_file import default_onnx_path
from nordocr_cli.errors import ArtifactError
from nordocr_cli.extras import install_line
from nordocr_cli.limits import read_regular
from nordocr_cli.profile import Profile
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import ARCHES, GpuArch

Backend = Literal["tensorrt-rtx", "tensorrt"]

# Each backend's Python module and what installs it.
MODULES: dict[Backend, str] = {"tensorrt-rtx": "tensorrt_rtx", "tensorrt": "tensorrt"}
INSTALL: dict[Backend, str] = {
    "tensorrt-rtx": f"{install_line('rtx')} (builds for sm75 to sm121 without a GPU)",
    "tensorrt": f"{install_line('tensorrt')} on the GPU host (it downloads from pypi.nvidia.com)",
}
HEADER_BYTES = 64
MAX_ENGINE_BYTES = 8 << 30
# Whether version-compatible engines may run the host code that they contain. The command line sets
# this with `--allow-engine-code`; a program that imports the package sets it around open_runner.
ENGINE_CODE_ALLOWED: ContextVar[bool] = ContextVar("engine_code_allowed", default=False)
_MAGICS: dict[bytes, Backend] = {b"vtrt": "tensorrt-rtx", b"ftrt": "tensorrt"}
_SUFFIXES: dict[Backend, str] = {"tensorrt-rtx": ".rtx.engine", "tensorrt": ".engine"}
# NVIDIA documents magic and version of classic engines (trtexec --getPlanVersionOnly). RTX's layout
# was derived from thirteen engines of 1.7.1 that differed in size and target. Its layout number is
# 2; engines with another number are not interpreted.
_RTX_LAYOUT = 2


@dataclass(frozen=True)
class EngineHeader:
    """The content of an engine's header. `size_bytes` and `arches` are None where the layout does
    not hold them.
    """

    backend: Backend
    version: str  # e.g. "1.7.1.116"
    size_bytes: int | None
    arches: tuple[str, ...] | None


def parse_header(data: bytes, what: str) -> EngineHeader:
    """Read the first 64 bytes of an engine. Raises ArtifactError when they are not the header of an
    engine.
    """
    backend = _MAGICS.get(data[:4])
    if backend is None or len(data) < HEADER_BYTES:
        raise ArtifactError(
            f"{what} is not a TensorRT engine (it begins with {data[:4]!r}, {len(data)} bytes);"
            " build it again"
        )
    version = ".".join(str(byte) for byte in data[24:28])
    if backend == "tensorrt" or int.from_bytes(data[8:16], "little") != _RTX_LAYOUT:
        return EngineHeader(backend, version, None, None)
    mask = int.from_bytes(data[32:36], "little")
    arches = tuple(
        arch.name for arch in ARCHES if arch.rtx_bit is not None and arch.rtx_bit & mask
    )
    return EngineHeader(backend, version, int.from_bytes(data[16:24], "little"), arches)


def check_header(
    path: Path, what: str, backend: Backend, version: str, arch: GpuArch
) -> EngineHeader:
    """Compare a written engine's header with what was built. Raises ArtifactError naming what
    differs.
    """
    try:
        with open(path, "rb") as file:
            header = parse_header(file.read(HEADER_BYTES), what)
    except OSError as error:
        raise ArtifactError(f"cannot read {what}: {error.strerror or error}") from error
    size = path.stat().st_size
    if header.size_bytes is not None and header.size_bytes != size:
        raise ArtifactError(
            f"{what} is cut or padded: {size} bytes, {header.size_bytes} by its header; build it"
            " again"
        )
    found: tuple[object, ...] = (header.backend, header.version)
    if found != (backend, version):
        raise ArtifactError(
            f"{what} is of {header.backend} {header.version}, not of {backend} {version}; build it"
            " again"
        )
    if header.arches is not None and arch.name not in header.arches:
        raise ArtifactError(
            f"{what} is built for {', '.join(header.arches) or 'no known GPU'}, not for {arch.name}"
        )
    return header


def suffix(backend: Backend) -> str:
    """Return `.rtx.engine`, so that nobody loads an RTX engine with nvinfer, or `.engine`."""
    return _SUFFIXES[backend]


def default_engine_path(onnx: Path, profile: Profile, arch: str, backend: Backend) -> Path:
    """Return where an engine is written: next to its ONNX as NAME_sm86.engine (`arch` may be
    `sm86+sm120`). For the profile's default ONNX it is the parent folder, as in the guide:
    models/svtrv2-1024/recognize_svtrv2.onnx gives models/recognize_svtrv2_1024_sm86.engine.
    """
    if onnx == default_onnx_path(profile):
        return (
            onnx.parent.parent
            / f"recognize_{profile.name.replace('-', '_')}_{arch}{suffix(backend)}"
        )
    return onnx.with_name(
        f"{onnx.name.removesuffix('.onnx').removesuffix('.fp16')}_{arch}{suffix(backend)}"
    )


def sidecar_path(engine: Path) -> Path:
    """Return `ENGINE.json`, next to the engine."""
    return Path(f"{engine}.json")


def read_sidecar(engine: Path) -> dict[str, Any]:
    """Return the sidecar of an engine after checking that it belongs to the engine's bytes. Raises
    as `read_engine` does.
    """
    return read_engine(engine)[1]


def read_engine(engine: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the bytes of an engine and its sidecar after checking both digests.

    The bytes are read once: the returned bytes are the checked ones, even when another process
    replaces the file in the meantime. Raises UsageError when there is no such regular file,
    ArtifactError when the sidecar is missing, either file is damaged, or the sidecar describes
    another engine.
    """
    path = sidecar_path(engine)
    if not path.is_file():
        raise ArtifactError(f"{engine} has no sidecar {path.name}; build the engine again")
    value = read_sealed_json(path, f"sidecar of {engine.name}", SIDECAR_SCHEMA)
    try:
        expected = str(value["engine"]["sha256"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{path} holds no sha256 of its engine ({error!r}); build the engine again"
        ) from None

    content = read_regular(engine, MAX_ENGINE_BYTES, "engine")
    if hashlib.sha256(content).hexdigest() != expected:
        raise ArtifactError(
            f"{engine} is not the engine that {path.name} describes (another sha256); build it"
            " again"
        )
    return content, value
