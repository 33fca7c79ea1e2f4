"""Memory of a training on a CPU: the settings of glibc's malloc, returning memory to the kernel,
and the cache of oneDNN. No torch.
"""

import ctypes
import os
import sys

# Blocks of 8 MB and more are mapped on their own and returned when they are freed; in the heap,
# tensors of ever new sizes leave holes: 2.8 GB after 60 steps instead of 1.7. To map smaller blocks
# too saves more memory but takes longer: with 1 MB a step takes a fifth longer, with 4 MB a tenth.
_TUNABLES = (
    "glibc.malloc.mmap_threshold=8388608"
    ":glibc.malloc.trim_threshold=536870912"
    ":glibc.malloc.hugetlb=1"
)

# oneDNN keeps the compiled kernels of every shape that it has met, 1,024 of them unless configured
# otherwise. Batches of ever new widths fill that cache with kernels that are never used again.
_PRIMITIVE_CACHE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_PRIMITIVES = "64"


def limit_primitive_cache() -> None:
    """Bound oneDNN's cache of compiled kernels, unless the environment does. It must be called
    before the first operation of torch.
    """
    os.environ.setdefault(_PRIMITIVE_CACHE, _PRIMITIVES)


def malloc_tunables() -> dict[str, str]:
    """Return the environment that lets glibc's malloc return large blocks to the kernel; empty
    where it does not apply.
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
