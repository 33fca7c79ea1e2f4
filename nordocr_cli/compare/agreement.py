"""What several readings of the same lines say about each other, without knowing what stands there.

Letters name who agrees, in the order of the readers: AAB, the first two read the same and the third
something else. Texts are compared as N() leaves them (and, beside it, without spaces).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from typing import Any

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
    return next((a for a, b in combinations(known, 2) if canonical(a) == canonical(b)), None)


@dataclass(frozen=True)
class Pair:
    """Two readers by number: on how many `lines` both have a reading, and on how many of these it
    is the `same`.
    """

    first: int
    second: int
    lines: int
    same: int


@dataclass(frozen=True)
class Agreement:
    """How often readers agree. `others` has for each of three readers: the lines on which the other
    two agree, and on how many of these it reads the same. `triangulated` are estimates of each
    reader's accuracy, see `estimate`.
    """

    readers: tuple[str, ...]
    patterns: dict[str, dict[str, int]]  # view → pattern → lines
    pairs: tuple[Pair, ...]
    others: tuple[tuple[int, int], ...] = ()
    triangulated: tuple[float | None, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return counts first and rates derived from them as plain JSON."""
        value: dict[str, Any] = {"readers": list(self.readers), "patterns": self.patterns}
        value["pairs"] = [
            {
                "readers": [self.readers[p.first], self.readers[p.second]],
                "lines": p.lines,
                "same": p.same,
            }
            for p in self.pairs
        ]
        if self.others:
            value["with_the_others"] = [
                {"reader": name, "others_agree": lines, "same": same, "rate": rate(same, lines)}
                for name, (lines, same) in zip(self.readers, self.others, strict=True)
            ]
            estimates = dict(zip(self.readers, self.triangulated, strict=True))
            value["triangulated"] = {"accuracy": estimates, "assumption": ASSUMPTION}
        return value


def agreement(readers: Sequence[str], lines: Sequence[Sequence[Reading]]) -> Agreement:
    """Count the agreement of two or three `readers`; each of `lines` has one reading of each."""
    kept = (*PATTERNS[len(readers)], MISSING)
    patterns = {}
    for name in ("canonical", "squeezed"):
        counts = Counter(pattern(readings, VIEWS[name]) for readings in lines)
        patterns[name] = {kind: counts[kind] for kind in kept}
    whole = [[None if text is None else canonical(text) for text in readings] for readings in lines]
    pairs = tuple(_pair(whole, a, b) for a, b in combinations(range(len(readers)), 2))
    if len(readers) < 3:
        return Agreement(tuple(readers), patterns, pairs)
    others = []
    for reader in range(3):
        a, b = (side for side in range(3) if side != reader)
        settled = [texts for texts in whole if None not in texts and texts[a] == texts[b]]
        others.append((len(settled), sum(texts[reader] == texts[a] for texts in settled)))
    return Agreement(tuple(readers), patterns, pairs, tuple(others), _triangulated(whole))


def _pair(lines: Sequence[Sequence[Reading]], a: int, b: int) -> Pair:
    both = [texts for texts in lines if texts[a] is not None and texts[b] is not None]
    return Pair(a, b, len(both), sum(texts[a] == texts[b] for texts in both))


def _triangulated(lines: Sequence[Sequence[Reading]]) -> tuple[float | None, ...]:
    """Estimate each accuracy from the three rates of agreement, over the lines that all three have
    read.
    """
    complete = [texts for texts in lines if None not in texts]
    p12, p13, p23 = (
        rate(pair.same, pair.lines) or 0.0
        for pair in (_pair(complete, a, b) for a, b in ((0, 1), (0, 2), (1, 2)))
    )
    return estimate(p12, p13, p23), estimate(p12, p23, p13), estimate(p13, p23, p12)


def estimate(p_ab: float, p_ac: float, p_bc: float) -> float | None:
    """Return sqrt(P_ab · P_ac / P_bc), an estimate of how often reader a is right; None when b and
    c never agree.

    Two readers who are right independently and never wrong in the same way agree with P_ab = p_a ·
    p_b (as in Platanios, Blum and Mitchell, Estimating Accuracy from Unlabeled Data, 2014); the
    three products give p_a.
    """
    return min(1.0, sqrt(p_ab * p_ac / p_bc)) if p_bc else None
