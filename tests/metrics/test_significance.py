from itertools import product

import numpy as np
import pytest

from nordocr_cli.metrics.significance import (
    ALPHA,
    MAX_UNITS,
    MIN_DOCUMENTS,
    Draws,
    Interval,
    compare_pairs,
    ratio_interval,
    sign_flip_test,
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
    assert Interval.model_validate(first.to_json()) == first


def test_lines_that_fail_together_widen_the_interval():
    columns = [
        (10 if document < 3 else 0, 100) for document in range(18) for _ in range(20)
    ]
    assert (
        intervals([(1, 2), (0, 2)], ["one", "one"]) is None
    )  # of one document nothing is known
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
    assert (
        draws.sums(np.array([1.0, 3.0, 5.0]), np.array([0, 1, 0]), 2).tolist()
        == [[6, 3]] * 5
    )
    draws = Draws(4, resamples=50)
    one, group = np.ones(4), np.array([0, 1, 1, 0])
    assert draws.sums(one)[:, 0].tolist() == [4] * 50
    assert np.array_equal(draws.sums(one, group, 2).sum(axis=1), draws.sums(one)[:, 0])
    with pytest.raises(ValueError, match="1 clusters for 2 lines"):
        Draws(2, ["one"])


def test_many_lines_are_bundled_and_their_interval_stays():
    lines = 5 * MAX_UNITS
    wrong = np.random.default_rng(1).random(lines) < 0.02
    found = intervals([(int(w), 1) for w in wrong])
    half = 1.96 * (wrong.mean() * (1 - wrong.mean()) / lines) ** 0.5
    assert found.units == lines
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)
    assert found.low < wrong.mean() < found.high


def compare(edits_a, edits_b, documents, length=20):
    """Compare lines of `length` characters; a line without edits is exact."""
    return compare_pairs(
        edits_a,
        edits_b,
        [length] * len(edits_a),
        [edits == 0 for edits in edits_a],
        [edits == 0 for edits in edits_b],
        documents,
    )


def test_few_documents_are_tested_exactly():
    rng = np.random.default_rng(3)
    differences = rng.integers(-3, 4, size=(9, 2)).astype(float)
    scale = np.sqrt((differences**2).sum(axis=0))
    observed = np.abs(differences.sum(axis=0)) / scale
    maximum = [
        np.abs(np.array(signs) @ differences / scale).max()
        for signs in product((1, -1), repeat=9)
    ]
    expected = [np.mean(np.array(maximum) >= value - 1e-9) for value in observed]
    found = sign_flip_test(differences)
    assert found.exact
    assert found.p == pytest.approx(expected)


def test_many_documents_are_sampled_and_the_p_repeats():
    differences = np.random.default_rng(4).normal(0.15, 1, size=(200, 2))
    first, again = sign_flip_test(differences), sign_flip_test(differences)
    assert first == again
    assert not first.exact
    assert all(0 < p < 1 for p in first.p)


def test_twenty_losses_in_one_document_of_five_show_nothing():
    documents = [str(number) for number in range(5) for _ in range(40)]
    a = [0] * 200
    b = [1 if number < 20 else 0 for number in range(200)]
    found = compare(a, b, documents)
    assert (found.only_a_exact, found.p_exact, found.p_cer) == (20, 1.0, 1.0)
    assert found.verdict == "too few documents"


def test_repeating_each_line_changes_no_p():
    rng = np.random.default_rng(5)
    documents = [str(number // 10) for number in range(300)]
    a, b = (rng.integers(0, 2, 300).tolist() for _ in range(2))
    once = compare(a, b, documents)
    tenfold = compare(a * 10, b * 10, documents * 10)
    assert (tenfold.p_exact, tenfold.p_cer) == (once.p_exact, once.p_cer)


def test_a_better_result_is_found_better_in_as_few_documents_as_can_show_it():
    for count, verdicts in (
        (MIN_DOCUMENTS, ("better", "worse")),
        (MIN_DOCUMENTS - 1, ("too few documents",) * 2),
    ):
        documents = [str(number) for number in range(count) for _ in range(30)]
        a = [2 if number % 3 == 0 else 0 for number in range(len(documents))]
        b = [2 if number % 6 == 0 else 0 for number in range(len(documents))]
        found, back = compare(a, b, documents), compare(b, a, documents)
        assert (found.verdict, back.verdict) == verdicts
        assert (found.documents_better, found.documents_worse) == (count, 0)
        assert found.p_cer == pytest.approx(2 / 2**count)
    assert 2 / 2**MIN_DOCUMENTS < ALPHA < 2 / 2 ** (MIN_DOCUMENTS - 1)


def test_more_exact_lines_with_more_edits_are_mixed():
    documents = [str(number) for number in range(30) for _ in range(10)]
    a = [1 if number % 2 else 0 for number in range(300)]
    b = [9 if number % 10 == 0 else 0 for number in range(300)]
    assert compare(a, b, documents).verdict == "mixed"


def test_the_same_result_shows_no_difference():
    edits = [number % 4 for number in range(50)]
    found = compare(edits, edits, [str(number) for number in range(50)])
    assert (found.verdict, found.p_exact, found.p_cer) == ("no difference", 1.0, 1.0)
    assert found.documents_better == found.documents_worse == 0


def test_lines_without_a_reference_are_in_no_error_rate():
    found = compare_pairs([5], [0], [0], [False], [True])
    assert (found.cer_a, found.cer_b, found.cer_difference) == (None, None, None)


def test_the_smallest_gap_is_shown_as_often_as_promised():
    rng = np.random.default_rng(6)
    documents = [str(number) for number in range(60) for _ in range(10)]
    flat = rng.random(600) < 0.2
    noise = compare(
        flat.astype(int).tolist(), rng.permutation(flat).astype(int).tolist(), documents
    )
    gap = noise.smallest_detectable["exact"]
    assert 0.03 < gap < 0.15
    shown = 0
    for _ in range(60):
        a = rng.random(600) < 0.2
        b = rng.random(600) < 0.2 - gap
        verdict = compare(a.astype(int).tolist(), b.astype(int).tolist(), documents).verdict
        shown += verdict == "better"
    assert shown >= 0.6 * 60
