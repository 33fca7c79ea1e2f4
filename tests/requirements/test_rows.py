"""Every requirement of the project's documents has a row, and every row that works has its tests.

The documents themselves are not part of the repository: a row quotes what it needs in a few words.
`docs/requirements.md` is generated from the rows.
"""

import re
from collections import Counter
from pathlib import Path

import pytest
import requirement_rows

ROOT = Path(__file__).parents[2]


ROWS = requirement_rows.read_rows()


@pytest.fixture(scope="module")
def names_of_tests():
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found = re.findall(r"^ *def test_(\w+)\(", path.read_text(encoding="utf-8"), re.M)
        names |= set(found)
    return names


def test_every_requirement_has_exactly_one_row():
    numbers = [row.number for row in ROWS]

    assert [number for number, count in Counter(numbers).items() if count > 1] == []
    for document, count in requirement_rows.COUNTS.items():
        assert sum(number.startswith(document) for number in numbers) == count


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_a_row_names_tests_that_exist_and_says_why_where_it_does_not_work(
    row, names_of_tests
):
    assert row.verdict in requirement_rows.VERDICTS
    assert [name for name in row.tests if name not in names_of_tests] == []
    if row.verdict == "works":
        assert row.tests, "a row that works is shown by a test"
    else:
        assert row.note, "a row that does not work says why"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.number)
def test_a_rows_command_exists(row):
    """The first words of each command are a command of the program."""
    import typer.main

    from nordocr_cli.app import app

    root = typer.main.get_command(app)
    for command in row.commands:
        words = command.split()
        if words[0] in ("pip", "import", "--help", "--json"):
            continue

        found = root.commands.get(words[0])
        assert found is not None, f"{words[0]!r} is no command"
        if hasattr(found, "commands") and len(words) > 1:
            assert words[1] in found.commands
