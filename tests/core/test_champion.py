"""A challenger against the champion on the same lines, by document and by group."""

import json
from pathlib import Path

import pytest

from nordocr_cli.core.champion import Judged, champion_rows
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.errors import UsageError
from nordocr_cli.metrics.gates import parse_gate

DOCUMENTS, LINES = 12, 4


@pytest.fixture
def judged(tmp_path):
    """A function that makes two results: `lost` tells which lines the challenger reads wrong."""

    def make(lost):
        results = []
        for name, is_lost in (("champion", lambda d, n: False), ("challenger", lost)):
            rows = []
            for document in range(DOCUMENTS):
                for number in range(LINES):
                    text = f"Rad på {number}"
                    rows.append(
                        {
                            "id": f"{document}-{number}",
                            "ref": text,
                            "hyp": text.replace("å", "a")
                            if is_lost(document, number)
                            else text,
                            "subset": "fax" if number % 2 else "scan",
                            "source": f"d{document}:p:{number}",
                        }
                    )
            path = tmp_path / f"{name}.jsonl"
            path.write_text(
                "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
            )
            results.append(evaluate(str(path)))
        champion, challenger = results
        return Judged(Path("lines.lmdb"), challenger, champion)

    return make


def test_a_challenger_that_loses_in_every_document_is_worse(judged):
    found = judged(lambda document, number: number == 1).compare()
    assert found.total.verdict == "worse"
    assert "worse than the champion" in found.problem()
    verdicts = {group.name: group.comparison.verdict for group in found.groups}
    assert verdicts == {"fax": "worse", "scan": "no difference"}
    (letter,) = found.letters
    assert (letter.letter, letter.champion, letter.challenger) == ("å", 1.0, 0.75)
    assert [row[0] for row in champion_rows(found)] == [
        "all lines",
        "subset fax",
        "subset scan",
        "letter å (recall)",
    ]


def test_losses_in_one_document_are_no_reason_to_refuse(judged):
    found = judged(lambda document, number: document == 0).compare()
    assert found.total.only_a_exact == LINES
    assert found.total.verdict == "no difference shown"
    assert found.problem() == ""


@pytest.mark.parametrize(
    ("gate", "missed"),
    [
        ("cer<=champion+0.3pp", True),
        ("cer<=champion+10pp", False),
        ("subset:scan.cer<=champion", False),
        ("subset:fax.cer<=champion+0.3pp", True),
        ("letter:å.recall>=champion-1pp", True),
        ("letter:å.recall>=0.5", False),
        ("exact>=99%", True),
    ],
)
def test_gates_are_judged_on_the_same_lines(judged, gate, missed):
    side = judged(lambda document, number: number == 1)
    assert (side.missed(parse_gate(gate, required=True)) is not None) is missed


def test_a_gate_on_what_the_lines_lack_is_refused(judged):
    side = judged(lambda document, number: False)
    with pytest.raises(UsageError, match="no letter 'þ'"):
        side.missed(parse_gate("letter:þ.recall>=champion", required=True))
    with pytest.raises(UsageError, match="pp .* relative to the champion"):
        parse_gate("cer<=0.3pp", required=True)
