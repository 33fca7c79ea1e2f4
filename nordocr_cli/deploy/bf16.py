"""Checking bf16 files on a CPU, where ONNX Runtime has no convolution in bf16."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def fp32_twin(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return the same graph with float32 instead of bf16 everywhere. The weights stay as bf16
    rounded them, which float32 holds exactly. Run by ONNX Runtime, it proves the graph and its
    weights; the effect of bf16 arithmetic is measured with torch.
    """
    import numpy as np
    import onnx

    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    bf16 = onnx.TensorProto.BFLOAT16
    fp32 = onnx.TensorProto.FLOAT
    tensors = list(twin.graph.initializer)
    for node in twin.graph.node:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == bf16:
                attribute.i = fp32
            tensors += [attribute.t] if attribute.HasField("t") else []
    for tensor in tensors:
        if tensor.data_type == bf16:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    del twin.graph.value_info[:]  # they declare bf16; ONNX Runtime infers them again
    return twin
