"""Finds the branches for GPUs in the package's source."""

import ast
from collections.abc import Iterator
from pathlib import Path

# Attributes and functions that only a GPU has a use for.
_NAMES = {
    "GradScaler",
    "pin_memory",
    "cudagraph_mark_step_begin",
    "is_cuda",
    "cuda_graph_strategy",
    "execute_async_v3",
    "set_optimization_profile_async",
    "convert_sync_batchnorm",
    "DistributedDataParallel",
}
_KEYWORDS = {"pin", "fused", "non_blocking", "device_ids"}
_WORDS = (
    "reduce-overhead",
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "nccl",
    "libcuda",
    "nvidia-smi",
    "/dev/nvidiactl",
    "pointwise",
)
_KINDS = {"cuda", "cpu", "tensorrt"}


def gpu_branches(path: Path, name: str) -> set[str]:
    """The branches of one module, each `file:function: expression`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {f"{name}:{where or 'module'}: {text}" for where, text in _found(tree, "")}


def _found(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        inner = where
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = f"{where}.{child.name}".lstrip(".")
        if _is_docstring(node, child):
            continue
        text = _expression(child)
        if text:
            yield inner, text
        yield from _found(child, inner)


def _is_docstring(parent: ast.AST, child: ast.AST) -> bool:
    """A string that stands alone: documentation, which runs nothing."""
    is_text = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
    return is_text and isinstance(child.value.value, str) and hasattr(parent, "body")


def _expression(node: ast.AST) -> str:
    """The expression where it is a branch for GPUs, else ""."""
    if isinstance(node, ast.Attribute):
        text = ast.unparse(node)
        if text.startswith(("torch.cuda.", "torch.backends.cud")) or node.attr in _NAMES:
            return text
    if isinstance(node, ast.keyword) and node.arg in _KEYWORDS:
        return ast.unparse(node)
    if isinstance(node, ast.Compare) and _asks_for_kind(node):
        return ast.unparse(node)
    if isinstance(node, ast.Call) and ast.unparse(node).endswith(".startswith('cuda')"):
        return ast.unparse(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return next((word for word in _WORDS if word == node.value or _in(word, node)), "")
    return ""


def _asks_for_kind(node: ast.Compare) -> bool:
    """Whether a comparison asks for the kind of a device."""
    sides = [node.left, *node.comparators]
    constants = {
        side.value
        for side in sides
        if isinstance(side, ast.Constant) and isinstance(side.value, str)
    }
    return bool(constants & _KINDS)


def _in(word: str, node: ast.Constant) -> bool:
    """Whether a short string holds the word, e.g. the name of a library or a backend."""
    return word in str(node.value) and " " not in str(node.value)
