"""The plan of build-engine: architectures, shape ranges, cards and paths, resolved without
TensorRT.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.deploy.onnx_file import WeightsPrecision, default_onnx_path, fp16_sibling
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import DEFAULT_PROFILE, Profile, load_profile, profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.builder import Settings, choose_backend
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    Backend,
    default_engine_path,
    suffix,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import GpuArch, card_of, parse_arches
from nordocr_cli.runtime.backends.tensorrt.trtexec import TrtVersion, trtexec_command
from nordocr_cli.settings import Engine

_NARROWEST_PX = 32  # the guide's minimum width: narrower lines are padded to it


@dataclass(frozen=True)
class EngineRequest:
    """What build-engine is to build, for the GPUs that `arches` names. The shape ranges are those
    of `profile`, else of the profile in the ONNX, else of svtrv2-1024. `shapes` overrides them with
    `BxW` texts under min, opt and max, `bands` with several ranges (see `_parse_bands`).
    `one_engine` builds one file for all architectures. `output` is a folder, or for one engine its
    path. Without `onnx` it is the file that `export` writes for the profile.
    """

    arches: Sequence[str]
    onnx: Path | None = None
    profile: str | None = None
    sets: Sequence[str] = ()
    output: Path | None = None
    backend: str = "auto"
    precision: str | None = None
    shapes: Mapping[str, str | None] = field(default_factory=dict)
    bands: Sequence[str] = ()
    one_engine: bool = False
    vram_gb: float | None = None
    settings: Settings = field(default_factory=Settings)
    cache: Path | None = None
    reuse: bool = True
    verify: bool = False
    allow_wider: bool = False


@dataclass(frozen=True)
class EnginePlan:
    """One engine to build, for `arches` (several only with TensorRT-RTX). `ranges` holds the
    minimum, optimum and maximum of batch and width, by band if there are several, and the
    precision. The maximum shape must fit `card` with its `memory_gb`.
    """

    arches: tuple[GpuArch, ...]
    onnx: Path
    engine: Path
    backend: Backend
    ranges: Engine
    geometry: Geometry
    profile: str
    card: str
    memory_gb: float
    settings: Settings
    cache: Path | None = None  # a folder of engines
    reuse: bool = True  # use an existing engine
    verify: bool = False
    allow_wider: bool = False
    # of `onnx`, from its contract; from its name when it does not exist
    weights: WeightsPrecision = "fp32"

    @property
    def arch(self) -> GpuArch:
        """The first architecture."""
        return self.arches[0]

    @property
    def arch_names(self) -> str:
        """E.g. `sm86`, or `sm86+sm120`."""
        return "+".join(arch.name for arch in self.arches)

    def trtexec(self, version: TrtVersion = "10") -> str:
        """Return the trtexec command that builds this engine with classic TensorRT on a host with
        that GPU. Raises UsageError when the ONNX has another precision, which no flag converts.
        """
        classic = self.engine.with_name(
            self.engine.name.removesuffix(suffix("tensorrt-rtx")) + suffix("tensorrt")
        )
        target = classic if self.backend == "tensorrt-rtx" else self.engine
        requested = self.ranges.precision
        weights = self.weights
        if weights not in ("fp32", requested) or (
            weights == "fp32" and requested == "bf16"
        ):
            raise UsageError(
                f"{self.onnx} is {weights}, but --precision {requested} was requested: give the"
                f" {requested} model"
            )
        return trtexec_command(
            self.onnx, target, self.ranges, self.geometry.height, version, weights
        )

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "arch": self.arch_names,
            "gpu": ", ".join(map(str, self.arches)),
            "card": f"{self.card}, {self.memory_gb:g} GB",
            "onnx": str(self.onnx),
            "engine": str(self.engine),
            "backend": self.backend,
            "profile": self.profile,
            **self.ranges.model_dump(mode="json"),
            **self.settings.to_json(),
            "cache": str(self.cache) if self.cache else None,
            "verify": self.verify,
        }


def plan_engines(
    request: EngineRequest, progress: Progress = SILENT
) -> tuple[EnginePlan, ...]:
    """Resolve what will be built, without TensorRT. The ONNX need not exist yet. Raises UsageError
    for an unknown architecture, profile or backend, for an impossible range and for a width that
    the model cannot read, ArtifactError for a damaged ONNX.
    """
    targets = parse_arches(request.arches)
    profile = _profile_of(request, progress)
    onnx = request.onnx or default_onnx_path(profile)
    contract = _contract_of(onnx)
    geometry = (contract or profile).geometry
    groups = [targets] if request.one_engine else [(target,) for target in targets]

    plans = []
    for group in groups:
        backend = _backend_of(request, group)
        ranges = [_ranges(request, profile, arch, geometry, progress) for arch in group]
        card, memory_gb = _card(group, request.arches, request.vram_gb)
        plans.append(
            EnginePlan(
                arches=group,
                onnx=onnx,
                engine=_engine_path(
                    request.output, onnx, profile, group, backend, len(groups)
                ),
                backend=backend,
                ranges=_common(ranges),
                geometry=geometry,
                profile=profile.name,
                card=card,
                memory_gb=memory_gb,
                settings=request.settings,
                cache=request.cache,
                reuse=request.reuse,
                verify=request.verify,
                allow_wider=request.allow_wider,
                weights=_weights_of(onnx),
            )
        )

    for plan in plans:
        plan.settings.require_classic(plan.backend)
        if contract:
            require_width(plan, contract, progress)
    return tuple(plans)


def _profile_of(request: EngineRequest, progress: Progress) -> Profile:
    """Return the requested profile, else the one in the ONNX, else the default."""
    requested = request.profile is not None or bool(request.sets)
    if request.onnx is None or requested:
        return load_profile(request.profile or DEFAULT_PROFILE, request.sets).profile
    contract = _contract_of(request.onnx)
    if contract:
        return profile_from_json(contract.profile, f"{request.onnx}: embedded profile")
    default = load_profile(DEFAULT_PROFILE, ()).profile
    progress.warn(
        f"{request.onnx} does not exist, so its profile is unknown: {DEFAULT_PROFILE} is assumed"
    )
    return default


def _backend_of(request: EngineRequest, group: Sequence[GpuArch]) -> Backend:
    """Return what builds the engine of `group`. Raises UsageError for several architectures with
    classic TensorRT.
    """
    backends = {choose_backend(request.backend, arch) for arch in group}
    if len(group) > 1 and backends != {"tensorrt-rtx"}:
        raise UsageError(
            "--one-engine: classic TensorRT builds for the one GPU that it runs on; use"
            " --backend rtx"
        )
    return backends.pop()


def _card(
    group: Sequence[GpuArch], requested: Sequence[str], vram_gb: float | None
) -> tuple[str, float]:
    """Return the smallest card that the engine must fit, and its memory in GB: that of --vram, else
    the card that --arch names, else the first of the architecture.
    """
    if vram_gb is not None:
        return "a card", vram_gb
    names = [name for text in requested for name in text.split(",")]
    named = [card for card in map(card_of, names) if card]

    cards = []
    for arch in group:
        of_arch = [card for card in named if card[0] in arch.gpus]
        cards += of_arch or [(arch.gpus[0], arch.memory_gb)]
    return min(cards, key=lambda card: card[1])


def _common(found: Sequence[Engine]) -> Engine:
    """Return the ranges that fit every card of one engine: the minimum of the maximum batches.
    Raises UsageError when the bands differ.
    """
    first = found[0]
    if len({(each.bands, each.precision) for each in found}) > 1:
        raise UsageError(
            "--one-engine: bands or precision of the profile differ between these GPUs; give --band"
            " and --precision"
        )
    smallest_batches = {
        side: min(getattr(each, side) for each in found)
        for side in ("opt_batch", "max_batch", "max_width", "opt_width")
    }
    return first.model_copy(update=smallest_batches)


def trt_version_of(text: str) -> TrtVersion:
    """Return the major version of classic TensorRT that `text` names. Raises UsageError."""
    match text.split(".")[0]:
        case "10":
            return "10"
        case "11":
            return "11"
    raise UsageError(f"--trt-version {text!r}: 10 or 11")


def require_width(
    plan: EnginePlan, contract: Contract, progress: Progress = SILENT
) -> None:
    """Warn of widths that did not occur in training, and reject untested ones: those beyond what
    the export compared with the network (its own maximum width and those of its profile's engines),
    or, with an unknown trained width, beyond its own.
    """
    max_width = plan.ranges.widest.max_width
    trained = contract.trained_widths
    known = contract.geometry.max_width
    if trained:
        profile = profile_from_json(contract.profile, f"{plan.onnx}: embedded profile")
        known = max(
            known,
            trained[1],
            *(engine.widest.max_width for engine in profile.engine.values()),
            0,
        )
    if max_width > known and not plan.allow_wider:
        if trained:
            why = "was compared with its network up to there"
        else:
            why = "holds no trained width"
        raise UsageError(
            f"max width {max_width} px: {plan.onnx.name} reads lines up to {known} px and {why}."
            f" Use"
            f" --max {plan.ranges.widest.max_batch}x{known}, or --allow-wider when you have"
            " evaluated wider lines"
        )
    if trained and max_width > trained[1]:
        progress.warn(
            f"trained on lines up to {trained[1]} px, served up to {max_width} px: evaluate by"
            f" width"
            " band"
        )
    elif max_width > known:
        progress.warn(
            f"served up to {max_width} px, made for {known} px, trained width unknown: evaluate by"
            " width band"
        )


def _contract_of(onnx: Path) -> Contract | None:
    if onnx.suffix != ".onnx":
        raise UsageError(
            f"{onnx}: engines are built from an ONNX model (.onnx); make one with `nordocr export`"
        )
    for path in (onnx, fp16_sibling(onnx)):
        if path.is_file():
            contract = read_contract(path)
            require_engine_weights(path, contract.precision)
            return contract
    return None


def require_engine_weights(onnx: Path, precision: str) -> None:
    """Raise ArtifactError when no engine can be built from weights of that precision."""
    if precision == "int8":
        raise ArtifactError(
            f"{onnx} is int8 for ONNX Runtime; engines are built from the fp32 or fp16 form of the"
            " same weights"
        )


def _weights_of(onnx: Path) -> WeightsPrecision:
    """Return the precision of a file's weights, from its contract, else from its name."""
    if onnx.is_file():
        return cast("WeightsPrecision", read_contract(onnx).precision)
    if onnx == fp16_sibling(onnx):
        return "fp16"
    return "fp32"


def _ranges(
    request: EngineRequest,
    profile: Profile,
    arch: GpuArch,
    geometry: Geometry,
    progress: Progress,
) -> Engine:
    """Return the profile's ranges for `arch`, overridden by the request. Raises UsageError naming
    what is impossible.
    """
    table = profile.engine.get(arch.name)
    if table is None:
        progress.warn(
            f"profile {profile.name} has no [engine.{arch.name}]; the ranges of a 48 GB card are"
            " taken"
        )
        table = Engine()
    values = table.model_dump()
    given = {end: text for end, text in request.shapes.items() if text is not None}
    if given and request.bands:
        raise UsageError("--band defines the ranges; leave out --min, --opt and --max")
    if given:
        values["bands"] = ()
    for end, text in given.items():
        values[f"{end}_batch"], values[f"{end}_width"] = _parse_shape(f"--{end}", text)
    if request.precision is not None:
        values["precision"] = request.precision
    if request.bands:
        values["bands"] = _parse_bands(request.bands)
    try:
        ranges = Engine.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise UsageError(
            f"{arch.name}: {where and where + ': '}{problem['msg'].removeprefix('Value error, ')}"
        ) from None
    min_width = ranges.ranges[0].min_width
    widest = ranges.widest
    if min_width < _NARROWEST_PX:
        raise UsageError(
            f"{arch.name}: min width {min_width} px is below {_NARROWEST_PX}, the narrowest that is"
            " served"
        )
    if widest.max_width < geometry.max_width:
        raise UsageError(
            f"{arch.name}: max width {widest.max_width} px is below {geometry.max_width}, the"
            f" widest"
            " line that this model is given; wider ones would fail. Use --max"
            f" {widest.max_batch}x{geometry.max_width}, or export with --max-width"
        )
    return ranges


def _parse_bands(texts: Sequence[str]) -> list[dict[str, int]]:
    """Return the ranges of `--band MAX` or `--band OPT:MAX`, each BATCHxWIDTH, e.g.
    `64x200:256x256`. A band begins where the narrower one ends. Without OPT it is MAX. Raises
    UsageError.
    """
    bands: list[dict[str, int]] = []
    for text in texts:
        usual, colon, maximum = text.rpartition(":")
        batch, width = _parse_shape("--band", maximum)
        opt_batch, opt_width = _parse_shape("--band", usual) if colon else (batch, width)
        min_width = bands[-1]["max_width"] + 4 if bands else _NARROWEST_PX
        bands.append(
            {
                "min_batch": 1,
                "opt_batch": opt_batch,
                "max_batch": batch,
                "min_width": min_width,
                "opt_width": opt_width,
                "max_width": width,
            }
        )
    return bands


def _parse_shape(flag: str, text: str) -> tuple[int, int]:
    batch, cross, width = text.lower().partition("x")
    if not (cross and batch.isdecimal() and width.isdecimal()):
        raise UsageError(f"{flag} {text!r}: expected BATCHxWIDTH, e.g. {flag} 32x768")
    return int(batch), int(width)


def _engine_path(
    output: Path | None,
    onnx: Path,
    profile: Profile,
    arches: Sequence[GpuArch],
    backend: Backend,
    count: int,
) -> Path:
    usual = default_engine_path(
        onnx, profile, "+".join(arch.name for arch in arches), backend
    )
    if output is None:
        return usual
    if output.suffix != ".engine":
        return output / usual.name
    if count > 1:
        raise UsageError(
            f"--output {output}: several --arch need a folder, or --one-engine, not one file"
        )
    if output.name.endswith(suffix("tensorrt-rtx")) != (backend == "tensorrt-rtx"):
        raise UsageError(
            f"--output {output}: an engine of {backend} is named …{suffix(backend)}, so that no"
            " other loads it"
        )
    return output
