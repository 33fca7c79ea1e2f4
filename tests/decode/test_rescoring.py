"""Greedy decoding corrected by a language model where the network is in doubt."""

import math

import numpy as np
import pytest

from nordocr_cli.charset import Charset
from nordocr_cli.decode import rescoring
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.decode.ngrams import count_ngrams
from nordocr_cli.decode.rescoring import (
    LanguageModel,
    decode_lines,
    decode_with_language,
)
from nordocr_cli.errors import ArtifactError, UsageError

CHARSET = Charset("small", " aålmO0.")
NGRAMS = count_ngrams(["mål", "mål", "lam", "allmål 000"], CHARSET.characters, (1, 1, 1))
LANGUAGE = LanguageModel(NGRAMS, CHARSET, weight=1.0)


def line_of(*frames):
    """Logits (1, T, C) of one line: each frame a dictionary of probabilities, `_` the blank; the
    rest share what is left.
    """
    logits = np.full((1, len(frames), CHARSET.num_classes), math.log(1e-6), np.float32)
    for at, frame in enumerate(frames):
        for character, probability in frame.items():
            number = 0 if character == "_" else CHARSET.encode(character)[0]
            logits[0, at, number] = math.log(probability)
    return logits


def read(logits, **options):
    frames = np.array([logits.shape[1]])
    options = {"language": LANGUAGE} | options
    return decode_with_language(logits, frames, CHARSET, **options)[0]


def test_a_doubtful_letter_is_replaced_by_the_likelier_word():
    logits = line_of({"m": 0.99}, {"a": 0.55, "å": 0.44}, {"l": 0.99})
    assert decode_greedy(logits, np.array([3]), CHARSET)[0].text == "mal"
    reading = read(logits)
    assert reading.text == "mål"
    assert reading.spans == ((0, 1), (1, 2), (2, 3))


def test_a_chosen_letter_has_its_share_of_what_network_and_language_give_the_choices():
    logits = line_of({"m": 0.99}, {"a": 0.5, "å": 0.4, "O": 0.1}, {"l": 0.99})
    after_m = NGRAMS.extended(NGRAMS.beginning, NGRAMS.number_of("m"))
    letters = {"a": 0.5, "å": 0.4, "O": 0.1}
    weighed = {
        letter: probability * math.exp(NGRAMS.score(after_m, NGRAMS.number_of(letter)))
        for letter, probability in letters.items()
    }
    share = weighed["å"] / sum(weighed.values())
    assert read(logits).char_confidences[1] == pytest.approx(share, abs=0.001)

    (decoded,) = decode_lines(logits, np.array([3]), language=LANGUAGE)
    assert len(decoded.decisions[1].stretch.choices) == len(letters)


def test_doubt_about_a_gap_lowers_the_confidence_of_the_letter_before_it():
    gap_without_doubt = line_of({"m": 0.99}, {"_": 0.99}, {"å": 0.99})
    gap_in_doubt = line_of({"m": 0.99}, {"_": 0.7, "l": 0.29}, {"å": 0.99})
    clear, doubtful = read(gap_without_doubt), read(gap_in_doubt)
    assert clear.text == doubtful.text == "må"
    assert doubtful.char_confidences[0] < clear.char_confidences[0] * 0.999
    assert doubtful.char_confidences[1] == pytest.approx(clear.char_confidences[1])

    at_the_beginning = line_of({"_": 0.7, "l": 0.29}, {"m": 0.99}, {"_": 0.99}, {"å": 0.99})
    assert read(at_the_beginning).text == "må"
    assert read(at_the_beginning).char_confidences[0] < clear.char_confidences[0] * 0.999


def test_a_letter_that_the_network_is_sure_of_stays():
    logits = line_of({"m": 0.99}, {"a": 0.997, "å": 0.002}, {"l": 0.99})
    assert read(logits).text == "mal"


def test_a_doubtful_space_goes_and_a_missing_letter_comes():
    spaced = line_of({"m": 0.99}, {" ": 0.6, "_": 0.39}, {"å": 0.99}, {"l": 0.99})
    assert read(spaced).text == "mål"
    missing = line_of({"m": 0.99}, {"_": 0.6, "å": 0.39}, {"l": 0.99})
    assert read(missing).text == "mål"


def test_the_mark_of_a_letter_is_never_taken_away():
    logits = line_of({"l": 0.99}, {"å": 0.55, "a": 0.44}, {"m": 0.99})
    after_l = NGRAMS.extended(NGRAMS.beginning, NGRAMS.number_of("l"))
    likelier, less = (NGRAMS.score(after_l, NGRAMS.number_of(c)) for c in "aå")
    assert likelier > less
    assert read(logits).text == "låm"


def test_digits_are_never_exchanged_and_letters_among_them_are():
    logits = line_of({" ": 0.99}, {"0": 0.99}, {"_": 0.99}, {"O": 0.6, "0": 0.39})
    assert read(logits).text == " 00"


def test_an_o_next_to_a_digit_becomes_a_zero_although_the_network_prefers_the_o(
    monkeypatch,
):
    logits = line_of({"0": 0.99}, {"_": 0.99}, {"O": 0.97, "0": 0.02}, {"_": 0.99})
    assert decode_greedy(logits, np.array([4]), CHARSET)[0].text == "0O"
    assert read(logits).text == "00"

    certain = line_of({"0": 0.99}, {"_": 0.99}, {"O": 0.9995, "0": 0.0004}, {"_": 0.99})
    assert read(certain).text == "0O"
    letter = line_of(
        {"0": 0.99}, {"_": 0.99}, {"O": 0.5, "m": 0.49}, {"å": 0.99}, {"l": 0.99}
    )
    assert read(letter).text == "0mål"
    among_letters = line_of({"l": 0.99}, {"O": 0.97, "0": 0.02}, {"m": 0.99})
    assert read(among_letters).text == "lOm"

    monkeypatch.setattr(rescoring, "ZERO_WEIGHT", 1.0)
    assert read(logits).text == "0O"


def test_a_digit_or_a_full_stop_is_never_removed_and_no_digit_is_added():
    def best_is_without(mark):
        return line_of({"m": 0.99}, {mark: 0.55, "_": 0.44}, {"å": 0.99}, {"l": 0.99})

    for mark in "0.":
        assert read(best_is_without(mark)).text == f"m{mark}ål"
    assert read(best_is_without("a")).text == "mål"

    added = line_of({"0": 0.99}, {"_": 0.6, "0": 0.05, "l": 0.3}, {"_": 0.99}, {"0": 0.99})
    assert read(added).text.count("0") == 2


def test_a_line_without_doubt_is_read_as_greedy_decoding_reads_it():
    logits = line_of({"m": 0.99}, {"_": 0.99}, {"a": 0.99}, {"a": 0.99}, {"_": 0.99})
    greedy = decode_greedy(logits, np.array([5]), CHARSET)[0]
    assert read(logits) == greedy


def test_a_letter_next_to_its_like_is_not_doubled_without_a_blank():
    logits = line_of({"l": 0.99}, {"_": 0.6, "l": 0.39}, {"a": 0.99})
    assert read(logits).text == "la"


def test_a_line_that_is_read_as_empty_stays_empty():
    assert read(line_of({"_": 0.9}, {"_": 0.6, "l": 0.39}, {"_": 0.9})).text == ""


def test_only_the_frames_of_the_line_are_read():
    logits = line_of({"m": 0.99}, {"a": 0.55, "å": 0.44}, {"l": 0.99})
    logits = np.concatenate([logits, line_of({"O": 0.99}, {"0": 0.5, "O": 0.5})], axis=1)
    found = decode_with_language(logits, np.array([3]), CHARSET, language=LANGUAGE)
    assert found[0].text == "mål"


def test_probabilities_are_read_like_logits():
    logits = line_of({"m": 0.99}, {"a": 0.55, "å": 0.44}, {"l": 0.99})
    reading = read(np.exp(logits), activation="softmax")
    assert reading.text == "mål"
    assert reading.confidence == pytest.approx(read(logits).confidence)


def test_confidences_at_another_temperature_are_those_of_decoding_at_it():
    logits = line_of({"m": 0.9, "l": 0.1}, {"a": 0.55, "å": 0.44}, {"l": 0.99})
    warm = read(logits, temperature=2.0)
    (decoded,) = decode_lines(logits, np.array([3]), language=LANGUAGE)
    again = decoded.recognition(CHARSET, 2.0)
    assert again.text == warm.text
    assert again.confidence == pytest.approx(warm.confidence)


def test_best_classes_alone_and_broken_numbers_are_refused():
    with pytest.raises(UsageError, match="needs all"):
        read(np.zeros((1, 2, 2), np.float32), activation="argmax+confidence")
    logits = line_of({"m": 0.99}, {"a": 0.99})
    logits[0, 0] = np.nan
    with pytest.raises(ArtifactError, match="NaN"):
        read(logits)
