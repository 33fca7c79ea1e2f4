"""Profiles: one TOML file that says everything about a recognizer, and where each of its values came from.

Precedence, highest first: flag, `--set dotted.key=value`, the profile, the profile it extends, default. An unknown key is an
error that names the file, the dotted key and the nearest known key.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from nordocr_cli import __version__
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.errors import ArtifactError, NordocrError, UsageError, nearest
from nordocr_cli.geometry import Geometry

Precision = Literal["fp32", "fp16", "bf16"]
# The names that Lightning users type (000-19), and ours.
_PRECISION_ALIASES = {"32": "fp32", "32-true": "fp32", "16": "fp16", "16-mixed": "fp16", "bf16-mixed": "bf16"}
_MAX_EXTENDS = 8


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SvtrV2Model(_Table):
    """SVTRv2 as its authors publish it (Du et al. 2024, arXiv 2411.15858): tiny, small or base."""

    name: Literal["svtrv2"]
    size: Literal["tiny", "small", "base"] = "base"
    # rctc: rows are rearranged by attention (the paper's FRM) before the classifier; ctc: their mean is classified.
    head: Literal["rctc", "ctc"] = "rctc"
    drop_path: float = Field(0.1, ge=0, lt=1)


class SvtrV2NanoModel(_Table):
    """A lean, pre-norm network of the SVTRv2 family for CPUs: height halved early, attention only at height 2."""

    name: Literal["svtrv2-nano"]
    dims: tuple[int, int, int] = (48, 96, 192)  # channels of the two convolutional stages and of the attention stage
    depths: tuple[int, int, int] = (2, 3, 3)  # blocks of each stage
    drop_path: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> "SvtrV2NanoModel":
        if min(self.dims) <= 0 or self.dims[0] % 24 or self.dims[1] % 24 or self.dims[2] % 32:
            raise ValueError(f"dims {list(self.dims)}: the first two must be multiples of 24, the third of 32")
        if min(self.depths) < 0:
            raise ValueError(f"depths {list(self.depths)}: a stage cannot have less than 0 blocks")
        return self


class SvtrModel(_Table):
    """SVTR for short strips: three stages, local and global mixing, height merged to 1."""

    name: Literal["svtr"]
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    local_window: tuple[int, int] = (7, 7)  # [height, width]; the paper's is 7x11
    # [rows, columns] of the learned positions: those of a 32x128 input. A wider one stretches them.
    positions: tuple[int, int] = (8, 32)
    out_channels: int = Field(256, ge=1)
    drop_path: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> "SvtrModel":
        if any(side % 2 == 0 or not 3 <= side <= 33 for side in self.local_window):
            raise ValueError(f"local_window {list(self.local_window)}: both sides must be odd numbers from 3 to 33")
        if min(self.positions) < 1:
            raise ValueError(f"positions {list(self.positions)}: both numbers must be at least 1")
        return self


class MambaModel(_Table):
    """ResNet34 features with adapters, a Mamba encoder with LoRA, a linear CTC classifier."""

    name: Literal["mamba"]
    backbone: Literal["resnet34"] = "resnet34"
    # ImageNet weights of the backbone, torchvision's or transformers' file (.safetensors, .pth, .bin); empty = random.
    backbone_weights: str = ""
    features: int = Field(512, ge=1)
    adapter_rank: int = Field(64, ge=0)  # of the adapter after each block of layer1-4; 0 = none
    use_lora: bool = True  # on in_proj and x_proj of the Mamba blocks
    lora_rank: int = Field(16, ge=1)
    layers: int = Field(4, ge=1)
    d_state: int = Field(16, ge=1)
    d_conv: int = Field(4, ge=1)
    expand: int = Field(2, ge=1)
    bidirectional: bool = True
    # Weights of the Mamba blocks: a file of state-spaces/mamba-…-hf, whose first `layers` blocks are taken; empty = random.
    pretrained: str = ""


class ParseqModel(_Table):
    """PARSeq: a vision transformer and a decoder that writes token by token (Bautista and Atienza 2022, arXiv 2207.06966)."""

    name: Literal["parseq"]
    size: Literal["tiny", "small"] = "small"
    height: int = Field(32, ge=4)  # of the input, multiples of the patches of 4x8 pixels; lines are stretched to the width
    width: int = Field(384, ge=8)
    max_label_length: int = Field(128, ge=1)  # longest text that can be written
    # nar: all positions at once; ar: left to right, one after the other. Each is then read over again `refine` times.
    decode: Literal["nar", "ar"] = "nar"
    refine: int = Field(2, ge=0)
    permutations: int = Field(6, ge=2)  # orders in which a batch's labels are learnt
    dropout: float = Field(0.1, ge=0, lt=1)
    scale_positions: bool = False  # times the root of their size, which the authors do not do

    @model_validator(mode="after")
    def _in_patches(self) -> Self:
        if self.height % 4 or self.width % 8 or self.permutations % 2:
            raise ValueError(
                f"height {self.height}, width {self.width}, permutations {self.permutations}: multiples of 4, 8 and 2 are needed"
            )
        return self


class TrocrModel(_Table):
    """TrOCR: a pretrained vision transformer and language decoder of transformers, fine-tuned through LoRA (003-09..14)."""

    name: Literal["trocr"]
    # Its folder as transformers saves it, or its name on the Hugging Face hub. Empty in weights that merge-lora wrote: theirs.
    pretrained: str = ""
    pretrained_sha256: str = ""  # of its model.safetensors; another file is refused. Training writes it into the weights.
    lora_rank: int = Field(8, ge=0)  # 0 = no LoRA, everything trains
    lora_alpha: int = Field(16, ge=1)  # what the adapters compute is multiplied by lora_alpha / lora_rank
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    # Patterns on the names of the linear layers that get an adapter, as in train.trainable: `decoder.*.q_proj` is the decoder's.
    lora_target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    max_target_length: int = Field(256, ge=2)  # tokens of the longest label, its end counted
    generation_max_length: int = Field(256, ge=2)  # tokens that a reading has at most, beginning and end counted

    @property
    def max_label_length(self) -> int:
        """Characters of the longest label that is sure to be considered; which tokens it has, the tokenizer alone knows."""
        return self.max_target_length - 1

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.lora_rank and not self.lora_target_modules:
            raise ValueError("lora_target_modules is empty: name layers, e.g. ['q_proj', 'v_proj'], or set lora_rank = 0")
        return self


_MODEL_KINDS = {
    "svtrv2": SvtrV2Model,
    "svtrv2-nano": SvtrV2NanoModel,
    "svtr": SvtrModel,
    "mamba": MambaModel,
    "parseq": ParseqModel,
    "trocr": TrocrModel,
}
Model = Annotated[SvtrV2Model | SvtrV2NanoModel | SvtrModel | MambaModel | ParseqModel | TrocrModel, Field(discriminator="name")]


class Data(_Table):
    """Where the line stores are. Paths are relative to the working folder."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    num_workers: int = Field(2, ge=0)


class Train(_Table):
    """Hyper-parameters of training. `lr` is the peak of the schedule for `lr_batch` lines a step."""

    epochs: int = Field(20, ge=1)
    lr: float = Field(7e-4, gt=0)
    # Lines a step that lr is meant for; for others it is multiplied by the root of their ratio. 0 = the lines a step of one GPU,
    # so that only more GPUs change it.
    lr_batch: int = Field(0, ge=0)
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    weight_decay: float = Field(0.05, ge=0)
    warmup_ratio: float = Field(0.075, ge=0, lt=1)
    grad_clip: float = Field(5.0, ge=0)
    precision: Precision = "bf16"
    # Lines a step at widths up to batch_width_px; wider buckets get fewer, so that a batch holds as many pixels.
    batch_size: int = Field(256, ge=1)
    batch_width_px: int = Field(320, ge=4)
    # Batch size by GPU (001-33), used instead of batch_size on that card.
    batch_by_arch: dict[str, int] = Field(default_factory=dict)
    accumulate: int = Field(1, ge=1)  # batches a step, one after the other: a larger step in the same memory
    checkpointing: bool = False  # blocks compute their activations again going back: less memory, a third more time
    # torch.compile, for any width; the first steps take minutes. "reduce-overhead" also replays CUDA graphs, one for each size of
    # batch: for networks so small that a GPU waits for its launches.
    compile: bool | Literal["reduce-overhead"] = False
    # Share of the steps in which the network is told the widths and masks the padding; in the others it meets the white
    # padding of serving, which an exported model without a mask has to live with.
    mask_share: float = Field(0.5, ge=0, le=1)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    # smtr: SVTRv2 also learns to find each character from the five beside it (the paper's SGM); nothing of it is saved to ship.
    guidance: Literal["none", "smtr"] = "none"
    # Patterns on the names of what trains, e.g. ["adapter", "backbone.layer4"]; all else is frozen. Empty = everything trains.
    trainable: tuple[str, ...] = ()
    seed: int = Field(1, ge=0)
    eval_every: int = Field(1000, ge=1)
    save_every: int = Field(500, ge=1)
    log_every: int = Field(20, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _accept_precision_aliases(cls, table: Any) -> Any:
        if isinstance(table, dict) and str(table.get("precision")) in _PRECISION_ALIASES:
            return {**table, "precision": _PRECISION_ALIASES[str(table["precision"])]}
        return table


class Augment(_Table):
    """Probabilities of the on-the-fly changes to a training line, each from 0 (never) to 1. None of them makes a label untrue."""

    # A line takes the next one along, a space between the labels, with paper up to max_join_gap_px wide between them: long
    # lines, and the wide gaps of table rows.
    join: float = Field(0.15, ge=0, le=1)
    max_join_gap_px: int = Field(160, ge=8)
    squeeze: float = Field(0.3, ge=0, le=1)  # narrower or wider, up to 1.3 times
    crop: float = Field(0.3, ge=0, le=1)  # a box a little too large or too small, on each side
    neighbour: float = Field(0.05, ge=0, le=1)  # pieces of other lines at the edges, paper between
    resample: float = Field(0.15, ge=0, le=1)  # another resolution and back, by other resamplers
    blur: float = Field(0.1, ge=0, le=1)
    brightness: float = Field(0.2, ge=0, le=1)  # and contrast
    noise: float = Field(0.1, ge=0, le=1)
    threshold: float = Field(0.05, ge=0, le=1)  # one bit a pixel
    jpeg: float = Field(0.1, ge=0, le=1)
    pad_right: float = Field(0.3, ge=0, le=1)  # a batch without mask: extra white padding, up to max_pad_right_px
    max_pad_right_px: int = Field(320, ge=0)


class Export(_Table):
    """Defaults of `nordocr export`."""

    opset: int = Field(17, ge=17, le=23)
    precision: Literal["fp32", "fp16"] = "fp32"
    simplify: bool = True
    output_activation: Literal["logits", "softmax", "argmax+confidence"] = "logits"


class ShapeRange(_Table):
    """A range of batch and width (pixels) that an engine takes; the height is the geometry's."""

    min_batch: int = Field(1, ge=1)
    opt_batch: int = Field(32, ge=1)
    max_batch: int = Field(64, ge=1)
    min_width: int = Field(32, ge=4)
    opt_width: int = Field(768, ge=4)
    max_width: int = Field(1792, ge=4)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for side in ("batch", "width"):
            least, best, most = (getattr(self, f"{end}_{side}") for end in ("min", "opt", "max"))
            if not least <= best <= most:
                raise ValueError(f"min_{side} {least} ≤ opt_{side} {best} ≤ max_{side} {most} does not hold")
        for end in ("min", "opt", "max"):
            if getattr(self, f"{end}_width") % 4:
                raise ValueError(f"{end}_width {getattr(self, f'{end}_width')} is not a multiple of 4, the CTC stride")
        return self

    def ends(self) -> dict[str, tuple[int, int]]:
        """Return (batch, width) under min, opt and max."""
        return {end: (getattr(self, f"{end}_batch"), getattr(self, f"{end}_width")) for end in ("min", "opt", "max")}


class Engine(ShapeRange):
    """What one engine takes. With `bands` it has one shape range for each band of widths, each with its own batch sizes, and
    `min_…`, `opt_…`, `max_…` beside them are not used."""

    precision: Literal["fp32", "fp16", "bf16"] = "fp16"
    bands: tuple[ShapeRange, ...] = ()

    @model_validator(mode="after")
    def _bands_rise(self) -> Self:
        for narrow, wide in pairwise(self.bands):
            if not narrow.max_width < wide.max_width or wide.min_width > narrow.max_width + 4:
                raise ValueError(
                    f"bands rise in width without a gap: after one up to {narrow.max_width} px comes one from at most "
                    f"{narrow.max_width + 4} px on, not {wide.min_width} to {wide.max_width}"
                )
        return self

    @property
    def ranges(self) -> tuple[ShapeRange, ...]:
        """The engine's shape ranges, narrow ones first."""
        return self.bands or (self,)

    @property
    def widest(self) -> ShapeRange:
        """The range that takes the widest lines."""
        return self.ranges[-1]


class Profile(_Table):
    """A resolved profile."""

    name: str = ""
    description: str = ""
    experiment: str = ""
    charset: str = "nordic"
    model: Model
    geometry: Geometry = Geometry()
    data: Data = Data()
    train: Train = Train()
    augment: Augment = Augment()
    export: Export = Export()
    engine: dict[str, Engine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _engines_know_their_arch(self) -> "Profile":
        for arch in self.engine:
            if not (arch.startswith("sm") and arch[2:].isdigit()):
                raise ValueError(f"[engine.{arch}]: a table is named by GPU architecture, e.g. [engine.sm120]")
        return self

    @model_validator(mode="after")
    def _guidance_has_rows_to_look_at(self) -> "Profile":
        if self.train.guidance != "none" and not (isinstance(self.model, SvtrV2Model) and self.model.head == "rctc"):
            raise ValueError(f"train.guidance = {self.train.guidance!r} is for model.name = 'svtrv2' with model.head = 'rctc'")
        return self

    @model_validator(mode="after")
    def _a_label_can_be_written(self) -> "Profile":
        model, geometry = self.model, self.geometry
        if not isinstance(model, ParseqModel):
            return self
        if (model.height, model.width) != (geometry.height, geometry.max_width):
            raise ValueError(
                f"model.height and model.width {model.height}x{model.width} must be geometry.height and geometry.max_width "
                f"{geometry.height}x{geometry.max_width}: parseq has a learned position for each patch"
            )
        if self.augment.join and model.max_label_length < geometry.out_length(geometry.max_width):
            raise ValueError(
                f"model.max_label_length {model.max_label_length} is too short for joined lines; set augment.join = 0"
            )
        return self

    @model_validator(mode="after")
    def _lora_decides_what_trains(self) -> "Profile":
        if isinstance(self.model, TrocrModel):
            if self.model.lora_rank and self.train.trainable:
                raise ValueError(
                    "train.trainable must be empty with model.lora_rank above 0: the adapters train, all else is frozen"
                )
            if self.augment.join:
                raise ValueError("augment.join must be 0 with model.name = 'trocr': it crushes long lines into a square")
        return self

    def load_charset(self) -> Charset:
        """Return the charset. Raises UsageError or DataError when it is not there or not one."""
        return load_charset(self.charset)


@dataclass(frozen=True)
class ResolvedProfile:
    """A profile with the origin (`default`, a file's name, `--set`, `flag`) of each dotted key."""

    profile: Profile
    origins: Mapping[str, str]
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return every value as plain JSON."""
        return profile_to_json(self.profile)


def profile_to_json(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain JSON values (tuples become lists)."""
    return profile.model_dump(mode="json")


def profile_from_json(value: Mapping[str, Any], what: str) -> Profile:
    """Validate a profile that was embedded in an artifact. Raises ArtifactError naming `what` and each bad key."""
    try:
        return _validate(dict(value), what)
    except UsageError as error:
        raise ArtifactError(f"{error}\nwritten by a newer nordocr, or by hand? Update nordocr ({__version__} here)") from None


def profile_folders() -> list[Path]:
    """Folders in which a profile is looked up by name, first hit wins: `NORDOCR_PROFILES`, then the shipped ones."""
    extra = os.environ.get("NORDOCR_PROFILES", "")
    package = Path(__file__).parent
    shipped = package / "profiles" if (package / "profiles").is_dir() else package.parent / "profiles"
    return [*(Path(p) for p in extra.split(os.pathsep) if p), shipped]


def profile_names() -> list[str]:
    """Names of all profiles that can be given to `--profile`, sorted."""
    return sorted({path.stem for folder in profile_folders() for path in folder.glob("*.toml")})


def find_profile(name_or_path: str) -> Path:
    """Return the profile's file. Raises UsageError with the nearest name."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise UsageError(f"no profile file {path}")
    for folder in profile_folders():
        if (folder / f"{name_or_path}.toml").is_file():
            return folder / f"{name_or_path}.toml"
    raise UsageError(f"unknown profile {name_or_path!r}: {nearest(name_or_path, profile_names())}")


def load_profile(name_or_path: str, sets: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> ResolvedProfile:
    """Read, merge and validate a profile.

    `sets` are `dotted.key=value` with the value typed as TOML (a bare word is taken as a string); `flags` are dotted keys
    that command line flags set, None meaning not given. Raises UsageError naming file, dotted key and the nearest known key.
    """
    path = find_profile(name_or_path)
    table, origins = _read_with_parents(path)
    table.setdefault("name", path.stem)
    for assignment in sets:
        key, value = parse_set(assignment)
        _put(table, key, value, "--set")
        _mark(origins, key, value, "--set")
    for key, value in (flags or {}).items():
        if value is not None:
            _put(table, key, value, "flag")
            _mark(origins, key, value, "flag")
    profile = _validate(table, str(path), origins)
    try:
        profile.load_charset()
    except UsageError as error:
        source = origins.get("charset")
        raise UsageError(f"{source if source in ('--set', 'flag') else path}: charset: {error}") from None
    complete = {key: origins.get(key, "default") for key in flatten(profile_to_json(profile))}
    return ResolvedProfile(profile, complete, path)


def parse_set(assignment: str) -> tuple[str, Any]:
    """Split `dotted.key=value`. Raises UsageError when there is no `=` or no key."""
    key, equals, text = assignment.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise UsageError(f"--set {assignment!r}: expected dotted.key=value, e.g. --set train.lr=3e-4")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        if text and not set(text) & set("\"'[]{}=\n"):
            return key, text
        raise UsageError(f"--set {key}: {text!r} is not a TOML value; quote strings, e.g. --set {key}='\"text\"'") from None


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted.key: value}` for every leaf of nested tables."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def _read_with_parents(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    chain: list[tuple[Path, dict[str, Any]]] = []
    current: Path | None = path
    while current is not None:
        if any(current == seen for seen, _ in chain) or len(chain) == _MAX_EXTENDS:
            names = " → ".join(p.stem for p, _ in chain)
            raise UsageError(f"{path}: `extends` goes round in a circle or too deep: {names} → {current.stem}")
        table = _read_toml(current)
        chain.append((current, table))
        parent = table.pop("extends", None)
        if parent is not None and not isinstance(parent, str):
            raise UsageError(f"{current}: extends must be the name of a profile, not {parent!r}")
        beside = current.parent / f"{parent}.toml"
        current = None if parent is None else beside if beside.is_file() else find_profile(parent)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file, table in reversed(chain):
        # A network of another name shares no options with the one it replaces.
        if "name" in table.get("model", {}) and table["model"]["name"] != merged.get("model", {}).get("name"):
            merged.pop("model", None)
            origins = {key: origin for key, origin in origins.items() if not key.startswith("model.")}
        table.setdefault("description", "")
        _merge(merged, table)
        origins |= dict.fromkeys(flatten(table), file.name)
    return merged, origins


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read profile {path}: {error}") from error


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _put(table: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise UsageError(f"{origin} {dotted}: {parent!r} is a value, not a table")
    table[last] = value


def _mark(origins: dict[str, str], dotted: str, value: Any, origin: str) -> None:
    keys = flatten(value, f"{dotted}.") if isinstance(value, Mapping) else [dotted]
    origins |= dict.fromkeys(keys, origin)


def _validate(table: dict[str, Any], where: str, origins: Mapping[str, str] | None = None) -> Profile:
    """Validate a merged table. Errors name `where`, or the `--set` or flag that a wrong value came from."""
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            location = _location(dict(problem), table)
            source = _asked(".".join(location), origins or {}) or where
            problems.append(f"{source}: {_explain(dict(problem), location, table)}")
        raise UsageError("\n".join(problems)) from None
    except NordocrError as error:
        raise UsageError(f"{where}: {error}") from None


def _asked(dotted: str, origins: Mapping[str, str]) -> str:
    """Where on the command line a key came from, or what was given there of a table whose values do not go together; else ""."""
    if (origin := origins.get(dotted, "")) in ("--set", "flag"):
        return origin
    given = [key for key, origin in origins.items() if key.startswith(f"{dotted}.") and origin in ("--set", "flag")]
    return f"{origins[given[0]]} {', '.join(given)}" if given else ""


def _location(problem: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    location = [str(part) for part in problem["loc"]]
    if len(location) > 1 and location[0] == "model" and location[1] == _model_name(table):
        del location[1]  # pydantic puts the union's tag into the path
    return location


def _model_name(table: Mapping[str, Any]) -> str | None:
    return table.get("model", {}).get("name") if isinstance(table.get("model"), Mapping) else None


def _explain(problem: Mapping[str, Any], location: list[str], table: Mapping[str, Any]) -> str:
    tag = _model_name(table)
    dotted = ".".join(location) or "the profile"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {dotted!r}; {nearest(location[-1], sorted(_known_keys(location[:-1], tag)))}"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"model.name {tag!r}: {nearest(str(tag), list(_MODEL_KINDS))}"
    if problem["type"] == "missing":
        return f"{dotted} is missing"
    shown = "" if problem["type"] == "value_error" else f" (got {problem['input']!r})"
    return f"{dotted}: {problem['msg'].removeprefix('Value error, ')}{shown}"


def _known_keys(parents: Sequence[str], tag: str | None) -> set[str]:
    """Keys that the table at `parents` may hold."""
    kind: Any = Profile
    for parent in parents:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif parent == "model":
            kind = _MODEL_KINDS.get(str(tag))
        else:
            kind = kind.model_fields[parent].annotation
    return set(getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", {}))
