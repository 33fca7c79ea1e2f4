"""A plot of a bench: lines per second of each recognizer with every run, and milliseconds over
width for the grid.
"""

import io
from pathlib import Path

from nordocr_cli import atomic
from nordocr_cli.core.bench.result import BenchResult
from nordocr_cli.extras import load_matplotlib


def draw(result: BenchResult, path: Path) -> None:
    """Write a PNG; needs matplotlib (the `train` extra)."""
    load_matplotlib("--plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = 2 if result.grid else 1
    figure = Figure(figsize=(6.4 * count, 1.6 + 0.6 * max(4, len(result.rows))))
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, count, squeeze=False)
    names = [
        " ".join(filter(None, (row.name, row.backend, row.precision)))
        for row in result.rows
    ]
    left = axes[0, 0]
    left.barh(names, [row.lines_per_s for row in result.rows], color="#2f5aa8")
    for place, row in enumerate(result.rows):
        left.plot(
            [row.lines / run for run in row.runs_s],
            [place] * len(row.runs_s),
            "|",
            color="#22242a",
        )
    left.invert_yaxis()
    left.set_xlabel("lines per second; one mark per run")
    left.set_title(Path(result.source).name)
    if result.grid:
        right = axes[0, 1]
        for key in dict.fromkeys(
            (cell.name, cell.backend, cell.batch) for cell in result.grid
        ):
            cells = [
                cell for cell in result.grid if (cell.name, cell.backend, cell.batch) == key
            ]
            right.plot(
                [c.width_px for c in cells],
                [c.lines_per_s for c in cells],
                "o-",
                label=f"{key[1]} {key[0]}, batch {key[2]}",
            )
        right.set(xlabel="width in px", ylabel="lines per second, network alone")
        right.legend(fontsize="small")
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    atomic.write_bytes(path, picture.getvalue())
