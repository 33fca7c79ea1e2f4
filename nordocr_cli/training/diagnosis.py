"""What a training that goes wrong shows: in the readings, in the losses, in a batch that is not
finite. Words, no numbers alone: each finding says what to look at.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein
from torch import nn

from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import Batch, normalize
from nordocr_cli.geometry import Geometry
from nordocr_cli.training.objective import batch_loss

# Judged on so many lines of an evaluation at most, and on no fewer than _LEAST_LINES: a few lines
# show anything by chance.
_JUDGED_LINES, _LEAST_LINES = 200, 8
_RUN = re.compile(r"(.{1,2}?)\1{3}")  # one character or two, four times in a row
_FAULTY_SHARE = 0.5
# Readings that fit other labels than their own: at least so well, and at most this share of the
# edits to their own.
_FITS_CER, _FITS_SHARE = 0.5, 0.5
_FIRST_AND_LAST = 0.2  # share of the steps whose mean loss is compared
_CONVERGENCE_STEPS = 100  # from here on a check asks for more than a falling loss
_CONVERGED_SHARE = 0.5
# of its first loss: less of a fall, in a few steps, is rounding and the choice of lines
_FALLEN_SHARE = 0.99
_PLATEAU_SHARE = 0.9


def faults_of(pairs: Sequence[tuple[str, str]], charset: Charset) -> dict[str, str]:
    """Return what (reference, hypothesis) pairs, in the order of their store, show to be wrong with
    network or labels: the kind of each fault, and a sentence on it.
    """
    pairs = pairs[:_JUDGED_LINES]
    if len(pairs) < _LEAST_LINES:
        return {}
    found = {
        "repeated characters": _repeated(pairs),
        "one reading": _one_reading(pairs),
        "shifted labels": _shifted_lines(pairs),
        "shifted classes": _shifted_classes(pairs, charset),
    }
    return {kind: fault for kind, fault in found.items() if fault}


def _repeated(pairs: Sequence[tuple[str, str]]) -> str:
    """The repeated-character symptom: readings such as "eeeeee" or "-B-B-B-B" where the text has no
    such run.
    """
    repeated = [
        hypothesis
        for reference, hypothesis in pairs
        if _RUN.search(hypothesis) and not _RUN.search(reference)
    ]
    if len(repeated) < _FAULTY_SHARE * len(pairs):
        return ""
    return (
        f"{len(repeated)} of {len(pairs)} readings repeat one character or two, e.g."
        f" {repeated[0][:24]!r}: blanks do not part the characters yet. Look at `nordocr data view"
        " STORE -o sheet.png` for lines without ink, and lower train.lr if it lasts"
    )


def _one_reading(pairs: Sequence[tuple[str, str]]) -> str:
    """All lines read alike, though their texts differ: the network does not look at the picture."""
    (reading, times), different = (
        Counter(h for _, h in pairs).most_common(1)[0],
        len({r for r, _ in pairs}),
    )
    if not reading or times < 0.9 * len(pairs) or different < 0.5 * len(pairs):
        return ""
    return (
        f"{times} of {len(pairs)} lines read {reading[:24]!r} whatever they show: the network does"
        " not see them. Look at `nordocr data view STORE -o sheet.png`, then lower train.lr"
    )


def _shifted_lines(pairs: Sequence[tuple[str, str]]) -> str:
    """Readings that fit the label of the line before or after: images and labels of the store are
    out of step.
    """
    for offset, neighbour in ((1, "after"), (-1, "before")):
        shifted = [
            (pairs[i + offset][0], pairs[i][1])
            for i in range(len(pairs))
            if 0 <= i + offset < len(pairs)
        ]
        if told := _fits_better(shifted, pairs):
            return (
                f"the readings fit the labels of the line {neighbour} ({told}): images and labels"
                " of the store are shifted by one. Look at `nordocr data view STORE -o sheet.png`,"
                " then prepare it again"
            )
    return ""


def _shifted_classes(pairs: Sequence[tuple[str, str]], charset: Charset) -> str:
    """Readings that fit when each class is moved by one: a blank or a character too many at the
    front of the charset.
    """
    for offset in (1, -1):
        moved = {
            ord(c): charset.characters[(i + offset) % len(charset.characters)]
            for i, c in enumerate(charset.characters)
        }
        if told := _fits_better(
            [(reference, hypothesis.translate(moved)) for reference, hypothesis in pairs], pairs
        ):
            return (
                f"the readings fit when every class is moved by {offset:+d} ({told}): the weights"
                " were trained with another charset or another place of the blank. Compare them"
                " with `nordocr contract verify`"
            )
    return ""


def _fits_better(moved: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]]) -> str:
    there, here = _cer(moved), _cer(own)
    return (
        f"CER {there:.0%} there, {here:.0%} with their own"
        if there < _FITS_CER and there < _FITS_SHARE * here
        else ""
    )


def _cer(pairs: Sequence[tuple[str, str]]) -> float:
    return sum(Levenshtein.distance(r, h) for r, h in pairs) / max(sum(len(r) for r, _ in pairs), 1)


def check_verdict(losses: Sequence[float], empty: float, faults: Mapping[str, str]) -> str:
    """Judge a short run by the loss of each of its steps (nats a character), the share of lines
    read as nothing, and `faults_of`: "ok: …" or "failed: …". A run of some steps must only learn;
    one of a hundred or more must leave the plateau of blanks and halve its loss.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < len(losses) or len(finite) < 2:
        return (
            f"failed: the loss of {len(losses) - len(finite)} of {len(losses)} steps is not finite;"
            " lower train.lr"
        )
    count = max(1, int(len(finite) * _FIRST_AND_LAST))
    first, last = sum(finite[:count]) / count, sum(finite[-count:]) / count
    course = f"loss {first:.2f} → {last:.2f} in {len(finite)} steps"
    if last > _FALLEN_SHARE * first:
        return (
            f"failed: {course}, it does not fall; lower or raise train.lr, or look at labels and"
            " widths with `nordocr data view`"
        )
    if len(finite) >= _CONVERGENCE_STEPS:
        if empty > _PLATEAU_SHARE:
            return (
                f"failed: {course}, {empty:.0%} of the lines read as nothing (the CTC blank"
                " plateau); lower or raise train.lr"
            )
        if faults:
            return f"failed: {course}, but {next(iter(faults.values()))}"
        if last > _CONVERGED_SHARE * first:
            return f"failed: {course}, it should have halved; raise train.lr, or give it more steps"
    return f"ok: {course}"


@torch.no_grad()
def not_finite_by_themselves(
    model: nn.Module,
    batch: Batch,
    geometry: Geometry,
    device: torch.device,
    amp: Callable[[], AbstractContextManager[Any]],
) -> list[int]:
    """Return which lines of a batch, each read alone, give a loss that is not finite. The network's
    state is left as it is.
    """
    was_training = model.training
    model.eval()
    guilty, start = [], 0
    for index in range(len(batch)):
        width, count = int(batch.widths[index]), int(batch.target_lengths[index])
        # (1, 3, H, w)
        image = normalize(batch.images[index : index + 1, ..., :width].to(device), geometry)
        widths = batch.widths[index : index + 1].to(device)
        with amp():
            targets = batch.targets[start : start + count].to(device)
            loss = batch_loss(
                model,
                image,
                widths,
                geometry,
                targets,
                batch.target_lengths[index : index + 1].to(device),
            )
        if not math.isfinite(float(loss)):
            guilty.append(index)
        start += count
    model.train(was_training)
    return guilty


def explain_not_finite(
    model: nn.Module, guilty: Sequence[str], every: bool, lr: float, precision: str
) -> str:
    """Say why steps are not finite, from what was found: spoilt weights, the lines that are
    `guilty`, or `every` line alike.
    """
    spoilt = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if spoilt:
        return (
            f"the weights themselves are not finite ({', '.join(spoilt[:2])}, {len(spoilt)}"
            f" tensors); start anew from earlier ones with --load, and lower train.lr ({lr:g})"
        )
    if guilty and not every:
        return (
            "these lines do it by themselves:"
            f" {', '.join(guilty[:3])}{' …' if len(guilty) > 3 else ''}; look at them with `nordocr"
            " data view`, and leave them out with `nordocr prep`"
        )
    if guilty:
        return (
            f"every line of the batch does it: training has diverged; lower train.lr ({lr:g})"
            + _fp32(precision)
        )
    return (
        f"no line does it alone: the gradients do; lower train.lr ({lr:g}) or train.grad_clip"
        + _fp32(precision)
    )


def _fp32(precision: str) -> str:
    return (
        "" if precision == "fp32" else f", or use --set train.precision=fp32 instead of {precision}"
    )
