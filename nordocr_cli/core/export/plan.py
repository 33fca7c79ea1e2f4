"""What `export` will do, resolved without torch: files, their formats and what is checked of
them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from nordocr_cli.artifact.contract import Contract, InputType, OutputActivation, OutputType
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.core.consumer import config_of, require_consumer_file
from nordocr_cli.deploy.onnx_file import (
    default_onnx_path,
    fp16_sibling,
    golden_path,
    int8_sibling,
    require_golden_name,
)
from nordocr_cli.deploy.parity import shapes_to_try
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.profile import Profile, profile_from_json

# what torch's TorchScript exporter can write, from the consumer's opset on
EXPORTER_OPSETS = range(17, 21)
BF16_OPSET = 22  # of bf16 files: ONNX's convolutions take bf16 from here on
PRECISIONS = ("fp32", "fp16", "bf16")
_FP16_CLASSES = 2048  # above it fp16 has no number for every class
MAX_CER_LOSS = 0.5  # percentage points
# 4,096 frames: what the chunked scan of an exported graph takes (models/selective_scan.py)
MAMBA_MOST_PX = 16384


@dataclass(frozen=True)
class ExportPlan:
    """What an export will do: one file per entry of `outputs` (precision → path). `contract` has
    the types and activation of the files; `check_store` is the line store on which files are
    compared with the network.
    """

    weights: Path
    contract: Contract
    outputs: Mapping[str, Path]
    opset: int
    simplify: bool
    shapes: tuple[tuple[int, int], ...]
    # lines that prove a host's preprocessing and decoding, of `golden_lines` or drawn
    golden: int = 0
    golden_lines: Path | None = None
    check_store: Path | None = None
    check_lines: int = 500
    max_cer_loss: float = MAX_CER_LOSS
    consumer_config: Path | None = None  # the Rust pipeline's config to write
    check_consumer: Path | None = None  # a file of the pipeline that is to agree
    # lines that set the ranges of int8 convolutions, which stay fp32 without
    calibration: Path | None = None

    def opset_of(self, precision: str) -> int:
        """The opset of one file."""
        return BF16_OPSET if precision == "bf16" else self.opset

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        contract = self.contract
        return {
            "weights": str(self.weights),
            "model": dict(contract.model),
            "outputs": {precision: str(path) for precision, path in self.outputs.items()},
            "opset": {precision: self.opset_of(precision) for precision in self.outputs},
            "simplify": self.simplify,
            "output_activation": contract.output_activation,
            "max_width": contract.geometry.max_width,
            "input": input_words(contract),
            "output": output_words(contract),
            "parity_shapes": [f"{batch}x{width}" for batch, width in self.shapes],
            "calibration": str(self.calibration) if self.calibration else None,
            "golden": self.golden,
            "golden_lines": str(self.golden_lines) if self.golden_lines else None,
            "check_store": str(self.check_store) if self.check_store else None,
            "check_lines": self.check_lines,
            "max_cer_loss_points": self.max_cer_loss,
            "consumer_config": str(self.consumer_config) if self.consumer_config else None,
            "check_consumer": str(self.check_consumer) if self.check_consumer else None,
        }


def input_words(contract: Contract) -> str:
    """The input in words."""
    return f"input [batch, 3, {contract.geometry.height}, width] {contract.input_type}"


def output_words(contract: Contract) -> str:
    """The output in words."""
    positions = contract.out_length(0) if contract.decoding == "autoregressive" else "seq_len"
    return (
        f"output [batch, {positions}, {contract.output_channels}] {contract.output_type}"
        f" {contract.output_activation}"
    )


def plan_export(
    checkpoint: Path,
    output: Path | None = None,
    *,
    precision: str | None = None,
    opset: int | None = None,
    simplify: bool | None = None,
    output_activation: str | None = None,
    input_type: str = "float",
    io: str = "fp32",
    max_width: int | None = None,
    golden: int = 0,
    golden_lines: Path | None = None,
    int8: bool = False,
    calibration: Path | None = None,
    check_store: Path | None = None,
    check_lines: int = 500,
    max_cer_loss: float = MAX_CER_LOSS,
    consumer_config: Path | None = None,
    check_consumer: Path | None = None,
) -> ExportPlan:
    """Resolve what an export will do; imports no torch. What is None comes from the profile that
    the weights carry.

    Without `precision`, the profile's precision is written, and beside an fp32 file its fp16 form
    `….fp16.onnx` where an engine of the profile wants fp16: an engine takes its precision from the
    ONNX. `input_type` is `float` or `uint8`, `io` (fp32 or fp16) the format of floats that go in
    and out; `int8` asks for `….int8.onnx` too, `calibration` holds lines that its convolutions need
    to be in int8 as well; `max_cer_loss` is in percentage points. Raises UsageError and
    ArtifactError.
    """
    weights = find_weights(checkpoint)
    contract = read_contract(weights)
    if contract.decoding == "seq2seq":
        raise UsageError(
            f"{weights} is a TrOCR, which has no ONNX file or engine here. `nordocr merge-lora"
            f" {checkpoint} -o FOLDER` writes it as transformers reads it; train svtrv2-nano or"
            " svtrv2-1024 for a network that exports"
        )
    if weights.suffix != ".safetensors":
        raise UsageError(
            f"{weights} is not a checkpoint; export takes .safetensors weights or the folder of"
            " a run"
        )
    profile = profile_from_json(contract.profile, f"{weights}: embedded profile")
    if max_width is not None:
        try:
            contract = replace(contract, geometry=replace(contract.geometry, max_width=max_width))
        except ValueError as error:
            raise UsageError(f"--max-width {max_width}: {error}") from None
    if precision == "bf16" and opset not in (None, BF16_OPSET):
        raise UsageError(
            f"--opset {opset}: bf16 files are opset {BF16_OPSET}, before it ONNX has no convolution"
            " in bf16"
        )
    opset = profile.export.opset if opset is None or precision == "bf16" else opset
    if opset not in EXPORTER_OPSETS:
        raise UsageError(
            f"opset {opset}: the exporter writes {EXPORTER_OPSETS[0]} to {EXPORTER_OPSETS[-1]} (17"
            " is the consumer's)"
        )
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"--output {output}: the name of an ONNX model ends in .onnx")
    if golden_lines is not None and not golden:
        raise UsageError(
            "--golden-lines says where golden lines come from; --golden N says how many"
        )
    if calibration is not None and not int8:
        raise UsageError(
            "--calibration gives lines to the convolutions of an int8 file; --int8 asks for one"
        )
    contract = _with_tensors(
        contract, output_activation or profile.export.output_activation, input_type, io
    )
    outputs = _outputs(profile, output, precision, int8)
    if check_store and not (check_store / "data.mdb").is_file():
        raise UsageError(f"no line store {check_store}; make one with `nordocr prep`")
    onnx = next(iter(outputs.values()))
    if golden:
        require_golden_name(golden_path(onnx))
    if consumer_config:
        config_of(contract, onnx)  # what the pipeline cannot be told is said now
        if consumer_config in outputs.values() or consumer_config.is_dir():
            raise UsageError(
                f"--consumer-config {consumer_config}: the config is a file of its own, e.g."
                " config.json"
            )
    if check_consumer:
        require_consumer_file(check_consumer)
    for path in filter(None, (*outputs.values(), consumer_config)):
        refuse_inputs(
            path, filter(None, (weights, golden_lines, check_store, check_consumer, calibration))
        )
    widths = [
        contract.geometry.max_width,
        *(engine.max_width for engine in profile.engine.values()),
    ]
    if profile.model.name == "mamba" and max(widths) > MAMBA_MOST_PX:
        raise UsageError(
            f"lines of {max(widths)} px: an exported mamba reads at most {MAMBA_MOST_PX}; give a"
            " lower --max-width"
        )
    return ExportPlan(
        weights=weights,
        contract=contract,
        outputs=outputs,
        opset=opset,
        simplify=profile.export.simplify if simplify is None else simplify,
        shapes=shapes_to_try(max(widths)),
        golden=golden,
        golden_lines=golden_lines,
        check_store=check_store,
        check_lines=check_lines,
        max_cer_loss=max_cer_loss,
        consumer_config=consumer_config,
        check_consumer=check_consumer,
        calibration=calibration,
    )


def _with_tensors(contract: Contract, activation: str, input_type: str, io: str) -> Contract:
    """Put what goes in and out into the contract. Raises UsageError for another name, and where
    fp16 cannot count the classes.
    """
    for flag, value, choices in (
        ("--output-activation", activation, get_args(OutputActivation)),
        ("--input", input_type, ("float", "uint8")),
        ("--io", io, ("fp32", "fp16")),
    ):
        if value not in choices:
            raise UsageError(f"{flag} {value!r}: {' or '.join(choices)}; {nearest(value, choices)}")
    activations: dict[str, OutputActivation] = {name: name for name in get_args(OutputActivation)}
    floats: OutputType = "float16" if io == "fp16" else "float32"
    pixels: InputType = "uint8" if input_type == "uint8" else floats
    if (
        floats == "float16"
        and activation == "argmax+confidence"
        and contract.charset.num_classes > _FP16_CLASSES
    ):
        raise UsageError(
            f"--io fp16: its numbers are whole up to {_FP16_CLASSES}, there are"
            f" {contract.charset.num_classes} classes"
        )
    return replace(
        contract, output_activation=activations[activation], input_type=pixels, output_type=floats
    )


def _outputs(
    profile: Profile, output: Path | None, precision: str | None, int8: bool
) -> dict[str, Path]:
    path = output or default_onnx_path(profile)
    if precision not in (None, *PRECISIONS):
        more = "; --int8 writes that form beside fp32" if precision == "int8" else ""
        raise UsageError(
            f"--precision {precision!r}: an ONNX file is {', '.join(PRECISIONS)}{more}"
        )
    named_half = fp16_sibling(path) == path
    if named_half and precision not in (None, "fp16"):
        raise UsageError(
            f"--output {path} is the name of an fp16 file, and --precision {precision} was"
            " asked for"
        )
    chosen = precision or ("fp16" if named_half else profile.export.precision)
    if int8 and chosen != "fp32":
        raise UsageError(
            f"--int8 is made of the fp32 file, and {chosen} was asked for; leave --precision out or"
            " say fp32"
        )
    quantized = {"int8": int8_sibling(path)} if int8 else {}
    if chosen == "fp16":
        return {"fp16": path if output else fp16_sibling(path)}
    if chosen == "bf16":
        return {"bf16": path if output else path.with_suffix(".bf16.onnx")}
    engines_want_half = any(engine.precision == "fp16" for engine in profile.engine.values())
    half = {} if precision or not engines_want_half else {"fp16": fp16_sibling(path)}
    return {"fp32": path, **half, **quantized}
