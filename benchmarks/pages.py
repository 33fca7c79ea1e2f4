#!/usr/bin/env python3
"""How many words of a page are found, in what order, and how fast: nordocr next to Tesseract,
OCRmyPDF and RapidOCR.

    python benchmarks/pages.py --peers VENV/bin            everything, hours on a busy machine
    python benchmarks/pages.py --conditions upright,+2     some conditions, nordocr alone
    python benchmarks/pages.py --every 6 --peers VENV/bin  every sixth page

scripts/generate.py makes the tables of docs/pages.md from the saved result. The table of seconds
takes the rows of `quiet_run` where the file has them: runs on a machine without other work.

Pages: samples/doc, 42 pages that benchmarks/page_layouts.py lays out, and folders of page images
with `--cases FOLDER` (read by nordocr only, without a truth: lines, doubts and seconds). VENV holds
`pip install rapidocr ocrmypdf img2pdf`. Each program reads the same files of a condition in one
call, two threads at most; seconds are those of the processor, which other programs on the machine
change little.

- found: share of the words of the page that were read, as a bag of words; precision: share of the
  words read that are on the page.
- order: of neighbouring lines of the page, the share between which no other line is read.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from page_layouts import CONDITIONS, Scan, pages, under
from PIL import Image

from nordocr_cli import atomic
from nordocr_cli.data.documents import read_pages
from nordocr_cli.runtime.stopwatch import measurement_environment

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "pages.json"
LANGUAGES = "swe+nor+dan+isl"
RAPIDOCR = """
import json, logging, sys
logging.disable(50)
from rapidocr import RapidOCR
engine = RapidOCR(params={"EngineConfig.onnxruntime.intra_op_num_threads": 2})
for path in sys.argv[1:]:
    read = engine(path)
    print(json.dumps(list(read.txts or ())))
"""

# Writes the processor seconds, the seconds and the peak of memory in kB as the last line of stderr.
STARTER = """
import os, resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.run(sys.argv[1:]).returncode
seconds = time.perf_counter() - began
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print("\\n", usage.ru_utime + usage.ru_stime, seconds, usage.ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@dataclass
class Run:
    """What a program read of each page, in lines, and what it cost."""

    texts: list[list[str]]
    cpu_s: float
    wall_s: float
    peak_mb: float


def sample_document() -> list[Scan]:
    """The five pages of the sample document."""
    truth = json.loads((ROOT / "samples/doc/dev_doc.json").read_text(encoding="utf-8"))
    found = []
    for page, pixels in zip(
        truth["pages"], read_pages(ROOT / "samples/doc/dev_doc.tif"), strict=True
    ):
        lines = tuple(region["text"] for region in page["regions"])
        name = f"sample-{page['page']}"
        found.append(Scan(name, "sample-300", pixels[:, :, 0], lines, (300, 300)))
    return found


def main() -> None:
    """Measure, print a table, save the result."""
    options = _options()
    scans = [*sample_document()[:: options.every], *pages(options.every)]
    result = _begun(options, len(scans))
    for condition in options.conditions.split(","):
        missing = _missing(result, condition, options.engines.split(","))
        if not missing:
            continue
        with tempfile.TemporaryDirectory(prefix="nordocr-pages-") as folder:
            files = _write_pages(scans, condition, Path(folder))
            for engine in missing:
                run = ENGINES[engine](files, options.peers, Path(folder))
                row = _scored(engine, condition, scans, run)
                result["runs"].append(row)
                print(_line(row), flush=True)
                atomic.write_json(options.output, result)
    if options.cases:
        result["cases"] = _cases(options.cases)
        atomic.write_json(options.output, result)


def _begun(options: argparse.Namespace, pages_count: int) -> dict[str, Any]:
    """Return the result to add to: with --append the saved one, if it is of as many pages."""
    result: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(2),
        "note": options.note,
        "pages": pages_count,
        "runs": [],
    }
    if not (options.append and options.output.exists()):
        return result
    saved = json.loads(options.output.read_text(encoding="utf-8"))
    if saved["pages"] != pages_count:
        raise SystemExit(
            f"{options.output} is of {saved['pages']} pages, not {pages_count}"
        )
    result["runs"] = saved["runs"]
    if "quiet_run" in saved:
        result["quiet_run"] = saved["quiet_run"]
    result["note"] = options.note or saved["note"]
    return result


def _missing(result: dict[str, Any], condition: str, engines: Sequence[str]) -> list[str]:
    """Return the programs that have not read the pages under this condition yet."""
    done = {run["engine"] for run in result["runs"] if run["condition"] == condition}
    return [engine for engine in engines if engine not in done]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--conditions", default=",".join(CONDITIONS))
    parser.add_argument("--engines", default="", help="Default: nordocr, with --peers all.")
    parser.add_argument("--peers", type=Path, help="bin folder with ocrmypdf and rapidocr")
    parser.add_argument("--every", type=int, default=1, help="take every Nth page")
    parser.add_argument("--cases", type=Path, help="folder with pages-* folders of images")
    parser.add_argument(
        "--append",
        action="store_true",
        help="keep the runs of the saved file and measure what is missing",
    )
    parser.add_argument(
        "--note", default="", help="about the machine, saved with the result"
    )
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    options.engines = options.engines or ",".join(ENGINES if options.peers else ["nordocr"])
    return options


def _write_pages(scans: Sequence[Scan], condition: str, folder: Path) -> list[Path]:
    """The pages under a condition as PNG files with their resolution."""
    files = []
    for number, scan in enumerate(scans):
        pixels = under(scan.pixels, condition, scan.dpi, number)
        dpi = scan.dpi[::-1] if condition in ("90", "270") else scan.dpi
        image = Image.fromarray(pixels)
        if set(np.unique(pixels).tolist()) <= {0, 255}:
            image = image.convert("1")
        files.append(folder / f"{number:03}.png")
        image.save(files[-1], dpi=dpi)
    return files


# The programs --------------------------------------------------------------------------------


def read_nordocr(files: Sequence[Path], _peers: Path | None, folder: Path) -> Run:
    """This project's `predict`, two threads."""
    command = [sys.executable, "-m", "nordocr_cli", "predict", *map(str, files)]
    command += ["--layout", "page", "--jsonl", "--threads", "2", "-q"]
    output, cost = _measured(command, folder, env={"PYTHONPATH": str(ROOT)})
    texts: dict[str, list[str]] = defaultdict(list)
    for line in output.splitlines():
        record = json.loads(line)
        texts[Path(record["image"]).name].append(record.get("text", ""))
    return Run([texts[file.name] for file in files], *cost)


def read_tesseract(files: Sequence[Path], _peers: Path | None, folder: Path) -> Run:
    """The program tesseract with its own layout analysis; its second thread mostly waits."""
    (folder / "list.txt").write_text("".join(f"{file}\n" for file in files))
    command = ["tesseract", str(folder / "list.txt"), "-", "-l", LANGUAGES, "--psm", "3"]
    output, cost = _measured(command, folder, env={"OMP_THREAD_LIMIT": "1"})
    return Run(_by_page(output, len(files)), *cost)


def read_ocrmypdf(files: Sequence[Path], peers: Path | None, folder: Path) -> Run:
    """OCRmyPDF with --rotate-pages --deskew, two jobs."""
    assert peers is not None
    pdf, text = folder / "in.pdf", folder / "text.txt"
    subprocess.run([peers / "img2pdf", *files, "-o", pdf], check=True, timeout=600)
    command = [
        str(peers / "ocrmypdf"),
        "-l",
        LANGUAGES,
        "--rotate-pages",
        "--deskew",
        "-j",
        "2",
    ]
    command += [
        "--output-type",
        "pdf",
        "--sidecar",
        str(text),
        str(pdf),
        str(folder / "out.pdf"),
    ]
    environment = {"PATH": f"{peers}:{os.environ['PATH']}", "OMP_THREAD_LIMIT": "1"}
    _, cost = _measured(command, folder, env=environment)
    return Run(_by_page(text.read_text(encoding="utf-8"), len(files)), *cost)


def read_rapidocr(files: Sequence[Path], peers: Path | None, folder: Path) -> Run:
    """RapidOCR's pipeline: detector, classifier, recognizer, two threads."""
    assert peers is not None
    command = [str(peers / "python"), "-c", RAPIDOCR, *map(str, files)]
    output, cost = _measured(command, folder, env={})
    return Run([json.loads(line) for line in output.splitlines()], *cost)


ENGINES = {
    "nordocr": read_nordocr,
    "tesseract": read_tesseract,
    "ocrmypdf": read_ocrmypdf,
    "rapidocr": read_rapidocr,
}


def _measured(
    command: Sequence[str], folder: Path, env: dict[str, str]
) -> tuple[str, tuple[float, float, float]]:
    """Run a program; return its output, and its processor seconds, seconds and peak memory in MB.

    Memory is that of its largest process. A small process starts the program: a new process counts
    the memory of the one that it was started from as its own peak.
    """
    target, messages = folder / "stdout", folder / "stderr"
    starter = [sys.executable, "-S", "-c", STARTER, *map(str, command)]
    with target.open("wb") as output, messages.open("wb") as errors:
        done = subprocess.run(
            starter, stdout=output, stderr=errors, env=os.environ | env, check=False
        )
    said = messages.read_text(encoding="utf-8", errors="replace")
    if done.returncode not in (0, 3):
        raise SystemExit(f"{command[0]} failed: {said[-500:]}")
    cpu, wall, peak_kb = map(float, said.splitlines()[-1].split())
    return target.read_text(encoding="utf-8"), (cpu, wall, peak_kb / 1024)


def _by_page(output: str, count: int) -> list[list[str]]:
    """Lines by page of a text in which form feeds end pages."""
    parts = output.split("\f")[:count]
    parts += [""] * (count - len(parts))
    return [[line for line in part.splitlines() if line.strip()] for part in parts]


# Scores --------------------------------------------------------------------------------------


def _scored(engine: str, condition: str, scans: Sequence[Scan], run: Run) -> dict[str, Any]:
    """One row of the result: counts over all pages and by kind of page."""
    kinds: dict[str, Counter[str]] = defaultdict(Counter)
    by_page = {}
    for scan, lines in zip(scans, run.texts, strict=True):
        counts = page_counts(scan.lines, lines)
        kinds[scan.kind] += counts
        by_page[scan.name] = _rates(counts)
    total = sum(kinds.values(), Counter())
    return {
        "engine": engine,
        "condition": condition,
        **_rates(total),
        "words": total["words"],
        "pages": len(scans),
        "cpu_s_per_page": round(run.cpu_s / len(scans), 3),
        "wall_s_per_page": round(run.wall_s / len(scans), 3),
        "peak_mb": round(run.peak_mb),
        "kinds": {kind: _rates(counts) for kind, counts in sorted(kinds.items())},
        "by_page": by_page,
    }


def page_counts(truth: Sequence[str], lines: Sequence[str]) -> Counter[str]:
    """Count the words of a page, those found and read, neighbouring lines and those in order."""
    expected = Counter(word for line in truth for word in line.split())
    read = Counter(word for line in lines for word in line.split())
    neighbours, in_order = order_counts(truth, lines)
    return Counter(
        words=expected.total(),
        found=(expected & read).total(),
        read=read.total(),
        neighbours=neighbours,
        in_order=in_order,
    )


def order_counts(truth: Sequence[str], lines: Sequence[str]) -> tuple[int, int]:
    """Return how many pairs of neighbouring lines can be placed, and how many are in order.

    A line is placed by its words that stand once on the page and were read once; a pair is in order
    when its second line follows the first and no third line lies between.
    """
    expected = Counter(word for line in truth for word in line.split())
    stream = [word for line in lines for word in line.split()]
    seen = Counter(stream)
    position = {word: at for at, word in enumerate(stream) if seen[word] == 1}
    places = []
    for line in truth:
        at = [position[w] for w in line.split() if expected[w] == 1 and w in position]
        if at:
            places.append(float(np.median(at)))
    ranks = np.argsort(np.argsort(places, kind="stable"), kind="stable")
    return max(0, len(places) - 1), int((np.diff(ranks) == 1).sum())


def _rates(counts: Counter[str]) -> dict[str, float]:
    return {
        "found": round(counts["found"] / max(1, counts["words"]), 4),
        "precision": round(counts["found"] / max(1, counts["read"]), 4),
        "order": round(counts["in_order"] / max(1, counts["neighbours"]), 4),
    }


def _line(row: dict[str, Any]) -> str:
    shares = " ".join(f"{name} {row[name]:.2%}" for name in ("found", "precision", "order"))
    cost = f"{row['cpu_s_per_page']:.2f} cpu s, {row['wall_s_per_page']:.2f} s a page"
    return f"{row['condition']:8} {row['engine']:10} {shares}  {cost}, {row['peak_mb']} MB"


def _cases(folder: Path) -> list[dict[str, Any]]:
    """What is read of page images without a truth: lines, mean confidence, doubts, seconds."""
    from nordocr_cli.core.predict.run import open_reader

    reader = open_reader(threads=2)
    rows = []
    for path in sorted(folder.glob("pages-*/*")):
        if path.suffix not in (".png", ".tif", ".jpg"):
            continue
        began = time.process_time()
        read = list(reader.read([path]))
        lines = [line.reading for page in read for line in page.lines]
        sure = [reading.confidence or 0.0 for reading in lines]
        rows.append(
            {
                "page": f"{path.parent.name}/{path.name}",
                "lines": len(lines),
                "confidence": round(sum(sure) / len(sure), 3) if sure else None,
                "doubts": [doubt for page in read for doubt in page.doubts],
                "cpu_s": round(time.process_time() - began, 2),
            }
        )
    return rows


if __name__ == "__main__":
    if shutil.which("tesseract") is None:
        print("tesseract is not installed: it is left out", file=sys.stderr)
        ENGINES.pop("tesseract")
    main()
