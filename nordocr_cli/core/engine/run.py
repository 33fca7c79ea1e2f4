"""ONNX → one engine per GPU architecture, or one for several, each with a sidecar that describes
it.
"""

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import nordocr_cli
from nordocr_cli.artifact.contract import Contract, contract_from_json
from nordocr_cli.artifact.probing import SIDECAR_SCHEMA
from nordocr_cli.artifact.sealing import JSON_DIGEST, write_sealed_json
from nordocr_cli.atomic import replacing, sha256_of, write_bytes
from nordocr_cli.core.engine.plan import EnginePlan, require_engine_weights, require_width
from nordocr_cli.deploy.consumer import ConsumerConfig, pipeline_conflicts
from nordocr_cli.deploy.onnx_file import OnnxFile, fp16_sibling, inspect_onnx
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.builder import Built, build, require_backend
from nordocr_cli.runtime.backends.tensorrt.cache import cache_key, find_engine, keep_engine
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    check_header,
    read_engine,
    sidecar_path,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import local_arch
from nordocr_cli.runtime.backends.tensorrt.memory import MemoryModel

CLASSIC_NOTE = (
    "a host on classic TensorRT (the Rust pipeline is one) builds its own engine on its GPU"
)
_WIDE_PX = 768  # from this width on unfused fp32 attention needs gigabytes


@dataclass(frozen=True)
class EngineResult:
    """One engine with its sidecar's content `side`. `found` is the existing file that was used,
    None when the engine was built now.
    """

    plan: EnginePlan
    side: Mapping[str, Any]
    found: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values: the sidecar's content and the paths of both
        files.
        """
        paths = {
            "path": str(self.plan.engine),
            "sidecar": str(sidecar_path(self.plan.engine)),
        }
        more = {
            "consumer_config": self.consumer_config(),
            "classic_tensorrt": self.classic_tensorrt(),
        }
        return {**paths, "built_now": self.found is None, **self.side, **more}

    @property
    def version(self) -> str:
        """The TensorRT release that built the engine and that runs it."""
        return str(self.side["version"])

    def sidecar(self) -> dict[str, Any]:
        """Return the content of the JSON next to the engine."""
        return dict(self.side)

    def classic_tensorrt(self) -> dict[str, str] | None:
        """Return the instruction and the command for a host on classic TensorRT; None when this
        engine is a classic one.
        """
        if self.plan.backend == "tensorrt":
            return None
        command = [
            "nordocr",
            "build-engine",
            "--backend",
            "tensorrt",
            "--arch",
            self.plan.arch.name,
            str(self.plan.onnx),
        ]
        return {"note": CLASSIC_NOTE, "command": shlex.join(command)}

    def pipeline_conflicts(self) -> list[str]:
        """Return what the Rust pipeline would interpret wrongly in this engine's model."""
        return pipeline_conflicts(
            contract_from_json(self.side["contract"], self.plan.engine.name)
        )

    def consumer_config(self) -> dict[str, Any] | None:
        """Return the keys of the Rust pipeline's `--config` JSON that name this engine; None for an
        engine that it cannot load (TensorRT-RTX) or would interpret wrongly.
        """
        if self.plan.backend != "tensorrt" or self.pipeline_conflicts():
            return None
        plan = self.plan
        ranges = self.plan.ranges.widest
        geometry = self.plan.geometry
        return ConsumerConfig(
            engine_path=plan.engine.as_posix(),
            arch=plan.arch.name,
            precision=self.side["precision"],
            max_batch=ranges.max_batch,
            height=geometry.height,
            max_width=ranges.max_width,
            line_width=geometry.max_width,
            stride=geometry.stride,
        ).to_json()

    def row(self) -> tuple[str, ...]:
        """Return the cells of one row: engine, GPU, MB, precision, ranges, memory that an execution
        context reserves.
        """
        memory = self.side["activation_bytes"]
        size = self.side["engine"]["size_bytes"]
        bands = "; ".join(
            ", ".join(f"{b}x{w}" for b, w in band.ends().values())
            for band in self.plan.ranges.ranges
        )
        if memory is not None:
            reserved = f"{memory / 1e9:.2f} GB"
        else:
            reserved = "not reported"
        gpus = ", ".join(map(str, self.plan.arches))
        return (
            str(self.plan.engine),
            gpus,
            f"{size / 1e6:.1f}",
            self.side["precision"],
            bands,
            reserved,
        )


def _sidecar(
    plan: EnginePlan, onnx: OnnxFile, built: Built, version: str, sha256: str, key: str
) -> dict[str, Any]:
    """The content of the JSON next to an engine. `ranges` covers every width, `bands` holds each
    range separately.
    """
    tensors = {"inputs": built.inputs, "outputs": built.outputs}
    bands = [_ends(band.ends(), plan.geometry) for band in plan.ranges.ranges]
    widest = plan.ranges.widest.ends()
    return {
        "schema": SIDECAR_SCHEMA,
        "engine": {
            "name": plan.engine.name,
            "sha256": sha256,
            "size_bytes": len(built.plan),
        },
        "onnx": {"name": onnx.path.name, "sha256": onnx.sha256, "opset": onnx.opset},
        "arch": plan.arch.name,
        "arches": [arch.name for arch in plan.arches],
        "backend": plan.backend,
        "version": version,
        "requires": {
            "run_time": plan.backend,
            "version": version,
            "gpu": ", ".join(map(str, plan.arches)),
        },
        "precision": onnx.precision,
        "ranges": _ends(
            widest | {"min": plan.ranges.ranges[0].ends()["min"]}, plan.geometry
        ),
        "bands": bands,
        **{
            side: [{**vars(t), "shape": list(t.shape)} for t in infos]
            for side, infos in tensors.items()
        },
        "activation_bytes": built.activation_bytes,
        "weights_bytes": built.weights_bytes,
        "build_seconds": round(built.seconds, 2),
        "built_on": platform.platform(),
        "nordocr": nordocr_cli.__version__,
        "settings": plan.settings.to_json(),
        "warnings": list(built.warnings),
        # --verify on a host with the GPU sets it to true; bench and eval there give the proof
        "executed": False,
        "cache_key": key,
        "contract": replace(onnx.contract, parent_sha256=onnx.sha256).to_json(),
    }


def _ends(
    ends: Mapping[str, tuple[int, int]], geometry: Geometry
) -> dict[str, dict[str, int]]:
    return {
        end: {"batch": batch, "height": geometry.height, "width": width}
        for end, (batch, width) in ends.items()
    }


def build_engine(plan: EnginePlan, progress: Progress = SILENT) -> EngineResult:
    """Build one engine and its sidecar, or find them already built. Neither file appears before the
    header was read back.

    Raises MissingBackendError when the backend (with `verify`: the GPU) is missing, UsageError when
    the maximum shape does not fit the card, ArtifactError when the ONNX or the build fails a check,
    Interrupted.
    """
    if plan.verify:
        _require_gpu(plan)
    trt = require_backend(plan.backend, plan.arch)
    onnx = _find_onnx(plan, progress)
    if plan.verify and (
        onnx.contract.output_activation != "logits" or onnx.precision == "bf16"
    ):
        raise UsageError(
            "--verify compares logits with ONNX Runtime, which cannot run bf16; export fp16 or"
            " fp32 with logits"
        )
    require_width(plan, onnx.contract)
    _warn_of_fp32(plan, onnx, progress)
    _require_memory(plan, onnx, progress)

    key = _cache_key(plan, onnx, trt.__version__)
    hit = find_engine(plan.engine, plan.cache, key, progress) if plan.reuse else None
    if hit:
        result = _taken(plan, *hit)
        progress.note(
            f"cache: {hit[0]} was built from the same model with the same TensorRT and ranges;"
            f" nothing is built"
        )
    else:
        result = _built(plan, onnx, trt, key, progress)

    if plan.verify:
        return _verified(result, onnx, progress)
    return result


def _warn_of_fp32(plan: EnginePlan, onnx: OnnxFile, progress: Progress) -> None:
    widest = plan.ranges.widest
    if onnx.precision != "fp32" or widest.max_width < _WIDE_PX:
        return
    progress.warn(
        "fp32 attention is not fused: its memory grows with the square of the width, at"
        f" {widest.max_batch}x{widest.max_width} px beyond most cards. The profiles use fp16"
        f" engines"
    )


def _cache_key(plan: EnginePlan, onnx: OnnxFile, version: str) -> str:
    """Return the key of everything that determines the engine."""
    return cache_key(
        {
            "onnx": onnx.sha256,
            "contract": onnx.contract.to_json(),
            "arches": [arch.name for arch in plan.arches],
            "backend": plan.backend,
            "version": version,
            "ranges": [band.ends() for band in plan.ranges.ranges],
            "precision": onnx.precision,
            "settings": plan.settings.to_json(),
        }
    )


def _built(
    plan: EnginePlan, onnx: OnnxFile, trt: Any, key: str, progress: Progress
) -> EngineResult:
    """Build the engine, read its header back, write it with its sidecar, and keep it in the
    cache.
    """
    built = build(trt, onnx.path, plan.ranges, plan.arches, progress, plan.settings)
    if built.activation_bytes and built.activation_bytes > plan.memory_gb * 1e9:
        reserved = f"{built.activation_bytes / 1e9:.0f} GB"
        progress.warn(
            f"an execution context reserves {reserved}, more than {plan.card} has: lower --max"
        )

    with replacing(plan.engine) as temporary:
        temporary.write_bytes(built.plan)
        for arch in plan.arches:
            header = check_header(
                temporary, plan.engine.name, plan.backend, trt.__version__, arch
            )
        if plan.backend == "tensorrt-rtx" and header.arches is None:
            progress.warn(
                f"{plan.engine.name}: unknown header layout; its size and GPU could not be read"
                " back"
            )
        sha256 = sha256_of(temporary)

    sidecar = _sidecar(plan, onnx, built, trt.__version__, sha256, key)
    result = EngineResult(plan, sidecar)
    write_sealed_json(sidecar_path(plan.engine), result.sidecar())
    if plan.cache:
        keep_engine(plan.engine, plan.cache, key)
    return result


def _taken(plan: EnginePlan, path: Path, sidecar: Mapping[str, Any]) -> EngineResult:
    """Copy an engine from the cache to the path and name of the plan."""
    side = {**sidecar, "engine": {**sidecar["engine"], "name": plan.engine.name}}
    if path != plan.engine:
        write_bytes(plan.engine, read_engine(path)[0])
        write_sealed_json(sidecar_path(plan.engine), side)
    return EngineResult(plan, side, path)


def _require_gpu(plan: EnginePlan) -> None:
    here = local_arch()
    if here not in plan.arches:
        if here:
            found = f"this machine's is {here.name}"
        else:
            found = "this machine has no working NVIDIA GPU"
        raise MissingBackendError(
            f"--verify runs the engine, which needs {plan.arch_names}; {found}. Leave --verify out"
            " and build, then run `nordocr build-engine --verify` with the same flags on that host"
        )


def _verified(result: EngineResult, onnx: OnnxFile, progress: Progress) -> EngineResult:
    """Compare the engine with ONNX Runtime at the ends of its ranges and write the result into the
    sidecar. Raises ArtifactError naming the worst shape when they differ by more than the precision
    allows.
    """
    from nordocr_cli.deploy.parity import check_parity, make_cases, open_file
    from nordocr_cli.runtime.runners import open_runner

    plan = result.plan
    runner = open_runner(plan.engine)
    shapes = sorted(
        {
            (min(batch, 2), width)
            for band in plan.ranges.ranges
            for batch, width in band.ends().values()
        }
    )
    cases = make_cases(
        open_file(onnx.path, onnx.contract, onnx.path.name),
        plan.geometry.height,
        shapes,
        progress=progress,
    )

    def run(images: Any) -> Any:
        return runner.run(images, np.full(len(images), images.shape[3]))

    # TF32 rounds too
    if onnx.precision == "fp16":
        rounding = onnx.contract
    else:
        rounding = replace(onnx.contract, output_type="float16")
    parity = check_parity(run, cases, rounding, name=plan.engine.name, progress=progress)
    side = {**result.side, "executed": True, "verification": parity.to_json()}
    write_sealed_json(sidecar_path(plan.engine), side)
    return replace(result, side=side)


def _require_memory(plan: EnginePlan, onnx: OnnxFile, progress: Progress) -> None:
    """Report the memory that the maximum shape will need. Raises UsageError when that is more than
    the card has.
    """
    try:
        model = MemoryModel(onnx.path)
    except ArtifactError as error:
        progress.warn(str(error))
        return
    predicted = model.require_fit(plan.ranges.ranges, plan.card, plan.memory_gb)
    if predicted.unfused_total_bytes > plan.memory_gb * 1e9:
        progress.warn(
            f"{plan.card} holds this engine only if TensorRT fuses attention"
            f" ({predicted.assumption}); a lower --max is safe either way"
        )
    progress.note(
        f"memory at the maximum shape, {predicted}; {plan.card} has {plan.memory_gb:g} GB"
    )


def _find_onnx(plan: EnginePlan, progress: Progress) -> OnnxFile:
    """Return the checked file to build from: the given one, or its fp16 form next to it. Strongly
    typed networks take their precision from the ONNX, so an fp32 file never gives an fp16 engine.
    """
    path = plan.onnx
    requested = plan.ranges.precision
    sibling = fp16_sibling(plan.onnx)
    if not path.is_file() and not (requested == "fp16" and sibling.is_file()):
        raise UsageError(
            f"no ONNX model {path}; make it with `nordocr export RUN -o {path}`"
        )
    given = inspect_onnx(path) if path.is_file() else None
    if given and given.precision == requested:
        return given
    if given:
        require_engine_weights(path, given.precision)
    if requested != "fp16":
        if given:
            found = f"is {given.precision}"
            other = given.precision
        else:
            found = "does not exist"
            other = "fp16"
        raise ArtifactError(
            f"{path} {found}, but --precision {requested} was requested, and an engine takes its"
            f" precision from the ONNX: give the {requested} model (nordocr export RUN --precision"
            f" {requested}), or use --precision {other}"
        )
    if not sibling.is_file() or sibling == path:
        raise ArtifactError(
            f"{path} is fp32, and an engine takes its precision from the ONNX. Export the fp16"
            f" form next to it: nordocr export RUN --precision fp16 -o {sibling} (or build with"
            " --precision fp32)"
        )
    half = inspect_onnx(sibling)
    if half.precision != "fp16":
        raise ArtifactError(
            f"{sibling} is named fp16 but is {half.precision}; export it again with --precision"
            " fp16"
        )
    differ = _differences(half.contract, given.contract) if given else ""
    if differ:
        raise ArtifactError(
            f"{sibling.name} is not the fp16 form of {path.name} (they differ in {differ}); export"
            " both again"
        )
    progress.note(f"fp16: building from {sibling}")
    return half


def _differences(half: Contract, full: Contract) -> str:
    """Return the entries in which two contracts differ, except the precision."""
    ours = half.to_json()
    other = full.to_json()
    own = ("precision", JSON_DIGEST)
    differing = [key for key in ours if key not in own and ours[key] != other[key]]
    return ", ".join(
        {"parent_sha256": "weights", "output_activation": "output activation"}.get(key, key)
        for key in differing
    )
