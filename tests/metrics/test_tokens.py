"""Token metrics with an external tokenizer."""

import json
import subprocess
import sys

import pytest

from nordocr_cli.core.eval.plan import EvalRequest, plan
from nordocr_cli.core.eval.result import read_result
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.metrics.score import score_lines
from nordocr_cli.metrics.tokens import open_tokenizer, token_report
from nordocr_cli.records import LineResult


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer of words; a word that it does not know is one token, `?`."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["?", "Summa", "kr", "1", "234", "Lön", "ut"]
    model = tokenizers.models.WordLevel(
        {word: number for number, word in enumerate(words)}, unk_token="?"
    )
    built = tokenizers.Tokenizer(model)
    built.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    built.enable_truncation(2)  # is not applied to what is counted
    built.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def line(reference, hypothesis, language="sv"):
    return LineResult(
        reference, hypothesis=hypothesis, reference=reference, language=language
    )


def test_tokens_are_aligned_and_counted_by_language(tokenizer):
    scores = score_lines(
        [
            line("Summa kr 1 234", "Summa kr 1 234"),
            line("Lön ut", "Lön kr ut"),  # one inserted
            line("Lön 234", "ut", "da"),  # one replaced, one deleted
        ]
    )

    report = token_report(tokenizer, scores)

    assert report.total.reference_tokens == 8
    assert report.total.hypothesis_tokens == 8
    assert report.total.hits == 6
    assert report.total.accuracy == 6 / 8
    assert report.total.precision == 6 / 8
    assert report.total.error_rate == 3 / 8
    assert report.by_language["da"].accuracy == 0
    assert report.by_language["sv"].precision == 6 / 7
    assert report.by_subset == {}


def test_eval_writes_them_and_names_the_tokenizer(tokenizer, tmp_path):
    recording = tmp_path / "lines.jsonl"
    row = {"id": "a", "ref": "Summa kr 1 234", "hyp": "Summa kr 234", "source": "a"}
    recording.write_text(json.dumps(row) + "\n", encoding="utf-8")

    evaluate(str(recording), output=tmp_path / "result", metric_tokenizer=tokenizer.parent)

    tokens = read_result(tmp_path / "result").tokens
    assert tokens is not None
    assert tokens.tokenizer == str(tokenizer)
    assert (tokens.total.accuracy, tokens.total.precision) == (3 / 4, 1.0)
    command = [sys.executable, "-m", "nordocr_cli", "eval", str(recording)]
    done = subprocess.run(
        [*command, "--metric-tokenizer", str(tokenizer)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "75.00 %" in done.stdout
    assert "100.00 %" in done.stdout


def test_a_tokenizer_that_is_not_there_or_damaged_is_refused(tmp_path):
    (tmp_path / "lines.jsonl").write_text("{}\n", encoding="utf-8")
    request = EvalRequest(
        str(tmp_path / "lines.jsonl"), metric_tokenizer=tmp_path / "tokenizer"
    )
    with pytest.raises(UsageError, match=r"no tokenizer\.json.*save_pretrained"):
        plan(request)

    pytest.importorskip("tokenizers")
    damaged = tmp_path / "tokenizer.json"
    damaged.write_text('{"model": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="not a tokenizer"):
        open_tokenizer(damaged)
