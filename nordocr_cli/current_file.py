"""Which file each thread reads now, for warnings of libraries that do not name it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_THREAD = threading.local()


@contextmanager
def reading_file(what: str) -> Iterator[None]:
    """In this block, warnings of this thread are about `what`."""
    before = current_file()
    _THREAD.what = what
    try:
        yield
    finally:
        _THREAD.what = before


def current_file() -> str:
    """Return what this thread reads, "" when that is not known."""
    return str(getattr(_THREAD, "what", ""))
