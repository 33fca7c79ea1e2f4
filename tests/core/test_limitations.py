"""report limitations: the groups that a recognizer reads badly, from saved results alone."""

import json

import pytest

from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.limitations import read_limitations, write_limitations
from nordocr_cli.errors import DataError, UsageError


@pytest.fixture
def result(tmp_path):
    """A result in which every Danish line lost its end and every Swedish line is right."""
    recording = tmp_path / "recorded.jsonl"
    rows = []
    for number in range(40):
        text = f"Summa tillgångar {number}"
        rows.append(
            {"id": f"sv{number}", "ref": text, "hyp": text, "language": "sv", "source": "a"}
        )
        rows.append(
            {
                "id": f"da{number}",
                "ref": text,
                "hyp": text[:9],
                "language": "da",
                "source": "b",
            }
        )
    rows.append(
        {"id": "is0", "ref": "Alls", "hyp": "Alls", "language": "is", "source": "c"}
    )
    recording.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    evaluate(str(recording), output=tmp_path / "result")
    return tmp_path / "result"


def by_name(found):
    return {group.name: group for group in found.groups if group.grouping == "language"}


def test_a_weak_language_is_named_with_its_kind_of_error(result):
    groups = by_name(read_limitations(result))

    assert groups["da"].is_weak
    assert groups["da"].failures[0] == ("right_truncation", 40)
    assert not groups["sv"].is_weak
    assert groups["sv"].exact == 1.0


def test_a_language_with_few_lines_is_said_to_be_too_small(result):
    assert by_name(read_limitations(result))["is"].remark() == (
        "fewer than 30 lines: too few to tell"
    )


def test_the_page_names_its_source_and_escapes_what_comes_from_files(result, tmp_path):
    file = result / "eval.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    value["model"]["name"] = "a | <script>"
    file.write_text(json.dumps(value), encoding="utf-8")
    page = tmp_path / "limitations.md"

    write_limitations([result], page)

    text = page.read_text(encoding="utf-8")
    assert "a \\| &lt;script>" in text
    assert "eval.json" in text
    assert "| language | da | 40 |" in text


def test_another_file_is_refused(tmp_path):
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")

    with pytest.raises(DataError, match="not a result of"):
        read_limitations(other)


def test_a_result_is_not_overwritten_by_the_page(result):
    with pytest.raises(UsageError):
        write_limitations([result], result / "eval.json")
