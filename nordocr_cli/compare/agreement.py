"""What several readings of the same lines tell about each other, without a reference.

Letters name who agrees, in the order of the readers: AAB, the first two read the same and the third
something else. Texts are compared in the canonical view, and also without spaces.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from math import sqrt

from pydantic import Field, computed_field

from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.text import VIEWS, canonical, rate

MISSING = "missing"
PATTERNS = {2: ("AA", "AB"), 3: ("AAA", "AAB", "ABA", "BAA", "ABC")}
Reading = str | None  # None: this reader saw no line there, or gave no answer

ASSUMPTION = (
    "if the readers' mistakes were independent and never the same; lines that are hard for all of"
    " them make it too high"
)


def pattern(readings: Sequence[Reading], view: Callable[[str], str] = canonical) -> str:
    """Return who agrees with whom, one of PATTERNS; `missing` when a reading is."""
    texts = [view(reading) for reading in readings if reading is not None]
    if len(texts) != len(readings):
        return MISSING
    if len(texts) == 3 and texts[0] != texts[1] == texts[2]:
        return "BAA"  # the two that agree are A, wherever they stand
    names: dict[str, str] = {}
    return "".join(names.setdefault(text, "ABC"[len(names)]) for text in texts)


def consensus(readings: Sequence[Reading]) -> str | None:
    """Return the reading that at least two readers share, as the first of them has it; None when
    there is none.
    """
    known = [reading for reading in readings if reading is not None]
    return next(
        (a for a, b in combinations(known, 2) if canonical(a) == canonical(b)), None
    )


class Pair(ResultModel):
    """Two readers: on how many `lines` both have a reading, and on how many of these it is the
    `same`.
    """

    readers: tuple[str, str]
    lines: int
    same: int


class WithTheOthers(ResultModel):
    """One of three readers: the lines on which the other two agree, and on how many of these it
    reads the same.
    """

    reader: str
    others_agree: int
    same: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rate(self) -> float | None:
        """The share on which it reads the same."""
        return rate(self.same, self.others_agree)


class Triangulated(ResultModel):
    """Estimates of each reader's accuracy, see `estimate_accuracy`."""

    accuracy: dict[str, float | None]
    assumption: str = ASSUMPTION


class Agreement(ResultModel):
    """How often readers agree; the last two only of three readers."""

    readers: tuple[str, ...]
    patterns: dict[str, dict[str, int]] = Field(description="view → pattern → lines")
    pairs: tuple[Pair, ...]
    with_the_others: tuple[WithTheOthers, ...] | None = None
    triangulated: Triangulated | None = None


def agreement(readers: Sequence[str], lines: Sequence[Sequence[Reading]]) -> Agreement:
    """Count the agreement of two or three `readers`; each of `lines` has one reading of each."""
    kinds = (*PATTERNS[len(readers)], MISSING)
    patterns = {}
    for name in ("canonical", "squeezed"):
        counts = Counter(pattern(readings, VIEWS[name]) for readings in lines)
        patterns[name] = {kind: counts[kind] for kind in kinds}

    texts = [
        [None if text is None else canonical(text) for text in readings]
        for readings in lines
    ]
    pairs = []
    for a, b in combinations(range(len(readers)), 2):
        both, same = _agreeing(texts, a, b)
        pairs.append(Pair(readers=(readers[a], readers[b]), lines=both, same=same))
    found = Agreement(readers=tuple(readers), patterns=patterns, pairs=tuple(pairs))
    if len(readers) < 3:
        return found

    accuracy = dict(zip(readers, _triangulated(texts), strict=True))
    return found.model_copy(
        update={
            "with_the_others": tuple(
                _with_the_others(texts, reader, name) for reader, name in enumerate(readers)
            ),
            "triangulated": Triangulated(accuracy=accuracy),
        }
    )


def _with_the_others(
    texts: Sequence[Sequence[Reading]], reader: int, name: str
) -> WithTheOthers:
    a, b = (side for side in range(3) if side != reader)
    agreed = [read for read in texts if None not in read and read[a] == read[b]]
    same = sum(read[reader] == read[a] for read in agreed)
    return WithTheOthers(reader=name, others_agree=len(agreed), same=same)


def _agreeing(texts: Sequence[Sequence[Reading]], a: int, b: int) -> tuple[int, int]:
    """Lines that both readers read, and on how many of these they read the same."""
    both = [read for read in texts if read[a] is not None and read[b] is not None]
    return len(both), sum(read[a] == read[b] for read in both)


def _triangulated(texts: Sequence[Sequence[Reading]]) -> tuple[float | None, ...]:
    """Estimate each accuracy from the three rates of agreement, over the lines that all three have
    read.
    """
    complete = [read for read in texts if None not in read]
    rates = []
    for a, b in ((0, 1), (0, 2), (1, 2)):
        lines, same = _agreeing(complete, a, b)
        rates.append(rate(same, lines) or 0.0)
    p12, p13, p23 = rates
    return (
        estimate_accuracy(p12, p13, p23),
        estimate_accuracy(p12, p23, p13),
        estimate_accuracy(p13, p23, p12),
    )


def estimate_accuracy(p_ab: float, p_ac: float, p_bc: float) -> float | None:
    """Return sqrt(P_ab · P_ac / P_bc), an estimate of how often reader a is right; None when b and
    c never agree.

    Two readers who are right independently and never wrong in the same way agree with P_ab = p_a ·
    p_b (as in Platanios, Blum and Mitchell, Estimating Accuracy from Unlabeled Data, 2014); the
    three products give p_a.
    """
    if p_bc:
        return min(1.0, sqrt(p_ab * p_ac / p_bc))
    return None
