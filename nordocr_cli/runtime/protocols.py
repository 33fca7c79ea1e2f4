"""The two interfaces of everything that recognizes text: Runner (tensor in, logits out) and
Recognizer (crops in, text out).
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.records import Recognition

Image = NDArray[np.uint8]  # (height, width, 3) RGB


class Runner(Protocol):
    """A network on a backend. What bench times."""

    name: str  # the model file's name
    backend: str  # torch | onnxruntime | tensorrt | tensorrt-rtx
    contract: Contract
    # True: padding is masked by the widths, so a line's logits do not depend on its batch
    uses_widths: bool

    @property
    def replicas(self) -> Sequence["Runner"]:
        """The same network once per core, for batches in parallel; empty when one call uses all
        cores.
        """

    def run(
        self, images: NDArray[np.uint8], widths: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Return logits float32 (N, T, C), T = contract.out_length(W), for uint8 images (N, 3,
        height, W).

        Row i is an image `widths[i]` pixels wide, padded on the right with the geometry's pad
        value. C is the contract's `output_channels`. They hold what its `output_activation` names:
        logits, probabilities, or class and confidence.
        """


class Recognizer(Protocol):
    """Anything that reads line crops: a runner with preprocessing and decoding, Tesseract, a VLM.
    eval compares recognizers.
    """

    name: str

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Return one Recognition per crop, in order. A crop's text does not depend on the others.

        Crops are uint8 (height, width, 3) RGB of any size; a crop that has the geometry's height
        and an allowed width (as the line store keeps them) is not resized again. `languages` is
        empty or gives each crop's language (`sv`, `no`, …, `` where not known); engines with one
        network for all languages ignore it.
        """
