"""Read the rows of requirements, and write them as a document."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROWS = Path(__file__).resolve().parent.parent / "tests" / "requirements" / "rows.txt"
VERDICTS = ("works", "part", "missing", "out of scope")
# Rows of each document: the SVTR pivot, the SVTRv2 guide, the PARSeq notes, the TrOCR playbook,
# MambaOCR, the design card, and the features that no other system has.
COUNTS = {"000": 23, "001": 59, "002": 16, "003": 44, "004": 26, "DC": 4, "F": 26}


@dataclass(frozen=True)
class Row:
    """One requirement: what it asks, the commands that do it, and the tests that show it."""

    number: str
    asks: str
    commands: tuple[str, ...]
    tests: tuple[str, ...]
    verdict: str
    note: str


def read_rows() -> list[Row]:
    """Return the rows in order."""
    rows = []
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        number, asks, commands, tests, verdict, note = line.split("|")
        rows.append(
            Row(
                number=number,
                asks=asks,
                commands=tuple(part.strip() for part in commands.split(";") if part != "-"),
                tests=tuple(name for name in tests.split() if name != "-"),
                verdict=verdict,
                note=note,
            )
        )
    return rows


def markdown(rows: list[Row]) -> str:
    """Return docs/requirements.md."""
    counts = Counter(row.verdict for row in rows)
    total = ", ".join(
        f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict]
    )
    lines = [
        "# Requirements",
        "",
        "What the project's documents ask for, with the command that does it and a test that shows",
        "it. `tests/requirements/` checks that commands and tests exist; this page is generated",
        f"from its rows. {len(rows)} rows: {total}.",
        "",
        "| row | asks for | command | test | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        commands = "<br>".join(f"`{command}`" for command in row.commands)
        tests = "<br>".join(f"`{name}`" for name in row.tests)
        verdict = f"{row.verdict}: {row.note}" if row.note else row.verdict
        lines.append(f"| {row.number} | {row.asks} | {commands} | {tests} | {verdict} |")
    return "\n".join(lines) + "\n"
