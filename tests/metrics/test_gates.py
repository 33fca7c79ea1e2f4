import pytest

from nordocr_cli.errors import UsageError
from nordocr_cli.metrics.gates import Gate, parse_gate, read_expectations, require_countable
from nordocr_cli.metrics.report import build_report
from nordocr_cli.metrics.significance import compare_pairs
from nordocr_cli.records import LineResult

REPORT = build_report(
    [
        LineResult("1", "Summa", "Summa", language="sv", subset="v1.2 noisy", width=200),
        LineResult("2", "Summa kr", "Summa k", language="sv", subset="clean", width=400),
        LineResult("3", "", "", language="xx", width=400),
    ]
)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("cer>0.05", Gate("cer>0.05", "cer", ">", 0.05)),
        (" exact <= 80 % ", Gate("exact <= 80 %", "exact", "<=", 0.8)),
        ("right_truncation>8", Gate("right_truncation>8", "right_truncation", ">", 8.0)),
        (
            "subset:v1.2 noisy.cer>1e-3",
            Gate("subset:v1.2 noisy.cer>1e-3", "cer", ">", 0.001, "subset", "v1.2 noisy"),
        ),
        (
            "width:<=320.exact<.5",
            Gate("width:<=320.exact<.5", "exact", "<", 0.5, "width", "<=320"),
        ),
        ("against.cer>0.5%", Gate("against.cer>0.5%", "against.cer", ">", 0.005)),
    ],
)
def test_gates_are_read(text, gate):
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cer", "write e.g. 'cer>5%'"),
        ("cer=5", "write e.g."),
        ("cre>5%", "unknown metric 'cre'; did you mean 'cer'"),
        ("cer>5", r"cer is a share \(0…1\); did you mean 5%"),
        ("page:3.cer>5%", "write e.g."),
    ],
)
def test_a_gate_that_makes_no_sense_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_gate(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cer>10%", None),
        ("cer>=1%", "cer>=1%: found 0.0769231"),
        ("lines<3", None),
        ("minor>0", "minor>0: found 1"),
        ("language:sv.exact<0.6", "language:sv.exact<0.6: found 0.5"),
        ("width:<=320.cer>0", None),
        ("subset:v1.2 noisy.exact<1", None),
        ("language:xx.cer>5%", "language:xx.cer>5%: there is nothing to count"),
    ],
)
def test_gates_are_held_against_a_report(text, problem):
    assert parse_gate(text).missed(REPORT) == problem


def test_a_group_that_is_not_there_is_an_error():
    with pytest.raises(UsageError, match=r"no language 'se'.*did you mean 'sv'"):
        parse_gate("language:se.cer>5%").missed(REPORT)


def test_a_regression_can_be_a_gate():
    against = compare_pairs([0, 0], [1, 0], [10, 10], [True, True], [False, True])
    assert (
        parse_gate("against.cer>1%").missed(REPORT, against) == "against.cer>1%: found 0.05"
    )
    assert parse_gate("against.exact<-60%").missed(REPORT, against) is None
    with pytest.raises(UsageError, match="--against"):
        parse_gate("against.cer>1%").missed(REPORT)


def test_expectations(tmp_path):
    file = tmp_path / "expect.toml"
    file.write_text(
        'minor = [0, 0]\nexact = [0.6, 0.7]\n"language:sv.cer" = [0, 0.08]\n',
        encoding="utf-8",
    )
    missed = [gate.missed(REPORT) for gate in read_expectations(file)]
    assert [problem for problem in missed if problem] == ["minor>0: found 1"]


@pytest.mark.parametrize(
    "content",
    [
        "exact = 0.7",
        "exact = [0.7]",
        'exact = ["a", "b"]',
        "exakt = [0, 1]",
        "exact =",
        "exact = [0.9, 0.8]",
        "# nothing",
    ],
)
def test_bad_expectations_name_the_file(tmp_path, content):
    file = tmp_path / "expect.toml"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"expect\.toml"):
        read_expectations(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subset:nosy.cer>5%", "no subset 'nosy' in this result; did you mean 'noisy'"),
        ("language:no.cer>5%", "no language 'no' in this result"),
        ("width:<=321.cer>5%", "no width '<=321' in this result; did you mean '<=320'"),
        ("against.cer>1%", "give the other one with --against"),
    ],
)
def test_what_can_never_be_counted_is_said_before_the_lines_are_read(text, message):
    lines = [
        LineResult("1", "Summa", "", language="sv", subset="noisy"),
        LineResult("2", "Lön", "", language="sv"),
    ]
    known = [
        "subset:noisy.cer>5%",
        "subset:(none).cer>5%",
        "width:>1792.cer>5%",
        "squash:fits.cer>5%",
        "lines<3",
    ]
    require_countable([parse_gate(gate) for gate in known], lines, compared=False)
    with pytest.raises(UsageError, match=message):
        require_countable([parse_gate(text)], lines, compared=False)
    require_countable([parse_gate("against.cer>1%")], lines, compared=True)
