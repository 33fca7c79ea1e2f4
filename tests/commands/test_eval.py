import json
import subprocess
import sys

import pytest

ROWS = [
    {
        "id": "a",
        "ref": "Summa kr 1 234",
        "hyp": "Summa kr 1234",
        "language": "sv",
        "width32": 300,
        "source": "d1",
    },
    {
        "id": "b",
        "ref": "Øre",
        "hyp": "Ore",
        "language": "da",
        "width32": 900,
        "source": "d2",
    },
    {
        "id": "c",
        "ref": "Lön",
        "hyp": "Lön",
        "language": "sv",
        "width32": 40,
        "source": "d2",
    },
]


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return str(path)


def nordocr(*args):
    done = subprocess.run(
        [sys.executable, "-m", "nordocr_cli", "eval", *args],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_tables(recording, tmp_path):
    code, out, err = nordocr(recording, "-o", str(tmp_path / "out"), "--against", recording)
    assert code == 0, err
    for expected in (
        "33.3 %",
        "CER micro",
        "by language",
        "right_truncation",
        "⟦Ø→O⟧re",
        "'Ø' U+00D8",
        "no difference",
        "errors by width",
    ):
        assert expected in out
    assert "show differences from about 0.0 pp of exact lines and 0.00 pp of CER on" in err
    assert "bootstrap by source document (2; few, so take them as rough)" in err
    assert err.strip().splitlines()[-1].startswith("next: nordocr eval")
    assert (tmp_path / "out" / "eval.json").is_file()


def test_json_is_all_of_stdout(recording):
    code, out, _ = nordocr(recording, "--json", "-q")
    assert code == 0
    assert json.loads(out)["report"]["total"]["rates"]["exact"] == pytest.approx(1 / 3)


def test_a_missed_gate_is_named(recording):
    code, _, err = nordocr(
        recording,
        "-q",
        "--worst",
        "0",
        "--fail-if",
        "cer>50%",
        "--fail-if",
        "language:da.exact<90%",
    )
    assert code == 4
    assert "quality gate missed: language:da.exact<90%: found 0" in err
    assert "cer>50%" not in err


def test_a_wrong_gate_is_refused_before_any_work(recording, tmp_path):
    code, out, err = nordocr(recording, "-o", str(tmp_path / "out"), "--fail-if", "cre>5%")
    assert (code, out) == (2, "")
    assert "did you mean 'cer'" in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nowhere.jsonl",), 2, "no recorded result"),
        (("tesseract",), 2, "needs a line store"),
        ((".",), 2, "best.safetensors"),
    ],
)
def test_wrong_arguments(args, code, message):
    found, _, err = nordocr(*args)
    assert found == code
    assert message in err


def test_a_dry_run_touches_nothing(recording, tmp_path):
    code, out, _ = nordocr(recording, "-o", str(tmp_path / "out"), "--dry-run", "--json")
    assert (code, json.loads(out)["kind"]) == (0, "recorded")
    assert not (tmp_path / "out").exists()
