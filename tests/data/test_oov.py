from pathlib import Path

import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.oov import read_mapping, replace_characters
from nordocr_cli.errors import DataError, UsageError


def test_a_mapping_file(tmp_path: Path) -> None:
    file = tmp_path / "map.tsv"
    file.write_text(
        "# accents\ná\ta\ne\u0301\te\nU+2026\t...\n\n•\t\n#\n", encoding="utf-8"
    )
    mapping = read_mapping(file, NORDIC)
    assert mapping == {"á": "a", "é": "e", "…": "...", "•": ""}
    assert replace_characters("• Så, é… á", mapping) == " Så, e... a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("á a", "expected one character, one tab"),
        ("ab\tc", "expected one character, one tab"),
        ("å\ta", "has 'å'.*needs no replacement"),
        ("á\té", "has no 'é'.*either"),
        ("# nothing\n", "maps no character"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "map.tsv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_mapping(file, NORDIC)
    assert "map.tsv" in str(caught.value)
    with pytest.raises(UsageError, match="no mapping file"):
        read_mapping(tmp_path / "nowhere", NORDIC)
