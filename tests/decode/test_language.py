import json

import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.decode.beam import decode_beam
from nordocr_cli.decode.language import (
    Beside,
    CharLm,
    LanguageFiles,
    count_characters,
    read_char_lm,
    read_words,
)
from nordocr_cli.errors import DataError, UsageError

CORPUS = [
    "Omsättning och resultat",
    "Summa omsättning",
    "Nettoomsättning per kvartal",
    "Övriga rörelseintäkter",
] * 3


def unsure(right, other, share=0.45):
    """Logits (1, T, C) of a network that gives `other` more than `right` wherever the two
    differ.
    """
    logits = np.full((1, 2 * len(right), NORDIC.num_classes), -9.0, np.float32)
    logits[0, 1::2, 0] = 9
    for at, (a, b) in enumerate(zip(right, other, strict=True)):
        logits[0, 2 * at, NORDIC.class_of[b]] = 9
        logits[0, 2 * at, NORDIC.class_of[a]] = (
            9 if a == b else 9 + np.log(share / (1 - share))
        )
    return logits


def read(logits, language=None):
    return decode_beam(logits, np.array([logits.shape[1]]), NORDIC, language=language)[
        0
    ].text


@pytest.mark.parametrize(
    ("right", "other"),
    [
        ("Omsättning", "Omsåttning"),
        ("resultat", "resu1tat"),
        ("Summa och", "Summa 0ch"),
        ("kvartal", "kvarta1"),
    ],
)
def test_ngrams_and_words_decide_between_readings_that_are_nearly_as_likely(
    right, other, tmp_path
):
    logits = unsure(right, other)
    assert read(logits) == other
    assert read(logits, Beside(NORDIC, count_characters(CORPUS))) == right
    (tmp_path / "words.txt").write_text(
        "omsättning/A\nresultat\tnoun\noch\nsumma\nkvartal\n", encoding="utf-8"
    )
    assert read(logits, LanguageFiles(lexicon=tmp_path / "words.txt").open(NORDIC)) == right


def test_what_the_network_is_sure_of_stays():
    logits = unsure("Omsättning", "Omsåttning", share=0.001)
    assert read(logits, Beside(NORDIC, count_characters(CORPUS))) == "Omsåttning"
    amount = unsure("7 811 518,00", "7 811 518,00")
    assert (
        read(amount, Beside(NORDIC, count_characters(CORPUS), frozenset({"och"})))
        == "7 811 518,00"
    )


def test_a_beam_with_a_language_that_says_nothing_is_the_beam_without():
    logits = (
        np.random.default_rng(2).normal(size=(3, 20, NORDIC.num_classes)).astype(np.float32)
        * 3
    )
    frames = np.array([20, 20, 9])
    assert decode_beam(logits, frames, NORDIC) == decode_beam(
        logits, frames, NORDIC, language=Beside(NORDIC)
    )


def test_probabilities_add_up_to_one_and_know_the_line_start():
    model = count_characters(["ab", "ab", "b a"], order=3)
    for context in ("", "\n", "a", "\na", "never seen", "ab"):
        assert sum(model.probability(context, c, 3) for c in "ab ") == pytest.approx(1)
    assert (
        model.probability("\n", "a", 3)
        > model.probability("\n", "b", 3)
        > model.probability("\n", " ", 3)
        > 0
    )
    # By hand: "a" three times and "b" three times and a space once in seven, then what followed the
    # line's start.
    lowest = (3 + 3 / 3) / (7 + 3)
    assert model.probability("\n", "a", 3) == pytest.approx((2 + 2 * lowest) / (3 + 2))


def test_it_is_kept_as_json(tmp_path):
    model = count_characters(CORPUS)
    model.save(tmp_path / "lm.json")
    assert read_char_lm(tmp_path / "lm.json") == model
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    assert read_char_lm(tmp_path / "corpus.txt") == model
    assert isinstance(
        json.loads((tmp_path / "lm.json").read_text(encoding="utf-8"))["counts"], dict
    )


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": "other/1", "counts": {"": {"a": 1}}}', '{"schema": 1'],
)
def test_what_is_no_language(content, tmp_path):
    for name, reader in (("lm.json", read_char_lm), ("words.txt", read_words)):
        (tmp_path / name).write_text(content if name == "lm.json" else " \n\n")
        with pytest.raises(DataError, match="holds no"):
            reader(tmp_path / name)
    with pytest.raises(UsageError, match="no file of --char-lm"):
        LanguageFiles(tmp_path / "none.txt").open(NORDIC)
    (tmp_path / "pickle.json").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match="cannot read"):
        read_char_lm(tmp_path / "pickle.json")
    with pytest.raises(UsageError, match="order of 0"):
        count_characters(["a"], 0)
    assert CharLm(1, {"": {"a": 1}}).probability("xyz", "a", 2) == pytest.approx(0.75)
