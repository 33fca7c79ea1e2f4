"""Running an exported network with ONNX Runtime."""

from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import InputType
from nordocr_cli.artifact.probing import (
    MAX_ONNX_BYTES,
    contract_of_onnx,
    onnx_metadata,
    read_contract,
)
from nordocr_cli.artifact.sealing import require_onnx_digest
from nordocr_cli.atomic import require_utf8
from nordocr_cli.cores import usable_cores
from nordocr_cli.data.resize import network_input
from nordocr_cli.deploy.onnx_bounds import (
    WATCH,
    bounded_session,
    memory_limit,
)
from nordocr_cli.deploy.onnx_file import INPUT_NAME
from nordocr_cli.errors import ArtifactError, MissingBackendError
from nordocr_cli.extras import install_line
from nordocr_cli.limits import read_regular
from nordocr_cli.profile import profile_from_json
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import local_arch
from nordocr_cli.runtime.batch_checks import require_batch
from nordocr_cli.runtime.device import Device, parse_device
from nordocr_cli.settings import Engine

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_INSTALL = f"pip uninstall onnxruntime && {install_line('gpu')}"
_NO_ROOM = "is smaller than requested bytes"
_FLOATS = ("tensor(float)", "tensor(float16)")
_INPUTS: dict[str, InputType] = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
}


class OnnxRuntimeRunner:
    """An ONNX model in ONNX Runtime; see Runner. It takes no widths: padding is seen as white
    pixels. An int8 model runs the lines of a batch one by one. It rounds by the range of its
    complete input, so in a batch a line's logits would depend on its neighbours. On a CPU that
    costs nothing.

    Raises ArtifactError when the file is damaged, carries no contract, or has other inputs and
    outputs than its contract, and MissingBackendError when ONNX Runtime cannot use the requested
    GPU. With the TensorRT provider, engines of the shapes in the model's profile are built at the
    first call and kept in `MODEL.tensorrt/`.
    """

    backend = "onnxruntime"
    uses_widths = False

    def __init__(
        self, path: Path, device: str = "auto", threads: int | None = None
    ) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingBackendError(
                f"onnxruntime cannot be imported ({error}); pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = (
            4  # errors are raised, and their log shows control characters
        )
        options.intra_op_num_threads = threads or 0  # 0: all cores
        requested = parse_device(device)
        # Exactly the checked bytes are loaded. A model without a digest may keep its weights in
        # another file, which ONNX Runtime finds by the path.
        content = read_regular(path, MAX_ONNX_BYTES, "ONNX model")
        has_digest = require_onnx_digest(content, str(path))
        self.contract = contract_of_onnx(
            onnx_metadata(content, str(path)), has_digest, str(path)
        )
        if not has_digest:
            require_utf8(path)  # ONNX Runtime takes no other path
        try:
            self._session = _open_session(
                path, content if has_digest else path, options, requested
            )
        except _errors() as error:
            raise ArtifactError(
                f"{path}: ONNX Runtime cannot load it ({_first_line(error)}); export it again"
            ) from error
        self.name = path.name
        self._path = path
        self._threads = threads or usable_cores()
        self.device = str(_device_of(self._session))
        self.precision = self.contract.precision
        self._input = _only(self._session.get_inputs(), "input", _INPUTS, path)
        self._input_type = _INPUTS[self._input.type]
        output = _only(self._session.get_outputs(), "output", _FLOATS, path)
        self._require_contract(path, output)

    def _require_contract(self, path: Path, output: Any) -> None:
        """Raise ArtifactError unless input and output are what the contract says."""
        height = self.contract.geometry.height
        channels = self.contract.output_channels
        types = (self._input_type, self.contract.input_type)
        if "uint8" in types and self._input_type != self.contract.input_type:
            raise ArtifactError(
                f"{path}: its input is {self._input_type}, in its contract"
                f" {self.contract.input_type}"
            )
        shape = list(self._input.shape)
        if len(shape) != 4 or shape[1:3] != [3, height]:
            raise ArtifactError(
                f"{path}: input {shape} does not match its contract: (batch, 3, {height}, width)"
            )
        classes = output.shape[2] if len(output.shape) == 3 else None
        if classes is None or (isinstance(classes, int) and classes != channels):
            raise ArtifactError(
                f"{path}: output {output.shape} does not match its contract: (batch, frames,"
                f" {channels})"
            )

    @cached_property
    def replicas(self) -> "Sequence[OnnxRuntimeRunner]":
        """One session of one thread, listed once per core: several threads may call it at the same
        time. One batch on two cores costs 8 % more processor time than two batches on one core each
        (448 lines, mean width 578 px), and the second core waits for the first whenever an operator
        is not split.
        """
        if self._threads == 1 or self.device != "cpu":
            return ()
        return (OnnxRuntimeRunner(self._path, "cpu", threads=1),) * self._threads

    def run(
        self, images: NDArray[np.uint8], widths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return the output float32 (N, T, C); see Runner. Raises ArtifactError when the model has
        a different fixed size.
        """
        require_batch(images, widths, self.contract.geometry, self.name)
        batch, _, _, width = self._input.shape
        for axis, fixed, given in (
            ("batch", batch, len(images)),
            ("width", width, images.shape[3]),
        ):
            if isinstance(fixed, int) and fixed != given:
                raise ArtifactError(
                    f"{self.name} has a fixed {axis} of {fixed}, requested: {given}; export it"
                    f" with dynamic axes"
                )
        pixels = network_input(
            images, self.contract.geometry, self._input_type
        )  # (N, 3, H, W)
        if self.precision == "int8":
            parts = np.split(pixels, len(pixels))
        else:
            parts = [pixels]
        logits = np.concatenate([self._call(part) for part in parts])  # (N, T, C)
        frames = self.contract.out_length(images.shape[3])
        if logits.shape[:2] != (len(images), frames):
            raise ArtifactError(
                f"{self.name} gives {logits.shape[1]} frames at width {images.shape[3]}; expected"
                f" {frames}"
            )
        return np.asarray(logits, dtype=np.float32)

    def _call(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the output (N, T, C) of ONNX Runtime for `pixels` (N, 3, H, W)."""
        with WATCH.call() as options:
            try:
                output: NDArray[Any] = self._session.run(
                    None, {self._input.name: pixels}, options
                )[0]
            except _errors() as error:
                shape = "x".join(map(str, pixels.shape))
                why = _first_line(error)
                if options.terminate:
                    why = f"it takes longer than {WATCH.limit_s:g} s"
                elif _NO_ROOM in why:
                    maximum = memory_limit() / 1e9
                    why = f"its networks need more than {maximum:.1f} GB; give smaller batches"
                raise ArtifactError(
                    f"{self.name} fails on an input of {shape} ({why})"
                ) from error
        return output


def _only(values: list[Any], what: str, types: Collection[str], path: Path) -> Any:
    if len(values) != 1 or values[0].type not in types:
        found = ", ".join(f"{v.name} {v.type}" for v in values) or "none"
        raise ArtifactError(
            f"{path}: expected one {what}, {' or '.join(types)}, found {found}; is it a model that"
            " `nordocr export` wrote?"
        )
    return values[0]


def _open_session(path: Path, model: bytes | Path, options: Any, requested: Device) -> Any:
    """Open a session of `model`, bytes or the path of a file, on the requested device. ONNX
    Runtime's own fallback is off, since it would use another GPU or the CPU and report that on
    stdout only.
    """
    import onnxruntime

    source = str(model) if isinstance(model, Path) else model

    def session(*providers: Any) -> Any:
        if not providers:
            return bounded_session(source, options)
        return onnxruntime.InferenceSession(
            source, options, providers=[*providers, _CPU], enable_fallback=0
        )

    available = onnxruntime.get_available_providers()
    if requested.kind == "tensorrt":
        if _TENSORRT not in available:
            raise MissingBackendError(
                f"this ONNX Runtime has no TensorRT provider; {_INSTALL} on a GPU host, or --device"
                " cuda"
            )
        opened = session(
            (_TENSORRT, tensorrt_options(path, requested.index)),
            (_CUDA, {"device_id": str(requested.index)}),
        )
        # ONNX Runtime opens the session without the provider and raises nothing
        if opened.get_providers()[0] != _TENSORRT:
            raise MissingBackendError(
                f"ONNX Runtime's TensorRT provider cannot be loaded on {requested}:"
                f" {install_line('tensorrt')}, or --device cuda"
            )
        return opened
    has_cuda = _CUDA in available
    if requested.kind == "cuda" and not has_cuda:
        raise MissingBackendError(
            f"no GPU {requested}: this ONNX Runtime has no CUDA; {_INSTALL} on a GPU host, or"
            " --device cpu"
        )
    if requested.kind == "cpu" or not has_cuda:
        return session()
    # ONNX Runtime then opens the session without CUDA and raises nothing
    problem = "its CUDA libraries cannot be loaded"
    try:
        opened = session((_CUDA, {"device_id": str(requested.index)}))
        if requested.kind == "auto" or _device_of(opened) == requested:
            return opened
    except RuntimeError as error:  # the libraries load, but this GPU does not respond
        if requested.kind == "auto":
            return session()
        problem = _first_line(error)
    raise MissingBackendError(
        f"no GPU {requested} for ONNX Runtime: {problem}; {_INSTALL} on a GPU host, or --device cpu"
    )


def tensorrt_options(path: Path, index: int) -> dict[str, str]:
    """Return the options of ONNX Runtime's TensorRT provider: the shapes of the model's profile, so
    that no engine is built again for a line that is wider than those before it
    (microsoft/onnxruntime#13559), and a folder for the engines.
    """
    contract = read_contract(path)
    if contract.profile:
        profile = profile_from_json(contract.profile, f"{path}: embedded profile")
    else:
        profile = None
    here = local_arch()
    if profile and here:
        ranges = profile.engine.get(here.name, Engine())
    else:
        ranges = Engine()
    ends = ranges.widest.ends() | {"min": ranges.ranges[0].ends()["min"]}
    shapes = {
        end: f"{INPUT_NAME}:{batch}x3x{contract.geometry.height}x{width}"
        for end, (batch, width) in ends.items()
    }
    folder = str(path.with_suffix(".tensorrt"))
    return {
        "device_id": str(index),
        **{f"trt_profile_{end}_shapes": shape for end, shape in shapes.items()},
        # without it TensorRT refuses a network whose layers are fp16 (NVIDIA/TensorRT#3277)
        "trt_fp16_enable": str(int(contract.precision == "fp16")),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": folder,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": folder,
    }


def _device_of(session: Any) -> Device:
    kinds: dict[str, Literal["cuda", "tensorrt"]] = {_CUDA: "cuda", _TENSORRT: "tensorrt"}
    first = session.get_providers()[0]
    if first not in kinds:
        return Device("cpu")
    return Device(
        kinds[first], int(session.get_provider_options()[first].get("device_id", 0))
    )


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def _errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = (
        "Fail",
        "InvalidArgument",
        "InvalidGraph",
        "InvalidProtobuf",
        "NoSuchFile",
        "NotImplemented",
        "RuntimeException",
    )
    return tuple(getattr(state, name) for name in names)
