"""The tables of docs/pages.md, from what benchmarks/pages.py saved."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

# In the order of the tables; the same as in benchmarks/page_layouts.py.
_CONDITIONS = ("upright", "+2", "-2", "+5", "-5", "90", "180", "270", "specks", "border")


def pages_table(result: dict[str, Any]) -> str:
    """The runs as tables in Markdown, and what was measured on what."""
    parts = [
        [result["note"]],
        _found(result["runs"]),
        _missed(result["runs"]),
        _speed(result.get("quiet_run", result["runs"])),
        _kinds(result),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def _head(columns: str) -> list[str]:
    """The first two lines of a Markdown table; `columns` is the first one."""
    return [columns, "|" + "---|" * (columns.count("|") - 1)]


def _found(runs: Sequence[dict[str, Any]]) -> list[str]:
    """What each program found under each condition."""
    rows = _head("| program | page lies | pages | found | precision | order | memory MB |")
    for run in sorted(runs, key=lambda run: _CONDITIONS.index(run["condition"])):
        shares = " | ".join(f"{run[name]:.1%}" for name in ("found", "precision", "order"))
        what = f"{run['engine']} | {run['condition']} | {run['pages']}"
        rows.append(f"| {what} | {shares} | {run['peak_mb'] or '–'} |")
    return rows


def _missed(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Words missed by nordocr and by the best of the other programs."""
    rows = _head(
        "| page lies | missed by nordocr | by the best other program | share of it |"
    )
    for condition in _CONDITIONS:
        found = {run["engine"]: run for run in runs if run["condition"] == condition}
        ours = found.pop("nordocr", None)
        if ours is None or not found:
            continue
        best = max(found.values(), key=lambda run: run["found"])
        missed = 1 - ours["found"]
        others = 1 - best["found"]
        peer = f"{others:.1%} ({best['engine']})"
        rows.append(f"| {condition} | {missed:.1%} | {peer} | {missed / others:.0%} |")
    return rows


def _speed(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Seconds a page of the programs in one run, two threads."""
    rows = _head(
        "| program | page lies | seconds a page | of the processor | times as long as nordocr |"
    )
    ours = {run["condition"]: run for run in runs if run["engine"] == "nordocr"}
    for run in runs:
        if run["condition"] not in ours:
            continue
        times = run["wall_s_per_page"] / ours[run["condition"]]["wall_s_per_page"]
        seconds = f"{run['wall_s_per_page']:.2f} | {run['cpu_s_per_page']:.2f}"
        rows.append(f"| {run['engine']} | {run['condition']} | {seconds} | {times:.1f} |")
    return rows


def _kinds(result: dict[str, Any]) -> list[str]:
    """Shares found by nordocr by kind of page, over all conditions."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in result["runs"]:
        if run["engine"] == "nordocr":
            for kind, rates in run["kinds"].items():
                found[kind].append(rates["found"])
    rows = _head("| kind of page, nordocr | found, mean over its conditions | worst |")
    for kind, shares in sorted(found.items()):
        rows.append(f"| {kind} dpi | {sum(shares) / len(shares):.1%} | {min(shares):.1%} |")
    return rows
