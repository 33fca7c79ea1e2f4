"""curves.png: the course of a run as one picture, drawn from metrics.jsonl without any server.
Needs matplotlib (the extra `plot`).
"""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_bytes
from nordocr_cli.training.runlog import CURVES, read_metrics

_LOG_FROM = 4.0  # a range this wide is drawn logarithmically
_BLUE, _RED, _GRAY = "#30638e", "#d1495b", "#8d99ae"


def can_draw() -> bool:
    """Whether matplotlib is there."""
    return find_spec("matplotlib") is not None


def draw_curves(folder: Path) -> Path | None:
    """Draw loss, CER and lines with an error, learning rate, speed and data wait over the steps of
    the run in `folder`. None, and no picture, where nothing was logged yet.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    rows = read_metrics(folder)
    train, evals = ([row for row in rows if row["kind"] == kind] for kind in ("train", "eval"))
    skipped = [row["step"] for row in rows if row["kind"] == "skipped"]
    if not (train or evals):
        return None
    figure = Figure(figsize=(11, 7))
    FigureCanvasAgg(figure)
    (loss, score), (rate, speed) = figure.subplots(2, 2)
    loss.plot(*_points(train, "loss"), color=_BLUE, lw=1)
    loss.set(title="loss, nats a character", yscale="log")
    for step in skipped:
        loss.axvline(step, color=_RED, lw=0.5)
    if skipped:
        loss.plot([], [], color=_RED, lw=0.5, label=f"{len(skipped)} skipped steps")
        loss.legend(frameon=False)
    score.plot(*_points(evals, "cer", 100), color=_RED, marker="o", ms=3, lw=1, label="CER %")
    wrong = [row | {"wrong": 1 - row["exact"]} for row in evals if row.get("exact") is not None]
    score.plot(
        *_points(wrong, "wrong", 100),
        color=_BLUE,
        marker="o",
        ms=3,
        lw=1,
        label="lines with an error %",
    )
    errors = any([*_points(evals, "cer")[1], *_points(wrong, "wrong")[1]])
    # zeros alone have no logarithm
    score.set(title="validation", yscale="log" if errors else "linear")
    score.legend(frameon=False)
    rate.plot(*_points(train, "lr"), color=_BLUE, lw=1)
    rate.set(title="learning rate", ylim=(0, None))
    speed.plot(*_points(train, "lines_per_s"), color=_BLUE, lw=1, label="lines a second")
    speed.set(title="speed", ylim=(0, None))
    waiting = speed.twinx()
    waiting.plot(*_points(train, "data_wait", 100), color=_GRAY, lw=1)
    waiting.set(ylim=(0, 100), ylabel="data wait %")
    speed.plot([], [], color=_GRAY, lw=1, label="data wait %")
    speed.legend(frameon=False)
    for axes in (loss, score):
        low, high = axes.get_ylim()
        if axes.get_yscale() == "linear" or high < _LOG_FROM * low:
            axes.set_yscale("linear")
            continue
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    for axes in (loss, score, rate, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
    best = min(
        (row for row in evals if row.get("cer") is not None),
        key=lambda row: row["cer"],
        default=None,
    )
    told = f": best CER {best['cer']:.2%} at step {best['step']:,}" if best else ""
    figure.suptitle((folder.resolve().name + told).replace("$", r"\$"))
    figure.subplots_adjust(left=0.08, right=0.93, bottom=0.08, top=0.9, wspace=0.25, hspace=0.35)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(folder / CURVES, buffer.getvalue())
    return folder / CURVES


def _points(
    rows: Sequence[dict[str, Any]], name: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    """Steps and values of one figure; where it was not finite there is no point."""
    found = [(row["step"], row[name] * scale) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
