"""Reading the validation lines during training: the figures, and the lines with the most errors."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import LineBatches, normalize_tensor
from nordocr_cli.metrics.group import GroupedLines
from nordocr_cli.metrics.registry import BY_NAME
from nordocr_cli.metrics.score import HEADLINE, score_line, score_lines
from nordocr_cli.metrics.score import worst as worst_of
from nordocr_cli.metrics.text import marked_difference, visible
from nordocr_cli.models.base import LineNetwork
from nordocr_cli.records import LineResult, LineRow, Recognition
from nordocr_cli.training.diagnosis import faults_of

_SAMPLES_SHOWN = 8
_WORST_KEPT = 50


@dataclass(frozen=True)
class Scores:
    """An evaluation: `cer` is micro (all edits over all reference characters), `exact` the share of
    lines read exactly, `empty` the share of lines read as nothing; `samples` are a few (reference,
    hypothesis) and `pictures` their lines, uint8 (H, w, 3), `worst` the lines with the most edits,
    `faults` what the readings show to be wrong with labels or network, `rates` every metric of the
    registry by name.
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
    rates: Mapping[str, float | None] = field(default_factory=dict)

    def cost(self, metric: str) -> float:
        """Return the value of a metric so that lower is better; infinite where the lines have
        nothing that it counts.
        """
        value = self.rates.get(metric)
        if value is None:
            return math.inf
        if BY_NAME[metric].direction == "higher is better":
            return -value
        return value


@torch.inference_mode()
def evaluate_batches(
    model: LineNetwork,
    batches: LineBatches,
    charset: Charset,
    device: torch.device,
    amp: Callable[[], AbstractContextManager[Any]],
    stop: Callable[[], bool] = lambda: False,
) -> Scores | None:
    """Read every line greedily with padding masked, and score. None when `stop` returned true
    before the end.
    """
    began = time.monotonic()
    was_training = model.training
    model.eval()
    read: list[LineResult] = []
    samples: list[_Sample] = []
    for batch in batches.epoch(0):
        if stop():
            model.train(was_training)
            return None
        images = normalize_tensor(batch.images.to(device), batches.geometry)  # (N, 3, H, W)
        with amp():
            readings = model.read(images, batch.widths.to(device), charset)
        for row, reading in zip(batch.rows, readings, strict=True):
            read.append(_line_result(row, reading))
        # The memory of the batch is used again, so its first line is copied.
        image = batch.images[0, ..., : int(batch.widths[0])].clone()  # (1 or 3, H, w)
        samples.append(_Sample(batch.texts[0], readings[0].text, image))
    model.train(was_training)
    return _scored(read, samples, _store_order(batches), charset, time.monotonic() - began)


@dataclass(frozen=True)
class _Sample:
    reference: str
    hypothesis: str
    image: Tensor  # uint8 (1 or 3, H, w)


def _line_result(row: LineRow, reading: Recognition) -> LineResult:
    return LineResult(
        row.id,
        row.text,
        reading.text,
        reading.confidence,
        row.language,
        row.subset,
        row.source,
    )


def _store_order(batches: LineBatches) -> NDArray[np.int64]:
    """Return the order that sorts the lines of an evaluation as they are in the store, where a
    label that belongs to a neighbouring line is next to it.
    """
    lines = np.concatenate([plan.lines for plan in batches.plan(0)])
    return np.argsort(lines, kind="stable")


def _scored(
    read: Sequence[LineResult],
    samples: Sequence[_Sample],
    store_order: NDArray[np.int64],
    charset: Charset,
    seconds: float,
) -> Scores:
    # The same scorer as in `nordocr eval`: the checkpoint with the lowest CER here has it there.
    scores = score_lines(read, charset)
    total = GroupedLines(scores).total(intervals=False)
    shown = samples[:: max(1, len(samples) // _SAMPLES_SHOWN)][:_SAMPLES_SHOWN]
    pictures = [sample.image.expand(3, -1, -1).permute(1, 2, 0).numpy() for sample in shown]
    pairs = [(read[index].reference, read[index].hypothesis) for index in store_order]
    return Scores(
        lines=total.lines,
        cer=total.value("cer") or 0.0,
        exact=total.value("exact") or 0.0,
        empty=sum(not line.hypothesis for line in read) / len(read),
        seconds=seconds,
        samples=tuple((sample.reference, sample.hypothesis) for sample in shown),
        pictures=tuple(pictures),
        worst=tuple(score.result for score in worst_of(scores, _WORST_KEPT)),
        faults=faults_of(pairs, charset),
        rates=total.rates,
    )


def worst_table(step: int, worst: Sequence[LineResult]) -> str:
    """Return the worst lines as tab-separated text with a header; the last column marks each
    difference ⟦reference→hypothesis⟧.
    """
    lines = ["step\tid\tclass\tedits\treference\thypothesis\tdifference"]
    for line in worst:
        score = score_line(line)
        columns = [
            str(step),
            visible(line.id),
            score.error_class.value,
            str(score.edits[HEADLINE].distance),
            visible(line.reference),
            visible(line.hypothesis),
            marked_difference(line.reference, line.hypothesis),
        ]
        lines.append("\t".join(columns))
    return "\n".join(lines) + "\n"
