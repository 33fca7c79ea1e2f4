"""Reading lines with a TrOCR. It has its own recognizer, since it has no logits of fixed shape."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from nordocr_cli.data.resize import pad_batch, resize_line
from nordocr_cli.data.text_band import tightened
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.protocols import Image

if TYPE_CHECKING:
    from nordocr_cli.runtime.backends.torch.runner import LoadedNetwork

_LINES = 16  # lines read together, times the width of the beam


class TrocrRecognizer:
    """A TrOCR with the preprocessing of its contract; see Recognizer. One network reads all
    languages.
    """

    backend = "torch"

    def __init__(
        self,
        loaded: "LoadedNetwork",
        precision: Literal["fp32", "bf16"] = "fp32",
        beam_width: int = 1,
    ) -> None:
        from nordocr_cli.models.trocr.network import require_trocr

        self.name = loaded.name
        self.precision = precision
        self.beam_width = beam_width
        self.contract = loaded.contract
        self.device = loaded.device
        self._model = require_trocr(loaded.network)

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer. Lines of similar width, and thus of similar length, are
        generated together.
        """
        import torch

        from nordocr_cli.data.batches import normalize_tensor

        geometry = self.contract.geometry
        readings = [Recognition("")] * len(crops)
        tight = [tightened(crop, geometry) for crop in crops]
        lines = [resize_line(crop, geometry) for crop in tight]  # (height, w, 3) each
        order = sorted(range(len(lines)), key=lambda index: lines[index].shape[1])
        together = max(1, _LINES // self.beam_width)
        bf16 = self.precision == "bf16"
        for start in range(0, len(order), together):
            members = order[start : start + together]
            images, widths = pad_batch([lines[index] for index in members], geometry)
            autocast: AbstractContextManager[object] = (
                torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()
            )
            with torch.inference_mode(), autocast:
                # (N, 3, H, W)
                pixels = normalize_tensor(
                    torch.from_numpy(images).to(self.device), geometry
                )
                found = self._model.read(
                    pixels,
                    torch.from_numpy(widths).to(self.device),
                    beam_width=self.beam_width,
                )
            for index, reading in zip(members, found, strict=True):
                readings[index] = reading
        return readings
