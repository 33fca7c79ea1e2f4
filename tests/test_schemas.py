"""What eval, bench and compare3way write is what docs/*.schema.json say, judged by a validator that
is not ours.
"""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from nordocr_cli.core.bench.run import bench
from nordocr_cli.core.compare3way.files import Outputs
from nordocr_cli.core.compare3way.plan import ReferenceSource
from nordocr_cli.core.compare3way.readings import ReadingSource
from nordocr_cli.core.compare3way.run import compare3way
from nordocr_cli.core.eval.run import evaluate

ROOT = Path(__file__).parents[1]
TIFF, TRUTH = (
    ROOT / "samples" / "doc" / "dev_doc.tif",
    ROOT / "samples" / "doc" / "dev_doc.json",
)
SAVED = sorted((ROOT / "benchmarks" / "results").glob("*-on-*dev.json"))


def validator(name):
    schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def assert_valid(name, path):
    value = json.loads(Path(path).read_text(encoding="utf-8"))
    errors = [
        f"{error.json_path}: {error.message}"
        for error in validator(name).iter_errors(value)
    ]
    assert errors == []
    # nothing that the schema does not explain
    assert set(value) <= set(validator(name).schema["properties"])
    return value


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_results_of_earlier_versions_are_valid_still(path):
    assert_valid("eval", path)


def test_an_evaluation(tmp_path):
    rows = [
        {
            "id": "a",
            "ref": "Ær 1 234",
            "hyp": "Aer 1234",
            "conf": 0.4,
            "width": 80,
            "readings": {"beam": "Ær 1 234"},
        },
        {
            "id": "b",
            "ref": "",
            "hyp": "x",
            "conf": 0.9,
            "width": 40,
            "readings": {"beam": ""},
        },
        {
            "id": "c",
            "ref": "Sum",
            "hyp": "Sum",
            "conf": 0.8,
            "width": 2000,
            "readings": {"beam": "Sum"},
        },
    ]
    recorded = tmp_path / "a.jsonl"
    recorded.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    evaluate(str(recorded), output=tmp_path / "first")
    evaluate(str(recorded), output=tmp_path / "second", against=tmp_path / "first")
    value = assert_valid("eval", tmp_path / "second" / "eval.json")
    assert value["against"]
    assert value["ablations"]
    assert value["calibration"]
    for break_it in (
        lambda v: v["report"]["total"].pop("classes"),
        lambda v: v["report"]["total"]["rates"].update(exact=1.5),
        lambda v: v["lines"].update(sha256="?"),
        lambda v: v.update(schema="nordocr.eval/9"),
    ):
        broken = copy.deepcopy(value)
        break_it(broken)
        assert not validator("eval").is_valid(broken)


def test_a_bench(tiny_onnx, tmp_path):
    output = tmp_path / "bench.json"
    options = {
        "document": TIFF,
        "regions": TRUTH,
        "limit": 3,
        "rounds": 1,
        "single_lines": 1,
        "threads": 1,
        "output": output,
    }
    bench([str(tiny_onnx)], grid=((1,), (32,)), **options)
    bench(
        [str(tiny_onnx)], baseline=output, **options | {"output": tmp_path / "again.json"}
    )
    assert assert_valid("bench", output)["grid"]
    value = assert_valid("bench", tmp_path / "again.json")
    assert [verdict["verdict"] for verdict in value["verdicts"]] == ["inconclusive"] * 2
    value["rows"][0]["lines"] = "3"
    assert not validator("bench").is_valid(value)


def test_a_comparison(tmp_path):
    side = ReadingSource(result=TRUTH)
    outputs = Outputs(tmp_path / "two.json")
    value = compare3way(TIFF, side, side, ReferenceSource(), outputs=outputs)
    assert assert_valid("compare3way", outputs.result)["outcomes"] == dict.fromkeys(
        value.verdict.outcomes, 0
    )
    outputs = Outputs(tmp_path / "three.json", open_lines=tmp_path / "open.tsv")
    answers = tmp_path / "vlm.jsonl"
    answers.touch()
    compare3way(
        TIFF,
        side,
        side,
        ReferenceSource(truth=TRUTH, answers=answers, model="a model"),
        outputs=outputs,
    )
    value = assert_valid("compare3way", outputs.result)
    assert value["vlm_answers"]["status"] == {"unanswered": 448}
    value["engines"].pop()
    assert not validator("compare3way").is_valid(value)
