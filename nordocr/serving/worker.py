"""One worker reads, one request after the other; a bounded number of requests waits."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class QueueFullError(Exception):
    """As many requests wait as may: the client has to come again later."""


class Worker:
    """Runs jobs in one thread, in the order in which they came.

    `capacity` jobs wait or run at most; one more raises QueueFullError at once, so that a client
    hears of it instead of waiting without end.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._jobs = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nordocr-reader")

    @property
    def jobs(self) -> int:
        """Number of jobs that wait or run."""
        return self._jobs

    async def run(self, job: Callable[[], Result]) -> Result:
        """Run a job when its turn comes and return its result; what it raises is raised here."""
        if self._jobs >= self._capacity:
            raise QueueFullError
        self._jobs += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, job)
        finally:
            self._jobs -= 1

    def close(self) -> None:
        """Drop the jobs that wait and end the thread after the one that runs."""
        self._thread.shutdown(wait=True, cancel_futures=True)
