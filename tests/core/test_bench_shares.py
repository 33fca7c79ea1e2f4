"""Shares of the peak, and which lines an external program's exact readings are of."""

import pytest

from nordocr_cli.core.bench.network import peak_gflops, share_of_peak
from nordocr_cli.core.bench.result import BenchResult, Row
from nordocr_cli.core.bench.tables import rows
from nordocr_cli.core.compare3way.readings import network_source
from nordocr_cli.errors import UsageError


def test_a_share_is_of_the_formats_peak_and_never_above_one():
    peaks = {"fp32": 100.0, "bf16": 400.0}
    assert share_of_peak(194.0, peaks, "bf16") == pytest.approx(0.485)
    assert share_of_peak(194.0, peaks, "fp32") == 1.0
    assert share_of_peak(50.0, peaks, "") == 0.5
    assert share_of_peak(50.0, peaks, "int8") is None


def test_the_peak_is_measured_in_each_format():
    assert all(peak_gflops("cpu", 1, precision) > 0 for precision in ("fp32", "bf16"))


def test_as_served_needs_a_model(tmp_path):
    assert network_source(None, as_served=True).as_served
    result = tmp_path / "result.json"
    result.write_text("{}")
    with pytest.raises(UsageError, match="is a result that was read already"):
        network_source(str(result), as_served=True)


def test_exact_readings_of_a_limited_truth_are_shown_of_that_truth():
    row = Row(
        name="host",
        backend="external",
        device="",
        precision="",
        load_s=0.0,
        lines=448,
        lines_per_s=10.0,
        latency_p50_ms=None,
        runs_s=(1.0,),
        same_text=None,
        same_weights=None,
        exact=40,
        compared=40,
    )
    result = BenchResult(
        source="doc.tif", rounds=1, reference=None, rows=(row,), skipped={}, environment={}
    )
    assert rows(result)[0][-1] == "40/40"
