"""Whether a bench is slower than an earlier one. Runs vary, so a difference counts only when it is
large and unlikely to be chance.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from nordocr_cli.core.bench.result import BenchResult, CaseVerdict
from nordocr_cli.errors import GateMissed, UsageError

MIN_RUNS = 5
SIGNIFICANCE_LEVEL = 0.05
FLOOR = 0.05  # relative; smaller differences come from the machine
SPREADS = 3.0  # so do differences below this many coefficients of variation of the baseline
_SAME_MACHINE = ("machine", "processor", "cores", "threads")


def compare_runs(case: str, before: Sequence[float], now: Sequence[float]) -> CaseVerdict:
    """Compare the run medians of the same case, in any unit of time. The verdict is `slower` or
    `faster` iff Mann-Whitney's p is below LEVEL and the medians differ by FLOOR and by SPREADS
    coefficients of variation of `before`. It is `inconclusive` with fewer than MIN_RUNS.
    """
    change = median(now) / median(before) - 1
    if min(len(before), len(now)) < MIN_RUNS:
        return CaseVerdict(
            case=case, verdict="inconclusive", change=change, p=None, threshold=FLOOR
        )
    threshold = max(FLOOR, SPREADS * stdev(before) / mean(before))
    p = mann_whitney(before, now)
    if p >= SIGNIFICANCE_LEVEL or abs(change) < threshold:
        verdict = "no difference shown"
    elif change > 0:
        verdict = "slower"
    else:
        verdict = "faster"
    return CaseVerdict(case=case, verdict=verdict, change=change, p=p, threshold=threshold)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the two-sided p of Mann-Whitney's U test: exact, or from permutations if values are
    tied.
    """
    from scipy.stats import PermutationMethod, mannwhitneyu

    has_ties = len({*a, *b}) < len(a) + len(b)
    if has_ties:
        method = PermutationMethod(n_resamples=9_999, rng=1)
    else:
        method = "exact"
    return float(mannwhitneyu(a, b, alternative="two-sided", method=method).pvalue)


def require_comparable(
    before: BenchResult, environment: Mapping[str, Any], source: str, path: str
) -> None:
    """Raise UsageError when the result `before`, of the file `path`, was measured on another
    machine, in another way, or on other lines than those of `source`.
    """
    for key in _SAME_MACHINE:
        if before.environment.get(key) != environment.get(key):
            then = before.environment.get(key)
            now = environment.get(key)
            raise UsageError(
                f"not comparable: {path} was measured with {key} {then!r}, this with {now!r}"
            )
    if before.source != source:
        raise UsageError(f"not comparable: {path} read {before.source}, this {source}")


def compare_results(
    before: BenchResult, now: BenchResult, path: str
) -> tuple[CaseVerdict, ...]:
    """Compare every case that both results have. Raises what require_comparable raises, and
    UsageError when they have no case in common.
    """
    require_comparable(before, now.environment, now.source, path)
    old = dict(_cases(before))
    verdicts = tuple(
        compare_runs(case, old[case], runs) for case, runs in _cases(now) if case in old
    )
    if not verdicts:
        raise UsageError(
            f"not comparable: {path} has {', '.join(old)}, this"
            f" {', '.join(case for case, _ in _cases(now))}"
        )
    return verdicts


def busy(before: BenchResult, now: BenchResult) -> str:
    """Describe which of the results was measured while other programs loaded the machine; "" for
    neither. At a load of 10 on two cores, 7 of 200 comparisons of a recognizer with itself, one
    side after the other, showed a difference.
    """
    loaded = []
    for name, result in (("the baseline", before), ("this", now)):
        load = result.environment.get("load_average")
        cores = result.environment.get("cores")
        if load and cores and load[0] > cores + 1:
            loaded.append(f"{name} at a load of {load[0]:g} on {cores} cores")
    return " and ".join(loaded)


def _cases(result: BenchResult) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the name and the runs of each case."""
    for row in result.rows:
        of_row = f"{row.name} {row.backend} {row.precision}".strip()
        yield f"{of_row}, {row.lines} lines at once", row.runs_s
        if row.single_runs_ms:
            yield f"{of_row}, single lines", row.single_runs_ms
    for cell in result.grid:
        yield (
            f"{cell.name} {cell.backend} {cell.precision}, {cell.batch} x {cell.width_px} px",
            cell.runs_ms,
        )


def require_gates(
    result: BenchResult, baseline: Path | None, min_same: float | None, usual: float
) -> None:
    """Raise GateMissed when a case is slower than in `baseline`, or when a network agrees with the
    reference on too few lines. The minimum share is `min_same`; where that is None, it is `usual`,
    for forms of the reference's own weights only.
    """
    slower = [
        f"{v.case} ({100 * v.change:+.1f} %, p = {v.p:.3g})"
        for v in result.verdicts
        if v.verdict == "slower"
    ]
    if slower:
        raise GateMissed(f"slower than {baseline}: {'; '.join(slower)}")
    networks = [
        row
        for row in result.rows
        if row.backend not in ("tesseract", "external") and row.same_text is not None
    ]
    if min_same is None:
        networks, min_same = [row for row in networks if row.same_weights], usual
    odd = [row for row in networks if (row.same_text or 0) < min_same * row.lines]
    if odd:
        agreement = "; ".join(
            f"{row.name} ({row.backend}) agrees on {row.same_text} of {row.lines} lines"
            for row in odd
        )
        raise GateMissed(f"other texts than {result.reference}: {agreement}")
