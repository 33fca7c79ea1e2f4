from math import comb

import numpy as np
import pytest

from nordocr_cli.metrics.significance import (
    MOST_UNITS,
    Draws,
    compare_pairs,
    interval_from_json,
    mcnemar_exact,
    ratio_interval,
    smallest_exact_gap,
)


def intervals(columns, clusters=None):
    """The interval of the first column over the second."""
    numerator, denominator = (np.array([c[k] for c in columns], float) for k in (0, 1))
    draws = Draws(len(columns), clusters)
    return ratio_interval(draws.sums(numerator)[:, 0], draws.sums(denominator)[:, 0], draws)


def test_an_interval_holds_its_estimate_and_repeats():
    rng = np.random.default_rng(0)
    columns = [(int(rng.random() < 0.2), 1) for _ in range(400)]
    first, again = (intervals(columns) for _ in range(2))
    estimate = sum(c[0] for c in columns) / 400
    assert first == again
    assert first.low < estimate < first.high
    # The normal interval of a share is a good approximation here.
    half = 1.96 * (estimate * (1 - estimate) / 400) ** 0.5
    assert first.high - first.low == pytest.approx(2 * half, rel=0.15)
    assert (first.unit, first.units) == ("line", 400)
    assert interval_from_json(first.to_json()) == first


def test_lines_that_fail_together_widen_the_interval():
    columns = [(10 if document < 3 else 0, 100) for document in range(18) for _ in range(20)]
    assert intervals([(1, 2), (0, 2)], ["one", "one"]) is None  # of one document nothing is known
    documents = [str(document) for document in range(18) for _ in range(20)]
    by_line = intervals(columns)
    by_document = intervals(columns, documents)
    assert by_document.high - by_document.low > 2 * (by_line.high - by_line.low)
    assert (by_document.unit, by_document.units) == ("source", 18)


def test_nothing_to_divide_has_no_interval():
    assert intervals([]) is None
    assert intervals([(0, 0), (0, 0)]) is None


def test_sums_of_one_unit_do_not_vary_and_groups_share_the_samples():
    draws = Draws(3, ["same", "same", "same"], resamples=5)
    assert draws.units == 1
    assert draws.sums(np.array([1.0, 3.0, 5.0]), np.array([0, 1, 0]), 2).tolist() == [[6, 3]] * 5
    draws = Draws(4, resamples=50)
    one, group = np.ones(4), np.array([0, 1, 1, 0])
    assert draws.sums(one)[:, 0].tolist() == [4] * 50
    assert np.array_equal(draws.sums(one, group, 2).sum(axis=1), draws.sums(one)[:, 0])
    with pytest.raises(ValueError, match="1 clusters for 2 lines"):
        Draws(2, ["one"])


def test_many_lines_are_bundled_and_their_interval_stays():
    lines = 5 * MOST_UNITS
    wrong = np.random.default_rng(1).random(lines) < 0.02
    found = intervals([(int(w), 1) for w in wrong])
    half = 1.96 * (wrong.mean() * (1 - wrong.mean()) / lines) ** 0.5
    assert found.units == lines
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)
    assert found.low < wrong.mean() < found.high


@pytest.mark.parametrize(
    ("lines", "points"), [(875, 3.7), (2_000, 2.4), (5_000, 1.5), (10_000, 1.1)]
)
def test_the_smallest_gap_that_can_be_shown(lines, points):
    assert 100 * smallest_exact_gap(lines, 0.15) == pytest.approx(points, abs=0.06)
    assert smallest_exact_gap(lines, 0.30) > smallest_exact_gap(lines, 0.15)


def test_a_gap_of_that_size_is_found_as_often_as_promised():
    lines, discordant = 1_000, 0.1
    gap = smallest_exact_gap(lines, discordant)
    rng = np.random.default_rng(2)
    drawn = rng.multinomial(
        lines, [(discordant - gap) / 2, (discordant + gap) / 2, 1 - discordant], size=400
    )
    found = np.mean([mcnemar_exact(int(a), int(b)) < 0.05 for a, b, _ in drawn])
    assert found == pytest.approx(0.8, abs=0.08)  # the exact test is a little shy
    assert smallest_exact_gap(3, 0.0) == 1.0


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 5), (5, 0), (8, 20), (10, 10), (120, 88)])
def test_mcnemar_is_the_two_sided_binomial(a, b):
    n = a + b
    extreme = abs(a - b)
    expected = sum(comb(n, k) for k in range(n + 1) if abs(n - 2 * k) >= extreme) / 2**n
    assert mcnemar_exact(a, b) == pytest.approx(min(1.0, expected))


def test_a_better_reading_is_found_better():
    lengths = [20] * 300
    a, b = (
        [2 if i % 3 == 0 else 0 for i in range(300)],
        [2 if i % 6 == 0 else 0 for i in range(300)],
    )
    found = compare_pairs(a, b, lengths, [e == 0 for e in a], [e == 0 for e in b])
    assert (found.both_exact, found.only_a_exact, found.only_b_exact, found.neither_exact) == (
        200,
        0,
        50,
        50,
    )
    assert (found.cer_a, found.cer_b) == (200 / 6000, 100 / 6000)
    assert (found.exact_verdict, found.cer_verdict) == ("better", "better")
    assert found.b_better_share == 1.0
    smallest = found.to_json()["smallest_detectable"]
    assert smallest["exact"] == smallest_exact_gap(300, 50 / 300) < 50 / 300
    assert 0 < smallest["cer"] < 100 / 6000
    back = compare_pairs(b, a, lengths, [e == 0 for e in b], [e == 0 for e in a])
    assert (back.exact_verdict, back.cer_verdict) == ("worse", "worse")


def test_the_same_reading_shows_no_difference():
    edits = [i % 4 for i in range(50)]
    exact = [e == 0 for e in edits]
    found = compare_pairs(edits, edits, [10] * 50, exact, exact)
    assert (found.exact_verdict, found.cer_verdict) == (
        "no difference shown",
        "no difference shown",
    )
    assert (found.mcnemar_p, found.b_better_share) == (1.0, 0.5)


def test_lines_without_a_reference_are_in_no_error_rate():
    found = compare_pairs([5], [0], [0], [False], [True])
    assert (found.cer_a, found.cer_b, found.cer_difference) == (None, None, None)
    assert found.to_json()["cer_verdict"] == "no difference shown"
