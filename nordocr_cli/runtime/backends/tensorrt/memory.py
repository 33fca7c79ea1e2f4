"""How much memory an engine will need on a card, predicted from the ONNX alone: before minutes of
building, and on machines without a card. The prediction is the maximum sum of tensors that exist at
the same time when the nodes run in the file's order, at one shape. Attention scores count in fp32
only: in 16 bits TensorRT usually fuses attention and never stores them. Without a fused kernel it
stores them too; `unfused_bytes` holds this size. For engines of TensorRT-RTX 1.7.1 for svtrv2-nano
the prediction was 1.08 times the memory that fp16 engines reserve (0.77 at 4x1792 px), 0.85 to 0.93
in fp32.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.artifact.probing import MAX_ONNX_BYTES, parse_onnx
from nordocr_cli.deploy.bf16 import fp32_twin
from nordocr_cli.deploy.onnx_file import load_external_data
from nordocr_cli.deploy.simplify import simplify
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.limits import read_regular
from nordocr_cli.settings import ShapeRange

if TYPE_CHECKING:
    import onnx

RESERVE = 1.25  # the prediction may be too small by this factor
_TRIED_WIDTH_PX = 256
_CUDA_BYTES = 0.5e9  # memory that a process holds on a card before the first tensor


@dataclass(frozen=True)
class Memory:
    """The memory of an engine at one shape: `activation_bytes` of an execution context,
    `weights_bytes`, `io_bytes` of input and output. `unfused_bytes` are those of a context whose
    attention stores its scores, as classic TensorRT does when it has no fused kernel; equal to
    `activation_bytes` where the prediction counts the scores anyway (fp32). `scores_bytes` are
    those of the largest attention matrix alone: batch x heads x tokens x tokens values. Scores and
    their softmax exist at the same time, so a context without fused attention holds two of them.
    """

    batch: int
    width: int
    activation_bytes: int
    weights_bytes: int
    io_bytes: int
    unfused_bytes: int = 0
    scores_bytes: int = 0
    precision: str = "fp32"

    @property
    def total_bytes(self) -> float:
        """The total with the reserve and CUDA's own memory."""
        return self._total(self.activation_bytes)

    @property
    def unfused_total_bytes(self) -> float:
        """The same without fused attention."""
        return self._total(max(self.unfused_bytes, self.activation_bytes))

    def _total(self, context: int) -> float:
        return RESERVE * context + self.weights_bytes + self.io_bytes + _CUDA_BYTES

    @property
    def assumption(self) -> str:
        """The assumption of the prediction about attention, in words."""
        scores = f"the largest attention matrix takes {self.scores_bytes / 1e9:.2f} GB"
        if not self.scores_bytes:
            return "no attention"
        if self.unfused_bytes <= self.activation_bytes:
            return f"attention counted as not fused; {scores}"
        return (
            f"assuming that TensorRT fuses attention; without, {scores}, and the context, which"
            f" holds scores and softmax, about {self.unfused_bytes / 1e9:.2f} GB,"
            f" {self.unfused_total_bytes / 1e9:.1f} GB with the reserve"
        )

    def __str__(self) -> str:
        return (
            f"{self.batch}x{self.width} px in {self.precision}:"
            f" about {self.activation_bytes / 1e9:.2f} GB for an execution context,"
            f" {self.weights_bytes / 1e9:.2f} GB weights; with a reserve"
            f" {self.total_bytes / 1e9:.1f} GB ({self.assumption})"
        )


class MemoryModel:
    """Predicts the memory of engines built from a checked ONNX file at any shape. Raises
    ArtifactError when the shapes between its nodes cannot be inferred.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        content = read_regular(path, MAX_ONNX_BYTES, "ONNX model")
        self._model = parse_onnx(content, str(path))
        load_external_data(self._model, path, str(path))
        kinds = {tensor.data_type for tensor in self._model.graph.initializer}
        # onnxsim cannot run bf16, so the graph is analysed in fp32, and its floats count 2 bytes.
        self._bf16 = onnx.TensorProto.BFLOAT16 in kinds
        if self._bf16:
            self._model = fp32_twin(self._model)
        if not self._complete(self._inferred(1, _TRIED_WIDTH_PX)):
            self._model = simplify(self._model).model
            if not self._complete(self._inferred(1, _TRIED_WIDTH_PX)):
                raise ArtifactError(
                    f"{path}: the shapes between its nodes cannot be inferred, so its memory is not"
                    " predicted"
                )
        self._weights = sum(
            self._bytes(tensor.data_type, tensor.dims)
            for tensor in self._model.graph.initializer
        )
        self._precision = "fp32"
        if onnx.TensorProto.FLOAT16 in kinds:
            self._precision = "fp16"
        if self._bf16:
            self._precision = "bf16"
        self._scores = _attention_scores(self._model)
        self._readers: dict[str, int] = {}
        for index, node in enumerate(self._model.graph.node):
            self._readers |= dict.fromkeys(node.input, index)  # the last one

    def at(self, batch: int, width: int) -> Memory:
        """Return the prediction for one shape."""
        sizes = self._sizes(batch, width)
        graph = self._model.graph
        inputs_outputs = sum(
            sizes[tensor.name] for tensor in (graph.input[0], graph.output[0])
        )
        unfused = self._peak(sizes)
        fused = unfused
        if self._precision != "fp32":
            fused = self._peak(sizes | dict.fromkeys(self._scores, 0))
        return Memory(
            batch,
            width,
            activation_bytes=fused,
            weights_bytes=self._weights,
            io_bytes=inputs_outputs,
            unfused_bytes=unfused,
            scores_bytes=max((sizes.get(name, 0) for name in self._scores), default=0),
            precision=self._precision,
        )

    def _peak(self, sizes: Mapping[str, int]) -> int:
        """Return the maximum sum in bytes of tensors that exist at the same time."""
        live = 0
        peak = 0
        alive: set[str] = set()
        for index, node in enumerate(self._model.graph.node):
            alive |= set(node.output)
            live += sum(sizes.get(name, 0) for name in node.output)
            peak = max(peak, live)
            last_read = {
                name
                for name in node.input
                if name in alive and self._readers[name] == index
            }
            for name in last_read:
                live -= sizes.get(name, 0)
                alive.discard(name)
        return peak

    def maximum(self, ranges: Iterable[ShapeRange]) -> Memory:
        """Return the maximum prediction over the maximum shapes: one context serves every range of
        an engine.
        """
        return max(
            (self.at(each.max_batch, each.max_width) for each in ranges),
            key=lambda memory: memory.total_bytes,
        )

    def require_fit(
        self, ranges: Sequence[ShapeRange], card: str, memory_gb: float
    ) -> Memory:
        """Return `maximum`. Raises UsageError when it does not fit a card of `memory_gb`,
        naming the largest shapes that fit.
        """
        memory = self.maximum(ranges)
        if memory.total_bytes > memory_gb * 1e9:
            batch = self._largest(
                memory.batch, lambda size: self.at(size, memory.width), memory_gb
            )
            if batch:
                advice = f"--max {batch}x{memory.width} is the largest batch that fits"
            else:
                width = 4 * self._largest(
                    memory.width // 4, lambda size: self.at(1, 4 * size), memory_gb
                )
                if width:
                    advice = f"one line fits up to {width} px"
                else:
                    advice = "nothing fits"
            raise UsageError(
                f"the engine's maximum shape does not fit {card} with {memory_gb:g} GB: {memory}."
                f" {advice}; fp16 needs far less than fp32, several --band need less than one"
                f" range, --vram GB names another card"
            )
        return memory

    @staticmethod
    def _largest(limit: int, predict: Callable[[int], Memory], memory_gb: float) -> int:
        """Return the largest number below `limit` that fits; 0 when none does."""
        # fits, does not
        low = 0
        high = limit
        while high - low > 1:
            middle = (low + high) // 2
            if predict(middle).total_bytes <= memory_gb * 1e9:
                low = middle
            else:
                high = middle
        return low

    def _sizes(self, batch: int, width: int) -> dict[str, int]:
        """Return the bytes of every tensor between nodes whose shape can be inferred."""
        inferred = self._inferred(batch, width)
        sizes = {}
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            tensor = value.type.tensor_type
            if all(dimension.HasField("dim_value") for dimension in tensor.shape.dim):
                sizes[value.name] = self._bytes(
                    tensor.elem_type,
                    [dimension.dim_value for dimension in tensor.shape.dim],
                )
        return sizes

    def _bytes(self, kind: int, dims: Iterable[int]) -> int:
        import onnx

        size = int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
        return math.prod(dims) * (
            2 if self._bf16 and kind == onnx.TensorProto.FLOAT else size
        )

    @staticmethod
    def _complete(graph: "onnx.GraphProto") -> bool:
        """Return whether the output's shape could be inferred, and with it all shapes that lead
        there.
        """
        return all(
            dimension.HasField("dim_value")
            for dimension in graph.output[0].type.tensor_type.shape.dim
        )

    def _inferred(self, batch: int, width: int) -> "onnx.GraphProto":
        """Return the graph with the shapes between its nodes for one input."""
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        del model.graph.value_info[:]
        for axis, size in ((0, batch), (3, width)):
            dimension = model.graph.input[0].type.tensor_type.shape.dim[axis]
            dimension.Clear()
            dimension.dim_value = size
        for dimension in model.graph.output[0].type.tensor_type.shape.dim[:2]:
            dimension.Clear()
        return onnx.shape_inference.infer_shapes(model, data_prop=True).graph


def _attention_scores(model: "onnx.ModelProto") -> set[str]:
    """Return the tensors between the two products of each attention: product of queries and keys,
    …, softmax, product with the values.
    """
    producers = {name: node for node in model.graph.node for name in node.output}
    into_products = {
        name for node in model.graph.node if node.op_type == "MatMul" for name in node.input
    }
    scores: set[str] = set()
    for softmax in (
        node
        for node in model.graph.node
        if node.op_type == "Softmax" and node.output[0] in into_products
    ):
        chain = {softmax.output[0]}
        name = softmax.input[0]
        while (node := producers.get(name)) is not None:
            chain.add(name)
            if node.op_type == "MatMul":
                scores |= chain
                break
            name = node.input[0]
    return scores
