#!/usr/bin/env python3
"""How long does a browser take to open the HTML report of many wrong lines, to filter it, and to
search it?

    python benchmarks/report.py                            20,000 lines, the saved result
    python benchmarks/report.py --lines 2000 --rounds 1    a first look, nothing saved

Headless Chromium is driven through its DevTools pipe. `opened` is from the navigation to the second
frame after the page's script ran, `filtered` and `searched` from the change of a control to the
second frame after it, all by the page's own clock.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from metrics import lines
from saving import has_defaults, save

from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_lines
from nordocr_cli.runtime.stopwatch import measurement_environment

GOAL_S = 2.0
CONTROLS = {"filtered": ("[data-facet=class]", "minor"), "searched": ("#search", "fakt")}
FRAMES = (
    "await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));"
)


def page_of(count: int) -> tuple[str, int]:
    """The report of so many lines that are wrong, without pictures, and how many of them are
    `minor`.
    """
    scores = score_lines(
        [line for line in lines(6 * count) if line.reference != line.hypothesis][:count]
    )
    page = evaluation_page(
        report_of(scores),
        gallery_rows(scores),
        title="many lines",
        subtitle=f"{count} lines",
    )
    return render_page(page), sum(score.error_class.value == "minor" for score in scores)


class Browser:
    """Headless Chromium with one tab, spoken to in JSON with a NUL after each message."""

    def __init__(self, chromium: str, profile: Path) -> None:
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        arguments = (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        )
        arguments += ("--disable-dev-shm-usage", "--remote-debugging-pipe")
        self._process = subprocess.Popen(
            # Chromium reads from descriptor 3 and writes to 4.
            [
                "sh",
                "-c",
                f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}',
                chromium,
                *arguments,
                f"--user-data-dir={profile}",
            ],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._unread, self._session = 0, b"", {}
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {
            "sessionId": self._ask("Target.attachToTarget", targetId=target, flatten=True)[
                "sessionId"
            ]
        }
        self._ask("Page.enable")

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            part = os.read(self._from, 1 << 20)
            if not part:
                raise RuntimeError("Chromium ended")
            self._unread += part
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        question = {"id": self._number, "method": method, "params": params} | self._session
        os.write(self._to, json.dumps(question).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def open(self, address: str) -> float:
        """Go there and return the seconds until it is drawn."""
        self._ask("Page.navigate", url="about:blank")
        self._ask("Page.navigate", url=address)
        return self.evaluate(f"{FRAMES} return performance.now() / 1000")

    def evaluate(self, body: str) -> Any:
        """Run the body of an async function when the page has loaded, and return what it
        returns.
        """
        loaded = (
            'if (document.readyState !== "complete") await new Promise(done =>'
            ' addEventListener("load", done));'
        )
        answer = self._ask(
            "Runtime.evaluate",
            expression=f"(async () => {{ {loaded} {body} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"]["value"]

    def close(self) -> None:
        """End the browser."""
        self._ask("Browser.close")
        self._process.wait(30)


def control(selector: str, value: str) -> str:
    """JavaScript that changes a control as a reader does, and returns [seconds until that is drawn,
    what the page says].
    """
    return f"""
        const control = document.querySelector({json.dumps(selector)}), began = performance.now();
        control.value = {json.dumps(value)};
        control.dispatchEvent(new Event("input"));
        {FRAMES}
        const shown = document.getElementById("shown").textContent;
        return [(performance.now() - began) / 1000, shown];"""


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: results/report.json for a full run, else nothing",
    )
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("chromium is not installed (Debian: apt-get install chromium)")
    html, minor = page_of(args.lines)
    seconds: dict[str, list[float]] = {"opened": [], **{what: [] for what in CONTROLS}}
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.html"
        report.write_text(html, encoding="utf-8")
        browser = Browser(chromium, Path(name) / "profile")
        for _ in range(args.rounds):
            seconds["opened"].append(round(browser.open(report.as_uri()), 3))
            for what, (selector, value) in CONTROLS.items():
                spent, shown = browser.evaluate(control(selector, value))
                seconds[what].append(round(spent, 3))
                if what == "filtered":
                    assert shown == f"{minor} of {args.lines} lines", shown
        browser.close()
    result = {
        "what": (
            f"the HTML report of {args.lines} wrong lines ({len(html) / 1e6:.1f} MB) in headless"
            " Chromium, seconds"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(None),
        "rounds": args.rounds,
        "seconds": seconds,
        "report_s": {what: round(median(found), 3) for what, found in seconds.items()},
        "goal_s": GOAL_S,
    }
    print(json.dumps(result["report_s"], indent=2))
    is_standard = has_defaults(parser, args, "lines", "rounds")
    save(result, args.output, "report.json", is_standard=is_standard)


if __name__ == "__main__":
    main()
