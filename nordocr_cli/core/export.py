"""Trained weights → ONNX files that are proved to compute the same before they get their name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nordocr_cli.artifact import Contract, InputType, OutputActivation, OutputType, find_weights, read_contract
from nordocr_cli.atomic import refuse_inputs, replacing, sha256_of, write_json
from nordocr_cli.deploy.onnx_file import (
    OnnxFile,
    contract_path,
    default_onnx_path,
    file_bytes,
    fp16_sibling,
    inspect_onnx,
    int8_sibling,
)
from nordocr_cli.deploy.parity import Case, Parity, Run, check_parity, make_cases, open_file, shapes_to_try
from nordocr_cli.deploy.simplify import simplify
from nordocr_cli.errors import ArtifactError, UsageError, nearest
from nordocr_cli.profile import Profile, profile_from_json
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from nordocr_cli.deploy.golden import Golden
    from nordocr_cli.deploy.store_check import StoreCheck, StoreReference

EXPORTER_OPSETS = range(17, 21)  # what torch's TorchScript exporter can write, from the consumer's opset on
BF16_OPSET = 22  # of bf16 files: ONNX's convolutions take bf16 from here on
PRECISIONS = ("fp32", "fp16", "bf16")
_FP16_CLASSES = 2048  # above it fp16 has no number for every class
MAX_CER_LOSS = 0.5  # percentage points
MAMBA_MOST_PX = 16384  # 4,096 frames: what the chunked scan of an exported graph takes (models/selective_scan.py)


@dataclass(frozen=True)
class ExportPlan:
    """What an export will do: one file per entry of `outputs` (precision → path). `contract` has the types and activation of the
    files; `check_store` is the line store on which files are compared with the network."""

    weights: Path
    contract: Contract
    outputs: Mapping[str, Path]
    opset: int
    simplify: bool
    shapes: tuple[tuple[int, int], ...]
    golden: int = 0  # lines that prove a host's preprocessing and decoding, of `golden_lines` or drawn
    golden_lines: Path | None = None
    check_store: Path | None = None
    check_lines: int = 500
    max_cer_loss: float = MAX_CER_LOSS

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
            "input": _input_words(contract),
            "output": _output_words(contract),
            "parity_shapes": [f"{batch}x{width}" for batch, width in self.shapes],
            "golden": self.golden,
            "golden_lines": str(self.golden_lines) if self.golden_lines else None,
            "check_store": str(self.check_store) if self.check_store else None,
            "check_lines": self.check_lines,
            "max_cer_loss_points": self.max_cer_loss,
        }


def _input_words(contract: Contract) -> str:
    return f"input [batch, 3, {contract.geometry.height}, width] {contract.input_type}"


def _output_words(contract: Contract) -> str:
    positions = contract.out_length(0) if contract.decoding == "autoregressive" else "seq_len"
    return f"output [batch, {positions}, {contract.output_channels}] {contract.output_type} {contract.output_activation}"


@dataclass(frozen=True)
class ExportedFile:
    """One ONNX file as written, and what was checked of it. `simplification` says in words what onnxsim did; `arithmetic` is the
    parity of torch's own bf16, which ONNX Runtime cannot run; `on_store` what the file makes of real lines."""

    file: OnnxFile
    nodes_before: int
    simplification: str
    parity: Parity
    arithmetic: Parity | None = None
    on_store: "StoreCheck | None" = None

    @property
    def checks(self) -> list[tuple[str, str]]:
        """The checks that this file passed, each with what was found."""
        file, contract = self.file, self.file.contract
        aside = contract_path(file.path).name
        rows = [
            ("opset", str(file.opset)),
            ("input", _input_words(contract).removeprefix("input ")),
            ("output", _output_words(contract).removeprefix("output ")),
            ("ONNX full check", f"{file.nodes} nodes, no Loop or If, one file, {file.precision} weights, all finite"),
            ("onnxsim", self.simplification),
            ("contract", f"charset {contract.charset.name}, height {contract.geometry.height}, weights' sha256; {aside}"),
        ]
        if contract.precision == "int8":
            rows.append(("shapes", f"{len(self.parity.points)} shapes run, frames right and finite, white and black too"))
        elif contract.precision == "bf16" and self.arithmetic:
            rows.append(("parity of the graph in fp32", _parity_words(self.parity)))
            rows.append(("parity of torch in bf16", _parity_words(self.arithmetic)))
        else:
            rows.append(("parity with torch", _parity_words(self.parity)))
        if self.on_store:
            rows.append((f"on {self.on_store.store}", str(self.on_store)))
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the file and its checks as plain JSON values."""
        contract = self.file.contract
        return {
            "path": str(self.file.path),
            "sha256": self.file.sha256,
            "size_bytes": self.file.size_bytes,
            "opset": self.file.opset,
            "precision": self.file.precision,
            "input_type": contract.input_type,
            "output_type": contract.output_type,
            "output_activation": contract.output_activation,
            "nodes": self.file.nodes,
            "nodes_before_simplification": self.nodes_before,
            "simplification": self.simplification,
            "parity": self.parity.to_json(),
            "arithmetic": self.arithmetic.to_json() if self.arithmetic else None,
            "on_store": self.on_store.to_json() if self.on_store else None,
        }


def _parity_words(parity: Parity) -> str:
    worst = parity.worst
    return (
        f"max diff {worst.max_diff:.1e} at {worst}, below {worst.tolerance:.1e}; best class equal in {parity.agreement:.2%} of "
        f"{sum(p.decided for p in parity.points)} decided frames; {len(parity.points)} shapes, white and black among them"
    )


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote."""

    weights: Path
    parameters: int
    files: tuple[ExportedFile, ...]
    golden: "Golden | None" = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "weights": str(self.weights),
            "parameters": self.parameters,
            "files": [file.to_json() for file in self.files],
            "golden": self.golden.to_json() if self.golden else None,
        }


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
    check_store: Path | None = None,
    check_lines: int = 500,
    max_cer_loss: float = MAX_CER_LOSS,
) -> ExportPlan:
    """Resolve what an export will do; imports no torch. What is None comes from the profile that the weights carry.

    Without `precision`, the profile's precision is written, and beside an fp32 file its fp16 form `….fp16.onnx` where an engine
    of the profile wants fp16: an engine takes its precision from the ONNX. `input_type` is `float` or `uint8`, `io` (fp32 or
    fp16) the format of floats that go in and out; `int8` asks for `….int8.onnx` too; `max_cer_loss` is in percentage points.
    Raises UsageError and ArtifactError.
    """
    weights = find_weights(checkpoint)
    contract = read_contract(weights)
    if weights.suffix != ".safetensors":
        raise UsageError(f"{weights} is not a checkpoint; export takes .safetensors weights or the folder of a run")
    profile = profile_from_json(contract.profile, f"{weights}: embedded profile")
    if max_width is not None:
        try:
            contract = replace(contract, geometry=replace(contract.geometry, max_width=max_width))
        except ValueError as error:
            raise UsageError(f"--max-width {max_width}: {error}") from None
    if precision == "bf16" and opset not in (None, BF16_OPSET):
        raise UsageError(f"--opset {opset}: bf16 files are opset {BF16_OPSET}, before it ONNX has no convolution in bf16")
    opset = profile.export.opset if opset is None or precision == "bf16" else opset
    if opset not in EXPORTER_OPSETS:
        raise UsageError(
            f"opset {opset}: the exporter writes {EXPORTER_OPSETS[0]} to {EXPORTER_OPSETS[-1]} (17 is the consumer's)"
        )
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"--output {output}: the name of an ONNX model ends in .onnx")
    if golden_lines is not None and not golden:
        raise UsageError("--golden-lines says where golden lines come from; --golden N says how many")
    contract = _with_tensors(contract, output_activation or profile.export.output_activation, input_type, io)
    outputs = _outputs(profile, output, precision, int8)
    if check_store and not (check_store / "data.mdb").is_file():
        raise UsageError(f"no line store {check_store}; make one with `nordocr prep`")
    for path in outputs.values():
        refuse_inputs(path, filter(None, (weights, golden_lines, check_store)))
    widths = [contract.geometry.max_width, *(engine.max_width for engine in profile.engine.values())]
    if profile.model.name == "mamba" and max(widths) > MAMBA_MOST_PX:
        raise UsageError(f"lines of {max(widths)} px: an exported mamba reads at most {MAMBA_MOST_PX}; give a lower --max-width")
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
    )


def _with_tensors(contract: Contract, activation: str, input_type: str, io: str) -> Contract:
    """Put what goes in and out into the contract. Raises UsageError for another name, and where fp16 cannot count the classes."""
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
    if floats == "float16" and activation == "argmax+confidence" and contract.charset.num_classes > _FP16_CLASSES:
        raise UsageError(
            f"--io fp16: its numbers are whole up to {_FP16_CLASSES}, there are {contract.charset.num_classes} classes"
        )
    return replace(contract, output_activation=activations[activation], input_type=pixels, output_type=floats)


def _outputs(profile: Profile, output: Path | None, precision: str | None, int8: bool) -> dict[str, Path]:
    path = output or default_onnx_path(profile)
    if precision not in (None, *PRECISIONS):
        more = "; --int8 writes that form beside fp32" if precision == "int8" else ""
        raise UsageError(f"--precision {precision!r}: an ONNX file is {', '.join(PRECISIONS)}{more}")
    named_half = fp16_sibling(path) == path
    if named_half and precision not in (None, "fp16"):
        raise UsageError(f"--output {path} is the name of an fp16 file, and --precision {precision} was asked for")
    chosen = precision or ("fp16" if named_half else profile.export.precision)
    if int8 and chosen != "fp32":
        raise UsageError(f"--int8 is made of the fp32 file, and {chosen} was asked for; leave --precision out or say fp32")
    quantized = {"int8": int8_sibling(path)} if int8 else {}
    if chosen == "fp16":
        return {"fp16": path if output else fp16_sibling(path)}
    if chosen == "bf16":
        return {"bf16": path if output else path.with_suffix(".bf16.onnx")}
    engines_want_half = any(engine.precision == "fp16" for engine in profile.engine.values())
    half = {} if precision or not engines_want_half else {"fp16": fp16_sibling(path)}
    return {"fp32": path, **half, **quantized}


def export(plan: ExportPlan, progress: Progress = SILENT) -> ExportResult:
    """Export, check and compare each file of `plan`; only a file that passes gets its name. Golden lines are of the first file.

    Raises ArtifactError naming the check, or the worst shape, that failed, and GateMissed where a file reads a store worse than
    the plan allows.
    """
    from nordocr_cli.deploy.golden import golden_crops, write_golden
    from nordocr_cli.deploy.onnx_export import reference
    from nordocr_cli.deploy.store_check import StoreReference
    from nordocr_cli.models.weights import load_model
    from nordocr_cli.runtime.runners import open_runner

    trained, reads = plan.contract.trained_widths, plan.contract.geometry.max_width
    if trained and reads > trained[1]:
        progress.warn(f"trained on lines up to {trained[1]} px, exported for lines up to {reads} px: evaluate by width band")
    crops = golden_crops(plan.golden, plan.golden_lines) if plan.golden else []  # before minutes of work
    network, _ = load_model(plan.weights)
    contract = replace(plan.contract, parent_sha256=sha256_of(plan.weights))
    in_fp32 = reference(network, contract)
    lines = None
    if plan.check_store:
        lines = StoreReference(plan.check_store, in_fp32, plan.contract, limit=plan.check_lines, progress=progress)
    cases = make_cases(in_fp32, contract.geometry.height, plan.shapes, progress=progress)
    files: list[ExportedFile] = []
    for precision, path in plan.outputs.items():
        wanted = replace(contract, precision=precision)
        if precision == "int8":
            files.append(_export_int8(wanted, files[0].file, path, plan, cases, lines, progress))
        else:
            files.append(_export_one(network, wanted, path, plan, cases, lines, progress))
    onnx = files[0].file.path
    golden = write_golden(onnx, open_runner(onnx, device="cpu").run, crops) if crops else None
    return ExportResult(plan.weights, sum(weight.numel() for weight in network.parameters()), tuple(files), golden)


def _export_one(
    network: "nn.Module",
    contract: Contract,
    path: Path,
    plan: ExportPlan,
    cases: Sequence[Case],
    lines: "StoreReference | None",
    progress: Progress,
) -> ExportedFile:
    """Write one file. The simplified graph is taken when it passes every check, else the graph as exported."""
    from nordocr_cli.deploy.onnx_export import in_torch, to_onnx

    progress.start(f"export {contract.precision}", unit="files")
    graph = to_onnx(network, contract, plan.opset)
    nodes_before, words = len(graph.graph.node), "not asked for"
    candidates = [graph]
    if plan.simplify and contract.precision == "bf16":
        words = "left out: it computes constants, and ONNX Runtime has no bf16"
    elif plan.simplify:
        simplified = simplify(graph)
        words = simplified.reason or f"{nodes_before} → {simplified.nodes_after} nodes"
        if simplified.kept:
            candidates.insert(0, simplified.model)
        else:
            progress.warn(f"{path.name}: {words}; the graph is kept as exported")
    in_bf16 = in_torch(network, contract) if contract.precision == "bf16" else None
    arithmetic = check_parity(in_bf16, cases, contract, name=f"{path.name} (torch)", progress=progress) if in_bf16 else None
    with replacing(path) as temporary:
        for candidate in candidates:
            temporary.write_bytes(file_bytes(candidate, contract, path.name))
            try:
                file = inspect_onnx(temporary, name=path.name)
                if file.opset != plan.opset_of(contract.precision):
                    raise ArtifactError(f"{path.name}: opset {plan.opset} was asked for, the exporter gave {file.opset}")
                run = _open(temporary, candidate, contract, path.name)
                parity = check_parity(run, cases, contract, name=path.name, progress=progress)
                break
            except ArtifactError as error:
                if candidate is graph:
                    raise
                words = f"its result failed a check and was dropped ({error})"
                progress.warn(f"onnxsim: {words}")
        on_store = lines.check(in_bf16 or run, contract, progress=progress) if lines else None
        if on_store:
            on_store.require(plan.max_cer_loss / 100, path.name)
    file = replace(file, path=path)
    write_json(contract_path(path), file.sidecar())
    return ExportedFile(file, nodes_before, words, parity, arithmetic, on_store)


def _open(temporary: Path, model: "onnx.ModelProto", contract: Contract, what: str) -> Run:
    """Return what runs a written file; for a bf16 file its twin in fp32, which ONNX Runtime can run."""
    if contract.precision != "bf16":
        return open_file(temporary, contract, what)
    from nordocr_cli.deploy.bf16 import fp32_twin

    twin = temporary.with_suffix(".twin")
    try:
        twin.write_bytes(fp32_twin(model).SerializeToString())
        return open_file(twin, contract, what)
    finally:
        twin.unlink(missing_ok=True)


def _export_int8(
    contract: Contract,
    fp32: OnnxFile,
    path: Path,
    plan: ExportPlan,
    cases: Sequence[Case],
    lines: "StoreReference | None",
    progress: Progress,
) -> ExportedFile:
    """Write the int8 form of the fp32 file; what it costs, and how much faster it is, is measured on the check store."""
    from nordocr_cli.deploy.int8 import quantize

    with replacing(path) as temporary:
        temporary.write_bytes(file_bytes(quantize(fp32.path), contract, path.name))
        file = inspect_onnx(temporary, name=path.name)
        run, rival = (open_file(of, contract, path.name, threads=1) for of in (temporary, fp32.path))  # as predict runs a line
        parity = check_parity(run, cases, contract, name=path.name, progress=progress)
        on_store = lines.check(run, contract, rival, progress) if lines else None
        if on_store:
            on_store.require(plan.max_cer_loss / 100, path.name)
    if on_store is None:
        progress.warn(f"{path.name}: how it reads is not known; --check-store STORE counts the texts that change, and the speed")
    elif on_store.speed_up and on_store.speed_up < 1:
        progress.warn(f"{path.name} is no faster than {fp32.path.name} here ({on_store.speed_up:.2f} times); take the fp32 file")
    file = replace(file, path=path)
    write_json(contract_path(path), file.sidecar())
    return ExportedFile(file, fp32.nodes, f"of {fp32.path.name}", parity, on_store=on_store)
