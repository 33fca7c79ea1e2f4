import numpy as np
import pytest

from nordocr_cli.charset import Charset
from nordocr_cli.decode.autoregressive import decode_tokens, greedy_decoder
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError

ABC = Charset("abc", "abc")


def logits_of(rows, sure=5.0):
    """Logits (N, T, 4) whose best classes are `rows`."""
    out = np.zeros((len(rows), len(rows[0]), 4), np.float32)
    for i, row in enumerate(rows):
        out[i, np.arange(len(row)), row] = sure
    return out


def test_reads_up_to_the_first_end_and_collapses_nothing():
    readings = decode_tokens(
        logits_of([[1, 1, 2, 0, 3], [0, 1, 1, 1, 1], [3, 3, 3, 3, 3]]), np.full(3, 5), ABC
    )
    assert [reading.text for reading in readings] == ["aab", "", "ccccc"]
    assert readings[1].confidence == 0.0
    probability = np.exp(5) / (np.exp(5) + 3)
    assert np.allclose(readings[0].char_confidences, [probability] * 3)
    assert np.isclose(readings[0].confidence, probability)
    assert readings[0].spans == ()


def test_probabilities_and_best_classes_read_alike():
    logits = logits_of([[1, 2, 0, 3]])
    powers = np.exp(logits)
    probabilities = powers / powers.sum(-1, keepdims=True)
    packed = np.stack([logits.argmax(-1).astype(np.float32), probabilities.max(-1)], -1)
    expected = decode_tokens(logits, np.array([4]), ABC)[0]
    for output, activation in ((probabilities, "softmax"), (packed, "argmax+confidence")):
        found = decode_tokens(output, np.array([4]), ABC, activation)[0]
        assert (found.text, found.spans) == (expected.text, ())
        assert np.allclose(found.char_confidences, expected.char_confidences)


def test_refuses_what_is_not_an_output():
    with pytest.raises(ArtifactError, match="NaN"):
        decode_tokens(np.full((1, 3, 4), np.nan, np.float32), np.array([3]), ABC)
    with pytest.raises(ArtifactError, match="needs"):
        decode_tokens(np.zeros((1, 3, 5), np.float32), np.array([3]), ABC)


def test_the_decoder_of_each_decoding():
    assert greedy_decoder("ctc") is decode_greedy
    assert greedy_decoder("autoregressive") is decode_tokens
