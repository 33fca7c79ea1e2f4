"""glibc's malloc in a training on a CPU: its settings, and returning memory to the kernel. No
torch.
"""

import ctypes
import sys

_TUNABLES = (
    "glibc.malloc.mmap_threshold=8589934592"
    ":glibc.malloc.trim_threshold=17179869184"
    ":glibc.malloc.hugetlb=1"
)


def malloc_tunables() -> dict[str, str]:
    """Return the environment that keeps glibc from handing every large block back to the kernel,
    which the training loop does now and then instead; empty where it does not apply.
    """
    if not sys.platform.startswith("linux"):
        return {}
    return {"GLIBC_TUNABLES": _TUNABLES}


def give_memory_back() -> None:
    """Return to the kernel what glibc's malloc keeps free. Batches of ever new widths leave holes
    in the heap, which grew to 14 GB.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
