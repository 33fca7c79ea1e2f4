import random
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.charset import ALPHANUMERIC, NORDIC, Charset
from nordocr_cli.data.synth import figures
from nordocr_cli.data.synth.texts import TextSource, read_corpus
from nordocr_cli.data.synth.vocabulary import (
    DANISH,
    ICELANDIC,
    NORWEGIAN,
    SWEDISH,
    VOCABULARIES,
)
from nordocr_cli.errors import DataError


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(min_value=0), longest=st.sampled_from([1, 11, 40, 179]))
def test_a_text_is_within_the_charset_and_the_length_and_has_single_spaces(
    seed: int, longest: int
) -> None:
    text = TextSource(NORDIC, max_characters=longest).draw(random.Random(seed))
    assert text.label == " ".join(text.label.split()) != ""
    assert len(text.label) <= longest
    assert not NORDIC.missing(text.label)
    assert text.label == " ".join(text.cells)


def test_a_text_depends_on_its_generator_alone() -> None:
    source = TextSource(NORDIC)
    alone = source.draw(random.Random(7))
    for seed in range(20):
        source.draw(random.Random(seed))
    assert source.draw(random.Random(7)) == alone


def test_every_character_is_written_without_any_corpus() -> None:
    source = TextSource(NORDIC)
    seen = Counter(
        c for seed in range(6000) for c in source.draw(random.Random(seed)).label
    )
    rarest = min(NORDIC.characters, key=lambda c: seen[c])
    assert seen[rarest] >= 5, f"{rarest!r} only {seen[rarest]} times in 6000 lines"


def test_all_languages_kinds_and_rows_with_several_cells_come_up() -> None:
    source = TextSource(NORDIC)
    texts = [source.draw(random.Random(seed)) for seed in range(2000)]
    assert {t.language for t in texts} == set(VOCABULARIES)
    kinds = {
        "running",
        "phrase",
        "row",
        "number",
        "labelled",
        "business",
        "pairs",
        "swapped",
        "rare",
        "short",
        "cell",
    }
    assert {t.kind for t in texts} == kinds
    assert sum(len(t.cells) > 1 for t in texts) > 200
    assert sum(len(t.label) > 65 for t in texts) > 200
    assert sum(len(t.label) <= 3 for t in texts) > 60


def test_a_charset_without_space_and_punctuation_gets_words_it_can_write() -> None:
    source = TextSource(ALPHANUMERIC)
    assert all(
        not ALPHANUMERIC.missing(source.draw(random.Random(seed)).label)
        for seed in range(50)
    )


def test_a_charset_that_can_write_nothing_is_an_error() -> None:
    # Its one character alone makes short texts; no longer one can be written with it.
    source = TextSource(Charset("tiny", "\u4e00"), min_characters=80)
    with pytest.raises(DataError, match="tiny"):
        source.draw(random.Random(1))


def test_a_corpus_is_cut_at_words_outside_the_charset_and_counted(tmp_path) -> None:
    (tmp_path / "sv.a.txt").write_text(
        "Alla har rätt.\n\n  Två\u00a0 blanksteg \n", encoding="utf-8"
    )
    (tmp_path / "is.b.txt").write_text(
        "Það er ekki á sínum stað í dag\nÍ á ó\n", encoding="utf-8"
    )
    (tmp_path / "SOURCES.md").write_text("not a corpus", encoding="utf-8")
    corpus = read_corpus(tmp_path, NORDIC)
    assert corpus.phrases["sv"] == ["Alla har rätt.", "Två blanksteg"]
    assert corpus.phrases["is"] == ["Það er ekki", "stað", "dag"]
    assert (corpus.read, corpus.kept, corpus.cut, corpus.dropped) == (4, 2, 1, 1)


def test_a_corpus_decides_the_words(tmp_path) -> None:
    (tmp_path / "sv.a.txt").write_text("kvastskaft\n", encoding="utf-8")
    source = TextSource(NORDIC, read_corpus(tmp_path, NORDIC).phrases)
    assert any("kvastskaft" in source.draw(random.Random(seed)).label for seed in range(50))


def test_a_folder_without_corpus_files_is_an_error(tmp_path) -> None:
    with pytest.raises(DataError, match=r"LANGUAGE\.NAME\.txt"):
        read_corpus(tmp_path, NORDIC)


@pytest.mark.parametrize(
    ("vocabulary", "amount", "organisation"),
    [
        (SWEDISH, r"-?\d{1,3}( \d{3})+,\d\d", r"\d{6}-\d{4}"),
        (NORWEGIAN, r"-?\d{1,3}( \d{3})+,\d\d", r"\d{3} \d{3} \d{3} MVA"),
        (DANISH, r"-?\d{1,3}(\.\d{3})+,\d\d", r"DK\d{8}"),
        (ICELANDIC, r"-?\d{1,3}(\.\d{3})+,\d\d", r"\d{6}-\d{4}"),
    ],
)
def test_figures_are_written_as_the_country_writes_them(
    vocabulary, amount: str, organisation: str
) -> None:
    rngs = [random.Random(seed) for seed in range(300)]
    assert (
        sum(bool(re.fullmatch(amount, figures.amount(rng, vocabulary))) for rng in rngs)
        > 20
    )
    assert (
        sum(
            bool(re.fullmatch(organisation, figures.organisation_number(rng, vocabulary)))
            for rng in rngs
        )
        > 40
    )
    assert all(
        re.fullmatch(r"[A-Z]{2}[\d ]+", figures.iban(rng, vocabulary)) for rng in rngs
    )
    assert all(
        re.fullmatch(r"-?\d+(,\d+)? ?%", figures.written_percent(rng)) for rng in rngs
    )
