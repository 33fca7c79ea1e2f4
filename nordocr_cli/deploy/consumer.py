"""What the Rust pipeline expects of a model, and the settings that make it load one. A part is code
there and cannot be configured: `pipeline_conflicts` names where a model differs from it. The rest
are the keys of its `--config` JSON and of `crates/nordocr-pipeline/src/config.rs`: `ConsumerConfig`
writes and checks them.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC, Charset, differences
from nordocr_cli.geometry import CTC_STRIDE

CONFIG_KEYS = (
    "recognize_model",
    "recognize_engine_path",
    "recognize_max_batch",
    "recognize_input_height",
    "recognize_max_input_width",
    "recognize_max_seq_len",
    "precision",
    "gpu_arch_override",
)
MODEL = "SVTRv2"  # the pipeline's name for the network whose output it decodes by CTC
# The pipeline has one name per GPU generation; it detects other GPUs by itself.
OVERRIDES = {8: "sm_80", 12: "sm_120"}
# The pipeline's values for keys that are not set.
DEFAULTS: Mapping[str, Any] = {
    "recognize_engine_path": "models/recognize_svtrv2_sm120.engine",
    "recognize_input_height": 32,
    "recognize_max_input_width": 1792,
    "recognize_max_seq_len": 448,
}

_RETRAIN = "train again with --set {key}={value}, or do not use this model in the pipeline"
_NETWORKS = ("svtrv2", "svtrv2-nano")
# geometry field → the values that suit the pipeline, and what the pipeline does
_GEOMETRY: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "normalization": (("symmetric",), "computes v / 127.5 - 1, which is symmetric"),
    "pad_value": ((255,), "pads with white, 255"),
    "stride": ((CTC_STRIDE,), f"takes one frame for every {CTC_STRIDE} pixels"),
    "width_multiple": ((CTC_STRIDE,), f"rounds widths down to a multiple of {CTC_STRIDE}"),
    "over_width": (("squash", "auto"), "squeezes lines that are too wide"),
    # The pipeline's models are trained with linear and served with corner-bilinear; see
    # pipeline_notes.
    "resampler": (("corner-bilinear", "linear"), "resamples bilinearly from the corner"),
}
# A key of this name, with or without `recognize_`, changes nothing: what the pipeline does.
FIXED_RULES: Mapping[str, str] = {
    **{field: does for field, (_, does) in _GEOMETRY.items()},
    "padding": "pads with white, 255, on the right",
    "charset": "has its characters in charset.rs",
    "decoder": "decodes greedily by CTC",
    "temperature": "applies no temperature",
    "output_activation": "expects logits and applies the softmax itself",
}


def pipeline_conflicts(contract: Contract, charset: Charset = NORDIC) -> list[str]:
    """Return one sentence for each point where the pipeline's code differs from what this model
    needs: field, both values, and the step that fixes it. `charset` is the pipeline's array. Empty
    when the pipeline reads the model correctly.
    """
    found: list[str] = []
    network = str(contract.model.get("name"))
    if network not in _NETWORKS:
        found.append(
            f"model.name is {network}; the pipeline runs {MODEL}: export a model of"
            f" {' or '.join(_NETWORKS)}"
        )
    if contract.decoding != "ctc":
        found.append(
            f"decoding is {contract.decoding}; the pipeline decodes this engine by CTC: export a"
            " CTC network"
        )
    if contract.precision == "int8":
        found.append(
            "precision is int8, for ONNX Runtime; the pipeline loads an engine of TensorRT, which"
            " is built from the fp32 or fp16 form: give that file"
        )
    found += geometry_conflicts(contract)
    found += _tensor_conflicts(contract)
    return found + _charset_conflicts(contract.charset, charset)


def geometry_conflicts(contract: Contract) -> list[str]:
    """Return one sentence for each preprocessing rule in which pipeline and model differ."""
    values = contract.geometry.to_json()
    found = []
    for field, (suitable, does) in _GEOMETRY.items():
        if values[field] not in suitable:
            key = f"geometry.{field}"
            fix = _RETRAIN.format(key=key, value=suitable[0])
            found.append(f"{key} is {values[field]}; the pipeline {does}: {fix}")
    return found


def _tensor_conflicts(contract: Contract) -> list[str]:
    found = []
    if contract.input_type == "uint8":
        found.append(
            "input_type is uint8; the pipeline normalizes pixels itself: export for it with"
            " --input float"
        )
    if contract.output_activation != "logits":
        found.append(
            f"output_activation is {contract.output_activation}; the pipeline applies the softmax"
            f" itself, which would be a second one: export for it with --output-activation logits"
        )
    return found


def _charset_conflicts(ours: Charset, theirs: Charset) -> list[str]:
    differing = differences(ours, theirs)
    if not differing:
        return []
    more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
    return [
        f"charset is {ours.name} with {ours.num_classes} classes; the pipeline's is {theirs.name}"
        f" with {theirs.num_classes} ({differing[0]}{more}): move the head with `nordocr charset"
        " move`, or give the pipeline's changed file with --charset charset.rs"
    ]


def pipeline_notes(contract: Contract) -> list[str]:
    """Return the differences to the pipeline that change only confidences, or few texts."""
    notes = []
    resampler = contract.geometry.resampler
    if resampler != "corner-bilinear":
        notes.append(
            f"geometry.resampler is {resampler}, the pipeline's is corner-bilinear; `nordocr eval"
            " --as-served` counts the texts that change"
        )
    if contract.geometry.tighten:
        notes.append(
            "geometry.tighten is on, the pipeline scales crops as they are: loose crops are read"
            " worse there"
        )
    notes += _decoding_notes(contract)
    trained = contract.trained_widths
    if trained is not None and trained[1] < contract.geometry.max_width:
        notes.append(
            f"trained_widths end at {trained[1]} px, the pipeline gives lines up to"
            f" {contract.geometry.max_width} px: compare both with `nordocr eval`, which counts by"
            " width"
        )
    return notes


def _decoding_notes(contract: Contract) -> list[str]:
    """Return the differences in decoding and confidence."""
    notes = []
    if contract.language_model is not None:
        notes.append(
            f"language_model is {contract.language_model}; the pipeline decodes greedily without"
            " one and reads more lines wrong than `nordocr eval` says; `nordocr eval --as-served`"
            " counts them"
        )
    if contract.line_confidence is not None:
        notes.append(
            "line_confidence is fitted; the pipeline gives the mean of the characters' confidences"
            " instead"
        )
    if contract.temperature != 1.0:
        notes.append(
            f"temperature is {contract.temperature:g}; the pipeline applies no temperature, so"
            f" its confidences are not calibrated"
        )
    return notes


@dataclass(frozen=True)
class ConsumerSetting:
    """One `key: value` of a config file; `line` counts from 1 and is None for a default value of
    the pipeline.
    """

    key: str
    value: Any
    line: int | None = None


@dataclass(frozen=True)
class ConsumerConfig:
    """The pipeline's settings for one engine. `arch` is e.g. `sm120`; `max_batch` and `max_width`
    (pixels) are the maximum of the engine, `line_width` is the widest line that the network was
    made for, `stride` is the number of pixels per frame.
    """

    engine_path: str
    arch: str
    precision: str
    max_batch: int
    height: int
    max_width: int
    line_width: int
    stride: int
    model: str = MODEL

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the pipeline's `--config` JSON."""
        values = (
            self.model,
            self.engine_path,
            self.max_batch,
            self.height,
            self.max_width,
            self.max_width // self.stride,
            self.precision.upper(),
            OVERRIDES.get(_generation(self.arch)),
        )
        return {
            key: value
            for key, value in zip(CONFIG_KEYS, values, strict=True)
            if value is not None
        }

    def to_rust(self) -> str:
        """Return the lines for a preset of config.rs, with the enums in a comment."""
        values = self.to_json()
        enum_keys = ("recognize_model", "precision", "gpu_arch_override")
        enums = [str(values.pop(key)) for key in enum_keys if key in values]
        lines = [f"// for {self.arch}; {', '.join(enums)} as in the JSON config"]
        for key, value in values.items():
            reason = ""
            if key == "recognize_max_seq_len":
                reason = f" // {self.max_width} / {self.stride}"
            lines.append(f"{key}: {json.dumps(value)},{reason}")
        return "\n".join(lines) + "\n"

    def is_loaded_by(self, engine_path: str) -> bool:
        """Return whether a preset with this engine path is for the model, on any GPU."""
        return _engine_stem(engine_path) == _engine_stem(self.engine_path)

    def disagreements(
        self, setting: ConsumerSetting, others: Mapping[str, Any]
    ) -> Iterator[str]:
        """Yield what is wrong with one setting; `others` are all settings of the same preset."""
        needed = self.to_json().get(setting.key)
        value = setting.value
        if isinstance(needed, int) and (
            not isinstance(value, int) or isinstance(value, bool)
        ):
            yield f"{value!r} is not a whole number; it must be {needed} here"
            return
        check = _CHECKS.get(setting.key)
        if check is not None:
            yield from check(self, value, others)


_Check = Callable[[ConsumerConfig, Any, Mapping[str, Any]], Iterator[str]]


def _check_engine(
    config: ConsumerConfig, value: Any, others: Mapping[str, Any]
) -> Iterator[str]:
    path = str(value)
    name = _file_name(path)
    arch = _ARCH.search(name)
    if name.endswith(".rtx.engine"):
        yield f"{path!r} is an engine of TensorRT-RTX, which the pipeline cannot load"
    elif arch and f"sm{arch[1]}" != config.arch:
        yield f"{path!r} is for sm{arch[1]}; requested: {config.arch}"
    elif name != _file_name(config.engine_path):
        yield f"{path!r}; this model's engine is {config.engine_path!r}"


def _check_batch(
    config: ConsumerConfig, value: int, others: Mapping[str, Any]
) -> Iterator[str]:
    if value > config.max_batch:
        yield f"{value} lines at once; the engine accepts {config.max_batch}"
    elif value < 1:
        yield f"{value} lines at once; use 1 to {config.max_batch}"


def _check_height(
    config: ConsumerConfig, value: int, others: Mapping[str, Any]
) -> Iterator[str]:
    if value != config.height:
        yield f"{value} px; the model reads lines {config.height} px high"


def _check_width(
    config: ConsumerConfig, value: int, others: Mapping[str, Any]
) -> Iterator[str]:
    if value % config.stride:
        yield (
            f"{value} px is not a multiple of {config.stride}: every frame after the first line"
            f" would"
            " shift"
        )
    if value > config.max_width:
        yield f"{value} px; the engine accepts {config.max_width}"
    elif value < config.line_width:
        yield (
            f"{value} px: wider lines are squeezed, although the model reads {config.line_width} px"
        )


def _check_frames(
    config: ConsumerConfig, value: int, others: Mapping[str, Any]
) -> Iterator[str]:
    width = others.get("recognize_max_input_width", DEFAULTS["recognize_max_input_width"])
    if isinstance(width, int) and value * config.stride < width:
        needed = -(-width // config.stride)
        yield (
            f"{value} frames cover {value * config.stride} px; a line of {width} px needs {needed}"
        )


def _check_override(
    config: ConsumerConfig, value: Any, others: Mapping[str, Any]
) -> Iterator[str]:
    if value is None:
        return
    known = {_squeezed(name): name for name in OVERRIDES.values()}
    name = known.get(_squeezed(value))
    if name is None:
        yield f"{value!r}; the pipeline supports {' and '.join(OVERRIDES.values())}"
    elif name != OVERRIDES.get(_generation(config.arch)):
        yield f"{value!r}; the engine is for {config.arch}"


def _check_name(key: str) -> _Check:
    def check(
        config: ConsumerConfig, value: Any, others: Mapping[str, Any]
    ) -> Iterator[str]:
        needed = config.to_json()[key]
        if _squeezed(value) != _squeezed(needed):
            yield f"{value!r}; it must be {needed!r}"

    return check


_CHECKS: Mapping[str, _Check] = {
    "recognize_model": _check_name("recognize_model"),
    "recognize_engine_path": _check_engine,
    "recognize_max_batch": _check_batch,
    "recognize_input_height": _check_height,
    "recognize_max_input_width": _check_width,
    "recognize_max_seq_len": _check_frames,
    "precision": _check_name("precision"),
    "gpu_arch_override": _check_override,
}

_ARCH = re.compile(r"sm_?(\d+)", re.IGNORECASE)


def arch_named_in(text: str) -> str | None:
    """Return the architecture in a text, e.g. `sm120`; None without one."""
    found = _ARCH.search(text)
    if found:
        return f"sm{found[1]}"
    return None


def _file_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _engine_stem(path: str) -> str:
    """Return a file name without its architecture and suffix: `recognize_svtrv2_1024`."""
    name = _file_name(path).removesuffix(".engine").removesuffix(".rtx")
    return re.sub(r"_sm_?\d+(\+sm_?\d+)*$", "", name, flags=re.IGNORECASE)


def _squeezed(value: Any) -> str:
    """Return a name in lower case without underscores: the enum's `Sm120` is the JSON's
    `sm_120`.
    """
    return str(value).lower().replace("_", "")


def _generation(arch: str) -> int:
    """Return the major compute capability: 12 for sm120."""
    return int(re.sub("[^0-9]", "", arch)) // 10
