"""The charset contract: 126 classes in the consumer's order, bit for bit."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nordocr_cli.charset import (
    CHARSETS,
    LANGUAGE_CHARACTERS,
    NORDIC,
    NORDIC_EXT,
    Charset,
    differences,
    from_dict_text,
    from_rust_source,
    load_charset,
    to_nfc,
)
from nordocr_cli.errors import DataError, UsageError

# A file in the shape of the consumer's charset.rs: two arrays, comments between, escapes, the
# quotes as \u{…}.
RUST = r"""
/// Older PARSeq set. 'x' in a comment, and an array of another name:
pub static CHARSET: &[char] = &[
    '\0', '\u{FFFD}', '\n', // PAD UNK EOS
    '0', 'a',
];
/* block 'q' comment */
pub static CTC_CHARSET: &[char] = &[
%s
];
pub const CTC_NUM_CLASSES: usize = 126;
"""


def rust_literals(characters: str) -> str:
    lines = []
    for index, c in enumerate(characters):
        literal = {"'": r"'\''", "\\": r"'\\'"}.get(c) or (
            f"'\\u{{{ord(c):04X}}}'" if ord(c) > 0x2000 else f"'{c}'"
        )
        lines.append(f"    {literal}, // {index + 1}: it's {c}")
    return "\n".join(lines)


def test_nordic_has_the_documents_order():
    assert NORDIC.num_classes == 126
    first = {
        "0": 1,
        "9": 10,
        "A": 11,
        "Z": 36,
        "a": 37,
        "z": 62,
        "Å": 63,
        "Ü": 70,
        "å": 71,
        "ü": 78,
        " ": 79,
        "!": 80,
        "~": 111,
    }
    last = {c: 112 + i for i, c in enumerate("§°€£«»–—\u2018\u2019\u201c\u201d±×")}
    assert {c: NORDIC.class_of[c] for c in first | last} == first | last
    assert NORDIC.characters[62:78] == "ÅÄÖØÆÐÞÜåäöøæðþü"


def test_the_hash_is_locked_and_is_that_of_the_dictionary_file():
    # One character off misreads everything: this hash changes only with a new charset name.
    assert (
        NORDIC.sha256 == "bc494fe069f151af7744a5a668e77547c93977d72024c371745671179714b470"
    )
    assert hashlib.sha256(NORDIC.to_dict_text().encode()).hexdigest() == NORDIC.sha256


def test_nordic_ext_keeps_every_class_of_nordic_and_writes_icelandic():
    assert NORDIC_EXT.characters.startswith(NORDIC.characters)
    assert NORDIC.missing("kafé Ísland") == ["é", "Í"]
    for language, letters in LANGUAGE_CHARACTERS.items():
        assert not NORDIC_EXT.missing("".join(letters)) or language not in (
            "sv",
            "da",
            "is",
            "fi",
        )


def test_the_dictionary_keeps_the_space_line():
    lines = NORDIC.to_dict_text().split("\n")
    assert (len(lines), lines[78], lines[-1]) == (126, " ", "")
    assert from_dict_text(NORDIC.to_dict_text(), "d").characters == NORDIC.characters
    assert (
        from_dict_text(NORDIC.to_dict_text().replace("\n", "\r\n"), "d").characters
        == NORDIC.characters
    )


def test_a_stripped_space_line_is_named():
    with pytest.raises(DataError, match=r"d\.txt:79: is empty \(was the space stripped"):
        from_dict_text(NORDIC.to_dict_text().replace("\n \n", "\n\n"), "d.txt")


def test_flattened_quotes_are_refused_as_duplicates():
    flattened = NORDIC.characters.translate(
        str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")
    )
    with pytest.raises(DataError, match="curly quotes"):
        Charset("damaged", flattened)


def test_the_rust_array_is_read_by_name():
    source = RUST % rust_literals(NORDIC.characters)
    assert from_rust_source(source).characters == NORDIC.characters
    with pytest.raises(DataError, match=r"CTC_CHARSET"):
        from_rust_source(source, "CTC_CHARSETS")


def test_a_rust_array_with_something_else_in_it_names_the_line():
    with pytest.raises(
        DataError, match=r"charset\.rs:10: .*expected a char literal, found OTHER"
    ):
        from_rust_source(RUST % "    'a',\n    OTHER,")


def test_one_changed_class_is_reported():
    changed = Charset("other", NORDIC.characters.replace("Å", "Á"))
    assert differences(NORDIC, changed) == [
        "class 63: nordic has 'Å' (U+00C5 LATIN CAPITAL LETTER A WITH RING ABOVE), "
        "other has 'Á' (U+00C1 LATIN CAPITAL LETTER A WITH ACUTE)"
    ]
    assert not differences(NORDIC, NORDIC)


@given(st.text(alphabet=NORDIC.characters, max_size=60))
def test_encode_and_decode_are_inverse(text):
    assert NORDIC.decode(NORDIC.encode(text)) == text


def test_what_cannot_be_written_is_named():
    with pytest.raises(DataError, match=r"'é' \(U\+00E9"):
        NORDIC.encode("idé")
    with pytest.raises(DataError, match="class 0"):
        NORDIC.decode([0])


def test_a_decomposed_letter_is_not_silently_another():
    assert to_nfc("a\u030a") == "å"
    assert NORDIC.missing("a\u030a") == ["\u030a"]


def test_load_charset_by_name_and_file(tmp_path):
    path = tmp_path / "nordic_dict.txt"
    path.write_text(NORDIC.to_dict_text(), encoding="utf-8")
    assert load_charset(str(path)).sha256 == NORDIC.sha256
    assert {load_charset(name).name for name in CHARSETS} == set(CHARSETS)
    with pytest.raises(UsageError, match="did you mean 'nordic'"):
        load_charset("nordik")
    with pytest.raises(UsageError, match="no charset file"):
        load_charset(str(tmp_path / "absent.txt"))
