"""Trained weights → ONNX files. A file gets its name only after it was proved to compute
the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.atomic import replacing, require_writable, sha256_of, write_json
from nordocr_cli.core import consumer
from nordocr_cli.core.export.plan import ExportPlan
from nordocr_cli.core.export.result import ExportedFile, ExportResult
from nordocr_cli.core.import_ import import_checkpoint
from nordocr_cli.deploy.onnx_file import OnnxFile, contract_path, file_bytes, inspect_onnx
from nordocr_cli.deploy.parity import (
    Case,
    Parity,
    RunNetwork,
    check_parity,
    make_cases,
    open_file,
)
from nordocr_cli.deploy.simplify import simplify
from nordocr_cli.errors import ArtifactError
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from nordocr_cli.deploy.golden import Golden


def export(plan: ExportPlan, progress: Progress = SILENT) -> ExportResult:
    """Export, check and compare each file of `plan`; only a file that passes gets its name. Another
    program's checkpoint is imported first. Golden lines belong to the first file. Raises
    ArtifactError naming the failed check or the worst shape, and GateMissed when a file reads a
    store worse than the plan allows. Raises DataError after all files are written when a file of
    the pipeline does not match.
    """
    import torch

    from nordocr_cli.deploy.golden import golden_crops
    from nordocr_cli.deploy.int8 import calibration_inputs
    from nordocr_cli.models.weights import load_model

    # What can be checked quickly is checked before minutes of work.
    written = (*plan.outputs.values(), plan.consumer_config, plan.simplified_copy)
    for path in filter(None, written):
        require_writable(path)
    if plan.calibration:
        calibration = calibration_inputs(plan.calibration, plan.contract)
    else:
        calibration = []
    if plan.golden:
        crops = golden_crops(plan.golden, plan.golden_lines)
    else:
        crops = []
    plan = _imported(plan, progress)
    _warn_of_width(plan.contract, progress)
    network, _ = load_model(plan.weights)
    if plan.threads:
        torch.set_num_threads(plan.threads)
    exporter = _Exporter(plan, network, progress)
    files: list[ExportedFile] = []
    for precision, path in plan.outputs.items():
        if precision == "int8":
            files.append(exporter.int8_file(path, files[0].file, calibration))
        else:
            files.append(exporter.file(path, precision))
    golden = _write_golden(files[0].file.path, crops) if crops else None
    copy = _copy_simplified(plan, files[0], progress)
    _consumer_files(plan, files[0].file.path, progress)
    parameters = sum(weight.numel() for weight in network.parameters())
    return ExportResult(plan.weights, parameters, tuple(files), golden, copy)


def _imported(plan: ExportPlan, progress: Progress) -> ExportPlan:
    """Import another program's checkpoint. Return the plan with the contract of the imported
    weights.
    """
    if plan.imports is None:
        return plan
    result = import_checkpoint(plan.imports, progress)
    progress.note(
        f"{plan.imports.checkpoint}: {result.parameters:,} parameters in {result.tensors} tensors,"
        f" imported as {result.output}"
    )
    found = result.contract
    contract = replace(plan.contract, model=found.model, profile=found.profile)
    return replace(plan, contract=contract)


def _warn_of_width(contract: Contract, progress: Progress) -> None:
    trained = contract.trained_widths
    reads = contract.geometry.max_width
    if trained and reads > trained[1]:
        progress.warn(
            f"trained on lines up to {trained[1]} px, exported for lines up to {reads} px: evaluate"
            " by width band"
        )


def _write_golden(onnx: Path, crops: Sequence[tuple[str, Any]]) -> "Golden":
    from nordocr_cli.deploy.golden import write_golden
    from nordocr_cli.runtime.runners import open_runner

    return write_golden(onnx, open_runner(onnx, device="cpu").run, crops)


def _copy_simplified(
    plan: ExportPlan, fp32: ExportedFile, progress: Progress
) -> Path | None:
    """Write the copy of the simplified file, if the simplified form was kept."""
    target = plan.simplified_copy
    if target is None:
        return None
    if not fp32.simplified:
        progress.warn(f"{target.name} is not written: {fp32.simplification}")
        return None
    with replacing(target) as temporary:
        temporary.write_bytes(fp32.file.path.read_bytes())
    write_json(contract_path(target), replace(fp32.file, path=target).sidecar())
    return target


def _consumer_files(plan: ExportPlan, onnx: Path, progress: Progress) -> None:
    if plan.consumer_config:
        config = consumer.consumer_config(onnx, progress=progress)
        consumer.write_consumer_config(config, plan.consumer_config)
    if plan.check_consumer:
        check = consumer.check_consumer(plan.check_consumer, onnx, progress=progress)
        consumer.require_agreement(check, onnx)


@dataclass(frozen=True)
class _Form:
    """One form of a graph, and how it was made, in words."""

    graph: "onnx.ModelProto"
    words: str
    simplified: bool = False


class _Exporter:
    """Writes the files of one network. The values for comparison are computed once: `cases` are
    images with the network's logits, `lines` those of the check store.
    """

    def __init__(self, plan: ExportPlan, network: "nn.Module", progress: Progress) -> None:
        from nordocr_cli.deploy.onnx_export import reference
        from nordocr_cli.deploy.store_check import StoreReference

        self.plan = plan
        self.network = network
        self.progress = progress
        self.contract = replace(plan.contract, parent_sha256=sha256_of(plan.weights))
        in_fp32 = reference(network, self.contract)
        self.lines: StoreReference | None = None
        if plan.check_store:
            self.lines = StoreReference(
                plan.check_store,
                in_fp32,
                plan.contract,
                limit=plan.check_lines,
                progress=progress,
            )
        height = self.contract.geometry.height
        self.cases: list[Case] = list(
            make_cases(in_fp32, height, plan.shapes, progress=progress)
        )

    def file(self, path: Path, precision: str) -> ExportedFile:
        """Write one file in fp32, fp16 or bf16. The simplified graph is used when it passes every
        check, else the graph as exported.
        """
        from nordocr_cli.deploy.onnx_export import in_torch, to_onnx

        contract = replace(self.contract, precision=precision)
        self.progress.start(f"export {precision}", unit="files")
        graph = to_onnx(self.network, contract, self.plan.opset)
        if precision == "bf16":
            in_bf16 = in_torch(self.network, contract)
        else:
            in_bf16 = None
        if in_bf16:
            arithmetic = self._parity(in_bf16, contract, f"{path.name} (torch)")
        else:
            arithmetic = None
        with replacing(path) as temporary:
            form, file, run, parity = self._first_that_passes(
                self._forms(graph, contract, path.name), temporary, contract, path.name
            )
            on_store = None
            if self.lines:
                on_store = self.lines.check(
                    in_bf16 or run, contract, progress=self.progress
                )
                on_store.require(self.plan.max_cer_loss / 100, path.name)
        file = replace(file, path=path)
        write_json(contract_path(path), file.sidecar())
        nodes = len(graph.graph.node)
        return ExportedFile(
            file,
            nodes,
            form.words,
            parity,
            arithmetic,
            on_store,
            simplified=form.simplified,
        )

    def _forms(
        self, graph: "onnx.ModelProto", contract: Contract, name: str
    ) -> list[_Form]:
        """Return the forms of a graph that may be written, the preferred one first."""
        if not self.plan.simplify:
            return [_Form(graph, "not requested")]
        if contract.precision == "bf16":
            words = "skipped: it computes constants, and ONNX Runtime has no bf16"
            return [_Form(graph, words)]
        simplified = simplify(graph)
        words = (
            simplified.reason or f"{len(graph.graph.node)} → {simplified.nodes_after} nodes"
        )
        if not simplified.kept:
            self.progress.warn(f"{name}: {words}; the graph is kept as exported")
            return [_Form(graph, words)]
        return [_Form(simplified.model, words, simplified=True), _Form(graph, "")]

    def _first_that_passes(
        self, forms: Sequence[_Form], temporary: Path, contract: Contract, name: str
    ) -> tuple[_Form, OnnxFile, RunNetwork, Parity]:
        """Write the first form that passes every check. Raises ArtifactError when none does."""
        reason = ""
        for number, form in enumerate(forms, start=1):
            if reason:
                form = replace(form, words=reason)
            temporary.write_bytes(file_bytes(form.graph, contract, name))
            try:
                file = inspect_onnx(temporary, name=name)
                self._require_opset(file, contract, name)
                run = _open(temporary, form.graph, contract, name, self.plan.threads or 0)
                return form, file, run, self._parity(run, contract, name)
            except ArtifactError as error:
                if number == len(forms):
                    raise
                reason = f"its result failed a check and was dropped ({error})"
                self.progress.warn(f"onnxsim: {reason}")
        raise AssertionError("no form to write")

    def _require_opset(self, file: OnnxFile, contract: Contract, name: str) -> None:
        if file.opset != self.plan.opset_of(contract.precision):
            raise ArtifactError(
                f"{name}: opset {self.plan.opset} was requested, the exporter gave {file.opset}"
            )

    def _parity(self, run: RunNetwork, contract: Contract, name: str) -> Parity:
        return check_parity(run, self.cases, contract, name=name, progress=self.progress)

    def int8_file(
        self, path: Path, fp32: OnnxFile, calibration: Sequence[NDArray[Any]]
    ) -> ExportedFile:
        """Write the int8 form of the network, with ONNX Runtime's own operators. It is not
        simplified, since onnxsim's forms of matrix products are slower there. Its loss of accuracy
        and its speed compared with the fp32 file are measured on the check store.
        """
        from nordocr_cli.deploy.int8 import quantize
        from nordocr_cli.deploy.onnx_export import to_onnx

        self.progress.start("export int8", unit="files")
        full = replace(self.contract, precision="fp32")
        graph = to_onnx(self.network, full, self.plan.opset, for_ort=True)
        nodes = len(graph.graph.node)
        if not calibration and any(node.op_type == "Conv" for node in graph.graph.node):
            self.progress.note(
                f"{path.name}: its convolutions stay fp32; --calibration STORE|DIR gives the"
                f" lines that determine their ranges"
            )
        quantized = quantize(graph, calibration, path.name)
        contract = replace(self.contract, precision="int8")
        with replacing(path) as temporary:
            temporary.write_bytes(file_bytes(quantized, contract, path.name))
            file = inspect_onnx(temporary, name=path.name)
            # with one thread per line, as in predict
            run = open_file(temporary, contract, path.name, threads=1)
            baseline = open_file(fp32.path, contract, path.name, threads=1)
            parity = self._parity(run, contract, path.name)
            on_store = None
            if self.lines:
                on_store = self.lines.check(run, contract, baseline, self.progress)
                on_store.require(self.plan.max_cer_loss / 100, path.name)
        if on_store is None:
            self.progress.warn(
                f"{path.name}: its accuracy was not measured; --check-store STORE counts the texts"
                " that change, and the speed"
            )
        elif on_store.speed_up and on_store.speed_up < 1:
            self.progress.warn(
                f"{path.name} is no faster than {fp32.path.name} here"
                f" ({on_store.speed_up:.2f} times); use the fp32 file"
            )
        file = replace(file, path=path)
        write_json(contract_path(path), file.sidecar())
        words = "skipped: this file has operators that only ONNX Runtime supports"
        return ExportedFile(file, nodes, words, parity, on_store=on_store)


def _open(
    temporary: Path, model: "onnx.ModelProto", contract: Contract, what: str, threads: int
) -> RunNetwork:
    """Return a function that runs a written file. For a bf16 file it runs the same graph in fp32,
    which ONNX Runtime supports.
    """
    if contract.precision != "bf16":
        return open_file(temporary, contract, what, threads)
    from nordocr_cli.deploy.bf16 import fp32_twin

    twin = temporary.with_suffix(".twin")
    try:
        twin.write_bytes(fp32_twin(model).SerializeToString())
        return open_file(twin, contract, what, threads)
    finally:
        twin.unlink(missing_ok=True)
