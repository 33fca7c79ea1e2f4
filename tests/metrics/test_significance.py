from math import comb

import numpy as np
import pytest

from nordocr_cli.metrics.significance import compare_pairs, interval_from_json, mcnemar_exact, ratio_intervals, resampled_sums


def test_an_interval_holds_its_estimate_and_repeats():
    rng = np.random.default_rng(0)
    columns = [(int(rng.random() < 0.2), 1) for _ in range(400)]
    first, again = (ratio_intervals(columns, [(0, 1)])[0] for _ in range(2))
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
    documents = [str(document) for document in range(18) for _ in range(20)]
    by_line = ratio_intervals(columns, [(0, 1)])[0]
    by_document = ratio_intervals(columns, [(0, 1)], documents)[0]
    assert by_document.high - by_document.low > 2 * (by_line.high - by_line.low)
    assert (by_document.unit, by_document.units) == ("source", 18)


def test_nothing_to_divide_has_no_interval():
    assert ratio_intervals([], [(0, 1)]) == [None]
    assert ratio_intervals([(0, 0), (0, 0)], [(0, 1)]) == [None]


def test_sums_of_one_unit_do_not_vary():
    sums, units = resampled_sums([(1, 2), (3, 4)], ["same", "same"], resamples=5)
    assert units == 1
    assert sums.tolist() == [[4, 6]] * 5
    with pytest.raises(ValueError, match="1 clusters for 2 lines"):
        resampled_sums([(1, 2), (3, 4)], ["one"])


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 5), (5, 0), (8, 20), (10, 10), (120, 88)])
def test_mcnemar_is_the_two_sided_binomial(a, b):
    n = a + b
    extreme = abs(a - b)
    expected = sum(comb(n, k) for k in range(n + 1) if abs(n - 2 * k) >= extreme) / 2**n
    assert mcnemar_exact(a, b) == pytest.approx(min(1.0, expected))


def test_a_better_reading_is_found_better():
    lengths = [20] * 300
    a, b = [2 if i % 3 == 0 else 0 for i in range(300)], [2 if i % 6 == 0 else 0 for i in range(300)]
    found = compare_pairs(a, b, lengths, [e == 0 for e in a], [e == 0 for e in b])
    assert (found.both_exact, found.only_a_exact, found.only_b_exact, found.neither_exact) == (200, 0, 50, 50)
    assert (found.cer_a, found.cer_b) == (200 / 6000, 100 / 6000)
    assert (found.exact_verdict, found.cer_verdict) == ("better", "better")
    assert found.b_better_share == 1.0
    back = compare_pairs(b, a, lengths, [e == 0 for e in b], [e == 0 for e in a])
    assert (back.exact_verdict, back.cer_verdict) == ("worse", "worse")


def test_the_same_reading_shows_no_difference():
    edits = [i % 4 for i in range(50)]
    exact = [e == 0 for e in edits]
    found = compare_pairs(edits, edits, [10] * 50, exact, exact)
    assert (found.exact_verdict, found.cer_verdict) == ("no difference shown", "no difference shown")
    assert (found.mcnemar_p, found.b_better_share) == (1.0, 0.5)


def test_lines_without_a_reference_are_in_no_error_rate():
    found = compare_pairs([5], [0], [0], [False], [True])
    assert (found.cer_a, found.cer_b, found.cer_difference) == (None, None, None)
    assert found.to_json()["cer_verdict"] == "no difference shown"
