"""Memory of reading pages."""

import ctypes
import sys

_MMAP_THRESHOLD = -3  # of mallopt, see malloc.h
_LARGE_BYTES = 4 << 20


def return_large_blocks() -> None:
    """Let glibc's malloc return blocks of 4 MB and more to the kernel as soon as they are free.

    Otherwise it keeps blocks of up to 32 MB in its heap once the first was freed, and pages of
    different sizes leave holes there: two pages at 600 dpi took 416 MB instead of 343. This changes
    the complete process, so it is for commands, not for programs that import this package.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
