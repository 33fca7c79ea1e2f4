"""The result of an export: the files and their checks."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.export.plan import input_words, output_words
from nordocr_cli.deploy.onnx_file import OnnxFile, contract_path
from nordocr_cli.deploy.parity import Parity

if TYPE_CHECKING:
    from nordocr_cli.deploy.golden import Golden
    from nordocr_cli.deploy.store_check import StoreCheck


@dataclass(frozen=True)
class ExportedFile:
    """One written ONNX file and its checks. `simplification` describes what onnxsim did.
    `arithmetic` is the parity of torch's own bf16, which ONNX Runtime cannot run. `on_store` is the
    comparison on real lines.
    """

    file: OnnxFile
    nodes_before: int
    simplification: str
    parity: Parity
    arithmetic: Parity | None = None
    on_store: "StoreCheck | None" = None
    simplified: bool = False

    @property
    def checks(self) -> list[tuple[str, str]]:
        """Return the checks that this file passed, each with its finding."""
        file = self.file
        contract = self.file.contract
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
                        f"{len(self.parity.points)} shapes run, frames correct and finite, white"
                        f" and black too"
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
    """The result of an export."""

    weights: Path
    parameters: int
    files: tuple[ExportedFile, ...]
    golden: "Golden | None" = None
    simplified_copy: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "weights": str(self.weights),
            "parameters": self.parameters,
            "files": [file.to_json() for file in self.files],
            "golden": self.golden.to_json() if self.golden else None,
            "simplified_copy": str(self.simplified_copy) if self.simplified_copy else None,
        }
