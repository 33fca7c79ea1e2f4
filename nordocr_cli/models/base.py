"""What every network is to the rest of the program: `LineNetwork`, and `CtcNetwork` for those that
give a class for each frame of the image.

Everything that differs between networks is a method here, so that training, evaluation and export
ask the network and never which network it is. To add a CTC network, subclass `CtcNetwork` in one
file, add its table to `nordocr_cli/settings.py`, and write a profile:

    class Tiny(CtcNetwork):
        def __init__(self, options: TinyModel, num_classes: int) -> None:
            super().__init__(options)
            ...
            self.classifier = nn.Linear(64, num_classes)

        def forward(self, images, widths=None):  # (N, 3, H, W), (N,) -> logits (N, ceil(W / 4), C)
            ...
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import CTC_STRIDE, Geometry
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineRow, Recognition
from nordocr_cli.settings import ModelTable

if TYPE_CHECKING:
    from nordocr_cli.artifact.contract import Contract


class AuxiliaryBranch(nn.Module):
    """Layers that help a network to learn. They have a loss and parameters of their own, are saved
    in the training state, and are never shipped. `compiled_part` and `loss_from` together are the
    loss of network and branch, as in `LineNetwork`.
    """

    @classmethod
    @abstractmethod
    def create(cls, network: "LineNetwork", num_classes: int) -> Self:
        """Build the branch for a network."""

    @abstractmethod
    def compiled_part(
        self,
        network: "LineNetwork",
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Any:
        """Compute what `loss_from` needs; arguments as of `LineNetwork.loss`."""

    @abstractmethod
    def loss_from(
        self, part: Any, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the loss (), in nats a character, of network and branch."""


class LineNetwork(nn.Module):
    """A network that reads text lines.

    `options` is the model table that builds the same network again. Subclasses set
    `classifier_name` to the dotted name of the linear layer with one row for each class, and
    `class_embedding` to the weight that embeds classes which were written before ("": none).
    """

    classifier_name: ClassVar[str] = "classifier"
    class_embedding: ClassVar[str] = ""
    # Whether the network writes tokens of its own, so that its weights fit labels of any charset.
    own_tokens: ClassVar[bool] = False

    def __init__(self, options: ModelTable) -> None:
        super().__init__()
        self.options = options

    @classmethod
    def create(
        cls,
        options: Any,
        num_classes: int,
        charset: Charset | None = None,
        weights_folder: Path | None = None,
    ) -> Self:
        """Build the network with fresh weights. Most networks need only the number of classes;
        `charset` is that of the labels, `weights_folder` the folder of the weights that are loaded
        next.
        """
        return cls(options, num_classes)  # type: ignore[call-arg]  # of a subclass

    @abstractmethod
    def loss(
        self,
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Tensor:
        """Return the loss of a batch, float32 (), in nats a character (or token).

        `images` are normalized (N, 3, H, W), `widths` int64 (N,) pixels of each line, `targets`
        int64 (sum of lengths,) classes of all labels one after the other, `lengths` int64 (N,).
        `masked` is whether padding is masked; if not, a CTC network sees it as white paper.
        """

    def compiled_part(
        self,
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Any:
        """Compute the part of the loss that torch.compile can turn into one graph: here all of it.
        `loss` must equal `loss_from(compiled_part(...), ...)`.
        """
        return self.loss(images, widths, targets, lengths, masked)

    def loss_from(
        self, part: Any, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the loss () from the result of `compiled_part`; computed in float32."""
        loss: Tensor = part
        return loss

    @abstractmethod
    def read(
        self, images: Tensor, widths: Tensor, charset: Charset
    ) -> Sequence[Recognition]:
        """Return the text of each line by greedy decoding with masked padding: normalized images
        (N, 3, H, W), widths int64 (N,).
        """

    # what a network may need of files, labels and settings
    # ----------------------------------------

    def load_pretrained(self, progress: Progress) -> None:
        """Load the weights files that the options name into a fresh network, and report it. Raises
        UsageError for a missing file and ArtifactError for one that does not fit.
        """

    def require_geometry(self, geometry: Geometry) -> None:
        """Check that the network can read lines of this geometry. Raises UsageError."""

    def require_same_base(self, model: Mapping[str, Any], what: str) -> None:
        """Check that weights with the model table `model` were trained on the same pretrained
        network as this one. Raises ArtifactError naming `what`.
        """

    def label_problems(self, rows: Iterable[LineRow], progress: Progress) -> list[str]:
        """Return one sentence for each label that the network cannot learn as it stands. CTC labels
        are checked against their frames when batches are planned, so most networks return nothing.
        """
        return []

    def warn_of_frozen(self, progress: Progress) -> None:
        """Warn of parts that are frozen although they hold random weights; called after freezing,
        for a new network.
        """

    def set_decoding(self, order: str, refine: int) -> None:
        """Change how an autoregressive network decodes. Raises UsageError for any other one."""
        raise UsageError(
            f"ar and nar are decoding modes of PARSeq, and this is {self.options.name}: use greedy"
            " or beam"
        )

    def facts(self) -> dict[str, Any]:
        """Return what run.json should record about this network, as plain JSON values."""
        return {}

    @classmethod
    def save_extras(
        cls, folder: Path, state: Mapping[str, Tensor], contract: "Contract"
    ) -> list[Path]:
        """Write what other programs read besides the weights file, and return the paths."""
        return []


class CtcNetwork(LineNetwork):
    """A network whose forward maps (images (N, 3, H, W), widths (N,) or None) to logits (N, T, C),
    T = ceil(W / 4): a class for each frame, 0 the blank.

    With the widths given a line's logits are those of the line alone; without them the network sees
    the padding as pixels.
    """

    def loss(
        self,
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Tensor:
        """Return the CTC loss (), in nats a character; see `LineNetwork.loss`."""
        logits = self.compiled_part(images, widths, targets, lengths, masked)
        return self.loss_from(logits, widths, targets, lengths)

    def compiled_part(
        self,
        images: Tensor,
        widths: Tensor,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Tensor:
        """Return the logits (N, T, C)."""
        logits: Tensor = self(images, widths if masked else None)
        return logits

    def loss_from(
        self, part: Tensor, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the CTC loss () of the logits `part` (N, T, C)."""
        return ctc_loss(part, frames_of(widths), targets, lengths)

    def read(
        self, images: Tensor, widths: Tensor, charset: Charset
    ) -> Sequence[Recognition]:
        """Return the best path of each line; see `LineNetwork.read`."""
        logits = self(images, widths).float().cpu().numpy()  # (N, T, C)
        return decode_greedy(logits, frames_of(widths).cpu().numpy(), charset)


def frames_of(widths: Tensor) -> Tensor:
    """Return the number of CTC frames int64 (N,) of lines `widths` pixels wide, as
    `Geometry.out_length` counts them.
    """
    return torch.div(widths - 1, CTC_STRIDE, rounding_mode="floor") + 1


def ctc_loss(logits: Tensor, frames: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
    """Return the loss of a batch: the sum over its lines divided by its number of characters,
    float32 ().

    `logits` (N, T, C); `frames` int64 (N,): line i is read from its own first frames[i] ≤ T frames,
    masked or not, because that is what serving decodes; `targets` int64 (sum of lengths,). Batches
    hold about as many pixels each, hence about as many characters, so every character of an epoch
    weighs the same, whatever the width of its line.

    A line whose target does not fit its frames gives infinity. It is not zeroed: the training loop
    names the rows.
    """
    log_probs = logits.float().log_softmax(-1).transpose(0, 1)  # (T, N, C)
    total = F.ctc_loss(log_probs, targets, frames, lengths, blank=BLANK, reduction="sum")
    return total / lengths.sum().clamp(min=1)
