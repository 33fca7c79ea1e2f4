"""Reading the validation lines during training: the figures, and the lines that are read worst."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import LineBatches, normalize
from nordocr_cli.decode.autoregressive import greedy_decoder
from nordocr_cli.geometry import Geometry
from nordocr_cli.metrics.score import score_line
from nordocr_cli.metrics.text import marked_difference, visible
from nordocr_cli.models.trocr.network import TrOcr
from nordocr_cli.records import LineResult, Recognition
from nordocr_cli.training.diagnosis import faults_of
from nordocr_cli.training.objective import decoding_of, frames_of

_SAMPLES_SHOWN = 8
_WORST_KEPT = 50


@dataclass(frozen=True)
class Scores:
    """An evaluation: `cer` is micro (all edits over all reference characters), `exact` the share of
    lines read exactly, `empty` the share of lines read as nothing; `samples` are a few (reference,
    hypothesis) and `pictures` their lines, uint8 (H, w, 3), `worst` the lines with the most edits,
    `faults` what the readings show to be wrong with labels or network.
    """

    lines: int
    cer: float
    exact: float
    empty: float
    seconds: float
    samples: tuple[tuple[str, str], ...]
    pictures: tuple[NDArray[np.uint8], ...] = ()
    worst: tuple[LineResult, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    batches: LineBatches,
    charset: Charset,
    device: torch.device,
    amp: Callable[[], AbstractContextManager[Any]],
    stop: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Read every line greedily with padding masked and count. None when `stop` asked to end it
    early.
    """
    began, was_training = time.monotonic(), model.training
    model.eval()
    edits: list[int] = []
    read: list[LineResult] = []
    samples: list[tuple[tuple[str, str], torch.Tensor]] = []
    for batch in batches.epoch(0):
        if stop():
            model.train(was_training)
            return None
        images, widths = (
            normalize(batch.images.to(device), batches.geometry),
            batch.widths.to(device),
        )
        with amp():
            readings = read_batch(model, images, widths, batches.geometry, charset)
        for row, reading in zip(batch.rows, readings, strict=True):
            edits.append(Levenshtein.distance(row.text, reading.text))
            read.append(
                LineResult(
                    row.id,
                    row.text,
                    reading.text,
                    reading.confidence,
                    row.language,
                    row.subset,
                    row.source,
                )
            )
        # (1 or 3, H, w); the batch's memory is used again
        image = batch.images[0, ..., : int(batch.widths[0])].clone()
        samples.append(((batch.texts[0], readings[0].text), image))
    model.train(was_training)
    lines, characters = len(read), sum(len(line.reference) for line in read)
    few = samples[:: max(1, len(samples) // _SAMPLES_SHOWN)][:_SAMPLES_SHOWN]
    by_edits = sorted(
        (index for index in range(lines) if edits[index]),
        key=lambda index: (-edits[index], read[index].id),
    )
    # In the order of the store, where a label that belongs to the line before or after stands
    # beside it.
    in_store_order = np.argsort(
        np.concatenate([plan.lines for plan in batches.plan(0)]), kind="stable"
    )
    return Scores(
        lines=lines,
        cer=sum(edits) / max(characters, 1),
        exact=edits.count(0) / lines,
        empty=sum(not line.hypothesis for line in read) / lines,
        seconds=time.monotonic() - began,
        samples=tuple(pair for pair, _ in few),
        pictures=tuple(image.expand(3, -1, -1).permute(1, 2, 0).numpy() for _, image in few),
        worst=tuple(read[index] for index in by_edits[:_WORST_KEPT]),
        faults=faults_of(
            [(read[i].reference, read[i].hypothesis) for i in in_store_order], charset
        ),
    )


def read_batch(
    model: nn.Module, images: Tensor, widths: Tensor, geometry: Geometry, charset: Charset
) -> Sequence[Recognition]:
    """Return what a network reads greedily on normalized images (N, 3, H, W) of lines `widths`
    int64 (N,) pixels wide.
    """
    if isinstance(model, TrOcr):
        return model.read(images, widths)
    logits, decoding = model(images, widths), decoding_of(model)  # (N, T, C)
    positions = (
        torch.full_like(widths, logits.shape[1])
        if decoding == "autoregressive"
        else frames_of(widths, geometry)
    )
    return greedy_decoder(decoding)(logits.float().cpu().numpy(), positions.cpu().numpy(), charset)


def worst_table(step: int, worst: Sequence[LineResult]) -> str:
    """Return the worst lines as tab-separated text with a header; the last column marks each
    difference ⟦wanted→read⟧.
    """
    lines = ["step\tid\tclass\tedits\treference\thypothesis\tdifference"]
    for line in worst:
        edits = Levenshtein.distance(line.reference, line.hypothesis)
        texts = (
            visible(line.reference),
            visible(line.hypothesis),
            marked_difference(line.reference, line.hypothesis),
        )
        lines.append(
            "\t".join(
                [
                    str(step),
                    visible(line.id),
                    score_line(line).error_class.value,
                    str(edits),
                    *texts,
                ]
            )
        )
    return "\n".join(lines) + "\n"
