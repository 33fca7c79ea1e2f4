"""Running an exported network with ONNX Runtime."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact import contract_from_metadata
from nordocr_cli.data.resize import normalize
from nordocr_cli.errors import ArtifactError, MissingBackendError
from nordocr_cli.runtime.runners import require_batch

_FLOATS: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxRuntimeRunner:
    """An ONNX model in ONNX Runtime; see Runner. It takes no widths: padding is seen as white pixels.

    Raises ArtifactError when the file is damaged, carries no contract, or has other inputs and outputs than its contract says.
    """

    backend = "onnxruntime"
    uses_widths = False

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingBackendError(f"onnxruntime cannot be imported ({error}); pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        options.intra_op_num_threads = threads or 0  # 0: all cores
        providers = _providers(device, onnxruntime.get_available_providers())
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except _errors() as error:
            raise ArtifactError(f"{path}: ONNX Runtime does not load it ({_first_line(error)}); export it again") from error
        self.name = path.name
        self.contract = contract_from_metadata(self._session.get_modelmeta().custom_metadata_map, str(path))
        self.device = "cuda" if self._session.get_providers()[0].startswith("CUDA") else "cpu"
        self.precision = self.contract.precision
        self._input = _only(self._session.get_inputs(), "input", path)
        output = _only(self._session.get_outputs(), "output", path)
        geometry, classes = self.contract.geometry, self.contract.charset.num_classes
        if len(self._input.shape) != 4 or list(self._input.shape[1:3]) != [3, geometry.height]:
            raise ArtifactError(f"{path}: input {self._input.shape} is not its contract's (batch, 3, {geometry.height}, width)")
        if len(output.shape) != 3 or (isinstance(output.shape[2], int) and output.shape[2] != classes):
            raise ArtifactError(f"{path}: output {output.shape} is not its charset's (batch, frames, {classes})")

    def run(self, images: NDArray[np.uint8], widths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits float32 (N, T, C); see Runner. Raises ArtifactError when the model has a fixed size that differs."""
        require_batch(images, widths, self.contract.geometry, self.name)
        batch, _, _, width = self._input.shape
        for axis, fixed, given in (("batch", batch, len(images)), ("width", width, images.shape[3])):
            if isinstance(fixed, int) and fixed != given:
                raise ArtifactError(f"{self.name} has a fixed {axis} of {fixed}, asked for {given}; export it with dynamic axes")
        pixels = normalize(images, self.contract.geometry).astype(_FLOATS[self._input.type], copy=False)  # (N, 3, H, W)
        try:
            (logits,) = self._session.run(None, {self._input.name: pixels})  # (N, T, C)
        except _errors() as error:
            shape = f"{len(images)}x3x{images.shape[2]}x{images.shape[3]}"
            raise ArtifactError(f"{self.name} fails on an input of {shape} ({_first_line(error)})") from error
        frames = self.contract.geometry.out_length(images.shape[3])
        if logits.shape[:2] != (len(images), frames):
            raise ArtifactError(f"{self.name} gives {logits.shape[1]} frames at width {images.shape[3]}; {frames} were due")
        return np.asarray(logits, dtype=np.float32)


def _only(values: list[Any], what: str, path: Path) -> Any:
    if len(values) != 1 or values[0].type not in _FLOATS:
        found = ", ".join(f"{v.name} {v.type}" for v in values) or "none"
        raise ArtifactError(f"{path}: expected one float {what}, found {found}; is it a model that `nordocr export` wrote?")
    return values[0]


def _providers(device: str, available: list[str]) -> list[str]:
    wants_gpu = device.startswith("cuda")
    has_gpu = "CUDAExecutionProvider" in available
    if wants_gpu and not has_gpu:
        raise MissingBackendError("this ONNX Runtime has no CUDA; pip install -e '.[gpu]' on a GPU host, or use --device cpu")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if has_gpu and device != "cpu" else ["CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises; it has no common base of its own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NotImplemented", "RuntimeException")
    return tuple(getattr(state, name) for name in names)
