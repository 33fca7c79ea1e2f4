"""Packed character n-grams: probabilities, digits, files."""

import math
import zipfile

import numpy as np
import pytest

from nordocr_cli.artifact.shipped import SHIPPED
from nordocr_cli.charset import NORDIC
from nordocr_cli.decode.language import shipped_language_model
from nordocr_cli.decode.ngrams import LINE_END, count_ngrams, read_ngrams
from nordocr_cli.errors import ArtifactError, DataError, UsageError

ALPHABET = " ablåm0."
LINES = ["alla mål", "alla bal", "mål 0.", "all"]


@pytest.fixture
def ngrams():
    return count_ngrams(LINES, ALPHABET, (1, 1, 1))


def context_of(ngrams, text):
    context = ngrams.beginning
    for character in text:
        context = ngrams.extended(context, ngrams.number_of(character))
    return context


def probability(ngrams, context, character):
    number = LINE_END if character == "" else ngrams.number_of(character)
    return math.exp(ngrams.score(context_of(ngrams, context), number)) / len(
        ngrams.alphabet
    )


def test_probabilities_are_those_of_witten_and_bell_by_hand():
    ngrams = count_ngrams(["ab", "ab", "b a"], "ab ", (1, 1))
    # a 3, b 3, a space 1 and the end 3 times: four kinds; a uniform choice of three characters.
    lowest = (3 + 4 / 3) / (10 + 4)
    at_the_beginning = (2 + 2 * lowest) / (3 + 2)
    # Logarithms are stored in steps of a twelfth.
    assert probability(ngrams, "", "a") == pytest.approx(at_the_beginning, rel=0.1)
    after_a = (2 + 2 * lowest) / (3 + 2)
    assert probability(ngrams, "a", "b") == pytest.approx(after_a, rel=0.1)


def test_the_followers_of_a_context_share_about_one(ngrams):
    total = sum(probability(ngrams, "al", character) for character in [*ALPHABET, ""])
    assert 0.8 < total < 1.1


def test_no_digit_is_more_likely_than_another():
    ngrams = count_ngrams(["år 2019", "år 2019", "år 2018"], " år0", (1, 1, 1, 1))
    after = context_of(ngrams, "år 201")
    scores = {ngrams.score(after, ngrams.number_of(digit)) for digit in "0123456789"}
    assert len(scores) == 1
    assert scores.pop() > ngrams.score(after, ngrams.number_of("r"))


def test_dashes_count_as_one_and_quotation_marks_too():
    ngrams = count_ngrams(["1-2", "1–2", "“ja”"], ' ja-–"“”0', (1, 1))
    assert ngrams.alphabet == ' ja-"0'
    assert ngrams.number_of("—") == ngrams.number_of("-")
    assert ngrams.number_of("„") == ngrams.number_of('"')


def test_a_model_comes_back_from_its_file_as_it_was(ngrams, tmp_path):
    ngrams.save(tmp_path / "m.npz")
    again = read_ngrams(tmp_path / "m.npz")
    assert again.alphabet == ngrams.alphabet
    for level, same in zip(ngrams.levels, again.levels, strict=True):
        np.testing.assert_array_equal(level.keys, same.keys)
        np.testing.assert_array_equal(level.log_probability, same.log_probability)
        np.testing.assert_array_equal(level.backoff, same.backoff)


def test_damaged_files_and_wrong_counts_are_refused(ngrams, tmp_path):
    file = tmp_path / "m.npz"
    ngrams.save(file)
    whole = file.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-100]):
        file.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"m\.npz"):
            read_ngrams(file)
    with pytest.raises(UsageError, match="no language model"):
        read_ngrams(tmp_path / "missing.npz")
    with pytest.raises(UsageError, match="must rise"):
        count_ngrams(LINES, ALPHABET, (2, 1))
    with pytest.raises(DataError, match="no text"):
        count_ngrams([], ALPHABET, (1,))


HOSTILE = {
    "no schema": {"schema": None},
    "another schema": {"schema": np.array("nordocr.ngrams/9")},
    "alphabet of numbers": {"alphabet": np.arange(3)},
    "several alphabets": {"alphabet": np.array(["a", "b"])},
    "no alphabet": {"alphabet": np.array("")},
    "too large an alphabet": {"alphabet": np.array("å" * 251)},
    "floats": {"last_1": np.ones(3)},
    "a table": {"last_1": np.ones((3, 3), np.uint8)},
    "objects": {"last_1": np.array([{}], dtype=object)},
    "more followers than n-grams": {"followers_1": np.array([255], np.uint8)},
    "followers of nothing": {"followers_2": np.ones(200, np.uint8)},
    "other lengths": {"backoff_1": np.ones(2, np.uint8)},
    "not in order": {"last_1": np.array([7, 7, 7], np.uint8)},
    "no n-grams": {"last_1": None},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(ngrams, tmp_path, change):
    ngrams.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as arrays:
        changed = {**arrays, **change}
    kept = {name: array for name, array in changed.items() if array is not None}
    np.savez(tmp_path / "m.npz", **kept)
    with pytest.raises(ArtifactError, match=r"m\.npz holds no character n-grams"):
        read_ngrams(tmp_path / "m.npz")


@pytest.mark.parametrize("member", ["schema.npy", "last_1.npy"])
@pytest.mark.parametrize("content", [b"", b"XXXXXX", b"\x93NUMPY\x01\0\xff\xff{"])
def test_members_that_are_no_arrays_are_refused(ngrams, tmp_path, member, content):
    ngrams.save(tmp_path / "whole.npz")
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole,
        zipfile.ZipFile(tmp_path / "m.npz", "w") as changed,
    ):
        for name in whole.namelist():
            changed.writestr(name, content if name == member else whole.read(name))
    with pytest.raises(ArtifactError, match=r"m\.npz holds no character n-grams"):
        read_ngrams(tmp_path / "m.npz")


def test_a_file_that_unpacks_to_more_than_any_model_is_refused_unread(
    tmp_path, monkeypatch
):
    np.savez_compressed(tmp_path / "m.npz", last_1=np.zeros(65 << 20, np.uint8))
    assert (tmp_path / "m.npz").stat().st_size < 1 << 20
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(ArtifactError, match="at most 64 MB, unpacked too"):
        read_ngrams(tmp_path / "m.npz")


@pytest.mark.parametrize(
    "name", ["../nordic", "/tmp/nordic", "nordic\0", "n" * 300, "", "a\\b"]
)
def test_a_contract_cannot_name_a_language_model_elsewhere(name):
    with pytest.raises(ArtifactError, match="this version does not have"):
        shipped_language_model(name, NORDIC)


def test_the_shipped_model_prefers_nordic_words():
    ngrams = read_ngrams(SHIPPED / "nordic.ngrams.npz")

    def total(text):
        context, score = ngrams.beginning, 0.0
        for number in [*map(ngrams.number_of, text), LINE_END]:
            score += ngrams.score(context, number)
            context = ngrams.extended(context, number) if number else context
        return score

    assert total("årsredovisning") > total("arsredovisning")
    assert total("Kapitalandel") > total("Kapit alandel")
    assert total("regnskapsåret") > total("regrskapsåret")
    assert total("43300") > total("433O0")
