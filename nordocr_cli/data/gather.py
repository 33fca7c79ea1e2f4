"""The pixels of a batch: copied from the mapped files of line stores, padded and augmented. No
network, and no labels.
"""

import warnings
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nordocr_cli.data.augment import compose
from nordocr_cli.data.buffers import Buffers
from nordocr_cli.data.epoch_plan import BatchPlan
from nordocr_cli.data.store import LineStore
from nordocr_cli.geometry import Geometry
from nordocr_cli.pixels import Pixels
from nordocr_cli.settings import Augment

Indices = NDArray[np.int64]


class PixelGatherer:
    """Gathers lines of several stores into one array (N, height, width, channels). `first` int64
    (stores + 1,) is the global index of each store's first line.
    """

    def __init__(
        self, stores: Sequence[LineStore], first: Indices, geometry: Geometry
    ) -> None:
        self.stores = tuple(stores)
        self.first = first
        self.geometry = geometry
        self._first_of_store: list[int] = first.tolist()
        self._buffers = Buffers()
        self._mapped: dict[Path, Tensor] = {}

    def locate(self, index: int) -> tuple[LineStore, int]:
        """Return the store of a line, and its number there."""
        # For one number, bisect takes a tenth of the time of np.searchsorted.
        which = bisect_right(self._first_of_store, index) - 1
        return self.stores[which], index - self._first_of_store[which]

    def gather(self, lines: Indices, width: int) -> Pixels:
        """Return the pixels of lines (N, height, width, C) padded on the right, C = 1 when all of
        them are gray.
        """
        parts = self._by_store(lines)
        gray = all(store.are_gray(local).all() for store, _, local in parts)
        shape = (len(lines), self.geometry.height, width, 1 if gray else 3)
        images = self._buffers.take(shape)
        if len(parts) == 1:
            store, _, local = parts[0]
            store.require_undamaged(local)
            if self._select(store, local, images):
                return images
        for store, slots, local in parts:
            store.fill(images, slots, local, self.geometry.pad_value)
        return images

    def compose(
        self,
        plan: BatchPlan,
        line_widths: Indices,
        width: int,
        augment: Augment,
        rng: np.random.Generator,
    ) -> Pixels:
        """Return the augmented pixels of a batch (N, height, width, C); `line_widths` int64 (lines
        of the batch,).
        """
        sources = self.gather(plan.lines, int(line_widths.max()))  # (lines, H, W, C)
        channels = sources.shape[3]
        flat = sources[..., 0] if channels == 1 else sources
        parts = [
            source[:, :own] for source, own in zip(flat, line_widths.tolist(), strict=True)
        ]
        gaps = plan.gaps.tolist()
        samples = plan.samples
        shape = (len(plan.numbers), self.geometry.height, width, channels)
        images = self._buffers.take(shape)
        at = 0
        counts = plan.counts.tolist()
        for slot, number in enumerate(plan.numbers.tolist()):
            end = at + counts[slot]
            own = int(samples.widths[number])
            margins = tuple(samples.margins[number].tolist())
            neighbour = parts[rng.integers(len(parts))]
            line = compose(
                parts[at:end], gaps[at:end], margins, own, neighbour, augment, rng
            )
            images[slot, :, :own] = line[..., None] if line.ndim == 2 else line
            images[slot, :, own:] = self.geometry.pad_value
            at = end
        return images

    def _by_store(self, lines: Indices) -> list[tuple[LineStore, Indices, Indices]]:
        """Return, for each store, the slots of the batch that its lines take and their numbers in
        the store.
        """
        if len(self.stores) == 1:
            return [(self.stores[0], np.arange(len(lines)), lines)]
        which = np.searchsorted(self.first, lines, side="right") - 1
        parts = []
        for number in np.unique(which):
            slots = np.flatnonzero(which == number)
            parts.append((self.stores[number], slots, lines[slots] - self.first[number]))
        return parts

    def _select(self, store: LineStore, local: Indices, images: Pixels) -> bool:
        """Gather the lines of one store without a Python loop over them and without Python's lock;
        return False when that is not possible.
        """
        _, height, width, channels = images.shape
        if store.header.schema == 1 or (channels == 3 and store.are_gray(local).any()):
            return False
        widths = store.widths[local].astype(np.int64)
        mapped, starts, _ = store.located()
        # Lines of one width are pieces of the file. Of other lines each pixel row is a piece, which
        # for now also takes the pixels after it.
        same_width = int(widths.min()) == width
        if same_width:
            size = height * width * channels
            pieces = starts[local]
        else:
            size = width * channels
            rows = np.arange(height) * (widths * channels)[:, None]
            pieces = (starts[local, None] + rows).reshape(-1)
        if int(pieces.max()) + size > mapped.size:
            return False  # nothing follows the last line
        file = self._as_tensor(store, mapped)
        # Row i of this view is the `size` bytes from byte i of the file on; nothing is copied until
        # it is selected.
        windows = file.as_strided((mapped.size - size + 1, size), (1, 1))
        target = torch.from_numpy(images).view(len(pieces), size)
        torch.index_select(windows, 0, torch.from_numpy(pieces), out=target)
        if not same_width:
            self._pad(images, widths)
        return True

    def _pad(self, images: Pixels, widths: Indices) -> None:
        """Write padding over what follows each line, all lines of one width at once."""
        by_width = np.argsort(widths, kind="stable")
        distinct, begins = np.unique(widths[by_width], return_index=True)
        slots_of = np.split(by_width, begins[1:])
        for width, slots in zip(distinct.tolist(), slots_of, strict=True):
            images[slots, :, width:] = self.geometry.pad_value

    def _as_tensor(self, store: LineStore, mapped: Pixels) -> Tensor:
        """Return the store's mapped file as a tensor; made once, since switching warnings off and
        on costs as much as a small batch.
        """
        if store.path not in self._mapped:
            with warnings.catch_warnings():
                # The mapped file is read-only, and the tensor is never written to.
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                self._mapped[store.path] = torch.from_numpy(mapped)
        return self._mapped[store.path]
