from itertools import combinations

import numpy as np
import pytest

from nordocr_cli.core.bench.result import BenchResult
from nordocr_cli.core.bench.verdict import busy, compare_runs, mann_whitney

RUNS = 10


def measured(rng, slowdown=1.0):
    """Run medians of one model, interleaved with the other's: 1.5 % from run to run, now and then a
    run that something disturbed, and a machine that is a little slower for the whole of one
    side.
    """
    runs = np.exp(rng.normal(0, 0.015, RUNS)) * np.where(
        rng.random(RUNS) < 0.05, rng.uniform(1.0, 1.3, RUNS), 1.0
    )
    return (100 * slowdown * np.exp(rng.normal(0, 0.01)) * runs).tolist()


def test_two_hundred_comparisons_of_a_model_with_itself():
    rng = np.random.default_rng(1)
    verdicts = [compare_runs("a", measured(rng), measured(rng)).verdict for _ in range(200)]
    assert sum(verdict != "no difference shown" for verdict in verdicts) <= 4  # 2 %


def test_a_slowdown_of_a_tenth_is_found():
    rng = np.random.default_rng(2)
    quiet = [
        compare_runs(
            "a", (100 * np.exp(rng.normal(0, 0.015, RUNS))).tolist(), measured(rng, 1.10)
        )
        for _ in range(100)
    ]
    assert sum(found.verdict == "slower" for found in quiet) >= 95
    faster = compare_runs("a", [110, 111, 112, 110.5, 111.5], [100, 101, 102, 100.5, 101.5])
    assert (faster.verdict, faster.p) == ("faster", pytest.approx(2 / 252))


def test_few_runs_and_small_or_noisy_differences_prove_nothing():
    assert compare_runs("a", [1.0] * 4, [2.0] * 9).verdict == "inconclusive"
    before = [100, 101, 99, 100, 101, 99]
    small = compare_runs("a", before, [104, 105, 103, 104, 105, 103])
    assert (small.verdict, small.threshold) == ("no difference shown", 0.05)
    assert small.p < 0.05
    noisy = compare_runs("a", [80, 90, 100, 110, 120, 130], [131, 132, 133, 134, 135, 136])
    assert (noisy.verdict, noisy.p < 0.05) == ("no difference shown", True)


def test_a_busy_machine_is_told():
    def at(load):
        environment = {"cores": 2, "load_average": load and [load, 0, 0]}
        return BenchResult(
            source="a", rounds=1, rows=(), skipped={}, environment=environment
        )

    assert busy(at(2.1), at(1.0)) == busy(at(None), at(3.0)) == ""
    assert busy(at(9.5), at(2.0)) == "the baseline at a load of 9.5 on 2 cores"
    assert (
        busy(at(4.0), at(5.0))
        == "the baseline at a load of 4 on 2 cores and this at a load of 5 on 2 cores"
    )


@pytest.mark.parametrize("sizes", [(3, 4), (5, 5)])
def test_mann_whitney_counts_every_order(sizes):
    m, n = sizes
    statistics = [
        sum(place > other for place in chosen for other in set(range(m + n)) - set(chosen))
        for chosen in combinations(range(m + n), m)
    ]
    for chosen in list(combinations(range(m + n), m))[::7]:
        a, b = list(chosen), [place for place in range(m + n) if place not in chosen]
        u = sum(x > y for x in a for y in b)
        expected = sum(min(s, m * n - s) <= min(u, m * n - u) for s in statistics) / len(
            statistics
        )
        assert mann_whitney(a, b) == pytest.approx(min(1.0, expected))
