"""`nordocr train --preview-batch`: the first batches of a run as a picture, as the network would
get them.
"""

import io
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli import atomic
from nordocr_cli.core.train.request import (
    TrainRequest,
    resolve_request,
    store_and_ratio,
    train_stores,
)
from nordocr_cli.core.train.stores import open_train
from nordocr_cli.profile import ResolvedProfile
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from PIL import Image

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.batches import Batch

_BATCHES = 6  # shown
_SAMPLES = 8  # shown of each batch
_LABEL_PX = 14
_MARGIN = 6
_DESK = (255, 236, 214)
_LABEL_INK = (160, 0, 0)
_PADDING_INK = (0, 90, 200)


@dataclass(frozen=True)
class PreviewResult:
    """The picture that was written, and how much of it there is."""

    output: Path
    batches: int
    samples: int
    padding_share: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {**vars(self), "output": str(self.output)}


def preview_batch(
    resolved: ResolvedProfile | None,
    request: TrainRequest,
    output: Path,
    *,
    progress: Progress = SILENT,
) -> PreviewResult:
    """Write the first batches of the first epoch as a PNG: samples with augmentation and padding,
    their labels under them.

    Labels are read back from the classes that the loss gets. Raises as `train` does, and UsageError
    when no font of the system draws them or `output` is one of the stores.
    """
    from nordocr_cli.data.synth.fonts import label_font
    from nordocr_cli.runtime.backends.torch.runner import choose_device

    profile, request = resolve_request(resolved, request, progress)
    request = replace(request, train=train_stores(profile, request))
    atomic.refuse_inputs(output, [store_and_ratio(path)[0] for path in request.train])
    charset = profile.load_charset()
    font = label_font(charset, _LABEL_PX)
    with ExitStack() as stack:
        data = open_train(profile, request, choose_device(request.device), stack)
        batches = list(islice(data.epoch(0), _BATCHES))
        picture = _sheet(batches, charset, font)
        share = data.padding_share(0)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    atomic.write_bytes(output, content.getvalue())
    return PreviewResult(
        output, len(batches), sum(min(_SAMPLES, len(batch)) for batch in batches), share
    )


def _sheet(batches: "list[Batch]", charset: "Charset", font: Any) -> "Image.Image":
    """Samples under each other, each with its label below it; a blue line marks masked padding."""
    from PIL import Image, ImageDraw

    height = batches[0].images.shape[2]
    labels = _LABEL_PX + 2 * _MARGIN
    rows = sum(min(_SAMPLES, len(batch)) for batch in batches)
    widest = max(batch.images.shape[3] for batch in batches)
    sheet = Image.new(
        "RGB",
        (max(widest, 700) + 2 * _MARGIN, rows * (height + labels) + len(batches) * labels),
        _DESK,
    )
    draw = ImageDraw.Draw(sheet)
    y = 0
    for number, batch in enumerate(batches):
        if batch.masked:
            padding = "padding masked"
        else:
            padding = "padding unmasked, as in serving"
        if batch.lines > len(batch):
            joined = f", {batch.lines} lines"
        else:
            joined = ""
        title = (
            f"batch {number}: {len(batch)} samples{joined}, {height} x {batch.images.shape[3]} px,"
            f" {padding}"
        )
        draw.text((_MARGIN, y + _MARGIN), title, fill=(0, 0, 0), font=font)
        y += labels
        targets = batch.targets.split(batch.target_lengths.tolist())
        for image, width, target in islice(
            zip(batch.images, batch.widths.tolist(), targets, strict=True), _SAMPLES
        ):
            pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()  # (H, W, 3)
            sheet.paste(Image.fromarray(pixels), (_MARGIN, y))
            if batch.masked and width < pixels.shape[1]:
                draw.line(
                    (
                        _MARGIN + width,
                        y + height,
                        _MARGIN + pixels.shape[1] - 1,
                        y + height,
                    ),
                    fill=_PADDING_INK,
                )
            draw.text(
                (_MARGIN, y + height + 2),
                charset.decode(target.tolist()),
                fill=_LABEL_INK,
                font=font,
            )
            y += height + labels
    return sheet
