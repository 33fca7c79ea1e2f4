"""The beam search against brute force over every path."""

from collections import defaultdict
from itertools import groupby, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import NORDIC, Charset
from nordocr_cli.decode.beam import beam_search, best_path_spans, decode_beam
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError

AB = Charset("ab", "ab")
ALL = 10_000


def collapse(path):
    return tuple(c for c, _ in groupby(path) if c)


def every_text(log_probs):
    """Log probability of every text, by adding up all paths that write it."""
    length, classes = log_probs.shape
    texts = defaultdict(lambda: -np.inf)
    for path in product(range(classes), repeat=length):
        texts[collapse(path)] = np.logaddexp(
            texts[collapse(path)], log_probs[range(length), path].sum()
        )
    return texts


def log_softmax(scores):
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))


def scores_of(shape, seed, spread):
    return np.random.default_rng(seed).normal(size=shape) * spread


cases = st.tuples(
    st.integers(1, 6),
    st.integers(2, 4),
    st.integers(0, 2**31),
    st.sampled_from([0.3, 1.0, 3.0]),
)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_a_beam_that_keeps_everything_is_exact(case):
    length, classes, seed, spread = case
    log_probs = log_softmax(scores_of((length, classes), seed, spread))
    expected = every_text(log_probs)
    found = dict(beam_search(log_probs, ALL))
    assert found.keys() == expected.keys()
    assert all(found[text] == pytest.approx(expected[text], abs=1e-9) for text in expected)
    greedy = collapse(log_probs.argmax(axis=1))
    assert beam_search(log_probs, ALL)[0][1] >= found[greedy] - 1e-12


@settings(max_examples=60, deadline=None)
@given(cases, st.integers(1, 4))
def test_a_narrow_beam_never_promises_too_much(case, beam_width):
    length, classes, seed, spread = case
    log_probs = log_softmax(scores_of((length, classes), seed, spread))
    expected, found = every_text(log_probs), beam_search(log_probs, beam_width)
    assert 1 <= len(found) <= beam_width
    assert len({text for text, _ in found}) == len(found)
    assert all(score <= expected[text] + 1e-9 for text, score in found)
    assert [score for _, score in found] == sorted(
        (score for _, score in found), reverse=True
    )


def test_the_textbook_case_where_greedy_is_wrong():
    """The best path is two blanks (0.36); `a` is written by three paths, 0.64 together."""
    probabilities = np.array([[[0.6, 0.4, 0.0], [0.6, 0.4, 0.0]]], np.float32)
    (greedy,) = decode_greedy(probabilities, np.array([2]), AB, "softmax")
    (beam,) = decode_beam(probabilities, np.array([2]), AB, "softmax")
    assert (greedy.text, beam.text) == ("", "a")
    assert beam.confidence == pytest.approx(0.4)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 125), min_size=1, max_size=40), min_size=1, max_size=4
    ),
    st.integers(0, 1000),
)
def test_peaked_logits_read_as_greedy_reads_them(paths, seed):
    length = max(map(len, paths)) + 3
    logits = scores_of((len(paths), length, 126), seed, 0.5).astype(np.float32)
    for line, path in zip(logits, paths, strict=True):
        line[np.arange(len(path)), path] += 14
    frames = np.array([len(path) for path in paths])
    for greedy, beam in zip(
        decode_greedy(logits, frames, NORDIC),
        decode_beam(logits, frames, NORDIC),
        strict=True,
    ):
        assert beam.text == greedy.text
        assert beam.spans == greedy.spans
        assert beam.confidence == pytest.approx(greedy.confidence, abs=1e-5)
        assert beam.char_confidences == pytest.approx(greedy.char_confidences, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.integers(1, 2), min_size=1, max_size=3),
    st.integers(0, 2**31),
)
def test_spans_are_those_of_the_best_path(length, classes, seed):
    log_probs = log_softmax(scores_of((length, 3), seed, 2.0))
    paths = [
        path
        for path in product(range(3), repeat=length)
        if collapse(path) == tuple(classes)
    ]
    if not paths:
        with pytest.raises(ValueError, match="cannot write"):
            best_path_spans(log_probs, tuple(classes))
        return
    best = max(paths, key=lambda path: log_probs[range(length), path].sum())
    at = [list(group) for c, group in groupby(range(length), key=lambda t: best[t]) if c]
    assert best_path_spans(log_probs, tuple(classes)) == [
        (group[0], group[-1] + 1) for group in at
    ]


def test_each_line_is_read_over_its_own_frames():
    logits = scores_of((3, 12, 3), 5, 3.0).astype(np.float32)
    frames = np.array([12, 5, 0])
    together = decode_beam(logits, frames, AB)
    assert [
        decode_beam(logits[i : i + 1, :n], np.array([n]), AB)[0]
        for i, n in enumerate(frames)
    ] == together
    assert (together[2].text, together[2].confidence) == ("", 0.0)
    logits[1, 8] = np.nan  # padding may hold anything
    assert decode_beam(logits, frames, AB) == together
    logits[0, 8] = np.nan
    with pytest.raises(ArtifactError, match="NaN or infinite at line 0, frame 8"):
        decode_beam(logits, frames, AB)
    with pytest.raises(ArtifactError, match="needs"):
        decode_beam(logits, frames, NORDIC)


def test_a_long_line_does_not_underflow():
    (text, score), *_ = beam_search(np.full((700, 126), -np.log(126)), 4)
    assert np.isfinite(score)
    assert isinstance(text, tuple)
