"""Trained weights → ONNX files that are proved to compute the same before they get their name."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.atomic import replacing, require_writable, sha256_of, write_json
from nordocr_cli.core import consumer
from nordocr_cli.core.export.plan import ExportPlan, input_words, output_words
from nordocr_cli.deploy.onnx_file import OnnxFile, contract_path, file_bytes, inspect_onnx
from nordocr_cli.deploy.parity import Case, Parity, Run, check_parity, make_cases, open_file
from nordocr_cli.deploy.simplify import simplify
from nordocr_cli.errors import ArtifactError
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from nordocr_cli.deploy.golden import Golden
    from nordocr_cli.deploy.store_check import StoreCheck, StoreReference


@dataclass(frozen=True)
class ExportedFile:
    """One ONNX file as written, and what was checked of it. `simplification` says in words what
    onnxsim did; `arithmetic` is the parity of torch's own bf16, which ONNX Runtime cannot run;
    `on_store` what the file makes of real lines.
    """

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
            ("input", input_words(contract).removeprefix("input ")),
            ("output", output_words(contract).removeprefix("output ")),
            (
                "ONNX full check",
                (
                    f"{file.nodes} nodes, no Loop or If, one file, {file.precision} weights, all"
                    " finite"
                ),
            ),
            ("onnxsim", self.simplification),
            (
                "contract",
                (
                    f"charset {contract.charset.name}, height {contract.geometry.height}, weights'"
                    f" sha256; {aside}"
                ),
            ),
        ]
        if contract.precision == "int8":
            rows.append(
                (
                    "shapes",
                    (
                        f"{len(self.parity.points)} shapes run, frames right and finite, white and"
                        " black too"
                    ),
                )
            )
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
        f"max diff {worst.max_diff:.1e} at {worst}, below {worst.tolerance:.1e}; best class equal"
        f" in {parity.agreement:.2%} of {sum(p.decided for p in parity.points)} decided frames;"
        f" {len(parity.points)} shapes, white and black among them"
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


def export(plan: ExportPlan, progress: Progress = SILENT) -> ExportResult:
    """Export, check and compare each file of `plan`; only a file that passes gets its name. Golden
    lines are of the first file.

    Raises ArtifactError naming the check, or the worst shape, that failed, and GateMissed where a
    file reads a store worse than the plan allows, and DataError, when all is written, where a file
    of the pipeline does not fit.
    """
    from nordocr_cli.deploy.golden import golden_crops, write_golden
    from nordocr_cli.deploy.int8 import calibration_inputs
    from nordocr_cli.deploy.onnx_export import reference
    from nordocr_cli.deploy.store_check import StoreReference
    from nordocr_cli.models.weights import load_model
    from nordocr_cli.runtime.runners import open_runner

    for path in filter(None, (*plan.outputs.values(), plan.consumer_config)):
        require_writable(path)  # before minutes of work
    calibration = calibration_inputs(plan.calibration, plan.contract) if plan.calibration else []
    trained, reads = plan.contract.trained_widths, plan.contract.geometry.max_width
    if trained and reads > trained[1]:
        progress.warn(
            f"trained on lines up to {trained[1]} px, exported for lines up to {reads} px: evaluate"
            " by width band"
        )
    # before minutes of work
    crops = golden_crops(plan.golden, plan.golden_lines) if plan.golden else []
    network, _ = load_model(plan.weights)
    contract = replace(plan.contract, parent_sha256=sha256_of(plan.weights))
    in_fp32 = reference(network, contract)
    lines = None
    if plan.check_store:
        lines = StoreReference(
            plan.check_store, in_fp32, plan.contract, limit=plan.check_lines, progress=progress
        )
    cases = make_cases(in_fp32, contract.geometry.height, plan.shapes, progress=progress)
    files: list[ExportedFile] = []
    for precision, path in plan.outputs.items():
        wanted = replace(contract, precision=precision)
        if precision == "int8":
            files.append(
                _export_int8(
                    network, wanted, files[0].file, path, plan, calibration, cases, lines, progress
                )
            )
        else:
            files.append(_export_one(network, wanted, path, plan, cases, lines, progress))
    onnx = files[0].file.path
    golden = write_golden(onnx, open_runner(onnx, device="cpu").run, crops) if crops else None
    if plan.consumer_config:
        consumer.write_consumer_config(
            consumer.consumer_config(onnx, progress=progress), plan.consumer_config
        )
    if plan.check_consumer:
        consumer.require_agreement(
            consumer.check_consumer(plan.check_consumer, onnx, progress=progress), onnx
        )
    return ExportResult(
        plan.weights, sum(weight.numel() for weight in network.parameters()), tuple(files), golden
    )


def _export_one(
    network: "nn.Module",
    contract: Contract,
    path: Path,
    plan: ExportPlan,
    cases: Sequence[Case],
    lines: "StoreReference | None",
    progress: Progress,
) -> ExportedFile:
    """Write one file. The simplified graph is taken when it passes every check, else the graph as
    exported.
    """
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
    arithmetic = (
        check_parity(in_bf16, cases, contract, name=f"{path.name} (torch)", progress=progress)
        if in_bf16
        else None
    )
    with replacing(path) as temporary:
        for candidate in candidates:
            temporary.write_bytes(file_bytes(candidate, contract, path.name))
            try:
                file = inspect_onnx(temporary, name=path.name)
                if file.opset != plan.opset_of(contract.precision):
                    raise ArtifactError(
                        f"{path.name}: opset {plan.opset} was asked for, the exporter gave"
                        f" {file.opset}"
                    )
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
    """Return what runs a written file; for a bf16 file its twin in fp32, which ONNX Runtime can
    run.
    """
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
    network: "nn.Module",
    contract: Contract,
    fp32: OnnxFile,
    path: Path,
    plan: ExportPlan,
    calibration: Sequence[NDArray[Any]],
    cases: Sequence[Case],
    lines: "StoreReference | None",
    progress: Progress,
) -> ExportedFile:
    """Write the int8 form of the network, made of ONNX Runtime's own operators and not simplified:
    onnxsim's forms of matrix products cost time there. What it costs, and how much faster it is
    than the fp32 file, is measured on the check store.
    """
    from nordocr_cli.deploy.int8 import quantize
    from nordocr_cli.deploy.onnx_export import to_onnx

    progress.start("export int8", unit="files")
    graph = to_onnx(network, replace(contract, precision="fp32"), plan.opset, for_ort=True)
    nodes = len(graph.graph.node)
    if not calibration and any(node.op_type == "Conv" for node in graph.graph.node):
        progress.note(
            f"{path.name}: its convolutions stay fp32; --calibration STORE|DIR gives the lines that"
            " their ranges need"
        )
    quantized = quantize(graph, calibration, path.name)
    with replacing(path) as temporary:
        temporary.write_bytes(file_bytes(quantized, contract, path.name))
        file = inspect_onnx(temporary, name=path.name)
        # as predict runs a line
        run, rival = (
            open_file(of, contract, path.name, threads=1) for of in (temporary, fp32.path)
        )
        parity = check_parity(run, cases, contract, name=path.name, progress=progress)
        on_store = lines.check(run, contract, rival, progress) if lines else None
        if on_store:
            on_store.require(plan.max_cer_loss / 100, path.name)
    if on_store is None:
        progress.warn(
            f"{path.name}: how it reads is not known; --check-store STORE counts the texts that"
            " change, and the speed"
        )
    elif on_store.speed_up and on_store.speed_up < 1:
        progress.warn(
            f"{path.name} is no faster than {fp32.path.name} here ({on_store.speed_up:.2f} times);"
            " take the fp32 file"
        )
    file = replace(file, path=path)
    write_json(contract_path(path), file.sidecar())
    return ExportedFile(
        file,
        nodes,
        "left out: this file is of operators of ONNX Runtime's own",
        parity,
        on_store=on_store,
    )
