import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import NORDIC, Charset
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError

ABC = Charset("abc", "abc")


def one_hot(classes, score=10.0, num_classes=4):
    return (
        np.float32(score) * np.eye(num_classes, dtype=np.float32)[list(classes)]
    )  # (T, C)


def reference(logits, charset):
    """Greedy CTC decoding of one line (T, C), as slow and plain as can be."""
    characters, confidences, spans, before = [], [], [], 0
    for frame, row in enumerate(logits.astype(np.float64)):
        best, probability = (
            int(row.argmax()),
            np.exp(row - row.max())[row.argmax()] / np.exp(row - row.max()).sum(),
        )
        if best and best == before:
            confidences[-1], spans[-1] = (
                max(confidences[-1], probability),
                (spans[-1][0], frame + 1),
            )
        elif best:
            (
                characters.append(charset.characters[best - 1]),
                confidences.append(probability),
                spans.append((frame, frame + 1)),
            )
        before = best
    return "".join(characters), confidences, spans


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=st.integers(0, 4),
    length=st.integers(0, 12),
    activation=st.sampled_from(["logits", "softmax"]),
)
def test_equals_the_plain_reference(data, n, length, activation):
    seed = data.draw(st.integers(0, 2**32 - 1))
    frames = np.array(
        data.draw(st.lists(st.integers(0, length), min_size=n, max_size=n)), dtype=np.int64
    )
    logits = np.random.default_rng(seed).normal(size=(n, length, 4)).astype(np.float32) * 3
    exponentials = np.exp(logits)
    given_output = (
        logits
        if activation == "logits"
        else exponentials / exponentials.sum(axis=2, keepdims=True)
    )
    found = decode_greedy(given_output, frames, ABC, activation)
    assert len(found) == n
    for recognition, line, count in zip(found, logits, frames, strict=True):
        text, confidences, spans = reference(line[:count], ABC)
        assert recognition.text == text
        assert recognition.spans == tuple(spans)
        assert recognition.char_confidences == pytest.approx(confidences, rel=1e-4)
        mean = np.exp(np.mean(np.log(confidences))) if confidences else 0.0
        assert recognition.confidence == pytest.approx(mean, rel=1e-4)


def test_a_line_in_a_batch_reads_as_alone():
    """Padding frames that say something must not become text: reading the batch's length put
    garbage behind 91 lines.
    """
    random = np.random.default_rng(1)
    frames = random.integers(1, 200, 32)
    logits = random.normal(size=(32, 200, 126)).astype(np.float32)
    batch = decode_greedy(logits, frames, NORDIC)
    for i, count in enumerate(frames):
        assert (
            batch[i]
            == decode_greedy(logits[i : i + 1, :count], frames[i : i + 1], NORDIC)[0]
        )
    assert any(
        batch[i].text != decode_greedy(logits[i : i + 1], np.array([200]), NORDIC)[0].text
        for i in range(32)
    )


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_changes_confidences_alone(temperature):
    logits = np.random.default_rng(3).normal(size=(5, 40, 126)).astype(np.float32) * 5
    frames = np.array([40, 0, 7, 40, 12])
    cold, scaled = (
        decode_greedy(logits, frames, NORDIC, temperature=temperature),
        decode_greedy(logits / np.float32(temperature), frames, NORDIC),
    )
    assert cold.texts == scaled.texts == decode_greedy(logits, frames, NORDIC).texts
    assert cold.confidences == pytest.approx(scaled.confidences, rel=1e-5)
    assert [reading.spans for reading in cold] == [reading.spans for reading in scaled]


def test_readings_are_a_sequence():
    logits = np.random.default_rng(4).normal(size=(6, 30, 126)).astype(np.float32)
    readings = decode_greedy(logits, np.full(6, 30), NORDIC)
    assert [reading.text for reading in readings] == readings.texts
    assert [reading.confidence for reading in readings] == readings.confidences
    assert readings[-1] == readings[5]
    assert readings[1:3] == [readings[1], readings[2]]
    with pytest.raises(IndexError):
        readings[6]


def test_by_hand():
    line = one_hot([1, 1, 0, 1, 2, 2, 0, 0, 3])
    (found,) = decode_greedy(line[None], np.array([9]), ABC)
    assert found.text == "aabc"
    assert found.spans == ((0, 2), (3, 4), (4, 6), (8, 9))
    assert found.char_confidences == pytest.approx([np.e**10 / (np.e**10 + 3)] * 4)
    assert all(
        isinstance(value, float) for value in (found.confidence, *found.char_confidences)
    )


def test_a_run_does_not_reach_into_the_next_line():
    lines = np.stack([one_hot([1, 1, 1]), one_hot([1, 1, 2])])
    assert [r.text for r in decode_greedy(lines, np.array([3, 3]), ABC)] == ["a", "ab"]


def test_the_best_frame_of_a_run_gives_the_confidence():
    line = np.stack([one_hot([1], 1.0)[0], one_hot([1], 20.0)[0], one_hot([1], 2.0)[0]])
    assert decode_greedy(line[None], np.array([3]), ABC)[0].confidence == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "length"), [(0, 0), (0, 5), (2, 0), (2, 5)])
def test_nothing_to_read(n, length):
    found = decode_greedy(np.tile(one_hot([0]), (n, length, 1)), np.full(n, length), ABC)
    assert [(r.text, r.confidence, r.char_confidences, r.spans) for r in found] == [
        ("", 0.0, (), ())
    ] * n


def test_one_frame():
    assert decode_greedy(one_hot([3])[None], np.array([1]), ABC)[0].text == "c"
    assert decode_greedy(one_hot([3])[None], np.array([0]), ABC)[0].text == ""


def test_large_logits_do_not_overflow():
    line = one_hot([1, 2], 60000.0) - 30000
    assert (
        decode_greedy(line[None].astype(np.float16), np.array([2]), ABC)[0].confidence
        == 1.0
    )


def test_minus_infinity_marks_a_class_that_cannot_be():
    line = np.where(one_hot([1, 2]) > 0, 0, -np.inf)
    assert decode_greedy(line[None], np.array([2]), ABC)[0].char_confidences == (1.0, 1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_output_is_an_error_in_a_line_and_nothing_in_padding(value):
    lines = np.stack([one_hot([1, 2, 0])] * 2)
    lines[1, 2, 0] = value
    assert decode_greedy(lines, np.array([3, 2]), ABC)[1].text == "ab"
    with pytest.raises(
        ArtifactError,
        match=r"line 1, frame 2 .* diverged \(lower train\.lr\), or fp16 overflowed",
    ):
        decode_greedy(lines, np.array([3, 3]), ABC)


@pytest.mark.parametrize(
    ("shape", "frames", "match"),
    [
        ((2, 3, 126), [3, 3], "charset 'abc'"),
        ((3, 4), [3], "charset"),
        ((2, 3, 4), [3], "frame counts"),
        ((2, 3, 4), [3, 4], "3 frames"),
        ((2, 3, 4), [-1, 2], "frame counts"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, frames, match):
    with pytest.raises(ArtifactError, match=match):
        decode_greedy(np.zeros(shape, np.float32), np.array(frames), ABC)


def test_logits_declared_as_probabilities_are_refused():
    with pytest.raises(ArtifactError, match="outside 0…1"):
        decode_greedy(one_hot([1])[None], np.array([1]), ABC, "softmax")
