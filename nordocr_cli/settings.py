"""The tables of a profile: what each may hold, its defaults and bounds. `[model]` has one table for
each network.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

if TYPE_CHECKING:
    from nordocr_cli.geometry import Geometry

# ctc: a class for each frame of the image, 0 the blank. autoregressive: a class for each position
# of the text, 0 its end. seq2seq: tokens of a tokenizer of its own, generated one after the other
# (TrOCR); there is no output of fixed shape.
Decoding = Literal["ctc", "autoregressive", "seq2seq"]
Precision = Literal["fp32", "fp16", "bf16"]
# Names of metrics/registry.py.
BestMetric = Literal[
    "cer",
    "cer_macro",
    "wer",
    "exact",
    "space_insensitive",
    "character_accuracy",
    "digits_exact",
]
# The names that Lightning users type, and ours.
_PRECISION_ALIASES = {
    "32": "fp32",
    "32-true": "fp32",
    "16": "fp16",
    "16-mixed": "fp16",
    "bf16-mixed": "bf16",
}


# The largest network here has 18 layers and vectors of 768 numbers.
_MAX_LAYERS = 100
_MAX_OPTION = 8192


class Table(BaseModel):
    """A table whose keys are all known and whose values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


# Every network's model table by its name. Defining a subclass of ModelTable adds it here.
MODEL_KINDS: "dict[str, type[ModelTable]]" = {}


class ModelTable(Table):
    """The options of one network: the table `[model]` of a profile.

    A subclass has a field `name` of type `Literal["the-name"]` and the class variable `network`.
    Defining it registers the network. The class variables tell the rest of the program what it must
    know about a network before torch is imported.
    """

    name: str
    # Where the LineNetwork is defined: "package.module:Class".
    network: ClassVar[str]
    decoding: ClassVar[Decoding] = "ctc"
    # Options that only training reads: weights trained with other values still fit.
    training_only: ClassVar[tuple[str, ...]] = ()
    # Options that change what the network computes, but not the shapes of its weights.
    shapeless: ClassVar[tuple[str, ...]] = ()
    # Whether every line is scaled to one input size, so that all lines cost the same.
    fixed_input_size: ClassVar[bool] = False
    # Widest line in pixels that the exported network reads; None: any width. Mamba's 4,096 frames
    # are what the chunked scan of its graph takes (models/kernels/selective_scan.py).
    max_export_width_px: ClassVar[int | None] = None
    # The branch that `train.guidance` adds in training: "package.module:Class".
    auxiliary_branch: ClassVar[str] = ""
    # A function (table, geometry, fresh) that checks the files which the table names without
    # importing torch: "package.module:function". `fresh`: training starts without `--load`.
    file_check: ClassVar[str] = ""
    # Whether a weights file may hold a small part of the network, the rest being in a folder that
    # the table names.
    extends_folder: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Register the table under its name."""
        (name,) = get_args(cls.model_fields["name"].annotation)
        MODEL_KINDS[name] = cls

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        """Refuse a network that no machine builds: also a file from outside names its options."""
        for key in type(self).model_fields:
            value = getattr(self, key)
            numbers = value if isinstance(value, tuple) else (value,)
            maximum = _MAX_LAYERS if key in ("depths", "layers") else _MAX_OPTION
            too_large = [n for n in numbers if isinstance(n, int) and n > maximum]
            if too_large:
                raise ValueError(f"{key} {too_large[0]}: at most {maximum:,}")
        return self

    @property
    def label_limit(self) -> int | None:
        """Characters of the longest label that the network can write; None: as many as the frames
        of the line allow (CTC).
        """
        return None

    @property
    def unused_options(self) -> tuple[str, ...]:
        """Options without effect, because another option switches off what they configure."""
        return ()

    @property
    def supports_guidance(self) -> bool:
        """Whether `train.guidance` works with this network."""
        return False

    @property
    def required_device(self) -> str:
        """The kind of device that training needs, "" for any; `required_by` says why."""
        return ""

    @property
    def required_by(self) -> str:
        """The option that needs `required_device`, and the reason."""
        return ""

    def check_profile(
        self, geometry: "Geometry", train: "Train", augment: "Augment"
    ) -> None:
        """Check that the rest of the profile suits the network. Raises ValueError."""
        if train.guidance != "none" and not self.supports_guidance:
            raise ValueError(
                f"train.guidance = {train.guidance!r} is for model.name = 'svtrv2' with"
                " model.head = 'rctc'"
            )

    def import_tables(self) -> dict[str, dict[str, Any]]:
        """Return the other tables of the profile of an imported checkpoint, where they must not be
        the defaults.
        """
        return {}


def decoding_of(name: str) -> Decoding:
    """Return how the output of the network `name` is decoded; an unknown network counts as CTC."""
    if name in MODEL_KINDS:
        return MODEL_KINDS[name].decoding
    return "ctc"


def unused_options(table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options of a stored model table that have no effect in its network; none for an
    unknown network.
    """
    kind = MODEL_KINDS.get(str(table.get("name")))
    if kind is None:
        return ()
    return kind.model_construct(**table).unused_options


class _ByName:
    """Validates a model table with the class that is registered under its `name`."""

    def __get_pydantic_core_schema__(self, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_validated_model)

    def __get_pydantic_json_schema__(
        self, _schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        kinds = {name: kind.__pydantic_core_schema__ for name, kind in MODEL_KINDS.items()}
        return handler(core_schema.tagged_union_schema(kinds, discriminator="name"))


def _validated_model(value: Any) -> ModelTable:
    if isinstance(value, ModelTable):
        return value
    if not isinstance(value, Mapping) or "name" not in value:
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'name'"})
    name = str(value["name"])
    if name not in MODEL_KINDS:
        expected = ", ".join(map(repr, MODEL_KINDS))
        context = {"discriminator": "'name'", "tag": name, "expected_tags": expected}
        raise PydanticKnownError("union_tag_invalid", context)
    return MODEL_KINDS[name].model_validate(dict(value))


Model = Annotated[ModelTable, _ByName()]


class SvtrV2Model(ModelTable):
    """SVTRv2 as its authors publish it (Du et al. 2024, arXiv 2411.15858): tiny, small or base."""

    network: ClassVar[str] = "nordocr_cli.models.svtrv2:SvtrV2"
    auxiliary_branch: ClassVar[str] = "nordocr_cli.models.guidance:Guidance"
    training_only: ClassVar[tuple[str, ...]] = ("drop_path",)

    name: Literal["svtrv2"]
    size: Literal["tiny", "small", "base"] = "base"
    # rctc: rows are rearranged by attention (the paper's FRM) before the classifier; ctc: their
    # mean is classified.
    head: Literal["rctc", "ctc"] = "rctc"
    drop_path: float = Field(0.1, ge=0, lt=1)

    @property
    def supports_guidance(self) -> bool:
        """The guidance branch looks at the rows of features, which only the RCTC head keeps."""
        return self.head == "rctc"


class SvtrV2NanoModel(ModelTable):
    """A lean, pre-norm network of the SVTRv2 family for CPUs: height halved early, attention only
    at height 2 or 1.
    """

    network: ClassVar[str] = "nordocr_cli.models.svtrv2_nano:SvtrV2Nano"
    training_only: ClassVar[tuple[str, ...]] = ("drop_path",)

    name: Literal["svtrv2-nano"]
    # channels of the two convolutional stages and of the attention stage
    dims: tuple[int, int, int] = (48, 96, 192)
    depths: tuple[int, int, int] = (2, 3, 3)  # blocks of each stage
    # rows of the map that attention runs on; older files say nothing and have 2
    attention_rows: Literal[1, 2] = 2
    drop_path: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> "SvtrV2NanoModel":
        if (
            min(self.dims) <= 0
            or self.dims[0] % 24
            or self.dims[1] % 24
            or self.dims[2] % 32
        ):
            raise ValueError(
                f"dims {list(self.dims)}: the first two must be multiples of 24, the third of 32"
            )
        if min(self.depths) < 0:
            raise ValueError(
                f"depths {list(self.depths)}: a stage cannot have less than 0 blocks"
            )
        return self


class SvtrModel(ModelTable):
    """SVTR for short strips: three stages, local and global mixing, height merged to 1."""

    network: ClassVar[str] = "nordocr_cli.models.svtr:Svtr"
    training_only: ClassVar[tuple[str, ...]] = ("drop_path",)
    shapeless: ClassVar[tuple[str, ...]] = ("local_window",)

    name: Literal["svtr"]
    # base-conv: OpenOCR's base, whose local blocks convolve and whose norms come last
    size: Literal["tiny", "small", "base", "large", "base-conv"] = "tiny"
    local_window: tuple[int, int] = (7, 7)  # [height, width]; the paper's is 7x11
    # ctc: the mean of the rows is classified. rctc: rows are rearranged by attention before.
    head: Literal["ctc", "rctc"] = "ctc"
    # [rows, columns] of the learned positions: those of a 32x128 input. A wider one stretches them.
    positions: tuple[int, int] = (8, 32)
    out_channels: int = Field(256, ge=1)
    drop_path: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _possible(self) -> "SvtrModel":
        if any(side % 2 == 0 or not 3 <= side <= 33 for side in self.local_window):
            raise ValueError(
                f"local_window {list(self.local_window)}: both sides must be odd numbers from 3"
                " to 33"
            )
        if min(self.positions) < 1:
            raise ValueError(
                f"positions {list(self.positions)}: both numbers must be at least 1"
            )
        return self


class MambaModel(ModelTable):
    """ResNet34 features with adapters, a Mamba encoder with LoRA, a linear CTC classifier."""

    network: ClassVar[str] = "nordocr_cli.models.mamba:MambaOcr"
    training_only: ClassVar[tuple[str, ...]] = ("backbone_weights", "pretrained")
    max_export_width_px: ClassVar[int | None] = 16384
    file_check: ClassVar[str] = "nordocr_cli.models.mamba_files:require_mamba_files"

    name: Literal["mamba"]
    backbone: Literal["resnet34"] = "resnet34"
    # ImageNet weights of the backbone, torchvision's or transformers' file (.safetensors, .pth,
    # .bin); empty = random.
    backbone_weights: str = ""
    features: int = Field(512, ge=1)
    # Of the adapter after each block of layer1-4; 0 = none.
    adapter_rank: int = Field(64, ge=0)
    use_lora: bool = True  # on in_proj and x_proj of the Mamba blocks
    lora_rank: int = Field(16, ge=1)
    layers: int = Field(4, ge=1)
    d_state: int = Field(16, ge=1)
    d_conv: int = Field(4, ge=1)
    expand: int = Field(2, ge=1)
    bidirectional: bool = True
    # Weights of the Mamba blocks: a file of state-spaces/mamba-…-hf, whose first `layers` blocks
    # are taken; empty = random.
    pretrained: str = ""

    @property
    def unused_options(self) -> tuple[str, ...]:
        """The rank of adapters that do not exist."""
        return () if self.use_lora else ("lora_rank",)


class ParseqModel(ModelTable):
    """PARSeq: a vision transformer and a decoder that writes token by token (Bautista and Atienza
    2022, arXiv 2207.06966).
    """

    network: ClassVar[str] = "nordocr_cli.models.parseq.network:Parseq"
    decoding: ClassVar[Decoding] = "autoregressive"
    training_only: ClassVar[tuple[str, ...]] = (
        "dropout",
        "permutations",
        "decode",
        "refine",
    )
    shapeless: ClassVar[tuple[str, ...]] = ("scale_positions",)

    name: Literal["parseq"]
    size: Literal["tiny", "small"] = "small"
    # of the input, multiples of the patches of 4x8 pixels; lines are stretched to the width
    height: int = Field(32, ge=4)
    width: int = Field(384, ge=8)
    max_label_length: int = Field(128, ge=1)  # longest text that can be written
    # nar: all positions at once; ar: left to right, one after the other. Each is then read over
    # again `refine` times.
    decode: Literal["nar", "ar"] = "nar"
    refine: int = Field(2, ge=0)
    permutations: int = Field(6, ge=2)  # orders in which a batch's labels are learned
    dropout: float = Field(0.1, ge=0, lt=1)
    scale_positions: bool = (
        False  # times the root of their size, which the authors do not do
    )

    @model_validator(mode="after")
    def _in_patches(self) -> Self:
        if self.height % 4 or self.width % 8 or self.permutations % 2:
            raise ValueError(
                f"height {self.height}, width {self.width}, permutations {self.permutations}:"
                " multiples of 4, 8 and 2 are needed"
            )
        return self

    @property
    def label_limit(self) -> int:
        """Characters of the longest label."""
        return self.max_label_length

    def check_profile(
        self, geometry: "Geometry", train: "Train", augment: "Augment"
    ) -> None:
        """Check input size and label length. Raises ValueError."""
        super().check_profile(geometry, train, augment)
        if (self.height, self.width) != (geometry.height, geometry.max_width):
            raise ValueError(
                f"model.height and model.width {self.height}x{self.width} must be geometry.height"
                f" and geometry.max_width {geometry.height}x{geometry.max_width}: parseq has a"
                " learned position for each patch"
            )
        if augment.join and self.max_label_length < geometry.out_length(geometry.max_width):
            raise ValueError(
                f"model.max_label_length {self.max_label_length} is too short for joined lines;"
                " set augment.join = 0"
            )

    def import_tables(self) -> dict[str, dict[str, Any]]:
        """One input width; padding is always masked, since each line is stretched from its own
        width; no joined lines.
        """
        return {
            "geometry": {"max_width": self.width},
            "train": {"mask_share": 1.0},
            "augment": {"join": 0.0, "pad_right": 0.0},
        }


class TrocrModel(ModelTable):
    """TrOCR: a pretrained vision transformer and language decoder of transformers, fine-tuned
    through LoRA.
    """

    network: ClassVar[str] = "nordocr_cli.models.trocr.network:TrOcr"
    decoding: ClassVar[Decoding] = "seq2seq"
    training_only: ClassVar[tuple[str, ...]] = (
        "pretrained",
        "pretrained_sha256",
        "load_in",
    )
    fixed_input_size: ClassVar[bool] = True
    file_check: ClassVar[str] = "nordocr_cli.models.trocr.folder:require_trocr_folder"
    extends_folder: ClassVar[bool] = True

    name: Literal["trocr"]
    # Its folder as transformers saves it, or its name on the Hugging Face hub. Empty in weights
    # that merge-lora wrote: theirs.
    pretrained: str = ""
    # of its model.safetensors; another file is refused. Training writes it into the weights.
    pretrained_sha256: str = ""
    # How the frozen pretrained weights are held while the adapters train: quantized by
    # bitsandbytes they take a quarter (8bit) or an eighth (4bit, NF4) of the memory. CUDA only.
    # Weights that are read, merged or exported later always use the full precision.
    load_in: Literal["fp32", "8bit", "4bit"] = "fp32"
    lora_rank: int = Field(8, ge=0)  # 0 = no LoRA, everything trains
    # what the adapters compute is multiplied by lora_alpha / lora_rank
    lora_alpha: int = Field(16, ge=1)
    lora_dropout: float = Field(0.05, ge=0, lt=1)
    # Patterns on the names of the linear layers that get an adapter, as in train.trainable:
    # `decoder.*.q_proj` is the decoder's.
    lora_target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    # Tokens of the longest label, its end counted.
    max_target_length: int = Field(256, ge=2)
    # tokens that a reading has at most, beginning and end counted
    generation_max_length: int = Field(256, ge=2)

    @property
    def unused_options(self) -> tuple[str, ...]:
        """The settings of adapters that do not exist."""
        if self.lora_rank:
            return ()
        return ("lora_alpha", "lora_dropout", "lora_target_modules")

    @property
    def label_limit(self) -> int:
        """Characters of the longest label that may fit; the tokenizer decides how many tokens it
        takes.
        """
        return self.max_target_length - 1

    @property
    def required_device(self) -> str:
        """CUDA where the pretrained weights are quantized."""
        return "" if self.load_in == "fp32" else "cuda"

    @property
    def required_by(self) -> str:
        """Why CUDA is needed."""
        return (
            f"model.load_in = {self.load_in!r} saves memory of a GPU through bitsandbytes' CUDA"
            " kernels; train with model.load_in=fp32 elsewhere"
        )

    def check_profile(
        self, geometry: "Geometry", train: "Train", augment: "Augment"
    ) -> None:
        """Check what trains and that lines are not joined. Raises ValueError."""
        super().check_profile(geometry, train, augment)
        if self.load_in != "fp32" and not self.lora_rank:
            raise ValueError(
                f"model.load_in = {self.load_in!r} needs model.lora_rank above 0: quantized weights"
                " cannot train, only adapters next to them"
            )
        if self.lora_rank and train.trainable:
            raise ValueError(
                "train.trainable must be empty with model.lora_rank above 0: only the adapters"
                " train, everything else is frozen"
            )
        if augment.join:
            raise ValueError(
                "augment.join must be 0 with model.name = 'trocr': it scales long lines into a"
                " square, where their characters become too narrow to read"
            )

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.lora_rank and not self.lora_target_modules:
            raise ValueError(
                "lora_target_modules is empty: name layers, e.g. ['q_proj', 'v_proj'], or set"
                " lora_rank = 0"
            )
        return self


class Data(Table):
    """Where the line stores are. Paths are relative to the working folder."""

    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    num_workers: int = Field(2, ge=0, le=256)


class Train(Table):
    """Hyper-parameters of training. `lr` is the peak of the schedule for `lr_batch` lines a
    step.
    """

    epochs: int = Field(20, ge=1)
    lr: float = Field(7e-4, gt=0)
    # Lines a step that lr is meant for; for others it is multiplied by the root of their ratio. 0 =
    # the lines a step of one GPU, so that only more GPUs change it.
    lr_batch: int = Field(0, ge=0)
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    weight_decay: float = Field(0.05, ge=0)
    warmup_ratio: float = Field(0.075, ge=0, lt=1)
    grad_clip: float = Field(5.0, ge=0)
    precision: Precision = "bf16"
    # Lines a step at widths up to batch_width_px; wider buckets get fewer, so that a batch holds as
    # many pixels.
    batch_size: int = Field(256, ge=1)
    batch_width_px: int = Field(320, ge=4)
    # Batch size by GPU, used instead of batch_size on that card.
    batch_by_arch: dict[str, int] = Field(default_factory=dict)
    # batches a step, one after the other: a larger step in the same memory
    accumulate: int = Field(1, ge=1)
    # blocks compute their activations again going back: less memory, a third more time
    checkpointing: bool = False
    # torch.compile, for any width; the first steps take minutes. "reduce-overhead" also replays
    # CUDA graphs, one for each size of batch: for networks so small that a GPU waits for its
    # launches.
    compile: bool | Literal["reduce-overhead"] = False
    # Share of the steps in which the network gets the widths and masks the padding; in the others
    # it sees the white padding of serving, which an exported model without a mask has to live with.
    mask_share: float = Field(0.5, ge=0, le=1)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    # smtr: SVTRv2 also learns to find each character from the five next to it (the paper's SGM);
    # nothing of it is saved to ship.
    guidance: Literal["none", "smtr"] = "none"
    # Patterns on the names of what trains, e.g. ["adapter", "backbone.layer4"]; all else is frozen.
    # Empty = everything trains.
    trainable: tuple[str, ...] = ()
    seed: int = Field(1, ge=0, le=2**63 - 1)
    # What the best checkpoint is chosen by on the validation lines; CER decides between equals.
    best_metric: BestMetric = "cer"
    eval_every: int = Field(1000, ge=1)
    save_every: int = Field(500, ge=1)
    log_every: int = Field(20, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _accept_precision_aliases(cls, table: Any) -> Any:
        if isinstance(table, dict) and str(table.get("precision")) in _PRECISION_ALIASES:
            return {**table, "precision": _PRECISION_ALIASES[str(table["precision"])]}
        return table


class Augment(Table):
    """Probabilities of the on-the-fly changes to a training line, each from 0 (never) to 1. None of
    them makes a label untrue.
    """

    # A line takes the next one along, a space between the labels, with paper up to max_join_gap_px
    # wide between them: long lines, and the wide gaps of table rows.
    join: float = Field(0.15, ge=0, le=1)
    max_join_gap_px: int = Field(160, ge=8)
    squeeze: float = Field(0.3, ge=0, le=1)  # narrower or wider, up to 1.3 times
    # A box a little too large or too small, on each side.
    crop: float = Field(0.3, ge=0, le=1)
    # Pieces of other lines at the edges, paper between.
    neighbour: float = Field(0.05, ge=0, le=1)
    # Another resolution and back, by other resamplers.
    resample: float = Field(0.15, ge=0, le=1)
    blur: float = Field(0.1, ge=0, le=1)
    brightness: float = Field(0.2, ge=0, le=1)  # and contrast
    noise: float = Field(0.1, ge=0, le=1)
    threshold: float = Field(0.05, ge=0, le=1)  # one bit a pixel
    jpeg: float = Field(0.1, ge=0, le=1)
    # a batch without mask: extra white padding, up to max_pad_right_px
    pad_right: float = Field(0.3, ge=0, le=1)
    max_pad_right_px: int = Field(320, ge=0)


class Export(Table):
    """Defaults of `nordocr export`."""

    opset: int = Field(17, ge=17, le=23)
    precision: Literal["fp32", "fp16"] = "fp32"
    simplify: bool = True
    output_activation: Literal["logits", "softmax", "argmax+confidence"] = "logits"


class ShapeRange(Table):
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
            minimum, optimum, maximum = (
                getattr(self, f"{end}_{side}") for end in ("min", "opt", "max")
            )
            if not minimum <= optimum <= maximum:
                raise ValueError(
                    f"min_{side} {minimum} ≤ opt_{side} {optimum} ≤ max_{side} {maximum}"
                    " does not hold"
                )
        for end in ("min", "opt", "max"):
            if getattr(self, f"{end}_width") % 4:
                raise ValueError(
                    f"{end}_width {getattr(self, f'{end}_width')} is not a multiple of 4, the CTC"
                    " stride"
                )
        return self

    def ends(self) -> dict[str, tuple[int, int]]:
        """Return (batch, width) under min, opt and max."""
        return {
            end: (getattr(self, f"{end}_batch"), getattr(self, f"{end}_width"))
            for end in ("min", "opt", "max")
        }


class Engine(ShapeRange):
    """What one engine takes. With `bands` it has one shape range for each band of widths, each with
    its own batch sizes, and `min_…`, `opt_…`, `max_…` next to them are not used.
    """

    precision: Literal["fp32", "fp16", "bf16"] = "fp16"
    bands: tuple[ShapeRange, ...] = ()

    @model_validator(mode="after")
    def _bands_rise(self) -> Self:
        for narrow, wide in pairwise(self.bands):
            if (
                not narrow.max_width < wide.max_width
                or wide.min_width > narrow.max_width + 4
            ):
                raise ValueError(
                    f"bands rise in width without a gap: after one up to {narrow.max_width} px"
                    f" comes one from at most {narrow.max_width + 4} px on, not {wide.min_width} to"
                    f" {wide.max_width}"
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
