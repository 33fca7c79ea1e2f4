"""Wrong labels, planted in a store of rendered sample lines, are found by reading them."""

import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.suspects import SuspectsRequest, run
from nordocr_cli.data.resize import read_image, resize_line
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.decode.likelihood import ctc_log_likelihood, log_softmax
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

SAMPLES = Path(__file__).parents[2] / "samples" / "lines"
PLANTED = 0.02
LOOKED_AT = 0.04


def other_letter(text, rng, _):
    place = rng.choice([i for i, c in enumerate(text) if c.isalnum()])
    return f"{text[:place]}{'x' if text[place] != 'x' else 'k'}{text[place + 1 :]}"


def swapped(text, rng, _):
    place = rng.choice([i for i in range(len(text) - 1) if text[i] != text[i + 1]])
    return f"{text[:place]}{text[place + 1]}{text[place]}{text[place + 2 :]}"


def cut(text, rng, _):
    return text[: max(1, len(text) * 2 // 3)].strip()


def doubled(text, rng, _):
    return f"{text} {text.split()[-1]}"


def of_another_line(text, rng, texts):
    return rng.choice([other for other in texts if other != text])


KINDS = (other_letter, swapped, cut, doubled, of_another_line)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A store in which PLANTED of the labels are wrong, of every kind, and the ids of those
    lines.
    """
    lines = (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if len(row["text"]) > 5]
    texts = [row["text"] for row in rows]
    rng, noise = random.Random(1), np.random.default_rng(1)
    geometry = Geometry()
    total = len(rows)
    wrong = rng.sample(range(total), max(len(KINDS), round(PLANTED * total)))
    path = tmp_path_factory.mktemp("planted") / "lines.lmdb"
    ids = set()
    with LineStoreWriter(path, geometry, NORDIC) as writer:
        for number in range(total):
            row = rows[number]
            image = resize_line(read_image(SAMPLES / row["image"]), geometry)
            image = np.clip(image + noise.normal(0, 4, image.shape), 0, 255).astype(
                np.uint8
            )
            text = row["text"]
            if number in wrong:
                text = KINDS[wrong.index(number) % len(KINDS)](text, rng, texts)
                ids.add(str(number))
            writer.add(image, LineRow(id=str(number), image=row["image"], text=text))
    return path, ids, total


def test_planted_errors_are_among_the_first(planted, tmp_path):
    path, ids, total = planted
    limit = max(round(LOOKED_AT * total), 2 * len(ids))
    output, sheet = tmp_path / "suspects.jsonl", tmp_path / "suspects.png"
    found = run(SuspectsRequest(path, limit=limit, output=output, sheet=sheet, threads=1))
    named = {suspect.row.id for suspect in found.suspects}
    assert len(named & ids) >= 0.9 * len(ids)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in rows] == [suspect.row.id for suspect in found.suspects]
    assert all(row["suggestion"] != row["text"] for row in rows)
    assert cv2.imread(str(sheet)).shape[0] > 32 * len(rows)


def test_a_second_engine_that_agrees_raises_the_suspicion(planted):
    path, _, _ = planted
    alone = run(SuspectsRequest(path, limit=3, threads=1))
    both = run(SuspectsRequest(path, second="nordocr-default", limit=3, threads=1))
    assert both.suspects[0].suspicion == pytest.approx(
        alone.suspects[0].suspicion + 10, abs=0.5
    )
    assert "two engines agree" in both.suspects[0].reasons


def test_a_manifest_is_checked_without_a_store(tmp_path):
    listed = (SAMPLES / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in listed[3:6]]
    for row in rows:
        (tmp_path / row["image"]).parent.mkdir(exist_ok=True)
        (tmp_path / row["image"]).write_bytes((SAMPLES / row["image"]).read_bytes())
    rows[1]["text"] = "an entirely wrong label"
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    found = run(SuspectsRequest(labels, threads=1))

    assert found.suspects[0].row.text == "an entirely wrong label"
    assert (found.lines, found.root) == (3, tmp_path)


def test_the_command_plans_and_refuses(planted, tmp_path):
    path, _, _ = planted
    shown = CliRunner().invoke(app, ["data", "suspects", str(path), "--dry-run"])
    assert "model: nordocr-default" in shown.output
    with pytest.raises(UsageError, match="no line store"):
        run(SuspectsRequest(tmp_path / "nowhere.lmdb"))


def test_the_likelihood_adds_up_every_alignment():
    rng = np.random.default_rng(1)
    frames = log_softmax(rng.normal(size=(4, 3)))
    probability = np.exp(frames)
    for labels in ([], [1], [1, 2], [1, 1], [2, 1, 2]):
        total = 0.0
        for path in np.ndindex(3, 3, 3, 3):
            collapsed = [
                c for n, c in enumerate(path) if c and (n == 0 or c != path[n - 1])
            ]
            if collapsed == labels:
                total += np.prod([probability[t, c] for t, c in enumerate(path)])
        assert np.exp(ctc_log_likelihood(frames, labels)) == pytest.approx(total)
    assert ctc_log_likelihood(frames[:1], [1, 2]) < -1e20
