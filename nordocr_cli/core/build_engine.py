"""ONNX → one engine per GPU architecture, each with a sidecar that says what it is."""

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import nordocr_cli
from nordocr_cli.artifact import Contract, read_contract
from nordocr_cli.atomic import replacing, sha256_of, write_json
from nordocr_cli.deploy.consumer import ConsumerConfig
from nordocr_cli.deploy.engine_builder import Built, build, choose_backend, require_backend
from nordocr_cli.deploy.engine_file import SIDECAR_SCHEMA, Backend, check_header, default_engine_path, sidecar_path, suffix
from nordocr_cli.deploy.gpu_arch import GpuArch, parse_arches
from nordocr_cli.deploy.onnx_file import OnnxFile, default_onnx_path, fp16_sibling, inspect_onnx
from nordocr_cli.deploy.trtexec import TrtVersion, trtexec_command
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Engine, Profile, load_profile, profile_from_json
from nordocr_cli.progress import SILENT, Progress

DEFAULT_PROFILE = "svtrv2-1024"
CLASSIC_NOTE = "a host on classic TensorRT, as the Rust pipeline is, builds its own on its GPU"
_NARROWEST_PX = 32  # the guide's least width (001-40): narrower lines are padded to it
_WIDE_PX = 768  # from here on unfused fp32 attention takes gigabytes


@dataclass(frozen=True)
class EnginePlan:
    """One engine to build. `ranges` holds batch and width at their least, usual and greatest, and the precision."""

    arch: GpuArch
    onnx: Path
    engine: Path
    backend: Backend
    ranges: Engine
    geometry: Geometry
    profile: str

    def trtexec(self, version: TrtVersion = "10") -> str:
        """Return the trtexec command that builds this engine with classic TensorRT on a host with that GPU."""
        classic = self.engine.with_name(self.engine.name.removesuffix(suffix("tensorrt-rtx")) + suffix("tensorrt"))
        target = classic if self.backend == "tensorrt-rtx" else self.engine
        return trtexec_command(self.onnx, target, self.ranges, self.geometry.height, version)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "arch": self.arch.name,
            "gpu": str(self.arch),
            "onnx": str(self.onnx),
            "engine": str(self.engine),
            "backend": self.backend,
            "profile": self.profile,
            **self.ranges.model_dump(),
        }


@dataclass(frozen=True)
class EngineResult:
    """One engine as written."""

    plan: EnginePlan
    onnx: OnnxFile
    version: str
    size_bytes: int
    sha256: str
    built: Built

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values: the sidecar's content, and where both files are."""
        paths = {"path": str(self.plan.engine), "sidecar": str(sidecar_path(self.plan.engine))}
        more = {"consumer_config": self.consumer_config(), "classic_tensorrt": self.classic_tensorrt()}
        return {**paths, **self.sidecar(), **more}

    def classic_tensorrt(self) -> dict[str, str] | None:
        """Return what a host on classic TensorRT does instead, and the command; None where this engine is a classic one."""
        if self.plan.backend == "tensorrt":
            return None
        command = ["nordocr", "build-engine", "--backend", "tensorrt", "--arch", self.plan.arch.name, str(self.plan.onnx)]
        return {"note": CLASSIC_NOTE, "command": shlex.join(command)}

    def consumer_config(self) -> dict[str, Any] | None:
        """Return the keys of the Rust pipeline's `--config` JSON that name this engine; None for RTX, which it cannot load."""
        if self.plan.backend != "tensorrt":
            return None
        plan, ranges, geometry = self.plan, self.plan.ranges, self.plan.geometry
        return ConsumerConfig(
            engine_path=plan.engine.as_posix(),
            arch=plan.arch.name,
            precision=self.onnx.precision,
            max_batch=ranges.max_batch,
            height=geometry.height,
            max_width=ranges.max_width,
            line_width=geometry.max_width,
            stride=geometry.stride,
        ).to_json()

    def row(self) -> tuple[str, ...]:
        """Return the cells of one row: engine, GPU, MB, precision, ranges, memory that an execution context reserves."""
        ranges, memory = self.plan.ranges, self.built.activation_bytes
        shapes = (f"{getattr(ranges, f'{end}_batch')}x{getattr(ranges, f'{end}_width')}" for end in ("min", "opt", "max"))
        size, reserved = f"{self.size_bytes / 1e6:.1f}", f"{memory / 1e9:.2f} GB" if memory is not None else "not told"
        return str(self.plan.engine), str(self.plan.arch), size, self.onnx.precision, ", ".join(shapes), reserved

    def sidecar(self) -> dict[str, Any]:
        """Return what the JSON beside the engine says."""
        plan, built = self.plan, self.built
        tensors = {"inputs": built.inputs, "outputs": built.outputs}
        return {
            "schema": SIDECAR_SCHEMA,
            "engine": {"name": plan.engine.name, "sha256": self.sha256, "size_bytes": self.size_bytes},
            "onnx": {"name": self.onnx.path.name, "sha256": self.onnx.sha256, "opset": self.onnx.opset},
            "arch": plan.arch.name,
            "backend": plan.backend,
            "version": self.version,
            "requires": {"run_time": plan.backend, "version": self.version, "gpu": str(plan.arch)},
            "precision": self.onnx.precision,
            "ranges": {
                end: {
                    "batch": getattr(plan.ranges, f"{end}_batch"),
                    "height": plan.geometry.height,
                    "width": getattr(plan.ranges, f"{end}_width"),
                }
                for end in ("min", "opt", "max")
            },
            **{side: [{**vars(t), "shape": list(t.shape)} for t in infos] for side, infos in tensors.items()},
            "activation_bytes": built.activation_bytes,
            "weights_bytes": built.weights_bytes,
            "build_seconds": round(built.seconds, 2),
            "built_on": platform.platform(),
            "nordocr": nordocr_cli.__version__,
            "warnings": list(built.warnings),
            "executed": False,  # nothing here has a GPU to run it on; bench and eval on the host are the proof
            "contract": replace(self.onnx.contract, parent_sha256=self.onnx.sha256).to_json(),
        }


def plan_engines(
    arches: Sequence[str],
    onnx: Path | None = None,
    *,
    profile: str | None = None,
    sets: Sequence[str] = (),
    output: Path | None = None,
    backend: str = "auto",
    precision: str | None = None,
    shapes: dict[str, str | None] | None = None,
    progress: Progress = SILENT,
) -> tuple[EnginePlan, ...]:
    """Resolve what will be built, without TensorRT. The ONNX need not exist yet.

    The shape ranges are those of `profile`, else of the profile that the ONNX carries, else of svtrv2-1024; `shapes` overrides
    them with `BxW` texts under min, opt and max. `output` is a folder, or with one architecture an engine's path. Raises
    UsageError for an unknown architecture, profile, backend or an impossible range, ArtifactError for a damaged ONNX.
    """
    targets = parse_arches(arches)
    contract = _contract_of(onnx) if onnx is not None and profile is None and not sets else None
    chosen = (
        profile_from_json(contract.profile, f"{onnx}: embedded profile")
        if contract
        else load_profile(profile or DEFAULT_PROFILE, sets).profile
    )
    if onnx is not None and contract is None and profile is None and not sets:
        progress.warn(f"{onnx} is not there, so its profile is not known: {DEFAULT_PROFILE} is assumed")
    path = onnx or default_onnx_path(chosen)
    geometry = (contract or _contract_of(path) or chosen).geometry
    plans = []
    for arch in targets:
        kind = choose_backend(backend, arch)
        ranges = _ranges(chosen, arch, precision, shapes or {}, geometry, progress)
        engine = _engine_path(output, path, chosen, arch, kind, len(targets))
        plans.append(EnginePlan(arch, path, engine, kind, ranges, geometry, chosen.name))
    return tuple(plans)


def trt_version_of(text: str) -> TrtVersion:
    """Return the major version of classic TensorRT that `text` names. Raises UsageError."""
    match text.split(".")[0]:
        case "10":
            return "10"
        case "11":
            return "11"
    raise UsageError(f"--trt-version {text!r}: 10 or 11")


def _contract_of(onnx: Path) -> Contract | None:
    if onnx.suffix != ".onnx":
        raise UsageError(f"{onnx}: engines are built from an ONNX model (.onnx); make one with `nordocr export`")
    for path in (onnx, fp16_sibling(onnx)):
        if path.is_file():
            return read_contract(path)
    return None


def _ranges(
    profile: Profile, arch: GpuArch, precision: str | None, shapes: dict[str, str | None], geometry: Geometry, progress: Progress
) -> Engine:
    """The profile's ranges for `arch` with the flags over them. Raises UsageError naming what is impossible."""
    table = profile.engine.get(arch.name)
    if table is None:
        progress.warn(f"profile {profile.name} has no [engine.{arch.name}]; the ranges of a 48 GB card are taken")
        table = Engine()
    values = table.model_dump()
    for end, text in shapes.items():
        if text is not None:
            values[f"{end}_batch"], values[f"{end}_width"] = _parse_shape(end, text)
    if precision is not None:
        values["precision"] = precision
    try:
        ranges = Engine.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(f"{arch.name}: {where and where + ': '}{problem['msg'].removeprefix('Value error, ')}") from None
    if ranges.min_width < _NARROWEST_PX:
        raise UsageError(f"{arch.name}: min width {ranges.min_width} px is below {_NARROWEST_PX}, the narrowest that is served")
    if ranges.max_width < geometry.max_width:
        raise UsageError(
            f"{arch.name}: max width {ranges.max_width} px is below {geometry.max_width}, the widest line that this model is "
            f"given; wider ones would fail. Use --max {ranges.max_batch}x{geometry.max_width}, or export with --max-width"
        )
    return ranges


def _parse_shape(end: str, text: str) -> tuple[int, int]:
    batch, cross, width = text.lower().partition("x")
    if not (cross and batch.isdecimal() and width.isdecimal()):
        raise UsageError(f"--{end} {text!r}: expected BATCHxWIDTH, e.g. --{end} 32x768")
    return int(batch), int(width)


def _engine_path(output: Path | None, onnx: Path, profile: Profile, arch: GpuArch, backend: Backend, count: int) -> Path:
    usual = default_engine_path(onnx, profile, arch, backend)
    if output is None:
        return usual
    if output.suffix != ".engine":
        return output / usual.name
    if count > 1:
        raise UsageError(f"--output {output}: several --arch need a folder, not one file")
    if output.name.endswith(suffix("tensorrt-rtx")) != (backend == "tensorrt-rtx"):
        raise UsageError(f"--output {output}: an engine of {backend} is named …{suffix(backend)}, so that no other loads it")
    return output


def build_engine(plan: EnginePlan, progress: Progress = SILENT) -> EngineResult:
    """Build one engine and its sidecar; neither name exists before the header was read back.

    Raises MissingBackendError when the backend is missing, ArtifactError when the ONNX or the build fails a check, Interrupted.
    """
    trt = require_backend(plan.backend, plan.arch)
    onnx = _find_onnx(plan, progress)
    if onnx.precision == "fp32" and plan.ranges.max_width >= _WIDE_PX:
        progress.warn(
            f"fp32 attention is not fused: its memory grows with the square of the width, at {plan.ranges.max_batch}x"
            f"{plan.ranges.max_width} px beyond most cards. fp16 engines are what the profiles ask for"
        )
    trained = onnx.contract.trained_widths
    if trained and plan.ranges.max_width > trained[1]:
        progress.warn(f"trained on lines up to {trained[1]} px, served up to {plan.ranges.max_width} px: evaluate by width band")
    built = build(trt, onnx.path, plan.ranges, plan.arch, progress)
    if built.activation_bytes and built.activation_bytes > plan.arch.memory_gb * 1e9:
        progress.warn(
            f"an execution context reserves {built.activation_bytes / 1e9:.0f} GB, more than {plan.arch} has: lower --max"
        )
    with replacing(plan.engine) as temporary:
        temporary.write_bytes(built.plan)
        header = check_header(temporary, plan.engine.name, plan.backend, trt.__version__, plan.arch)
        if plan.backend == "tensorrt-rtx" and header.arches is None:
            progress.warn(f"{plan.engine.name}: unknown header layout; its size and GPU could not be read back")
        sha256 = sha256_of(temporary)
    result = EngineResult(plan, onnx, trt.__version__, len(built.plan), sha256, built)
    write_json(sidecar_path(plan.engine), result.sidecar())
    return result


def _find_onnx(plan: EnginePlan, progress: Progress) -> OnnxFile:
    """Return the checked file to build from: the one given, or its fp16 form beside it. Strongly typed networks take their
    precision from the ONNX, so an fp32 file never gives an fp16 engine."""
    path, wanted, sibling = plan.onnx, plan.ranges.precision, fp16_sibling(plan.onnx)
    if not path.is_file() and not (wanted == "fp16" and sibling.is_file()):
        raise UsageError(f"no ONNX model {path}; make it with `nordocr export RUN -o {path}`")
    given = inspect_onnx(path) if path.is_file() else None
    if given and given.precision == wanted:
        return given
    if wanted == "fp32":
        raise ArtifactError(f"{path} is fp16 and --precision fp32 was asked for: give the fp32 model, or --precision fp16")
    if not sibling.is_file() or sibling == path:
        raise ArtifactError(
            f"{path} is fp32, and an engine takes its precision from the ONNX. Export the fp16 form beside it: "
            f"nordocr export RUN --precision fp16 -o {sibling} (or build with --precision fp32)"
        )
    half = inspect_onnx(sibling)
    if half.precision != "fp16":
        raise ArtifactError(f"{sibling} is named fp16 and is {half.precision}; export it again with --precision fp16")
    if given and (differ := _differences(half.contract, given.contract)):
        raise ArtifactError(f"{sibling.name} is not the fp16 form of {path.name} (they differ in {differ}); export both again")
    progress.note(f"fp16: building from {sibling}")
    return half


def _differences(half: Contract, full: Contract) -> str:
    """Name the entries in which two contracts differ, the precision aside."""
    found, wanted = half.to_json(), full.to_json()
    differing = [key for key in found if key != "precision" and found[key] != wanted[key]]
    return ", ".join({"parent_sha256": "weights", "output_activation": "output activation"}.get(key, key) for key in differing)
