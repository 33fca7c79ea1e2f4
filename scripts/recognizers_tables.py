"""The tables about real lines in README, docs/accuracy.md and the model card, from
benchmarks/results/recognizers-*.json.

In these files `old` and `old-ext` are the weights that shipped before, `greedy` and `greedy-ext`
the networks without the language model.
"""

import json
from pathlib import Path
from typing import Any

_RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
_INT8 = "nordocr-default.int8.onnx"
_EXT = "nordocr-default-ext.onnx"

_KINDS = ("typewriter", "print", "receipt", "rendered")
_IN_WORDS = {
    "typewriter": "typewritten pages",
    "print": "printed books and catalogues",
    "receipt": "receipts, in capitals",
    "rendered": "rendered office documents",
}


def readme_table() -> str:
    """Real lines of README: the default before, now, and PP-OCR, which has read all receipts and
    every sixth of the other lines.
    """
    dev = _recognizers("recognizers-dev")
    sample = _recognizers("recognizers-sample")
    receipts = _recognizers("recognizers-receipts")["ppocr"]["in_nordic"]
    peers = {**sample["ppocr"]["in_nordic"], "receipt": receipts["receipt"]}
    lines = [
        "| | lines | weights before | nordocr-default | PP-OCRv6 small |",
        "|---|---|---|---|---|",
    ]
    for kind in ("typewriter", "print", "receipt"):
        group = "in capitals" if kind == "receipt" else "126 classes"
        name = "receipts" if kind == "receipt" else kind
        ours = dev[_INT8]["in_nordic"][kind]
        before = dev["old"]["in_nordic"][kind]
        theirs = peers[kind]
        cells = f"{_short(before)} | {_short(ours)} | {_short(theirs)}"
        lines.append(f"| {name}, {group} | {ours['lines']:,} | {cells} |")
    return "\n".join(lines)


def card_table() -> str:
    """The figures of the model card."""
    dev = _recognizers("recognizers-dev")
    sample = _recognizers("recognizers-sample")
    receipts = _recognizers("recognizers-receipts")["ppocr"]["in_nordic"]
    peers = {**sample["ppocr"]["in_nordic"], "receipt": receipts["receipt"]}
    lines = [
        "| lines | n | before | `nordocr-default` (int8) | the same, 126 classes |"
        " `nordocr-default-ext` | PP-OCRv6 small, 126 classes: all receipts, a sixth of the other"
        " real and a third of the rendered lines |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in _KINDS:
        ours = dev[_INT8]
        wide = dev[_EXT]["kinds"].get(kind)
        cells = [
            _IN_WORDS[kind],
            f"{ours['kinds'][kind]['lines']:,}",
            _short(dev["old"]["kinds"][kind]),
            _short(ours["kinds"][kind]),
            _short(ours["in_nordic"][kind]),
            _short(wide) if wide else "",
            _short(peers[kind]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def card_confidences() -> str:
    """The sentence of the model card on calibration errors."""
    dev = _recognizers("recognizers-dev")
    wide = dev[_EXT]["calibration_error"]
    ours = dev[_INT8]["calibration_error"]
    return (
        "- Confidences are the share of such lines that are exact: expected calibration error"
        f" {_percent(wide['typewriter'])} on typewritten\n  lines, {_percent(wide['print'])} on"
        f" print, {_percent(wide['receipt'])} on receipts (`ext`), {_percent(ours['rendered'])} on"
        " rendered lines (int8). On lines with characters that `nordic`\n  cannot write they are"
        " too high."
    )


def all_lines_table() -> str:
    """Real lines of docs/accuracy.md with intervals: before, now, and the wider charset."""
    dev = _recognizers("recognizers-dev")
    lines = [
        "| lines | n | before (int8) | nordocr-default (int8) | nordocr-default-ext |",
        "|---|---|---|---|---|",
    ]
    names = {
        "typewriter": "typewriter, all",
        "print": "print, all",
        "receipt": "receipts, folded",
    }
    rows = [("kinds", kind, names.get(kind, kind)) for kind in _KINDS]
    rows += [
        ("in_nordic", kind, f"{kind}, 126 classes") for kind in ("typewriter", "print")
    ]
    for group, kind, name in rows:
        ours = dev[_INT8][group][kind]
        wide = dev[_EXT][group].get(kind)
        before = dev["old"][group][kind]
        cells = f"{_long(before)} | {_long(ours)} | {_long(wide) if wide else ''}"
        lines.append(f"| {name} | {ours['lines']:,} | {cells} |")
    return "\n".join(lines)


def sample_table() -> str:
    """The sample of docs/accuracy.md, next to other recognizers."""
    sample = _recognizers("recognizers-sample")
    lines = [
        "| lines | n | nordocr-default | PP-OCRv6 small | Tesseract 5.3 | Tesseract best |",
        "|---|---|---|---|---|---|",
    ]
    for kind in _KINDS:
        names = (_INT8, "ppocr", "tesseract", "tesseract-best")
        groups = [sample[name]["in_nordic"][kind] for name in names]
        cells = " | ".join(_long(group) for group in groups)
        lines.append(f"| {kind} | {groups[0]['lines']} | {cells} |")
    return "\n".join(lines)


def language_table() -> str:
    """What the language model changes, in docs/accuracy.md."""
    dev = _recognizers("recognizers-dev")
    greedy = dev["greedy"]
    ours = dev[_INT8]
    lines = [
        "| lines | n | greedy (int8) | with the language model (int8) |",
        "|---|---|---|---|",
    ]
    for kind in _KINDS:
        count = ours["in_nordic"][kind]["lines"]
        cells = " | ".join(_long(side["in_nordic"][kind]) for side in (greedy, ours))
        lines.append(f"| {kind} | {count:,} | {cells} |")
    speeds = " | ".join(f"{side['lines_a_cpu_second']:.0f}" for side in (greedy, ours))
    lines.append(f"| lines a second of processor time | | {speeds} |")
    return "\n".join(lines)


def details() -> str:
    """Single figures and confidences, as two points of docs/accuracy.md."""
    dev = _recognizers("recognizers-dev")
    figures = dev[_INT8]["figures"]
    before = dev["old"]["figures"]
    counts = {kind: figures[kind]["lines"] for kind in ("rendered", "receipt")}
    shares = {
        kind: f"{figures[kind]['exact_percent']:.1f} % are exact"
        f" (before: {before[kind]['exact_percent']:.1f} %)"
        for kind in counts
    }
    errors = []
    for kind in _KINDS:
        now, then = (_INT8, "old") if kind == "rendered" else (_EXT, "old-ext")
        error, earlier = (dev[name]["calibration_error"][kind] for name in (now, then))
        errors.append(f"{_percent(error)} for {kind} (before: {_percent(earlier)})")
    return (
        f"- Single figures: of {counts['rendered']} rendered lines of figures alone"
        f" {shares['rendered']}; of {counts['receipt']} on receipts\n  {shares['receipt']}.\n"
        f"- Confidences: the expected calibration error is {', '.join(errors[:2])},\n"
        f"  {errors[2]}, all with `ext`, and {errors[3]}, int8."
    )


def _recognizers(name: str) -> dict[str, Any]:
    saved = json.loads((_RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return dict(saved["recognizers"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _short(group: Any) -> str:
    return f"{group['exact_percent']:.1f} % / {group['cer_percent']:.2f} %"


def _long(group: Any) -> str:
    low, high = group["cer_interval"]
    interval = f"({low:.2f}-{high:.2f})"
    return f"{group['exact_percent']:.1f} %, {group['cer_percent']:.2f} % {interval}"
