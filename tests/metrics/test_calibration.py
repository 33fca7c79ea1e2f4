import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.metrics.calibration import BINS, RISKS, calibrate

confidences = st.one_of(
    st.none(), st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0, -0.01, float("nan")])
)


def test_bins_hold_promise_and_delivery():
    found = calibrate([(0.95, True), (0.95, True), (1.0, False), (0.2, True), (None, True)])
    assert (found.lines, found.without) == (4, 1)
    last, third = found.bins[-1], found.bins[2]
    assert (last.lines, last.exact, last.exact_rate) == (3, 2, 2 / 3)
    assert last.confidence == pytest.approx(2.9 / 3)
    assert (third.low, third.lines, third.confidence, third.exact_rate) == (
        0.2,
        1,
        0.2,
        1.0,
    )
    # |2.9 - 2| of three lines and |0.2 - 1| of one.
    assert found.ece == pytest.approx((0.9 + 0.8) / 4)


def test_a_recognizer_that_keeps_its_promises_has_no_calibration_error():
    assert calibrate([(0.75, True)] * 3 + [(0.75, False)]).ece == 0
    assert calibrate([(1.0, True)] * 3).ece == 0


def test_lines_of_one_confidence_are_taken_together():
    found = calibrate([(0.9, True), (0.9, False), (0.8, True), (0.99, True)])
    assert [(p.threshold, p.lines, p.wrong) for p in found.curve] == [
        (0.99, 1, 0),
        (0.9, 3, 1),
        (0.8, 4, 1),
    ]
    assert found.aurc == pytest.approx((1 * 0 + 2 * (1 / 3) + 1 * (1 / 4)) / 4)


def test_how_many_lines_need_no_check():
    found = calibrate(
        [(0.9, True)] * 99 + [(0.8, False), (0.7, True), (0.6, False), (0.5, False)]
    )
    assert found.coverage_at[0.005] == 99 / 103
    assert found.coverage_at[0.01] == 101 / 103  # one wrong of 101 is under a hundredth
    assert found.coverage_at[0.05] == 1.0
    assert calibrate([(0.9, False), (0.1, True)]).coverage_at == dict.fromkeys(RISKS, 0.0)


def test_without_confidences_there_is_nothing_to_say():
    assert calibrate([]) is None
    assert (
        calibrate([(None, True), (-0.01, False), (1.01, True), (float("nan"), True)])
        is None
    )


@given(st.lists(st.tuples(confidences, st.booleans()), max_size=300))
@settings(max_examples=40, deadline=None)
def test_every_line_is_in_one_bin_and_the_curve_ends_with_all(readings):
    found = calibrate(readings)
    known = [
        right
        for confidence, right in readings
        if confidence is not None and 0 <= confidence <= 1
    ]
    if not known:
        assert found is None
        return
    assert len(found.bins) == BINS
    assert (
        sum(b.lines for b in found.bins)
        == found.lines
        == len(readings) - found.without
        == found.curve[-1].lines
    )
    assert sum(b.exact for b in found.bins) == sum(known)
    assert found.curve[-1].wrong == len(known) - sum(known)
    assert 0 <= found.ece <= 1
    assert len(found.curve) <= 100
    assert [p.lines for p in found.curve] == sorted({p.lines for p in found.curve})
    json.dumps(found.to_json(), allow_nan=False)
