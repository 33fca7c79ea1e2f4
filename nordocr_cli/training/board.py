"""TensorBoard's event file, written at once: SummaryWriter writes from a thread, where a full disk
ends in a traceback.
"""

import os
import socket
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary


class Board:
    """An event file in `folder`. TensorBoard leaves out what earlier files say of `purge_step` and
    later steps.

    Every method raises OSError when the disk is full.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "wb", buffering=0)  # noqa: SIM115 - closed in close()
        self._writer = RecordWriter(self._file)
        self._add(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            self._add(
                Event(step=purge_step, session_log=SessionLog(status=SessionLog.START))
            )

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a point to the curve `name`."""
        self._add(Event(step=step, summary=summary.scalar(name, value)))

    def text(self, name: str, markdown: str, step: int) -> None:
        """Add a text."""
        written: Summary = summary.text(name, markdown)
        self._add(Event(step=step, summary=written))

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add a picture, RGB (height, width, 3)."""
        self._add(Event(step=step, summary=summary.image(name, pixels, dataformats="HWC")))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._writer.write(event.SerializeToString())
