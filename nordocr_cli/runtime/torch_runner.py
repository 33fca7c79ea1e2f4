"""Running a network's weights with torch, on a CPU or a CUDA device."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from nordocr_cli.data.batches import normalize
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.models.parseq import Parseq
from nordocr_cli.models.weights import load_model
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.protocols import Runner
from nordocr_cli.runtime.runners import require_batch
from nordocr_cli.runtime.specs import Writing


class TorchRunner:
    """A network in torch; see Runner. The padding of a batch is masked, so a line's logits are its own.

    `writing` has PARSeq write so, not as its profile says. Raises UsageError for another network.
    `precision` bf16 runs under autocast: about 3 times as fast on CPUs with AMX, with logits that differ by up to 0.01.
    """

    backend = "torch"
    uses_widths = True
    lanes: Sequence[Runner] = ()

    def __init__(
        self,
        path: Path,
        device: str = "auto",
        threads: int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        writing: Writing | None = None,
    ) -> None:
        self.device = choose_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        model, self.contract = load_model(path)
        if writing:
            if not isinstance(model, Parseq):
                name = self.contract.model["name"]
                raise UsageError(f"{path}: ar and nar are ways in which PARSeq writes, and this is {name}: greedy or beam")
            model.options = model.options.model_copy(update={"decode": writing.order, "refine": writing.refine})
        self._model = model.to(self.device)
        self.name, self.precision = path.name, precision

    def run(self, images: NDArray[np.uint8], widths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return logits float32 (N, T, C); see Runner."""
        require_batch(images, widths, self.contract.geometry, self.name)
        bf16 = self.precision == "bf16"
        autocast: AbstractContextManager[object] = torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()
        with torch.inference_mode(), autocast:
            pixels = normalize(torch.from_numpy(images).to(self.device), self.contract.geometry)  # (N, 3, H, W)
            logits = self._model(pixels, torch.from_numpy(widths).to(self.device))  # (N, T, C)
            return np.asarray(logits.float().cpu().numpy(), dtype=np.float32)


def choose_device(device: str) -> torch.device:
    """Return the torch device that `auto`, `cpu`, `cuda` or `cuda:N` means here.

    Raises UsageError for another name and MissingBackendError when the GPU is not there.
    """
    asked, gpus = parse_device(device), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked.kind == "cpu" or (asked.kind == "auto" and not gpus):
        return torch.device("cpu")
    if asked.index >= gpus:
        raise MissingBackendError(
            f"no GPU {asked}: torch {torch.__version__} sees {gpus}; use --device cpu, or install its CUDA build: "
            "pip install --index-url https://download.pytorch.org/whl/cu128 torch"
        )
    return torch.device("cuda", asked.index)
