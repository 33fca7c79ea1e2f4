import json
import subprocess
import sys

import pytest

from nordocr_cli.core.bench.result import BenchResult, Row
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.leaderboard import leaderboard
from nordocr_cli.errors import DataError, UsageError

TEXTS = {"a": ("Summa kr 1 234", "sv"), "b": ("Øre", "da"), "c": ("Lön", "sv")}


@pytest.fixture
def result(tmp_path):
    def make(name, **readings):
        recording = tmp_path / f"{name}.jsonl"
        rows = [
            {
                "id": i,
                "ref": text,
                "hyp": readings.get(i, text),
                "language": language,
                "conf": 80,
                "source": i,
            }
            for i, (text, language) in TEXTS.items()
        ]
        recording.write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
        evaluate(str(recording), output=tmp_path / name)
        return tmp_path / name

    return make


def on_store(path, sha256, model=None):
    """Make a result one of a store with these lines."""
    file = path / "eval.json"
    value = json.loads(file.read_text(encoding="utf-8"))
    value["store"] = {"path": "x/lines.lmdb", "content_sha256": sha256}
    value["model"] |= model or {}
    file.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_the_lowest_cer_comes_first(result):
    worse, better = result("worse", b="Ore", c="L"), result("better", b="Ore")
    board = leaderboard([worse, better / "eval.json"])
    assert [row["name"] for row in board.to_json()] == ["better.jsonl", "worse.jsonl"]
    head, _, first, second = board.to_markdown().splitlines()[2:]
    assert "| CER da | CER sv | ECE | MB |" in head
    assert first.startswith("| 1 | better.jsonl (")
    assert "| 66.7 % |" in first
    assert "| 5.00 % |" in first  # one edit of 20 characters
    assert second.startswith("| 2 | worse.jsonl (")
    assert {line.count("|") for line in (head, first, second)} == {15}


def test_only_results_on_the_same_lines_are_ranked_together(result, tmp_path):
    one, two = on_store(result("one"), "aa"), on_store(result("two", b="Ore"), "bb")
    run = {"name": "best.safetensors", "path": "runs/a/best.safetensors"}
    three = on_store(result("three", b="Ore"), "aa", run)
    board = leaderboard([one, two, three], tmp_path / "board.md")
    assert [[entry.name for entry in group] for group in board.groups] == [
        ["one.jsonl", "a"],
        ["two.jsonl"],
    ]
    assert [row["rank"] for row in board.to_json()] == [1, 2, 1]
    assert (tmp_path / "board.md").read_text(encoding="utf-8").count(
        "## `lines.lmdb`: 3 lines"
    ) == 2


def test_recordings_are_ranked_with_those_of_the_same_texts(result, tmp_path):
    first, second = result("first"), result("second", b="Ore")
    (tmp_path / "other.jsonl").write_text(
        "".join(json.dumps({"id": i, "ref": "x", "hyp": "x"}) + "\n" for i in "abc")
    )
    evaluate(str(tmp_path / "other.jsonl"), output=tmp_path / "other")
    groups = leaderboard([first, second, tmp_path / "other"]).groups
    assert [[entry.name for entry in group] for group in groups] == [
        ["first.jsonl", "second.jsonl"],
        ["other.jsonl"],
    ]


def test_the_output_is_none_of_the_results(result):
    path = result("x")
    for output in (path / "eval.json", path / "lines.jsonl"):
        with pytest.raises(UsageError, match="would overwrite the input"):
            leaderboard([path], output)


def test_a_hostile_name_stays_in_its_cell(result):
    path = on_store(result("x"), "aa", {"name": "a|b<script>`\u202e\n", "path": None})
    row = leaderboard([path]).to_markdown().splitlines()[4]
    assert "a\\|b&lt;script>'&lt;U+202E>&lt;U+000A> (" in row


def test_what_is_no_result_is_refused(result, tmp_path):
    with pytest.raises(UsageError, match=r"no result .*nowhere"):
        leaderboard([tmp_path / "nowhere"])
    path = result("x")
    (path / "eval.json").write_text('{"schema": "nordocr.eval/2"}', encoding="utf-8")
    with pytest.raises(
        DataError, match=r"is not a result of `nordocr eval -o` \(KeyError: 'report'\)"
    ):
        leaderboard([path])
    value = {"schema": "nordocr.eval/1", "report": {"schema": "nordocr.report/1"}}
    (path / "eval.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(
        DataError, match="has the format 'nordocr.eval/1' .*score its lines again"
    ):
        leaderboard([path])


def test_the_command(result):
    arguments = [
        sys.executable,
        "-m",
        "nordocr_cli",
        "leaderboard",
        str(on_store(result("one"), "aa")),
        str(result("two")),
    ]
    done = subprocess.run(arguments, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("## `lines.lmdb`: 3 lines")
    assert "2 different sets of lines" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "next: nordocr eval MODEL lines.lmdb --against"
    )


def benched(path, **lines_per_s):
    """Write a bench result with a row for each model."""
    rows = [
        Row(
            name=f"{name}.onnx",
            backend="onnxruntime",
            device="cpu",
            precision="fp32",
            load_s=0.1,
            lines=3,
            lines_per_s=speed,
            latency_p50_ms=1.0,
            runs_s=(1.0,),
            same_text=3,
            exact=3,
        )
        for name, speed in lines_per_s.items()
    ]
    bench = BenchResult(
        source="lines.lmdb", rounds=1, rows=tuple(rows), skipped={}, environment={}
    )
    path.write_text(json.dumps(bench.to_json()), encoding="utf-8")
    return path


def test_efficiency_is_exact_lines_for_time_and_size_against_a_baseline(result, tmp_path):
    paths = []
    for name, megabytes in (("large", 10), ("small", 2), ("untimed", 1)):
        model = tmp_path / f"{name}.onnx"
        model.write_bytes(bytes(megabytes * 1_000_000))
        found = result(name, b="Ore") if name == "small" else result(name)
        about = {"kind": "model", "name": model.name, "path": str(model)}
        paths.append(on_store(found, "aa", about))
    bench = benched(tmp_path / "bench.json", large=100.0, small=150.0)

    board = leaderboard(paths, benches=[bench])

    # large: 100 lines/s, all exact, 10 MB; small: 150 lines/s, two of three exact, 2 MB
    rows = {row["name"]: row for row in board.to_json()}
    assert rows["large.onnx"]["efficiency"] == 1
    assert rows["small.onnx"]["efficiency"] == pytest.approx((150 * 2 / 3 / 2) / (100 / 10))
    assert rows["untimed.onnx"]["efficiency"] is None
    assert "| exact lines/s | efficiency |" in board.to_markdown()
    against_small = leaderboard(paths, benches=[bench], baseline=paths[1])
    assert [row["efficiency"] for row in against_small.to_json()] == [
        pytest.approx(1 / 5),
        None,
        1,
    ]
    with pytest.raises(UsageError, match="--baseline"):
        leaderboard(paths[:1], benches=[bench], baseline=paths[1])
