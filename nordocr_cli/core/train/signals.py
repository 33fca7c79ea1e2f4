"""Stopping a training with Ctrl-C: once after the present step, twice at once."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nordocr_cli.progress import Progress


@contextmanager
def stop_on_signals(progress: Progress) -> Iterator[Callable[[], bool]]:
    """Yield a `stop` that turns true at the first Ctrl-C or SIGTERM; the second Ctrl-C interrupts
    at once.
    """
    requested = threading.Event()

    def request_stop(number: int, _frame: object) -> None:
        requested.set()
        signal.signal(number, before[signal.Signals(number)])
        progress.note("stopping after this step; press Ctrl-C again to stop now")

    before = {
        kind: signal.signal(kind, request_stop) for kind in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield requested.is_set
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
