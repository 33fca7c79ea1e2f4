import json
import tomllib
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.charset import NORDIC
from nordocr_cli.core.advise import _edges, advise, write_advice
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import load_profile
from nordocr_cli.records import LineRow
from nordocr_cli.settings import Engine

WIDTHS = [40] * 30 + [120] * 20 + [600] * 10 + [1700] * 3


@pytest.fixture
def store(tmp_path):
    def write(widths, **extra):
        with LineStoreWriter(
            tmp_path / "lines.lmdb", Geometry(max_width=1792), NORDIC
        ) as writer:
            for number, width in enumerate(widths):
                row = LineRow(str(number), "", "7", extra=extra if width == 1792 else {})
                writer.add(np.full((32, width, 3), 255, np.uint8), row)
        return tmp_path / "lines.lmdb"

    return write


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 64).map(lambda w: 4 * w), min_size=1, max_size=20),
    st.integers(1, 3),
)
def test_edges_give_the_least_padding(widths, count):
    widest, edges = 256, range(32, 256, 32)

    def padded(chosen):
        return sum(min(edge for edge in chosen if width <= edge) for width in widths)

    best = min(
        padded((*few, widest)) for n in range(count) for few in combinations(edges, n)
    )
    found = _edges(np.array(widths), widest, count)
    assert found[-1] == widest
    assert len(found) <= count
    assert list(found) == sorted(set(found))
    assert padded(found) == best


def test_advice_is_an_engine_of_a_profile(store, tmp_path, tiny_onnx):
    advice = advise(store(WIDTHS), "svtrv2-nano", "sm86", 3, tiny_onnx)
    write_advice(advice, tmp_path / "engine.toml")
    engine = Engine.model_validate(
        tomllib.loads((tmp_path / "engine.toml").read_text("utf-8"))["engine"]["sm86"]
    )
    assert engine.precision == "fp16"
    # the profile's columns: 64 lines of 1792 px
    assert (engine.max_width, engine.max_batch) == (1792, 64)
    assert [(band.max_width, band.opt_width) for band in engine.bands] == [
        (128, 120),
        (608, 600),
        (1792, 1700),
    ]
    assert [band.max_batch for band in engine.bands] == [512, 184, 64]
    assert advice.bands.lines == (50, 10, 3)
    assert advice.bands.padded < advice.single.padded
    real, computed = sum(WIDTHS), 50 * 128 + 10 * 608 + 3 * 1792
    assert advice.bands.padded == pytest.approx(1 - real / computed)
    assert advice.single.memory_bytes[0] >= max(advice.bands.memory_bytes)
    written = tmp_path / "own.toml"
    written.write_text('extends = "svtrv2-nano"\n' + advice.to_toml(), encoding="utf-8")
    assert load_profile(str(written)).profile.engine["sm86"].bands == engine.bands


def test_what_the_widths_do_not_say_is_warned_of(store, heard):
    advise(store([64, 1792], squash_ratio=1.5), "svtrv2-1024", "sm89", progress=heard)
    assert [warning.split(":")[0] for warning in heard.warnings] == [
        "profile svtrv2-1024 has no [engine.sm89]; the batches of a 48 GB card are taken",
        "1 lines were wider than the 1792 px of the store",
        "1 lines are wider than the 1024 px of profile svtrv2-1024",
    ]


def test_wrong_advice_requests(store, tmp_path):
    with pytest.raises(DataError, match="holds no lines"):
        advise(store([]))
    path = store([64])
    with pytest.raises(UsageError, match="--bands 9: 1 to 6"):
        advise(path, bands=9)
    with pytest.raises(UsageError, match=r"is a \.toml file"):
        write_advice(advise(path), tmp_path / "x.json")
    done = CliRunner().invoke(app, ["advise", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    advice = json.loads(CliRunner().invoke(app, ["advise", str(path), "--json"]).stdout)
    assert advice["width_quantiles_px"]["p100"] == 64
    assert advice["bands"]["ranges"][0]["lines"] == 1


@pytest.mark.parametrize("content", [b"\x08\x07" + b"\xff" * 1000, b"", b"text"])
def test_a_damaged_model_is_refused(store, tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        advise(store([64]), model=tmp_path / "model.onnx")
