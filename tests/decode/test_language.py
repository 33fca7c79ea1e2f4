import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.decode.beam import decode_beam
from nordocr_cli.decode.language import (
    LanguageFiles,
    PrefixLanguage,
    read_character_ngrams,
    read_words,
    shipped_language_model,
)
from nordocr_cli.decode.ngrams import count_ngrams
from nordocr_cli.decode.rescoring import decode_with_language
from nordocr_cli.errors import ArtifactError, DataError, UsageError

CORPUS = [
    "Omsättning och resultat",
    "Summa omsättning",
    "Nettoomsättning per kvartal",
    "Övriga rörelseintäkter",
] * 3
NGRAMS = count_ngrams(CORPUS, NORDIC.characters, (1,) * 5)


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
    assert read(logits, PrefixLanguage(NORDIC, NGRAMS)) == right
    (tmp_path / "words.txt").write_text(
        "omsättning/A\nresultat\tnoun\noch\nsumma\nkvartal\n", encoding="utf-8"
    )
    assert read(logits, LanguageFiles(lexicon=tmp_path / "words.txt").open(NORDIC)) == right


def test_what_the_network_is_sure_of_stays():
    logits = unsure("Omsättning", "Omsåttning", share=0.001)
    assert read(logits, PrefixLanguage(NORDIC, NGRAMS)) == "Omsåttning"
    amount = unsure("7 811 518,00", "7 811 518,00")
    assert (
        read(amount, PrefixLanguage(NORDIC, NGRAMS, frozenset({"och"}))) == "7 811 518,00"
    )


def test_a_beam_with_a_language_that_says_nothing_is_the_beam_without():
    logits = (
        np.random.default_rng(2).normal(size=(3, 20, NORDIC.num_classes)).astype(np.float32)
        * 3
    )
    frames = np.array([20, 20, 9])
    assert decode_beam(logits, frames, NORDIC) == decode_beam(
        logits, frames, NORDIC, language=PrefixLanguage(NORDIC)
    )


def test_a_text_of_ones_own_helps_both_decoders_as_a_file_and_packed(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    NGRAMS.save(tmp_path / "corpus.npz")
    logits = unsure("Omsättning", "Omsåttning")
    for name in ("corpus.txt", "corpus.npz"):
        files = LanguageFiles(char_lm=tmp_path / name)
        assert read(logits, files.open(NORDIC)) == "Omsättning"
        model = files.open_model(NORDIC)
        frames = np.array([logits.shape[1]])
        found = decode_with_language(logits, frames, NORDIC, language=model)
        assert found[0].text == "Omsättning"


def test_what_is_no_language(tmp_path):
    for name, reader in (
        ("corpus.txt", lambda path: read_character_ngrams(path, NORDIC)),
        ("words.txt", read_words),
    ):
        (tmp_path / name).write_text(" \n\n")
        with pytest.raises(DataError, match="is empty|holds no"):
            reader(tmp_path / name)
    with pytest.raises(UsageError, match="no file of --char-lm"):
        LanguageFiles(tmp_path / "none.txt").open(NORDIC)
    (tmp_path / "pickle.txt").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(DataError, match="cannot read"):
        read_character_ngrams(tmp_path / "pickle.txt", NORDIC)
    with pytest.raises(ArtifactError, match="--decoder greedy"):
        shipped_language_model("martian", NORDIC)
