"""The demo's closing table reads what eval writes. The demo itself runs in CI."""

import importlib.util
from pathlib import Path

from nordocr_cli.atomic import write_json
from nordocr_cli.metrics.report import build_report
from nordocr_cli.records import LineResult

ROOT = Path(__file__).parent.parent


def test_reading_says_cer_and_exact(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("demo", ROOT / "scripts" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "ROOT", tmp_path)
    report = build_report(
        [LineResult("a", "Belopp", "Belopp"), LineResult("b", "Summa", "Sumna")]
    )
    (tmp_path / "demo").mkdir()
    write_json(tmp_path / "demo" / "after.json", {"report": report.to_json()})
    assert demo.quality("after.json") == "CER 9.09 %, exact 1 of 2 (50.0 %)"
