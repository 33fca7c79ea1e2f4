#!/usr/bin/env python3
"""Which recognizer reads which lines best: ours, Tesseract with small and large models, PP-OCR.

    python benchmarks/recognizers.py rendered=samples/lines/manifest.jsonl
    python benchmarks/recognizers.py real/manifest.jsonl --old nordocr-1.safetensors \
        --tesseract-best tessdata -o benchmarks/results/recognizers-real.json

Lines are grouped by the name before the manifest, or by the key `kind` of their rows (typewriter,
print, receipt), and intervals are drawn by document. `in_nordic` are the lines that 126 classes can
write, where the rows say so with a key of that name. A row with `case: folded` has a label in
capitals whatever the print is: both texts are compared in capitals. `figures` are the lines without
a letter. Each recognizer reads one line after the other on one thread; rates are lines a second of
processor time, from decoded pixels to text, without opening models.

| recognizer | needs |
|---|---|
| nordocr-default, and --old | nothing |
| greedy: nordocr-default without its language model | nothing |
| tesseract | the program or its library, with the language of every line |
| tesseract-best | --tesseract-best FOLDER of traineddata files; lines are scaled to 48 px |
| ppocr | `pip install rapidocr` (and onnxruntime): its wheel holds PP-OCRv6 small |
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nordocr_cli.data.resize import read_image
from nordocr_cli.metrics.calibration import calibrate
from nordocr_cli.metrics.group import Group
from nordocr_cli.metrics.report import build_report
from nordocr_cli.records import LineResult
from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract
from nordocr_cli.runtime.backends.tesseract.recognizer import TesseractRecognizer
from nordocr_cli.runtime.protocols import Image
from nordocr_cli.runtime.recognizers import open_recognizer
from nordocr_cli.runtime.stopwatch import measurement_environment

TESSERACT_NAMES = {
    "sv": "swe", "no": "nor", "nn": "nor", "nb": "nor", "da": "dan", "is": "isl", "en": "eng",
    "de": "deu", "ge": "deu", "fr": "fra", "es": "spa", "it": "ita", "cs": "ces", "sk": "slk",
}  # fmt: skip
TALL_PX = 48  # Tesseract's best models read lines of this height best
AT_ONCE = 64

Reading = tuple[str, float | None]
Read = Callable[[Sequence[Image], Sequence[str]], list[Reading]]


@dataclass(frozen=True)
class Line:
    """A line to read and what it says."""

    id: str
    image: Path
    text: str
    language: str
    kind: str
    document: str
    folded: bool
    in_nordic: bool


def read_lines(named: str) -> list[Line]:
    """Read the rows of `[KIND=]MANIFEST`, a JSONL manifest."""
    kind, _, path = named.rpartition("=")
    manifest = Path(path)
    lines: list[Line] = []
    for number, written in enumerate(manifest.read_text(encoding="utf-8").splitlines()):
        row = json.loads(written)
        lines.append(
            Line(
                id=f"{kind or manifest.parent.name}:{number}",
                image=manifest.parent / row["image"],
                text=row["text"],
                language=row.get("language", ""),
                kind=kind or row.get("kind", ""),
                document=row.get("document") or row.get("source", ""),
                folded=row.get("case") == "folded",
                in_nordic=row.get("in_nordic", True),
            )
        )
    return lines


def network(model: str, decoder: str = "auto") -> Read:
    """Return what reads lines with one of our models."""
    recognizer = open_recognizer(model, device="cpu", threads=1, decoder=decoder)

    def read(crops: Sequence[Image], languages: Sequence[str]) -> list[Reading]:
        found = recognizer.recognize(crops, languages)
        return [(reading.text, reading.confidence) for reading in found]

    return read


def tesseract(data: Path | None = None) -> Read:
    """Return what reads lines with Tesseract, each in its own language; `data` is a folder of
    other models, for which lines are scaled up."""
    installed = find_tesseract()
    if data is not None:
        names = frozenset(file.stem for file in data.glob("*.traineddata"))
        installed = replace(installed, data=data, languages=names)
    opened: dict[str, TesseractRecognizer] = {}

    def read(crops: Sequence[Image], languages: Sequence[str]) -> list[Reading]:
        readings: list[Reading] = [("", None)] * len(crops)
        for language in sorted(set(languages)):
            name = TESSERACT_NAMES[language]
            if name not in opened:
                opened[name] = TesseractRecognizer(name, 1, installed)
            ids = [index for index, other in enumerate(languages) if other == language]
            of_language = [
                _tall(crops[index]) if data is not None else crops[index] for index in ids
            ]
            for index, reading in zip(
                ids, opened[name].recognize(of_language), strict=True
            ):
                readings[index] = reading.text, reading.confidence
        return readings

    return read


def _tall(crop: Image) -> Image:
    height, width = crop.shape[:2]
    if height >= TALL_PX:
        return crop
    size = max(1, round(width * TALL_PX / height)), TALL_PX
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC))


def ppocr() -> Read:
    """Return what reads lines with the recognizer of the `rapidocr` wheel."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.text_score": 0.0,
            "Global.log_level": "error",
        }
    )

    def read(crops: Sequence[Image], languages: Sequence[str]) -> list[Reading]:
        readings: list[Reading] = []
        for crop in crops:
            bgr = np.ascontiguousarray(crop[..., ::-1])
            found = engine(bgr, use_det=False, use_cls=False, use_rec=True)
            texts, scores = found.txts or ("",), found.scores or (0.0,)
            readings.append((texts[0], float(scores[0])))
        return readings

    return read


def read_all(read: Read, lines: Sequence[Line]) -> tuple[list[LineResult], float]:
    """Read every line; return the results and the processor time in seconds."""
    results: list[LineResult] = []
    spent = 0.0
    for start in range(0, len(lines), AT_ONCE):
        part = lines[start : start + AT_ONCE]
        crops = [read_image(line.image) for line in part]
        languages = [line.language for line in part]
        began = time.process_time()
        readings = read(crops, languages)
        spent += time.process_time() - began
        for line, (text, confidence) in zip(part, readings, strict=True):
            reference = line.text.upper() if line.folded else line.text
            found = text.upper() if line.folded else text
            results.append(
                LineResult(
                    line.id,
                    reference,
                    found,
                    confidence,
                    line.language,
                    line.kind,
                    line.document,
                )
            )
    return results, spent


def figures(group: Group) -> dict[str, Any]:
    """The figures of a group of lines, rates in percent with their interval by document."""
    exact, cer = group.intervals.get("exact"), group.intervals.get("cer")
    return {
        "lines": group.lines,
        "exact": group.exact,
        "exact_percent": round(100 * group.exact / group.lines, 2),
        "exact_interval": [round(100 * exact.low, 2), round(100 * exact.high, 2)]
        if exact
        else None,
        "cer_percent": round(100 * (group.value("cer") or 0.0), 3),
        "cer_interval": [round(100 * cer.low, 3), round(100 * cer.high, 3)]
        if cer
        else None,
    }


def calibration_errors(results: Sequence[LineResult]) -> dict[str, float]:
    """The expected calibration error of the lines of every kind, 0…1."""
    found = {}
    for kind in sorted({line.subset for line in results}):
        pairs = [
            (line.confidence, line.reference == line.hypothesis)
            for line in results
            if line.subset == kind
        ]
        calibration = calibrate(pairs)
        if calibration:
            found[kind] = round(calibration.ece, 4)
    return found


def summary(results: Sequence[LineResult], writable: set[str]) -> dict[str, Any]:
    """Figures of every kind, of the lines that 126 classes can write (ids `writable`), of the
    rendered lines in each language, and of lines of figures alone.
    """
    report = build_report(list(results))
    numbers = [
        line
        for line in results
        if any(letter.isdigit() for letter in line.reference)
        and not any(letter.isalpha() for letter in line.reference)
    ]
    rendered = [line for line in results if line.subset == "rendered"]
    found: dict[str, Any] = {}
    found["kinds"] = {name: figures(group) for name, group in report.by_subset.items()}
    nordic = build_report([line for line in results if line.id in writable])
    found["in_nordic"] = {name: figures(group) for name, group in nordic.by_subset.items()}
    found["calibration_error"] = calibration_errors(results)
    if rendered:
        languages = build_report(rendered).by_language
        found["rendered_by_language"] = {
            name: figures(group) for name, group in languages.items()
        }
    if numbers:
        by_kind = build_report(numbers).by_subset
        found["figures"] = {name: figures(group) for name, group in by_kind.items()}
    return found


def main() -> None:
    """Read the lines with every recognizer that is there, print a table, save the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "manifests", nargs="+", metavar="[KIND=]MANIFEST", help="JSONL manifests"
    )
    parser.add_argument("--model", default="nordocr-default", help="our model")
    parser.add_argument("--old", help="another model of ours to compare with")
    parser.add_argument("--tesseract-best", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", help="names of the recognizers to run")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    os.environ["OMP_THREAD_LIMIT"] = "1"
    lines = [line for named in args.manifests for line in read_lines(named)]
    writable = {line.id for line in lines if line.in_nordic}
    contestants: dict[str, Callable[[], Read]] = {
        args.model: lambda: network(args.model),
        "greedy": lambda: network(args.model, "greedy"),
        **({"old": lambda: network(args.old)} if args.old else {}),
        "tesseract": tesseract,
        **(
            {"tesseract-best": lambda: tesseract(args.tesseract_best)}
            if args.tesseract_best
            else {}
        ),
        "ppocr": ppocr,
    }
    measured: dict[str, Any] = {}
    if args.output and args.output.exists():
        measured = json.loads(args.output.read_text(encoding="utf-8"))["recognizers"]
    for name in args.only or contestants:
        results, spent = read_all(contestants[name](), lines)
        measured[name] = {
            "lines_a_cpu_second": round(len(lines) / spent, 1),
            **summary(results, writable),
        }
        for kind, row in measured[name]["kinds"].items():
            print(
                f"{name:22s} {kind:12s} {row['lines']:5d} lines "
                f" exact {row['exact_percent']:5.1f} %  CER {row['cer_percent']:5.2f} %",
                flush=True,
            )
        save(args.output, len(lines), measured)


def save(output: Path | None, lines: int, measured: dict[str, Any]) -> None:
    """Write what was measured so far."""
    if output is None:
        return
    found = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(1),
        "lines": lines,
        "recognizers": measured,
    }
    output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
