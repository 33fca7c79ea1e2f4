"""advise: shape ranges of an engine from the widths of a store's lines."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.atomic import refuse_inputs, write_text
from nordocr_cli.deploy.onnx_file import inspect_onnx
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.profile import DEFAULT_PROFILE, load_profile
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.runtime.backends.tensorrt.memory import MemoryModel
from nordocr_cli.settings import Engine, ShapeRange

BANDS = 3
_MAX_BANDS = 6
_NARROWEST_PX = 32
_STEP_PX = 32  # edges of bands are multiples of it
_BATCH_STEP = 8
_MAX_LINES = 512  # in a batch of the narrowest band
_SHARES = (0.05, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True)
class Proposal:
    """One range or several bands. `padded` is the share of padding in all computed columns when
    every line is padded to the maximum width of its range. Also the number of lines in each range,
    and the maximum predicted memory in bytes (None without a model).
    """

    ranges: tuple[ShapeRange, ...]
    lines: tuple[int, ...]
    padded: float
    memory_bytes: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the ranges with their lines as plain JSON values."""
        memory = self.memory_bytes or (None,) * len(self.ranges)
        rows = zip(self.ranges, self.lines, memory, strict=True)
        ranges = [
            {**each.model_dump(), "lines": count, "activation_bytes": size}
            for each, count, size in rows
        ]
        return {"ranges": ranges, "padded_share": round(self.padded, 4)}


@dataclass(frozen=True)
class Advice:
    """Engine ranges for the widths of a store: `quantiles` of the widths in pixels, one range for
    all lines, and `bands`.
    """

    store: Path
    arch: str
    precision: str
    lines: int
    quantiles: dict[str, int]
    single: Proposal
    bands: Proposal

    def to_json(self) -> dict[str, Any]:
        """Return the advice as plain JSON values; `toml` is the table for a profile."""
        return {
            "store": str(self.store),
            "arch": self.arch,
            "precision": self.precision,
            "lines": self.lines,
            "width_quantiles_px": self.quantiles,
            "single": self.single.to_json(),
            "bands": self.bands.to_json(),
            "toml": self.to_toml(),
        }

    def to_toml(self) -> str:
        """Return the `[engine.ARCH]` table of a profile."""
        table = f"engine.{self.arch}"
        lines = [
            f"[{table}]",
            f"# from the widths of {self.lines} lines of {self.store.name}",
            f'precision = "{self.precision}"',
        ]
        lines += _assignments(self.single.ranges[0])
        for band, count in zip(self.bands.ranges, self.bands.lines, strict=True):
            lines += ["", f"[[{table}.bands]]  # {count} lines", *_assignments(band)]
        return "\n".join(lines) + "\n"

    def rows(self) -> list[tuple[str, ...]]:
        """Return one row per range: its proposal, min, opt, max as batch x width, lines, padding,
        memory.
        """
        rows = []
        for name, proposal in (
            ("one range", self.single),
            (f"{len(self.bands.ranges)} bands", self.bands),
        ):
            memory = proposal.memory_bytes or (None,) * len(proposal.ranges)
            for each, count, size in zip(
                proposal.ranges, proposal.lines, memory, strict=True
            ):
                ends = [f"{batch}x{width}" for batch, width in each.ends().values()]
                size_gb = f"{size / 1e9:.2f} GB" if size is not None else "-"
                rows.append((name, *ends, str(count), f"{proposal.padded:.1%}", size_gb))
        return rows


def _assignments(each: ShapeRange) -> list[str]:
    return [f"{key} = {getattr(each, key)}" for key in ShapeRange.model_fields]


def advise(
    path: Path,
    profile: str = DEFAULT_PROFILE,
    arch: str = "sm120",
    bands: int = BANDS,
    model: Path | None = None,
    progress: Progress = SILENT,
) -> Advice:
    """Propose shape ranges for the lines of a store.

    The maximum batch of the profile's engine for `arch` determines how many columns of pixels a
    batch may hold. Narrower bands get more lines, with the same number of columns. The edges give
    the minimum padding when lines are padded to the maximum width of their band. The optimum width
    divides the pixels of a band in halves, since time is proportional to pixels. With `model`
    (ONNX) the memory of each maximum shape is predicted. Raises UsageError and DataError.
    """
    from nordocr_cli.data.notes import squash_ratio
    from nordocr_cli.data.store import LineStore

    if not 1 <= bands <= _MAX_BANDS:
        raise UsageError(
            f"--bands {bands}: 1 to {_MAX_BANDS}; every band makes an engine larger"
        )
    chosen = load_profile(profile).profile
    target = find_arch(arch)
    engine = chosen.engine.get(target.name)
    if engine is None:
        progress.warn(
            f"profile {chosen.name} has no [engine.{target.name}]; the batches of a 48 GB card are"
            " taken"
        )
        engine = Engine()
    with LineStore(path) as store:
        if not len(store):
            raise DataError(f"{path} holds no lines")
        widths = np.asarray(store.widths, dtype=np.int64)
        at_limit = np.flatnonzero(widths == store.header.geometry.max_width)
        squashed = sum(squash_ratio(store.row(int(line))) > 1 for line in at_limit)
    max_width = max(chosen.geometry.max_width, int(widths.max()))
    if squashed:
        progress.warn(
            f"{squashed} lines were wider than the {widths.max()} px of the store: their real"
            f" width is not counted"
        )
    if widths.max() > chosen.geometry.max_width:
        wider = int((widths > chosen.geometry.max_width).sum())
        progress.warn(
            f"{wider} lines are wider than the {chosen.geometry.max_width} px of profile"
            f" {chosen.name}"
        )
    columns = engine.widest.max_batch * engine.widest.max_width
    memory = MemoryModel(inspect_onnx(model).path) if model else None
    found = [
        _proposal(widths, edges, columns, memory)
        for edges in ((max_width,), _edges(widths, max_width, bands))
    ]
    advice = Advice(
        store=path,
        arch=target.name,
        precision=engine.precision,
        lines=len(widths),
        quantiles={
            f"p{100 * share:g}": int(np.quantile(widths, share)) for share in _SHARES
        },
        single=found[0],
        bands=found[1],
    )
    # print the values in the form that a profile accepts
    Engine.model_validate(tomllib.loads(advice.to_toml())["engine"][target.name])
    return advice


def write_advice(advice: Advice, output: Path) -> None:
    """Write the TOML table, atomically. Raises UsageError for a name that does not end in .toml or
    is inside the store.
    """
    if output.suffix != ".toml":
        raise UsageError(f"--output {output}: the table for a profile is a .toml file")
    refuse_inputs(output, [advice.store])
    write_text(output, advice.to_toml())


def _edges(widths: NDArray[np.int64], max_width: int, count: int) -> tuple[int, ...]:
    """Return the maximum widths of up to `count` bands with the minimum sum of padded widths; the
    last is `max_width`. Dynamic programming over multiples of 32 px: cost[j] of the lines up to
    edge j is the minimum of cost[i] + lines between × edge j.
    """
    edges = sorted({*range(_NARROWEST_PX, max_width, _STEP_PX), max_width})
    below = np.searchsorted(np.sort(widths), edges, side="right")  # lines up to each edge
    cost = [below * np.array(edges)]  # with one band
    chosen: list[list[int]] = []
    for _ in range(count - 1):
        # before[j] == j: no further band
        best = cost[-1].copy()
        before = list(range(len(edges)))
        for j in range(len(edges)):
            options = cost[-1][:j] + (below[j] - below[:j]) * edges[j]
            if j and options.min() < best[j]:
                best[j], before[j] = options.min(), int(options.argmin())
        cost.append(best)
        chosen.append(before)
    found = [max_width]
    at = len(edges) - 1
    for before in reversed(chosen):
        if before[at] != at:
            at = before[at]
            found.append(edges[at])
    return tuple(reversed(found))


def _proposal(
    widths: NDArray[np.int64],
    edges: Sequence[int],
    columns: int,
    memory: MemoryModel | None,
) -> Proposal:
    ranges = []
    lines = []
    computed = 0
    min_width = _NARROWEST_PX
    for edge in edges:
        inside = np.sort(
            widths[
                (widths <= edge) & ((widths >= min_width) | (min_width == _NARROWEST_PX))
            ]
        )
        if len(inside):
            half = inside[np.searchsorted(inside.cumsum(), inside.sum() / 2)]
        else:
            half = edge
        max_batch = max(1, min(_MAX_LINES, columns // edge))
        max_batch = max_batch // _BATCH_STEP * _BATCH_STEP or max_batch
        usual = int(np.clip(-(-half // 4) * 4, min_width, edge))
        sizes = {
            "min_batch": 1,
            "opt_batch": max(1, max_batch // 2),
            "max_batch": max_batch,
        }
        ranges.append(
            ShapeRange(**sizes, min_width=min_width, opt_width=usual, max_width=edge)
        )
        lines.append(len(inside))
        computed += len(inside) * edge
        min_width = edge + 4
    if memory:
        memories = tuple(
            memory.at(each.max_batch, each.max_width).activation_bytes for each in ranges
        )
    else:
        memories = None
    return Proposal(tuple(ranges), tuple(lines), 1 - int(widths.sum()) / computed, memories)
