"""An exported file on real lines compared with the network that it was exported from: frames,
texts, errors, time.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.data.store import LineStore
from nordocr_cli.decode.autoregressive import greedy_decoder
from nordocr_cli.deploy.parity import RunNetwork, best_classes
from nordocr_cli.errors import GateMissed
from nordocr_cli.metrics.text import canonical, count_edits
from nordocr_cli.progress import SILENT, Progress

CHECK_LINES = 500
_BATCH = 16
_SEED = 4


@dataclass(frozen=True)
class StoreCheck:
    """A file and its network over `lines` lines of a store. `flips` of `frames` frames have another
    best class, `texts` lines another text. `edits` are those of the network's and of the file's
    hypotheses against the labels. `seconds` are the times of the file and, if there is one, of the
    baseline file (both in turns over the same batches).
    """

    store: str
    lines: int
    frames: int
    flips: int
    texts: int
    characters: int
    edits: tuple[int, int]
    seconds: float
    baseline_seconds: float | None = None

    @property
    def cer(self) -> tuple[float, float]:
        """The micro CER of the network and of the file, canonical view."""
        return self.edits[0] / max(self.characters, 1), self.edits[1] / max(
            self.characters, 1
        )

    @property
    def cer_loss(self) -> float:
        """The CER of the file minus that of the network."""
        return self.cer[1] - self.cer[0]

    @property
    def speed_up(self) -> float | None:
        """How many times faster the file is than the baseline file."""
        if self.baseline_seconds is not None:
            return self.baseline_seconds / self.seconds
        return None

    def __str__(self) -> str:
        before, after = self.cer
        if self.speed_up:
            faster = f"; {self.speed_up:.2f} times as fast as fp32 here"
        else:
            faster = ""
        return (
            f"{self.lines} lines: best class differs in {self.flips} of {self.frames} frames "
            f"({self.flips / max(self.frames, 1):.3%}), the text in {self.texts} lines; "
            f"CER {before:.3%} → {after:.3%} ({100 * self.cer_loss:+.3f} points); "
            f"{self.lines / self.seconds:.0f} lines/s{faster}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the counts and rates as plain JSON values."""
        return {
            **vars(self),
            "edits": list(self.edits),
            "cer": list(self.cer),
            "cer_loss": self.cer_loss,
            "speed_up": self.speed_up,
        }

    def require(self, maximum: float, name: str) -> None:
        """Raise GateMissed when the file's CER is more than `maximum` above the network's."""
        if self.cer_loss > maximum:
            raise GateMissed(
                f"{name}: CER {self.cer[0]:.3%} becomes {self.cer[1]:.3%} on {self.store},"
                f" {100 * maximum:g} points more are allowed (--max-cer-loss); {self.texts} of"
                f" {self.lines} lines have another text; nothing was written"
            )


@dataclass(frozen=True)
class _Batch:
    """Lines of one width, uint8 (N, 3, height, w), their labels, and the network's best classes (N,
    T) and texts.
    """

    images: NDArray[np.uint8]
    labels: list[str]
    classes: NDArray[np.intp]
    texts: list[str]


class StoreReference:
    """Lines of a store with the network's output, computed once for all files of an export."""

    def __init__(
        self,
        path: Path,
        network: RunNetwork,
        contract: Contract,
        *,
        limit: int = CHECK_LINES,
        progress: Progress = SILENT,
    ) -> None:
        """Draw up to `limit` lines from the store. `network` returns logits.

        Raises DataError when the store is damaged or another charset's.
        """
        self.name = str(path)
        with LineStore(path) as store:
            store.header.require_charset(contract.charset, str(path))
            chosen = np.random.default_rng(_SEED).permutation(len(store))[:limit]
            progress.start("torch, lines of the store", total=len(chosen), unit="lines")
            self._batches = list(self._read(store, chosen, network, contract, progress))
            progress.finish()

    def _read(
        self,
        store: LineStore,
        chosen: NDArray[np.int64],
        network: RunNetwork,
        contract: Contract,
        progress: Progress,
    ) -> Iterator[_Batch]:
        by_width = sorted(chosen.tolist(), key=lambda line: int(store.widths[line]))
        for width, group in groupby(by_width, key=lambda line: int(store.widths[line])):
            same = list(group)
            for lines in (same[at : at + _BATCH] for at in range(0, len(same), _BATCH)):
                images = np.ascontiguousarray(
                    np.stack([store.image(line) for line in lines]).transpose(0, 3, 1, 2)
                )
                logits = network(images)  # (N, T, C)
                frames = np.full(len(lines), contract.out_length(width))
                texts = [
                    reading.text
                    for reading in greedy_decoder(contract.decoding)(
                        logits, frames, contract.charset
                    )
                ]
                yield _Batch(
                    images,
                    [store.row(line).text for line in lines],
                    logits.argmax(-1),
                    texts,
                )
                progress.advance(len(lines))

    def check(
        self,
        run: RunNetwork,
        contract: Contract,
        baseline: RunNetwork | None = None,
        progress: Progress = SILENT,
    ) -> StoreCheck:
        """Run a file over the lines, in turns with `baseline`, whose output is ignored. Raises
        ArtifactError when it fails. An int8 file and its baseline get one line at a time, as
        OnnxRuntimeRunner passes them.
        """
        if contract.precision == "int8":
            run, baseline = (
                _line_by_line(run),
                _line_by_line(baseline) if baseline else None,
            )
        lines = frames = flips = texts = characters = before = after = 0
        seconds = baseline_seconds = 0.0
        progress.start(
            f"ONNX Runtime, {contract.precision}, lines of the store", unit="lines"
        )
        for warm in (run, baseline):
            if warm and self._batches:
                warm(self._batches[0].images)
        for batch in self._batches:
            if baseline:
                baseline_seconds += _timed(baseline, batch.images)[0]
            spent, output = _timed(run, batch.images)
            seconds += spent
            own = np.full(len(batch.labels), output.shape[1])
            readings = greedy_decoder(contract.decoding)(
                output, own, contract.charset, contract.output_activation
            )
            flips += int(
                (best_classes(output, contract.output_activation) != batch.classes).sum()
            )
            for label, old, new in zip(
                map(canonical, batch.labels), batch.texts, readings, strict=True
            ):
                characters += len(label)
                texts += old != new.text
                before += count_edits(label, canonical(old)).distance
                after += count_edits(label, canonical(new.text)).distance
            lines, frames = lines + len(batch.labels), frames + batch.classes.size
            progress.advance(len(batch.labels))
        progress.finish()
        return StoreCheck(
            self.name,
            lines,
            frames,
            flips,
            texts,
            characters,
            (before, after),
            seconds,
            baseline_seconds if baseline else None,
        )


def _line_by_line(run: RunNetwork) -> RunNetwork:
    return lambda images: np.concatenate([run(image[None]) for image in images])


def _timed(
    run: RunNetwork, images: NDArray[np.uint8]
) -> tuple[float, NDArray[np.floating[Any]]]:
    began = time.perf_counter()
    output = run(images)
    return time.perf_counter() - began, output
