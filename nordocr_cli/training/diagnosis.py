"""What a training that goes wrong shows: in the readings, in the losses, in a batch that is not
finite. Each finding is a sentence that names what to check.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from rapidfuzz.distance import Levenshtein
from torch import nn

from nordocr_cli.charset import Charset
from nordocr_cli.data.batches import Batch, normalize_tensor
from nordocr_cli.training.step import Stepper

# An evaluation is judged by at most so many lines, and not at all by fewer than _MIN_LINES: a few
# lines show anything by chance.
_MAX_LINES = 200
_MIN_LINES = 8
_RUN = re.compile(r"(.{1,2}?)\1{3}")  # one character or two, four times in a row
_FAULTY_SHARE = 0.5
_ONE_READING_SHARE = 0.9
_DIFFERENT_SHARE = 0.5
# Readings fit other labels than their own when their CER there is at most this, and at most this
# share of the CER with their own labels.
_FITS_CER = 0.5
_FITS_SHARE = 0.5

_END_SHARE = 0.2  # share of the steps at either end whose mean losses are compared
_CONVERGENCE_STEPS = 100  # from here on a check expects more than a falling loss
_CONVERGED_SHARE = 0.5
# A smaller fall than this in a few steps is rounding and the choice of lines.
_FALLEN_SHARE = 0.99
_SLOW_SHARE = 0.75  # a loss that keeps more than this share of its start is far too slow
_RISEN_SHARE = (
    1.3  # a loss that was so much above its start at some time: the rate is too high
)
_PLATEAU_SHARE = 0.9
REPEATED = "repeated characters"


def faults_of(pairs: Sequence[tuple[str, str]], charset: Charset) -> dict[str, str]:
    """Return what (reference, hypothesis) pairs, in the order of their store, show to be wrong with
    network or labels: the kind of each fault, and a sentence about it.
    """
    pairs = pairs[:_MAX_LINES]
    if len(pairs) < _MIN_LINES:
        return {}
    found = {
        REPEATED: _repeated(pairs),
        "one reading": _one_reading(pairs),
        "shifted labels": _shifted_labels(pairs),
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
        f" {repeated[0][:24]!r}: blanks do not separate the characters yet. If it lasts, look for"
        " lines without ink with `nordocr data view STORE -o sheet.png`, and lower train.lr"
    )


def _one_reading(pairs: Sequence[tuple[str, str]]) -> str:
    """All lines get the same reading although their texts differ."""
    reading, times = Counter(hypothesis for _, hypothesis in pairs).most_common(1)[0]
    different = len({reference for reference, _ in pairs})
    if not reading:
        return ""
    if times < _ONE_READING_SHARE * len(pairs) or different < _DIFFERENT_SHARE * len(pairs):
        return ""
    return (
        f"{times} of {len(pairs)} lines are read as {reading[:24]!r} whatever they show: the"
        " network does not see them. Look at `nordocr data view STORE -o sheet.png`, then lower"
        " train.lr"
    )


def _shifted_labels(pairs: Sequence[tuple[str, str]]) -> str:
    """Readings that fit the label of the line before or after: images and labels of the store are
    out of step.
    """
    for offset, neighbour in ((1, "after"), (-1, "before")):
        shifted = [
            (pairs[index + offset][0], pairs[index][1])
            for index in range(len(pairs))
            if 0 <= index + offset < len(pairs)
        ]
        evidence = _fits_better(shifted, pairs)
        if evidence:
            return (
                f"the readings fit the labels of the line {neighbour} ({evidence}): images and"
                " labels of the store are shifted by one. Look at `nordocr data view STORE -o"
                " sheet.png`, then prepare it again"
            )
    return ""


def _shifted_classes(pairs: Sequence[tuple[str, str]], charset: Charset) -> str:
    """Readings that fit when each class is moved by one: a blank or a character too many at the
    front of the charset.
    """
    characters = charset.characters
    for offset in (1, -1):
        moved = {
            ord(character): characters[(index + offset) % len(characters)]
            for index, character in enumerate(characters)
        }
        translated = [(reference, text.translate(moved)) for reference, text in pairs]
        evidence = _fits_better(translated, pairs)
        if evidence:
            return (
                f"the readings fit when every class is moved by {offset:+d} ({evidence}): the"
                " weights were trained with another charset or another index of the blank. Compare"
                " them with `nordocr contract verify`"
            )
    return ""


def _fits_better(moved: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]]) -> str:
    there = _cer(moved)
    here = _cer(own)
    if there < _FITS_CER and there < _FITS_SHARE * here:
        return f"CER {there:.0%} there, {here:.0%} with their own"
    return ""


def _cer(pairs: Sequence[tuple[str, str]]) -> float:
    edits = sum(
        Levenshtein.distance(reference, hypothesis) for reference, hypothesis in pairs
    )
    return edits / max(sum(len(reference) for reference, _ in pairs), 1)


def loss_trend(losses: Sequence[float]) -> tuple[float, float]:
    """Return the mean loss at the start and at the end of a run, over a fifth of its steps each."""
    count = max(1, int(len(losses) * _END_SHARE))
    return sum(losses[:count]) / count, sum(losses[-count:]) / count


def rate_advice(losses: Sequence[float], lr: float) -> str:
    """Return what to try when losses (nats a character) fall too slowly: a higher learning rate, or
    a lower one when they were far above their start at some time.
    """
    first, last = loss_trend(losses)
    count = max(1, int(len(losses) * _END_SHARE))
    means = [
        sum(losses[at : at + count]) / count
        for at in range(0, max(1, len(losses) - count + 1), count)
    ]
    if max(means) > _RISEN_SHARE * first:
        return f"the loss rose on the way: try train.lr={lr / 10:g} (a tenth)"
    times = 10 if last > _SLOW_SHARE * first else 3
    return f"too slow: try train.lr={lr * times:g} ({times} times as much), or more steps"


def check_verdict(
    losses: Sequence[float], empty: float, faults: Mapping[str, str], lr: float
) -> str:
    """Judge a short run by the loss of each of its steps (nats a character), the share of lines
    read as nothing, `faults_of`, and its learning rate: "ok: …" or "failed: …". A run of some steps
    must only learn; one of a hundred or more must leave the plateau of blanks and halve its loss.
    """
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < len(losses) or len(finite) < 2:
        return (
            f"failed: the loss of {len(losses) - len(finite)} of {len(losses)} steps is not finite;"
            " lower train.lr"
        )
    first, last = loss_trend(finite)
    trend = f"loss {first:.2f} → {last:.2f} in {len(finite)} steps"
    if last > _FALLEN_SHARE * first:
        return (
            f"failed: {trend}, it does not fall; lower or raise train.lr, or look at labels and"
            " widths with `nordocr data view`"
        )
    if len(finite) < _CONVERGENCE_STEPS:
        repeated = faults.get(REPEATED)
        if repeated:
            return f"ok: {trend}; {repeated}"
        return f"ok: {trend}"
    if empty > _PLATEAU_SHARE:
        return (
            f"failed: {trend}, {empty:.0%} of the lines are read as nothing (the CTC blank"
            f" plateau); {rate_advice(finite, lr)}"
        )
    if faults:
        return f"failed: {trend}, but {next(iter(faults.values()))}"
    if last > _CONVERGED_SHARE * first:
        return f"failed: {trend}, it should have halved; {rate_advice(finite, lr)}"
    return f"ok: {trend}"


@torch.no_grad()
def not_finite_by_themselves(stepper: Stepper, batch: Batch) -> list[int]:
    """Return which lines of a batch, each read alone, give a loss that is not finite. The network's
    state does not change.
    """
    model = stepper.model
    device = stepper.device
    was_training = model.training
    model.eval()
    offending = []
    start = 0
    for index in range(len(batch)):
        width = int(batch.widths[index])
        end = start + int(batch.target_lengths[index])
        one = slice(index, index + 1)
        pixels = batch.images[one, ..., :width].to(device)
        image = normalize_tensor(pixels, stepper.geometry)  # (1, 3, H, w)
        widths = batch.widths[one].to(device)
        targets = batch.targets[start:end].to(device)
        lengths = batch.target_lengths[one].to(device)
        with stepper.amp():
            loss = model.loss(image, widths, targets, lengths)
        if not math.isfinite(float(loss)):
            offending.append(index)
        start = end
    model.train(was_training)
    return offending


def explain_not_finite(
    model: nn.Module, offending: Sequence[str], every_line: bool, lr: float, precision: str
) -> str:
    """Explain why steps are not finite: corrupted weights, the `offending` lines, or (every_line)
    all lines alike.
    """
    corrupted = [
        name
        for name, tensor in model.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if corrupted:
        return (
            f"the weights themselves are not finite ({', '.join(corrupted[:2])}, {len(corrupted)}"
            f" tensors); restart from earlier ones with --load, and lower train.lr ({lr:g})"
        )
    if offending and not every_line:
        more = " …" if len(offending) > 3 else ""
        return (
            f"these lines do it by themselves: {', '.join(offending[:3])}{more}; look at them with"
            " `nordocr data view`, and leave them out with `nordocr prep`"
        )
    use_fp32 = ""
    if precision != "fp32":
        use_fp32 = f", or use --set train.precision=fp32 instead of {precision}"
    if offending:
        return (
            f"every line of the batch does it: training has diverged; start a new run with a lower"
            f" train.lr ({lr:g}), from these weights with --load{use_fp32}"
        )
    return (
        f"no line does it alone: the gradients do; lower train.lr ({lr:g}) or train.grad_clip"
        f"{use_fp32}"
    )
