"""curves.png: the progress of a run as one picture, drawn from metrics.jsonl without any server.
Needs matplotlib.
"""

import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_bytes
from nordocr_cli.extras import load_matplotlib
from nordocr_cli.training.runlog import CURVES_FILE, read_metrics

_LOG_FROM = 4.0  # a range this wide is drawn logarithmically
_BLUE = "#30638e"
_RED = "#d1495b"
_GRAY = "#8d99ae"


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(folder: Path) -> Path | None:
    """Draw loss, CER and lines with an error, learning rate, speed and data wait over the steps of
    the run in `folder`. None, and no picture, where nothing was logged yet.
    """
    load_matplotlib(CURVES_FILE)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = read_metrics(folder)
    train = [row for row in rows if row["kind"] == "train"]
    evals = [row for row in rows if row["kind"] == "eval"]
    if not (train or evals):
        return None
    skipped = [row["step"] for row in rows if row["kind"] == "skipped"]
    figure = Figure(figsize=(11, 7))
    FigureCanvasAgg(figure)
    (loss, score), (rate, speed) = figure.subplots(2, 2)
    _draw_loss(loss, train, skipped)
    _draw_scores(score, evals)
    rate.plot(*_points(train, "lr"), color=_BLUE, lw=1)
    rate.set(title="learning rate", ylim=(0, None))
    _draw_speed(speed, train)
    for axes in (loss, score):
        _label_logarithm(axes)
    for axes in (loss, score, rate, speed):
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)

    scored = [row for row in evals if row.get("cer") is not None]
    best = min(scored, key=lambda row: row["cer"], default=None)
    if best:
        caption = f": best CER {best['cer']:.2%} at step {best['step']:,}"
    else:
        caption = ""
    figure.suptitle((folder.resolve().name + caption).replace("$", r"\$"))
    figure.subplots_adjust(
        left=0.08, right=0.93, bottom=0.08, top=0.9, wspace=0.25, hspace=0.35
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(folder / CURVES_FILE, buffer.getvalue())
    return folder / CURVES_FILE


def _draw_loss(axes: Any, train: Sequence[dict[str, Any]], skipped: Sequence[int]) -> None:
    axes.plot(*_points(train, "loss"), color=_BLUE, lw=1)
    axes.set(title="loss, nats a character", yscale="log")
    for step in skipped:
        axes.axvline(step, color=_RED, lw=0.5)
    if skipped:
        axes.plot([], [], color=_RED, lw=0.5, label=f"{len(skipped)} skipped steps")
        axes.legend(frameon=False)


def _draw_scores(axes: Any, evals: Sequence[dict[str, Any]]) -> None:
    style = {"marker": "o", "ms": 3, "lw": 1}
    cer = _points(evals, "cer", 100)
    judged = [row for row in evals if row.get("exact") is not None]
    wrong = _points([row | {"wrong": 1 - row["exact"]} for row in judged], "wrong", 100)
    axes.plot(*cer, color=_RED, label="CER %", **style)
    axes.plot(*wrong, color=_BLUE, label="lines with an error %", **style)
    has_errors = any([*cer[1], *wrong[1]])  # zeros alone have no logarithm
    axes.set(title="validation", yscale="log" if has_errors else "linear")
    axes.legend(frameon=False)


def _draw_speed(axes: Any, train: Sequence[dict[str, Any]]) -> None:
    axes.plot(*_points(train, "lines_per_s"), color=_BLUE, lw=1, label="lines/s")
    axes.set(title="speed", ylim=(0, None))
    waiting = axes.twinx()
    waiting.plot(*_points(train, "data_wait", 100), color=_GRAY, lw=1)
    waiting.set(ylim=(0, 100), ylabel="data wait %")
    axes.plot([], [], color=_GRAY, lw=1, label="data wait %")
    axes.legend(frameon=False)


def _label_logarithm(axes: Any) -> None:
    """Label a logarithmic axis with plain numbers; a narrow range becomes linear."""
    from matplotlib.ticker import LogLocator, NullFormatter

    low, high = axes.get_ylim()
    if axes.get_yscale() == "linear" or high < _LOG_FROM * low:
        axes.set_yscale("linear")
        return
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _points(
    rows: Sequence[dict[str, Any]], name: str, scale: float = 1.0
) -> tuple[list[int], list[float]]:
    """Steps and values of one figure; where it was not finite there is no point."""
    found = [(row["step"], row[name] * scale) for row in rows if row.get(name) is not None]
    return [step for step, _ in found], [value for _, value in found]
