"""Trained weights → ONNX files that are proved to compute the same before they get their name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact import Contract, OutputActivation, find_weights, read_contract
from nordocr_cli.atomic import refuse_inputs, replacing, sha256_of, write_json
from nordocr_cli.deploy.onnx_file import OnnxFile, contract_path, default_onnx_path, fp16_sibling, inspect_onnx
from nordocr_cli.deploy.parity import Case, Parity, check_parity, make_cases, shapes_to_try
from nordocr_cli.deploy.simplify import simplify
from nordocr_cli.errors import ArtifactError, UsageError, nearest
from nordocr_cli.profile import Profile, profile_from_json
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import nn

    from nordocr_cli.deploy.golden import Golden

EXPORTER_OPSETS = range(17, 21)  # what torch's TorchScript exporter can write, from the consumer's opset on


@dataclass(frozen=True)
class ExportPlan:
    """What an export will do: one file per entry of `outputs` (precision → path)."""

    weights: Path
    contract: Contract
    outputs: Mapping[str, Path]
    opset: int
    simplify: bool
    output_activation: OutputActivation
    shapes: tuple[tuple[int, int], ...]
    golden: int = 0  # lines that prove a host's preprocessing and decoding, of `golden_lines` or drawn
    golden_lines: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "weights": str(self.weights),
            "model": dict(self.contract.model),
            "outputs": {precision: str(path) for precision, path in self.outputs.items()},
            "opset": self.opset,
            "simplify": self.simplify,
            "output_activation": self.output_activation,
            "max_width": self.contract.geometry.max_width,
            "input": f"input [batch, 3, {self.contract.geometry.height}, width] float32",
            "output": f"output [batch, seq_len, {self.contract.charset.num_classes}] float32",
            "parity_shapes": [f"{batch}x{width}" for batch, width in self.shapes],
            "golden": self.golden,
            "golden_lines": str(self.golden_lines) if self.golden_lines else None,
        }


@dataclass(frozen=True)
class ExportedFile:
    """One ONNX file as written, and what was checked of it. `simplification` says in words what onnxsim did."""

    file: OnnxFile
    nodes_before: int
    simplification: str
    parity: Parity

    @property
    def checks(self) -> list[tuple[str, str]]:
        """The checks that this file passed, each with what was found."""
        file, parity = self.file, self.parity
        worst, aside = parity.worst, contract_path(file.path).name
        return [
            ("opset", str(file.opset)),
            ("input", f"[batch, 3, {file.contract.geometry.height}, width] float32"),
            ("output", f"[batch, seq_len, {file.contract.charset.num_classes}] float32 {file.contract.output_activation}"),
            ("ONNX full check", f"{file.nodes} nodes, no Loop or If, one file, {file.precision} weights, all finite"),
            ("onnxsim", self.simplification),
            (
                "contract",
                f"charset {file.contract.charset.name}, height {file.contract.geometry.height}, weights' sha256; {aside}",
            ),
            (
                "parity with torch",
                f"max diff {worst.max_diff:.1e} at {worst}, below {worst.tolerance:.1e}; best class equal in "
                f"{parity.agreement:.2%} of {sum(p.decided for p in parity.points)} decided frames; {len(parity.points)} shapes",
            ),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the file and its checks as plain JSON values."""
        return {
            "path": str(self.file.path),
            "sha256": self.file.sha256,
            "size_bytes": self.file.size_bytes,
            "opset": self.file.opset,
            "precision": self.file.precision,
            "output_activation": self.file.contract.output_activation,
            "nodes": self.file.nodes,
            "nodes_before_simplification": self.nodes_before,
            "simplification": self.simplification,
            "parity": self.parity.to_json(),
        }


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
    max_width: int | None = None,
    golden: int = 0,
    golden_lines: Path | None = None,
) -> ExportPlan:
    """Resolve what an export will do; imports no torch. What is None comes from the profile that the weights carry.

    Without `precision`, the profile's precision is written, and beside an fp32 file its fp16 form `….fp16.onnx` where an engine
    of the profile wants fp16: an engine takes its precision from the ONNX. Raises UsageError and ArtifactError.
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
    opset = opset or profile.export.opset
    if opset not in EXPORTER_OPSETS:
        raise UsageError(
            f"opset {opset}: the exporter writes {EXPORTER_OPSETS[0]} to {EXPORTER_OPSETS[-1]} (17 is the consumer's)"
        )
    if output is not None and output.suffix != ".onnx":
        raise UsageError(f"--output {output}: the name of an ONNX model ends in .onnx")
    activation = output_activation or profile.export.output_activation
    if activation not in ("logits", "softmax"):
        raise UsageError(f"--output-activation {activation!r}: logits or softmax; {nearest(activation, ('logits', 'softmax'))}")
    if golden_lines is not None and not golden:
        raise UsageError("--golden-lines says where golden lines come from; --golden N says how many")
    outputs = _outputs(profile, output, precision)
    for path in outputs.values():
        refuse_inputs(path, filter(None, (weights, golden_lines)))
    widths = [contract.geometry.max_width, *(engine.max_width for engine in profile.engine.values())]
    return ExportPlan(
        weights=weights,
        contract=contract,
        outputs=outputs,
        opset=opset,
        simplify=profile.export.simplify if simplify is None else simplify,
        output_activation="softmax" if activation == "softmax" else "logits",
        shapes=shapes_to_try(max(widths)),
        golden=golden,
        golden_lines=golden_lines,
    )


def _outputs(profile: Profile, output: Path | None, precision: str | None) -> dict[str, Path]:
    path = output or default_onnx_path(profile)
    if precision not in (None, "fp32", "fp16"):
        raise UsageError(f"--precision {precision!r}: an ONNX file is fp32 or fp16")
    named_half = fp16_sibling(path) == path
    if named_half and precision == "fp32":
        raise UsageError(f"--output {path} is the name of an fp16 file, and --precision fp32 was asked for")
    chosen = precision or ("fp16" if named_half else profile.export.precision)
    if chosen == "fp16":
        return {"fp16": path if output else fp16_sibling(path)}
    engines_want_half = any(engine.precision == "fp16" for engine in profile.engine.values())
    return {"fp32": path} if precision or not engines_want_half else {"fp32": path, "fp16": fp16_sibling(path)}


def export(plan: ExportPlan, progress: Progress = SILENT) -> ExportResult:
    """Export, check and compare each file of `plan`; only a file that passes gets its name. Golden lines are of the first file.

    Raises ArtifactError naming the check, or the worst shape, that failed.
    """
    from nordocr_cli.deploy.golden import golden_crops, write_golden
    from nordocr_cli.deploy.onnx_export import reference
    from nordocr_cli.models.weights import load_model
    from nordocr_cli.runtime.runners import open_runner

    trained, reads = plan.contract.trained_widths, plan.contract.geometry.max_width
    if trained and reads > trained[1]:
        progress.warn(f"trained on lines up to {trained[1]} px, exported for lines up to {reads} px: evaluate by width band")
    crops = golden_crops(plan.golden, plan.golden_lines) if plan.golden else []  # before minutes of work
    network, _ = load_model(plan.weights)
    contract = replace(plan.contract, output_activation=plan.output_activation, parent_sha256=sha256_of(plan.weights))
    cases = make_cases(reference(network, contract), contract.geometry.height, plan.shapes, progress)
    files = [
        _export_one(network, replace(contract, precision=precision), path, plan, cases, progress)
        for precision, path in plan.outputs.items()
    ]
    onnx = files[0].file.path
    golden = write_golden(onnx, open_runner(onnx, device="cpu").run, crops) if crops else None
    return ExportResult(plan.weights, sum(weight.numel() for weight in network.parameters()), tuple(files), golden)


def _export_one(
    network: "nn.Module", contract: Contract, path: Path, plan: ExportPlan, cases: Sequence[Case], progress: Progress
) -> ExportedFile:
    """Write one file. The simplified graph is taken when it passes every check, else the graph as exported."""
    from nordocr_cli.deploy.onnx_export import to_onnx, with_contract

    progress.start(f"export {contract.precision}", unit="files")
    graph = to_onnx(network, contract, plan.opset)
    nodes_before, words = len(graph.graph.node), "not asked for"
    candidates = [graph]
    if plan.simplify:
        simplified = simplify(graph)
        words = simplified.reason or f"{nodes_before} → {simplified.nodes_after} nodes"
        if simplified.kept:
            candidates.insert(0, simplified.model)
        else:
            progress.warn(f"{path.name}: {words}; the graph is kept as exported")
    with replacing(path) as temporary:
        for candidate in candidates:
            temporary.write_bytes(with_contract(candidate, contract).SerializeToString())
            try:
                file = inspect_onnx(temporary, name=path.name)
                if file.opset != plan.opset:
                    raise ArtifactError(f"{path.name}: opset {plan.opset} was asked for, the exporter gave {file.opset}")
                parity = check_parity(temporary, cases, contract.geometry, contract.precision, name=path.name, progress=progress)
                break
            except ArtifactError as error:
                if candidate is graph:
                    raise
                words = f"its result failed a check and was dropped ({error})"
                progress.warn(f"onnxsim: {words}")
    file = replace(file, path=path)
    write_json(contract_path(path), file.sidecar())
    return ExportedFile(file, nodes_before, words, parity)
