"""Rows of the tables that show a bench, as plain strings."""

from nordocr_cli.core.bench.result import BenchResult
from nordocr_cli.metrics.significance import Comparison
from nordocr_cli.metrics.tables import TableRow, percent, spread

ROW_HEADS = (
    "model",
    "backend",
    "lines/s",
    "pages/s",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "load s",
    "first s",
    "same text",
    "exact",
)
STAGE_HEADS = (
    "model",
    "read s",
    "resize s",
    "network s",
    "decode s",
    "padding",
    "peak MiB",
    "GFLOP",
    "GFLOP/s",
    "of peak",
)
GRID_HEADS = ("model", "batch", "width px", "ms", "lines/s", "Mpx/s", "of peak")
ACCURACY_HEADS = ("model", "exact", "gained", "lost", "CER micro", "difference", "verdict")
VERDICT_HEADS = ("case", "change", "counts from", "p", "verdict")


def _number(value: float | None, digits: int = 1, unit: str = "") -> str:
    if value is None:
        return "–"
    return f"{value:,.{digits}f}{unit}"


def _percent(value: float | None) -> str:
    return _number(None if value is None else 100 * value, 1, " %")


def rows(result: BenchResult) -> list[TableRow]:
    """Return one row per recognizer; ROW_HEADS names the columns."""
    return [
        (
            row.name,
            " ".join(filter(None, (row.backend, row.precision, row.device))),
            _number(row.lines_per_s),
            _number(row.pages_per_s or row.expected_pages_per_s, 2),
            _number(row.latency_p50_ms),
            _number(row.latency_p90_ms),
            _number(row.latency_p99_ms),
            _number(row.load_s, 2),
            _number(row.first_call_s, 2),
            "–" if row.same_text is None else f"{row.same_text}/{row.lines}",
            "–" if row.exact is None else f"{row.exact}/{row.compared or row.lines}",
        )
        for row in result.rows
    ]


def stages(result: BenchResult) -> list[TableRow]:
    """Return one row per network; STAGE_HEADS names the columns."""
    return [
        (
            f"{row.name} {row.backend}",
            *(
                _number(part, 3)
                for part in (
                    row.stages_s.read,
                    row.stages_s.resize,
                    row.stages_s.network,
                    row.stages_s.decode,
                )
            ),
            _percent(row.padding_waste),
            _number(row.peak_memory_mb, 0),
            _number(row.flops and row.flops / 1e9),
            _number(row.flops and row.flops / 1e9 / row.stages_s.network),
            _percent(row.roofline_share),
        )
        for row in result.rows
        if row.stages_s
    ]


def grid(result: BenchResult) -> list[TableRow]:
    """Return one row per shape; GRID_HEADS names the columns."""
    return [
        (
            f"{cell.name} {cell.backend}",
            str(cell.batch),
            str(cell.width_px),
            _number(cell.median_ms),
            _number(cell.lines_per_s),
            _number(cell.pixels_per_s / 1e6, 2),
            _percent(cell.roofline_share),
        )
        for cell in result.grid
    ]


def verdicts(result: BenchResult) -> list[TableRow]:
    """Return one row per case that the baseline has too; VERDICT_HEADS names the columns."""
    return [
        (
            v.case,
            f"{100 * v.change:+.1f} %",
            _percent(v.threshold),
            "–" if v.p is None else f"{v.p:.3g}",
            v.verdict,
        )
        for v in result.verdicts
    ]


def accuracy_rows(result: BenchResult) -> list[TableRow]:
    """Return one row per recognizer that is compared with the reference; ACCURACY_HEADS names the
    columns.
    """
    return [_accuracy_row(one.name, one.comparison) for one in result.accuracy]


def _accuracy_row(name: str, found: Comparison) -> TableRow:
    exact = found.both_exact + found.only_b_exact
    return (
        name,
        f"{exact:,} of {found.lines:,}",
        str(found.only_b_exact),
        str(found.only_a_exact),
        percent(found.cer_b),
        spread(found.cer_difference, 2, "+", "pp"),
        found.verdict,
    )
