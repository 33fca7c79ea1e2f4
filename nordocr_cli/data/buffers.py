"""Memory that batches are filled into, again and again. No torch."""

import math
import sys
import threading

import numpy as np
from numpy.typing import NDArray

_KEPT_BUFFERS = 12  # being filled, waiting, and with the network


class Buffers:
    """Memory for batches, used again when nobody holds the batch any more: fresh pages cost more
    than the copying.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return an array of `shape`, its values undefined."""
        size = math.prod(shape)
        with self._lock:
            for index in range(len(self._kept)):
                if (
                    self._kept[index].size >= size
                    and _references(self._kept, index) == _REFERENCES_OF_FREE
                ):
                    return self._kept[index][:size].reshape(shape)
            buffer = np.empty(size, dtype=np.uint8)
            self._kept = [buffer, *(kept for kept in self._kept if kept.size >= size)][
                :_KEPT_BUFFERS
            ]
            return buffer.reshape(shape)


def _references(arrays: list[NDArray[np.uint8]], index: int) -> int:
    return sys.getrefcount(arrays[index])


# What is counted for an array that only its list holds differs between Pythons; one made of it, or
# a tensor, counts one more.
_REFERENCES_OF_FREE = _references([np.empty(1, dtype=np.uint8)], 0)
