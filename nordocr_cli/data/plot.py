"""The picture of `data stats --plot`. Needs matplotlib (the extra `plot`)."""

import io
from collections.abc import Mapping

from nordocr_cli.extras import load_matplotlib

_SHOWN_CHARACTERS = 130


def plot_png(
    natural_widths: Mapping[int, int], max_width: int, characters: Mapping[str, int]
) -> bytes:
    """Draw the lines' widths before squashing (pixels → lines) and the characters' frequencies;
    returns a PNG.

    Raises MissingBackendError without matplotlib.
    """
    load_matplotlib("--plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    widths, frequencies = figure.subplots(2, 1)
    widths.hist(
        list(natural_widths),
        bins=64,
        weights=list(natural_widths.values()),
        color="#30638e",
    )
    widths.axvline(max_width, color="#d1495b", label=f"max_width {max_width}")
    widths.set(
        xlabel="width before squashing, px at the store's height",
        ylabel="lines",
        title="Widths",
    )
    widths.legend()
    shown = list(characters.items())[:_SHOWN_CHARACTERS]
    frequencies.bar(range(len(shown)), [count for _, count in shown], color="#30638e")
    # A $ begins a formula in matplotlib, and a space would not be seen.
    frequencies.set_xticks(
        range(len(shown)), [{" ": "␣", "$": r"\$"}.get(c, c) for c, _ in shown], fontsize=7
    )
    frequencies.set(
        yscale="log",
        ylabel="times",
        title=f"Characters ({len(characters)} different)",
        xlim=(-1, len(shown)),
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
