"""The plan of `export`, resolved without torch: files, their formats and their checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from nordocr_cli.artifact.contract import Contract, InputType, OutputActivation, OutputType
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.core.consumer import config_of, require_consumer_file
from nordocr_cli.core.import_ import ImportPlan, is_foreign, plan_import
from nordocr_cli.deploy.onnx_file import (
    BF16_OPSET,
    default_onnx_path,
    fp16_sibling,
    golden_path,
    int8_sibling,
    require_golden_name,
    simplified_sibling,
)
from nordocr_cli.deploy.parity import shapes_to_try
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.profile import DEFAULT_PROFILE, Profile, profile_from_json

# what torch's TorchScript exporter can write, from the pipeline's opset on
EXPORTER_OPSETS = range(17, 21)
PRECISIONS = ("fp32", "fp16", "bf16")
_FP16_CLASSES = 2048  # above it fp16 cannot represent every class number
MAX_CER_LOSS = 0.5  # percentage points


@dataclass(frozen=True)
class ExportOptions:
    """The options of an export; None means the value in the profile of the weights. Without
    `precision` the profile's is written. When an engine of the profile needs fp16, the form
    `….fp16.onnx` is written next to an fp32 file, since an engine takes its precision from the
    ONNX. `input_type` is `float` or `uint8`, `io` (fp32 or fp16) the format of float inputs and
    outputs. `int8` also requests `….int8.onnx`; its convolutions are int8 only with the lines in
    `calibration`. `max_cer_loss` is in percentage points.

    `profile`, `sets` and `charset` describe another program's checkpoint, which is imported first.
    `simplified_copy` also writes the simplified model as NAME_sim.onnx (None: only for such a
    checkpoint).
    """

    precision: str | None = None
    opset: int | None = None
    simplify: bool | None = None
    output_activation: str | None = None
    input_type: str = "float"
    io: str = "fp32"
    max_width: int | None = None
    golden: int = 0
    golden_lines: Path | None = None
    int8: bool = False
    calibration: Path | None = None
    check_store: Path | None = None
    check_lines: int = 500
    max_cer_loss: float = MAX_CER_LOSS
    consumer_config: Path | None = None
    check_consumer: Path | None = None
    profile: str | None = None
    sets: tuple[str, ...] = field(default=())
    charset: str | None = None
    simplified_copy: bool | None = None
    threads: int | None = None  # of torch and ONNX Runtime; None: all cores


@dataclass(frozen=True)
class ExportPlan:
    """A checked export: one file per entry of `outputs` (precision → path). `contract` has the
    types and activation of the files. On the line store `check_store` the files are compared with
    the network.
    """

    weights: Path
    contract: Contract
    outputs: Mapping[str, Path]
    opset: int
    simplify: bool
    shapes: tuple[tuple[int, int], ...]
    # number of lines that prove a host's preprocessing and decoding, from `golden_lines` or drawn
    golden: int = 0
    golden_lines: Path | None = None
    check_store: Path | None = None
    check_lines: int = 500
    max_cer_loss: float = MAX_CER_LOSS
    consumer_config: Path | None = None  # the Rust pipeline's config to write
    check_consumer: Path | None = None  # a file of the pipeline that must agree
    # lines for the ranges of int8 convolutions, which stay fp32 without them
    calibration: Path | None = None
    imports: ImportPlan | None = None  # another program's checkpoint, imported as `weights`
    simplified_copy: Path | None = None  # path of a copy of the simplified fp32 file
    threads: int | None = None  # of torch and ONNX Runtime; None: all cores

    def opset_of(self, precision: str) -> int:
        """The opset of one file."""
        if precision == "bf16":
            return BF16_OPSET
        return self.opset

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        contract = self.contract
        return {
            "imports": self.imports.to_json() if self.imports else None,
            "weights": str(self.weights),
            "model": dict(contract.model),
            "outputs": {precision: str(path) for precision, path in self.outputs.items()},
            "simplified_copy": str(self.simplified_copy) if self.simplified_copy else None,
            "opset": {precision: self.opset_of(precision) for precision in self.outputs},
            "simplify": self.simplify,
            "output_activation": contract.output_activation,
            "max_width": contract.geometry.max_width,
            "input": input_words(contract),
            "output": output_words(contract),
            "parity_shapes": [f"{batch}x{width}" for batch, width in self.shapes],
            "threads": self.threads,
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
    if contract.decoding == "autoregressive":
        positions = str(contract.out_length(0))
    else:
        positions = "seq_len"
    return (
        f"output [batch, {positions}, {contract.output_channels}] {contract.output_type}"
        f" {contract.output_activation}"
    )


def plan_export(
    checkpoint: Path, output: Path | None = None, options: ExportOptions | None = None
) -> ExportPlan:
    """Plan an export; imports no torch. `checkpoint` is a run, its weights, or another program's
    checkpoint, which will be imported next to `output`.

    Raises UsageError for options that do not go together, ArtifactError for damaged weights.
    """
    options = options or ExportOptions()
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"--output {output}: the name of an ONNX model ends in .onnx")
    imports = _plan_import(checkpoint, output, options)
    if imports:
        weights = imports.output
        contract = imports.contract()
    else:
        weights = find_weights(checkpoint)
        contract = _exportable(weights, checkpoint)
    profile = profile_from_json(contract.profile, f"{weights}: embedded profile")
    contract = _with_width(contract, options.max_width)
    contract = _with_tensors(
        contract,
        options.output_activation or profile.export.output_activation,
        options.input_type,
        options.io,
    )
    outputs = _outputs(profile, output, options.precision, options.int8)
    if options.simplify is None:
        simplify = profile.export.simplify
    else:
        simplify = options.simplify
    _require_side_files(options, outputs, weights, contract)
    return ExportPlan(
        weights=weights,
        contract=contract,
        outputs=outputs,
        opset=_opset(profile, options),
        simplify=simplify,
        shapes=shapes_to_try(_widest(profile, contract)),
        golden=options.golden,
        golden_lines=options.golden_lines,
        check_store=options.check_store,
        check_lines=options.check_lines,
        max_cer_loss=options.max_cer_loss,
        consumer_config=options.consumer_config,
        check_consumer=options.check_consumer,
        calibration=options.calibration,
        imports=imports,
        simplified_copy=_simplified_copy(
            options, outputs, simplify, foreign=imports is not None
        ),
        threads=options.threads,
    )


def _plan_import(
    checkpoint: Path, output: Path | None, options: ExportOptions
) -> ImportPlan | None:
    """Plan the import of another program's checkpoint; return None for weights of nordocr."""
    if not is_foreign(checkpoint):
        given = {
            "--profile": options.profile,
            "--set": options.sets,
            "--charset": options.charset,
        }
        named = [flag for flag, value in given.items() if value]
        if named:
            raise UsageError(
                f"{named[0]} describes another program's checkpoint; {checkpoint} carries its own"
                " profile and charset"
            )
        return None
    plan = plan_import(
        checkpoint,
        options.charset,
        None,
        profile=options.profile or DEFAULT_PROFILE,
        sets=options.sets,
        assumed=options.profile is None,
    )
    onnx = output or default_onnx_path(plan.require_profile())
    stem = onnx.name.removesuffix(".onnx").removesuffix(".fp16")
    weights = onnx.with_name(f"{stem}.safetensors")
    refuse_inputs(weights, [checkpoint])
    return replace(plan, output=weights)


def _exportable(weights: Path, checkpoint: Path) -> Contract:
    """Return the contract of weights that can become an ONNX file. Raises UsageError for others."""
    contract = read_contract(weights)
    if contract.decoding == "seq2seq":
        raise UsageError(
            f"{weights} is a TrOCR, which has no ONNX file or engine here. `nordocr merge-lora"
            f" {checkpoint} -o FOLDER` writes it as transformers reads it; train svtrv2-nano or"
            " svtrv2-1024 for a network that exports"
        )
    if weights.suffix != ".safetensors":
        raise UsageError(
            f"{weights} is not a checkpoint; export takes .safetensors weights, the folder of a run"
            " or another program's .pth"
        )
    return contract


def _with_width(contract: Contract, max_width: int | None) -> Contract:
    if max_width is None:
        return contract
    try:
        return replace(contract, geometry=replace(contract.geometry, max_width=max_width))
    except ValueError as error:
        raise UsageError(f"--max-width {max_width}: {error}") from None


def _opset(profile: Profile, options: ExportOptions) -> int:
    requested = options.opset
    if options.precision == "bf16":
        if requested not in (None, BF16_OPSET):
            raise UsageError(
                f"--opset {requested}: bf16 files need opset {BF16_OPSET}; earlier opsets have no"
                f" convolution in bf16"
            )
        return profile.export.opset
    opset = profile.export.opset if requested is None else requested
    if opset not in EXPORTER_OPSETS:
        raise UsageError(
            f"opset {opset}: the exporter writes {EXPORTER_OPSETS[0]} to {EXPORTER_OPSETS[-1]} (17"
            " is the pipeline's)"
        )
    return opset


def _widest(profile: Profile, contract: Contract) -> int:
    """Return the widest line in pixels that the file must read: that of the model or of an
    engine.
    """
    engines = (engine.max_width for engine in profile.engine.values())
    widest = max(contract.geometry.max_width, *engines, 0)
    limit_px = profile.model.max_export_width_px
    if limit_px is not None and widest > limit_px:
        raise UsageError(
            f"lines of {widest} px: an exported {profile.model.name} reads at most {limit_px}; give"
            " a lower --max-width"
        )
    return widest


def _require_side_files(
    options: ExportOptions, outputs: Mapping[str, Path], weights: Path, contract: Contract
) -> None:
    """Reject, before minutes of work, files that cannot be read or written. Raises UsageError, and
    DataError for a model that the pipeline would interpret wrongly.
    """
    if options.golden_lines is not None and not options.golden:
        raise UsageError(
            "--golden-lines gives the source of golden lines; --golden N requests them"
        )
    if options.calibration is not None and not options.int8:
        raise UsageError(
            "--calibration gives lines for the convolutions of an int8 file; --int8 requests one"
        )
    store = options.check_store
    if store and not (store / "data.mdb").is_file():
        raise UsageError(f"no line store {store}; make one with `nordocr prep`")
    onnx = next(iter(outputs.values()))
    if options.golden:
        require_golden_name(golden_path(onnx))
    config = options.consumer_config
    if config:
        config_of(contract, onnx)
        if config in outputs.values() or config.is_dir():
            raise UsageError(
                f"--consumer-config {config}: give a separate file, e.g. config.json"
            )
    if options.check_consumer:
        require_consumer_file(options.check_consumer)
    inputs = (
        weights,
        options.golden_lines,
        store,
        options.check_consumer,
        options.calibration,
    )
    for path in filter(None, (*outputs.values(), config)):
        refuse_inputs(path, filter(None, inputs))


def _simplified_copy(
    options: ExportOptions, outputs: Mapping[str, Path], simplify: bool, *, foreign: bool
) -> Path | None:
    requested = options.simplified_copy
    if requested and not (simplify and "fp32" in outputs):
        raise UsageError(
            "--sim is the simplified fp32 file: leave --no-simplify and --precision out"
        )
    if requested is None:
        requested = foreign
    if not requested or not simplify or "fp32" not in outputs:
        return None
    return simplified_sibling(outputs["fp32"])


def _with_tensors(
    contract: Contract, activation: str, input_type: str, io: str
) -> Contract:
    """Return the contract with the types of input and output. Raises UsageError for an unknown
    name, and when fp16 cannot represent every class number.
    """
    for flag, value, choices in (
        ("--output-activation", activation, get_args(OutputActivation)),
        ("--input", input_type, ("float", "uint8")),
        ("--io", io, ("fp32", "fp16")),
    ):
        if value not in choices:
            raise UsageError(
                f"{flag} {value!r}: {' or '.join(choices)}; {nearest(value, choices)}"
            )
    activations: dict[str, OutputActivation] = {
        name: name for name in get_args(OutputActivation)
    }
    floats: OutputType = "float16" if io == "fp16" else "float32"
    pixels: InputType = "uint8" if input_type == "uint8" else floats
    if (
        floats == "float16"
        and activation == "argmax+confidence"
        and contract.charset.num_classes > _FP16_CLASSES
    ):
        raise UsageError(
            f"--io fp16: it represents class numbers up to {_FP16_CLASSES}, there are"
            f" {contract.charset.num_classes} classes"
        )
    return replace(
        contract,
        output_activation=activations[activation],
        input_type=pixels,
        output_type=floats,
    )


def _outputs(
    profile: Profile, output: Path | None, precision: str | None, int8: bool
) -> dict[str, Path]:
    path = output or default_onnx_path(profile)
    if precision not in (None, *PRECISIONS):
        if precision == "int8":
            more = "; --int8 writes that form next to fp32"
        else:
            more = ""
        raise UsageError(
            f"--precision {precision!r}: an ONNX file is {', '.join(PRECISIONS)}{more}"
        )
    named_half = fp16_sibling(path) == path
    if named_half and precision not in (None, "fp16"):
        raise UsageError(
            f"--output {path} is the name of an fp16 file, but --precision {precision} was"
            " requested"
        )
    chosen = precision or ("fp16" if named_half else profile.export.precision)
    if int8 and chosen != "fp32":
        raise UsageError(
            f"--int8 is made from the fp32 file, but {chosen} was requested; leave --precision"
            f" out or use fp32"
        )
    quantized = {"int8": int8_sibling(path)} if int8 else {}
    if chosen == "fp16":
        return {"fp16": path if output else fp16_sibling(path)}
    if chosen == "bf16":
        return {"bf16": path if output else path.with_suffix(".bf16.onnx")}
    engines_want_half = any(
        engine.precision == "fp16" for engine in profile.engine.values()
    )
    if precision or not engines_want_half:
        half = {}
    else:
        half = {"fp16": fp16_sibling(path)}
    return {"fp32": path, **half, **quantized}
