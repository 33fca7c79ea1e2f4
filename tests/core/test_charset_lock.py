"""charset lock: every place that holds the charset is compared with one committed file."""

import json

import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.charset_lock import check_lock, read_lock, write_lock
from nordocr_cli.errors import DataError


def rust_source(characters):
    literals = ", ".join(f"'\\u{{{ord(character):x}}}'" for character in characters)
    return f"pub static CTC_CHARSET: &[char] = &[{literals}];\n"


@pytest.fixture
def lock(tmp_path):
    path = tmp_path / "charset.lock.json"
    write_lock("nordic", path)
    return path


def test_a_lock_holds_the_charset_that_it_was_written_from(lock):
    assert read_lock(lock) == NORDIC


def test_dictionary_rust_array_and_shipped_model_agree_with_the_lock(lock, tmp_path):
    dictionary = tmp_path / "dict.txt"
    dictionary.write_text(NORDIC.to_dict_text(), encoding="utf-8", newline="")
    rust = tmp_path / "charset.rs"
    rust.write_text(rust_source(NORDIC.characters), encoding="utf-8")

    checks = check_lock(lock, [dictionary, rust])

    assert [check.differences for check in checks] == [(), ()]


def test_two_exchanged_characters_are_named_with_their_classes(lock, tmp_path):
    characters = list(NORDIC.characters)
    characters[62], characters[63] = characters[63], characters[62]
    rust = tmp_path / "charset.rs"
    rust.write_text(rust_source(characters), encoding="utf-8")

    (check,) = check_lock(lock, [rust])

    assert len(check.differences) == 2
    assert "63" in check.differences[0]


def test_an_edited_lock_is_refused(lock):
    content = json.loads(lock.read_text(encoding="utf-8"))
    content["characters"] = content["characters"].replace("å", "é")
    lock.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(DataError, match="was edited"):
        read_lock(lock)


def test_the_command_ends_with_3_when_a_file_differs(lock, tmp_path):
    rust = tmp_path / "charset.rs"
    rust.write_text(rust_source(NORDIC.characters[:-1]), encoding="utf-8")

    result = CliRunner().invoke(
        app, ["charset", "lock", "--check", str(lock), "--file", str(rust)]
    )

    assert isinstance(result.exception, DataError)
    assert "differs" in str(result.exception)
