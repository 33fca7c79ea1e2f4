#!/usr/bin/env python3
"""How long does a browser take to open the HTML report of many wrong lines, and to open it filtered?

    python benchmarks/report.py                            20,000 lines, the saved result
    python benchmarks/report.py --lines 2000 --rounds 1    a first look, nothing saved

Headless Chromium is started on an empty page, on the report, and on the report with a filter in its address, in turns; what the
report takes is the difference of the medians to the empty page. The filter runs in the page's script as it does for a click.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from metrics import lines

from nordocr_cli import atomic
from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_lines
from nordocr_cli.runtime.stopwatch import environment

RESULTS = Path(__file__).parent / "results"
GOAL_S = 2.0
FILTER = "#class=minor&language=da"


def page_of(count: int) -> tuple[str, int]:
    """The report of so many lines that are wrong, without pictures, and how many of them the filter leaves."""
    scores = score_lines([line for line in lines(6 * count) if line.reference != line.hypothesis][:count])
    page = evaluation_page(report_of(scores), gallery_rows(scores), title="many lines", subtitle=f"{count} lines")
    left = sum(score.error_class.value == "minor" and score.result.language == "da" for score in scores)
    return render_page(page), left


def opened(chromium: str, address: str, profile: Path) -> tuple[float, str]:
    """Seconds from the start of the browser until its document stands still, and the document."""
    arguments = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--dump-dom")
    began = time.perf_counter()
    done = subprocess.run(
        [chromium, *arguments, "--disable-dev-shm-usage", f"--user-data-dir={profile}", address],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return time.perf_counter() - began, done.stdout


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="default: results/report.json for a full run, else nothing")
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("chromium is not installed (Debian: apt-get install chromium)")
    html, left = page_of(asked.lines)
    seconds: dict[str, list[float]] = {"empty": [], "opened": [], "filtered": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "empty.html").write_text("<!doctype html><title>empty</title>", encoding="utf-8")
        (folder / "report.html").write_text(html, encoding="utf-8")
        report = (folder / "report.html").as_uri()
        addresses = {"empty": (folder / "empty.html").as_uri(), "opened": report, "filtered": report + FILTER}
        opened(chromium, addresses["empty"], folder / "profile")  # makes the profile
        for _ in range(asked.rounds):
            for what, address in addresses.items():
                spent, document = opened(chromium, address, folder / "profile")
                seconds[what].append(round(spent, 3))
                if what == "filtered":
                    assert f"{left} of {asked.lines} lines" in document, "the filter did not run"
    empty = median(seconds["empty"])
    result = {
        "what": f"the HTML report of {asked.lines} wrong lines ({len(html) / 1e6:.1f} MB) in headless Chromium, seconds",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": environment(None),
        "rounds": asked.rounds,
        "seconds": seconds,
        "report_s": {what: round(median(seconds[what]) - empty, 3) for what in ("opened", "filtered")},
        "goal_s": GOAL_S,
    }
    print(json.dumps(result["report_s"], indent=2))
    full = (asked.lines, asked.rounds) == (parser.get_default("lines"), parser.get_default("rounds"))
    if target := asked.output or (RESULTS / "report.json" if full else None):
        atomic.write_json(target, result)
        print(f"saved {target}")


if __name__ == "__main__":
    main()
