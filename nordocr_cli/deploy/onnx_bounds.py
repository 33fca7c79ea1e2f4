"""What a network may take in ONNX Runtime: so much memory, and so much time for one call.

An ONNX model is a program: a kilobyte of it may request a terabyte or compute for a year, and a
digest does not say who wrote it. ONNX Runtime is therefore given one pool of memory with an upper
limit for all networks, and a call that takes too long is ended before its next operator.

Operators without inputs from outside are usually computed when the model is opened, where nothing
can end them. Here they wait for a call: the models that nordocr exports have none that would cost
time (`mamba-320`, `parseq-32x128`, `svtr-32x128`, `svtrv2-768` and the shipped ones open and run as
fast without, to the same outputs). Both hold on a CPU; a GPU has its own memory, and a network is
opened there as ONNX Runtime does it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

# Of the memory of the machine; a training checkpoint of the largest profile runs in a tenth of it.
_SHARE_OF_MEMORY = 0.5
_LEAST_BYTES = 4 << 30
# By the clock, on a busy machine: a batch of the widest lines takes a minute there.
CALL_LIMIT_S = 600.0
_LOOKS_EVERY_S = 5.0
_AT_A_CALL = ["ConstantFolding"]


def memory_limit() -> int:
    """Return the bytes that all networks in ONNX Runtime may take together on a CPU."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return 2 * _LEAST_BYTES
    return max(_LEAST_BYTES, int(_SHARE_OF_MEMORY * total))


def bounded_session(model: str | bytes, options: Any) -> Any:
    """Open a model, a path or its bytes, on the CPU with `options`, an onnxruntime.SessionOptions.
    It takes its memory from the common pool, which has a limit, and computes nothing while it is
    opened. Raises ONNX Runtime's own errors.
    """
    import onnxruntime

    _make_pool()
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,
        disabled_optimizers=_AT_A_CALL,
    )


@cache
def _make_pool() -> None:
    import onnxruntime

    default = -1
    settings = onnxruntime.OrtArenaCfg(
        {
            "max_mem": memory_limit(),
            "arena_extend_strategy": default,
            "initial_chunk_size_bytes": default,
            "max_dead_bytes_per_chunk": default,
        }
    )
    place = onnxruntime.OrtMemoryInfo(
        "Cpu",
        onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
        0,
        onnxruntime.OrtMemType.DEFAULT,
    )
    onnxruntime.create_and_register_allocator(place, settings)


class CallWatch:
    """Ends calls of networks that take longer than `limit_s`. May be shared by threads.

    One thread looks at all calls every few seconds, since starting one for each call would take
    longer than the call of a small network.
    """

    def __init__(
        self, limit_s: float = CALL_LIMIT_S, looks_every_s: float = _LOOKS_EVERY_S
    ) -> None:
        self.limit_s = limit_s
        self._looks_every_s = looks_every_s
        self._lock = threading.Lock()
        self._calls: dict[int, tuple[float, Any]] = {}
        self._process = 0  # whose thread looks at the calls

    @contextmanager
    def call(self) -> Iterator[Any]:
        """Yield the options of a run. When they say `terminate` after it failed, it took too
        long.
        """
        import onnxruntime

        options = onnxruntime.RunOptions()
        with self._lock:
            self._calls[id(options)] = (time.monotonic() + self.limit_s, options)
            if self._process != os.getpid():  # a fork has no thread of its parent
                self._process = os.getpid()
                threading.Thread(target=self._look, daemon=True).start()
        try:
            yield options
        finally:
            with self._lock:
                del self._calls[id(options)]

    def _look(self) -> None:
        while True:
            time.sleep(self._looks_every_s)
            with self._lock:
                if not self._calls:
                    self._process = 0
                    return
                for end, options in self._calls.values():
                    if time.monotonic() > end:
                        options.terminate = True


# The watch of all sessions of this process.
WATCH = CallWatch()
