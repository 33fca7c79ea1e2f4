import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC, NORDIC_EXT
from nordocr_cli.core.eval.plan import EvalRequest, parse_resampler, plan
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.metrics.gates import parse_gate
from nordocr_cli.metrics.report import Report
from nordocr_cli.records import LineRow, Recognition
from nordocr_cli.settings import SvtrV2NanoModel

GEOMETRY = Geometry(max_width=256)
LINES = [
    # id, text, reading, width, language, document
    ("a", "Summa kortfristiga skulder", "Summa kortfristiga sk", 256, "sv", "d1:p1:r1"),
    ("b", "1 234", "1234", 40, "sv", "d1:p1:r2"),
    ("c", "Øre", "Øre", 24, "da", "d2:p1:r1"),
    ("d", "Ørenæs", "Orenæs", 48, "da", "d2:p2:r1"),
]


def planned(model, store=None, **options):
    return plan(EvalRequest(model, store, **options)).to_json()


class Progress:
    def __init__(self):
        self.warnings, self.done = [], 0

    def start(self, label, total=None, unit="lines"):
        pass

    def advance(self, units=1, **fields):
        self.done += units

    def finish(self):
        pass

    def note(self, message):
        pass

    def warn(self, message):
        self.warnings.append(message)


class Scripted:
    """Tells lines apart by the gray level that they were painted with, and records its
    inputs.
    """

    name = "scripted"

    def __init__(self):
        self.calls = []

    def recognize(self, crops, languages=()):
        self.calls.append(([crop.shape[1] for crop in crops], list(languages)))
        return [Recognition(LINES[int(crop[0, 0, 0]) // 10][2], 0.5) for crop in crops]


@pytest.fixture
def make_store(tmp_path):
    def make(name="lines.lmdb", geometry=GEOMETRY, charset=NORDIC, **extra):
        with LineStoreWriter(tmp_path / name, geometry, charset) as writer:
            for index, (identity, text, _, width, language, source) in enumerate(LINES):
                image = np.full((geometry.height, width, 3), index * 10, np.uint8)
                noise = {"degradation": "clean" if index < 3 else "faded"}
                row = LineRow(
                    identity,
                    f"i/{identity}.png",
                    text,
                    language,
                    source=source,
                    extra=noise | extra,
                )
                writer.add(image, row)
        return tmp_path / name

    return make


def record(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def readings():
    return [
        {"image": f"i/{i}.png", "ref": text, "hyp": read, "conf": 90}
        for i, text, read, *_ in LINES
    ]


@pytest.fixture
def weights(tmp_path):
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.models.weights import save_weights

    def make(geometry=GEOMETRY, charset=NORDIC, **fields):
        torch.manual_seed(0)
        model = SvtrV2NanoModel(name="svtrv2-nano", dims=(24, 24, 32), depths=(1, 1, 1))
        network = build_model(model, charset.num_classes)
        path = tmp_path / "run" / "best.safetensors"
        save_weights(
            path,
            network.state_dict(),
            Contract(charset, geometry, model.model_dump(mode="json"), **fields),
        )
        return path

    return make


def test_lines_are_read_narrow_first_and_reported_in_store_order(make_store):
    reader, progress = Scripted(), Progress()
    result = evaluate(
        "scripted", make_store(), batch_size=3, recognizer=reader, progress=progress
    )
    assert reader.calls == [([24, 40, 48], ["da", "sv", "da"]), ([256], ["sv"])]
    assert [(s.result.id, s.error_class.value) for s in result.scores] == [
        ("a", "right_truncation"),
        ("b", "space_only"),
        ("c", "exact"),
        ("d", "minor"),
    ]
    assert progress.done == 4
    assert (result.subset_key, list(result.report.by_subset)) == (
        "degradation",
        ["clean", "faded"],
    )
    assert (result.report.cer_interval.unit, result.report.cer_interval.units) == (
        "source",
        2,
    )
    assert result.store["content_sha256"]


def test_any_key_of_the_rows_can_be_the_subset(make_store):
    result = evaluate(
        "scripted", make_store(kind="row"), subset_key="kind", recognizer=Scripted()
    )
    assert {name: group.lines for name, group in result.report.by_subset.items()} == {
        "row": 4
    }


def test_a_key_that_no_row_has_is_no_subset(make_store, tmp_path):
    with pytest.raises(
        UsageError, match=r"--by 'langage': no line of .* has it; did you mean 'language'"
    ):
        evaluate("x", make_store(), subset_key="langage", recognizer=Scripted())
    with pytest.raises(
        UsageError,
        match=r"--by 'colour': no line of .*r\.jsonl has it; known: conf, hyp, image, ref",
    ):
        evaluate(str(record(tmp_path / "r.jsonl", *readings())), subset_key="colour")


def test_a_gate_on_a_subset_that_is_not_there_is_refused_before_the_lines_are_read(
    make_store,
):
    reader = Scripted()
    with pytest.raises(
        UsageError, match="no subset 'cleen' in this result; did you mean 'clean'"
    ):
        evaluate(
            "scripted",
            make_store(),
            recognizer=reader,
            gates=[parse_gate("subset:cleen.cer>5%")],
        )
    assert reader.calls == []


def test_every_decoder_is_looked_at_before_the_first_one_reads(
    make_store, tiny_onnx, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("opened")

    monkeypatch.setattr("nordocr_cli.runtime.recognizers.open_recognizer", never)
    with pytest.raises(UsageError, match="unknown decoder 'baem'"):
        evaluate(str(tiny_onnx), make_store(), decoder="greedy,baem")


def test_a_recording_is_scored_like_the_reader_itself(make_store, tmp_path):
    store = make_store()
    recording = record(tmp_path / "r.jsonl", *reversed(readings()))
    result = evaluate(recording, store)
    assert result.report == evaluate("scripted", store, recognizer=Scripted()).report
    assert result.matching == {
        "matched": 4,
        "missing": 0,
        "extra": 0,
        "references_differ": 0,
    }
    assert evaluate(recording).report.total.classes == result.report.total.classes


def test_what_a_recording_lacks_or_has_too_much_is_said(make_store, tmp_path):
    rows = [*readings()[1:], {"image": "other.png", "hyp": "x"}]
    rows[0]["ref"] = "1 235"
    progress = Progress()
    result = evaluate(record(tmp_path / "r.jsonl", *rows), make_store(), progress=progress)
    assert result.matching == {
        "matched": 3,
        "missing": 1,
        "extra": 1,
        "references_differ": 1,
    }
    assert [w.partition("r.jsonl: ")[2] for w in progress.warnings] == [
        "1 lines of the store have no hypothesis and count as read empty, e.g. 'a'",
        "1 hypotheses belong to no line of the store and are left out, e.g. 'other.png'",
        "1 lines have another reference in the recording; the store's is used, e.g. 'b'",
    ]
    assert result.report.total.lines == 4
    assert result.scores[0].flags == ("empty_hyp",)
    assert result.scores[1].result.reference == "1 234"


def test_a_recording_of_other_lines_is_refused(make_store, tmp_path):
    with pytest.raises(
        DataError, match=r"no line of .* is in the store: its first is 'x', the store's 'a'"
    ):
        evaluate(record(tmp_path / "r.jsonl", {"id": "x", "hyp": ""}), make_store())
    with pytest.raises(DataError, match="has no reference"):
        evaluate(record(tmp_path / "r.jsonl", {"id": "x", "hyp": ""}))


def test_the_result_is_written_and_read_again(make_store, tmp_path):
    store, recording = make_store(), record(tmp_path / "r.jsonl", *readings())
    result = evaluate(
        recording, store, output=tmp_path / "out", command=("nordocr", "eval")
    )
    assert result.files == (
        str(tmp_path / "out" / "eval.json"),
        str(tmp_path / "out" / "lines.jsonl"),
    )
    value = json.loads((tmp_path / "out" / "eval.json").read_text(encoding="utf-8"))
    assert Report.model_validate(value["report"]) == result.report
    assert value["model"]["sha256"]
    assert value["command"] == ["nordocr", "eval"]
    before = (tmp_path / "out" / "eval.json").read_bytes()
    evaluate(recording, store, output=tmp_path / "out", command=("nordocr", "eval"))
    assert (tmp_path / "out" / "eval.json").read_bytes() == before
    # Its own lines, scored again, give the same figures, with the store and without.
    assert evaluate(str(tmp_path / "out"), store).report == result.report
    assert evaluate(str(tmp_path / "out" / "eval.json")).report == result.report


def test_decoders_are_compared_over_the_same_lines(make_store, weights, tmp_path):
    arguments = {"device": "cpu", "threads": 1, "decoder": "greedy,beam"}
    result = evaluate(
        str(weights()), make_store(), output=tmp_path / "e", against=None, **arguments
    )
    (beam,) = result.ablations
    assert (
        result.model["decoder"],
        beam.decoder,
        beam.total.lines,
        beam.comparison.lines,
    ) == (
        "greedy",
        "beam",
        4,
        4,
    )
    alone = evaluate(str(weights()), make_store(), device="cpu", threads=1, decoder="beam")
    assert (
        tuple(score.result.hypothesis for score in alone.scores) == result.readings["beam"]
    )
    assert alone.report.total == beam.total
    assert beam.differing == sum(
        a.result.hypothesis != b
        for a, b in zip(result.scores, result.readings["beam"], strict=True)
    )
    # All of it follows from the lines that were written.
    again = evaluate(str(tmp_path / "e"))
    assert (again.report, again.ablations) == (result.report, result.ablations)
    assert again.to_json()["calibration"] == result.to_json()["calibration"]
    with pytest.raises(UsageError, match="unknown decoder 'bean': did you mean 'beam'"):
        evaluate(str(weights()), make_store(), decoder="greedy,bean")


def test_what_the_lines_say_is_all_that_a_report_needs(make_store, tmp_path):
    store = make_store("ice.lmdb", GEOMETRY, NORDIC_EXT)
    first = evaluate("scripted", store, recognizer=Scripted(), output=tmp_path / "e")
    lines = (tmp_path / "e" / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    # As if the charset had no a and the lines had been squashed.
    rows = [
        json.loads(line) | {"squash_ratio": 1.3, "flags": ["oov_ref"]} for line in lines
    ]
    again = evaluate(record(tmp_path / "r.jsonl", *rows))
    assert again.report.total.flags["oov_ref"] == 4
    assert again.report.total.rates["exact_ceiling"] == 0
    assert list(again.report.by_squash) == ["<=1.5"]
    assert again.report.total.views == first.report.total.views


def test_a_file_gets_its_lines_beside_it(make_store, tmp_path):
    result = evaluate(
        "scripted", make_store(), recognizer=Scripted(), output=tmp_path / "x.json"
    )
    assert result.files == (str(tmp_path / "x.json"), str(tmp_path / "x.lines.jsonl"))
    (tmp_path / "x.lines.jsonl").write_text(
        '{"id": "a", "hyp": "x", "ref": "x"}\n', encoding="utf-8"
    )
    with pytest.raises(DataError, match=r"is not the file that x\.json was written with"):
        evaluate(str(tmp_path / "x.json"))


def test_two_results_are_compared_line_by_line(make_store, tmp_path):
    rows = readings()[:3]
    rows[0]["hyp"], rows[2]["hyp"], rows[1]["ref"] = rows[0]["ref"], "Ore", "another"
    progress = Progress()
    other = record(
        tmp_path / "other.jsonl", *[row | {"id": row["image"][2]} for row in rows]
    )
    result = evaluate(
        "scripted",
        make_store(),
        recognizer=Scripted(),
        against=Path(other),
        progress=progress,
    )
    against = result.against
    assert (against.gained, against.lost) == (("c",), ("a",))
    assert (
        against.comparison.lines,
        against.only_here,
        against.only_there,
        against.references_differ,
    ) == (2, 1, 0, 1)
    assert "2 lines compared" in progress.warnings[0]
    json.dumps(result.to_json(), allow_nan=False)
    stranger = Path(record(tmp_path / "o.jsonl", {"id": "z", "hyp": ""}))
    with pytest.raises(DataError, match="no line in common"):
        evaluate("scripted", make_store(), recognizer=Scripted(), against=stranger)


def test_a_network_is_read_with_its_contract(make_store, weights):
    path = weights(Geometry(max_width=128), trained_widths=(16, 128))
    progress = Progress()
    result = evaluate(
        str(path.parent),
        make_store(squash_ratio=1.5),
        device="cpu",
        threads=1,
        progress=progress,
    )
    assert (result.model["kind"], result.model["path"]) == ("model", str(path))
    assert result.model["contract"]["charset"]["sha256"] == NORDIC.sha256
    assert [s.result.frames for s in result.scores] == [32, 10, 6, 12]
    # Squashed by prep from 384 to 256 px, and by the network from there to 128.
    assert (result.scores[0].result.width, result.scores[0].result.squash_ratio) == (
        128,
        3.0,
    )
    assert list(result.report.by_width) == ["<=320", "<=768"]
    assert (
        "geometry.max_width: 256 / 128; 1 lines are wider than 128 px and squashed once more"
        in progress.warnings[0]
    )
    assert "1 lines are wider than 128 px, the widest in" in progress.warnings[1]


def test_a_network_for_other_lines_is_refused(make_store, weights):
    with pytest.raises(
        ArtifactError,
        match=r"writes charset 'nordic-ext' .* was made for 'nordic'.*or take nordocr-default,",
    ):
        evaluate(str(weights(charset=NORDIC_EXT)), make_store())
    with pytest.raises(ArtifactError, match=r"geometry\.height: 32 / 48"):
        evaluate(str(weights(Geometry(height=48, max_width=256))), make_store())


def test_another_resampler_is_only_warned_about(make_store, weights):
    progress = Progress()
    evaluate(
        str(weights(Geometry(max_width=256, resampler="corner-bilinear"))),
        make_store(),
        device="cpu",
        progress=progress,
    )
    assert "geometry.resampler: linear / corner-bilinear" in progress.warnings[0]


def test_the_plan_says_what_would_be_done(make_store, tmp_path):
    store, recording = make_store(), record(tmp_path / "r.jsonl", *readings())
    assert planned("tesseract:swe", store)["kind"] == "tesseract"
    found = planned(recording, None, output=tmp_path / "out.json")
    assert (found["kind"], found["writes"]) == (
        "recorded",
        [str(tmp_path / "out.json"), str(tmp_path / "out.lines.jsonl")],
    )
    with pytest.raises(UsageError, match="no recorded result"):
        planned(recording, None, against=tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match=r"a folder or FILE\.json"):
        planned(recording, None, output=tmp_path / "out.jsonl")


@pytest.mark.parametrize(
    ("model", "store", "message"),
    [
        ("tesseract", None, "tesseract needs a line store"),
        ("tesseract", "nowhere.lmdb", "no line store nowhere.lmdb"),
        ("nowhere.jsonl", None, "no recorded result nowhere.jsonl"),
        ("nowhere", None, "no file or run folder nowhere"),
    ],
)
def test_what_is_not_there_is_a_usage_error(model, store, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        planned(model, Path(store) if store else None)


@pytest.fixture
def manifest(tmp_path):
    rng = np.random.default_rng(0)
    for identity, _, _, width, *_ in LINES:
        Image.fromarray(rng.integers(0, 255, (48, width * 3 // 2, 3), dtype=np.uint8)).save(
            tmp_path / f"{identity}.png"
        )
    rows = [
        {"image": f"{i}.png", "text": text, "language": language, "source": source}
        for i, text, _, _, language, source in LINES
    ]
    return Path(record(tmp_path / "m.jsonl", *rows))


def test_a_manifest_is_read_with_the_networks_own_geometry(manifest, weights):
    path = weights(Geometry(max_width=128))
    result = evaluate(str(path), manifest, device="cpu", threads=1)
    assert [(s.result.width, s.result.squash_ratio) for s in result.scores] == [
        (128, 2.0),
        (40, 1.0),
        (24, 1.0),
        (48, 1.0),
    ]
    assert result.store["content_sha256"]
    assert result.store["geometry"]["resampler"] == "linear"
    otherwise = evaluate(
        str(path), manifest, device="cpu", threads=1, resampler="corner-bilinear"
    )
    assert otherwise.store["geometry"]["resampler"] == "corner-bilinear"
    confidences = [
        [s.result.confidence for s in found.scores] for found in (result, otherwise)
    ]
    assert (
        confidences[0] != confidences[1]
    )  # of noise, another resampler makes another picture


def test_a_recognizer_without_a_contract_gets_the_crops_as_they_are(manifest):
    class Sizes:
        name = "sizes"

        def recognize(self, crops, languages=()):
            return [Recognition("x".join(map(str, crop.shape[:2]))) for crop in crops]

    result = evaluate("sizes", manifest, recognizer=Sizes())
    assert [s.result.hypothesis for s in result.scores] == [
        "48x384",
        "48x60",
        "48x36",
        "48x72",
    ]
    assert [s.result.width for s in result.scores] == [256, 40, 24, 48]


def test_options_that_do_not_go_together(manifest, make_store, weights, tmp_path):
    with pytest.raises(UsageError, match="resized already"):
        evaluate(str(weights()), make_store(), resampler="area")
    with pytest.raises(UsageError, match="for networks"):
        evaluate("scripted", manifest, recognizer=Scripted(), resampler="area")
    with pytest.raises(UsageError, match="is a recorded result"):
        evaluate(
            record(tmp_path / "r.jsonl", *readings()), make_store(), check_batches=True
        )
    with pytest.raises(
        UsageError, match="unknown resampler 'corner': did you mean 'corner-bilinear'"
    ):
        parse_resampler("corner")


def test_a_reader_that_looks_at_its_neighbours_is_found_out(make_store):
    class Neighbourly(Scripted):
        def recognize(self, crops, languages=()):
            widest = max(crop.shape[1] for crop in crops)
            read = super().recognize(crops, languages)
            return [
                Recognition(r.text + "." * (widest == 256 and c.shape[1] == 40))
                for r, c in zip(read, crops, strict=True)
            ]

    right = evaluate(
        "scripted", make_store(), recognizer=Scripted(), check_batches=True
    ).batches
    assert (right.lines, right.problem) == (4, "")
    wrong = evaluate(
        "scripted", make_store(), recognizer=Neighbourly(), check_batches=True
    ).batches
    assert wrong.differing == {"together": ("b",), "widest": ("b",), "random": ("b",)}
    assert wrong.problem.startswith(
        "of 4 lines, these read differently than alone: 1 together, e.g. 'b'; 1 widest"
    )


def test_the_page_shows_the_stores_pictures_and_exports_its_rows(make_store, tmp_path):
    result = evaluate(
        "scripted",
        make_store(),
        recognizer=Scripted(),
        page=tmp_path / "report.html",
        crops=1,
    )
    assert result.files == (str(tmp_path / "report.html"),)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    rows = json.loads(
        text.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    )
    assert [row["id"] for row in rows] == ["a", "b", "d"]
    assert [bool(row["png"]) for row in rows] == [True, False, False]
    assert rows[2]["manifest"] == {
        "id": "d",
        "image": "i/d.png",
        "language": "da",
        "source": "d2:p2:r1",
        "degradation": "faded",
        "corrected_from": "Ørenæs",
    }
    assert "By degradation" in text
    assert "3 of 4 lines are not exact, the worst first. Pictures: the worst 1." in text


def test_the_output_is_none_of_the_inputs(make_store, tiny_checkpoint, tmp_path):
    store, run = make_store(), tiny_checkpoint.parent
    for output, page in (
        (store, None),
        (None, store / "data.mdb"),
        (None, tiny_checkpoint),
    ):
        for model in (run, tiny_checkpoint):
            with pytest.raises(UsageError, match="would overwrite the input"):
                planned(str(model), store, output=output, page=page)
    assert planned(str(run), store, output=run / "eval")["writes"] == [
        str(run / "eval" / n) for n in ("eval.json", "lines.jsonl")
    ]
    recording = record(tmp_path / "a.lines.jsonl", *readings())
    with pytest.raises(UsageError, match="would overwrite the input"):
        planned(recording, store, output=tmp_path / "a.json")


def test_lines_that_a_store_could_not_hold_count_as_read_empty(tmp_path):
    with LineStoreWriter(tmp_path / "s.lmdb", GEOMETRY, NORDIC) as writer:
        image = np.full((32, 40, 3), 10, np.uint8)
        writer.add(image, LineRow(id="in", image="in.png", text="1 234", source="d1"))
        writer.leave_out(LineRow(id="out", image="out.png", text="Bokslut", source="d2"))
    heard = Progress()
    result = evaluate(
        "scripted", tmp_path / "s.lmdb", recognizer=Scripted(), progress=heard
    )
    total = result.report.total
    assert (total.lines, total.flags["not_in_store"], total.flags["empty_hyp"]) == (2, 1, 1)
    assert total.metrics["cer"].denominator == len("1 234") + len("Bokslut")
    assert total.value("exact_ceiling") == 0.5
    assert "1 lines did not fit the store's geometry or charset" in heard.warnings[0]


def test_a_nordic_letter_has_gates_of_its_own(make_store):
    result = evaluate("scripted", make_store(), recognizer=Scripted())
    found = result.report, None, result.characters
    assert parse_gate("letter:Ø.recall<0.5").missed(*found) is None
    assert (
        parse_gate("letter:Ø.recall<0.9").missed(*found) == "letter:Ø.recall<0.9: found 0.5"
    )
    with pytest.raises(UsageError, match="no letter 'þ' in this result"):
        parse_gate("letter:þ.recall<0.9").missed(*found)
