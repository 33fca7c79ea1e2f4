"""Running a network's weights with torch, on a CPU or a CUDA device."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.data.batches import normalize_tensor
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.base import LineNetwork
from nordocr_cli.models.weights import load_model
from nordocr_cli.runtime.batch_checks import require_batch
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner
from nordocr_cli.runtime.specs import DecodingMode

_COMPILED_PX = 128


@dataclass(frozen=True)
class LoadedNetwork:
    """A weights file that was read once: its name, the network on its device, and its contract."""

    name: str
    network: LineNetwork
    contract: Contract
    device: torch.device


def load_network(path: Path, device: str, threads: int | None) -> LoadedNetwork:
    """Load a weights file onto a device. Raises what `choose_device` and `load_model` raise."""
    chosen = choose_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    network, contract = load_model(path)
    return LoadedNetwork(path.name, network.to(chosen), contract, chosen)


class TorchRunner:
    """A network in torch; see Runner. The padding of a batch is masked, so a line's logits do not
    depend on the other lines. `decoding_mode` replaces that of a PARSeq's profile; UsageError is
    raised for another network, and for a TrOCR, which has no logits of fixed shape. `precision`
    bf16 runs under autocast: about 3 times as fast on CPUs with AMX, with logits that differ by up
    to 0.01. `compiled` lets torch compile the network, on a GPU into CUDA graphs. That takes about
    twenty seconds for each shape, so batches are padded to a few shapes.
    """

    backend = "torch"
    uses_widths = True
    replicas: Sequence[Runner] = ()

    def __init__(
        self,
        loaded: LoadedNetwork,
        precision: Literal["fp32", "bf16"] = "fp32",
        decoding_mode: DecodingMode | None = None,
        compiled: bool = False,
    ) -> None:
        self.name = loaded.name
        self.precision = precision
        self.contract = loaded.contract
        self.device = loaded.device
        if self.contract.decoding == "seq2seq":
            raise UsageError(
                f"{self.name} is a TrOCR, which generates its text: it has no logits of fixed shape"
                " for a runner to give"
            )
        if decoding_mode:
            loaded.network.set_decoding(decoding_mode.order, decoding_mode.refine)
        self._model: Callable[..., torch.Tensor] = loaded.network
        self._compiled = compiled
        if compiled:
            if self.device.type == "cuda":
                mode = "reduce-overhead"
            else:
                mode = "default"
            self._model = torch.compile(self._model, mode=mode, dynamic=False)

    def run(
        self, images: NDArray[np.uint8], widths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits float32 (N, T, C); see Runner."""
        require_batch(images, widths, self.contract.geometry, self.name)
        if self._compiled:
            lines = len(images)
            frames = self.contract.out_length(images.shape[3])
            return self._run(*_rounded(images, widths, self.contract.geometry))[
                :lines, :frames
            ]
        return self._run(images, widths)

    def _run(
        self, images: NDArray[np.uint8], widths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        bf16 = self.precision == "bf16"
        autocast: AbstractContextManager[object] = (
            torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()
        )
        with torch.inference_mode(), autocast:
            # (N, 3, H, W)
            pixels = normalize_tensor(
                torch.from_numpy(images).to(self.device), self.contract.geometry
            )
            logits = self._model(
                pixels, torch.from_numpy(widths).to(self.device)
            )  # (N, T, C)
            return np.asarray(logits.float().cpu().numpy(), dtype=np.float32)


def _rounded(
    images: NDArray[np.uint8], widths: NDArray[np.int64], geometry: Geometry
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pad a batch to the next power of two of lines and the next multiple of _COMPILED_PX pixels.
    The widths mask this padding.
    """
    lines = 1 << (len(images) - 1).bit_length()
    width = -(-images.shape[3] // _COMPILED_PX) * _COMPILED_PX
    padded = np.full((lines, *images.shape[1:3], width), geometry.pad_value, np.uint8)
    padded[: len(images), :, :, : images.shape[3]] = images
    return padded, np.concatenate([widths, np.full(lines - len(images), width)])


def choose_device(device: str) -> torch.device:
    """Return the torch device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises UsageError for another name and MissingBackendError when the GPU is missing.
    """
    if parse_device(device).kind == "tensorrt":
        raise UsageError(
            f"--device {device} is a provider of ONNX Runtime; torch takes cpu, cuda or cuda:N"
        )
    requested = parse_device(device)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested.kind == "cpu" or (requested.kind == "auto" and not gpus):
        return torch.device("cpu")
    if requested.index >= gpus:
        raise MissingBackendError(
            f"no GPU {requested}: torch {torch.__version__} sees {gpus}; use --device cpu, or"
            " install its CUDA build:"
            " pip install --index-url https://download.pytorch.org/whl/cu128 torch"
        )
    return torch.device("cuda", requested.index)
