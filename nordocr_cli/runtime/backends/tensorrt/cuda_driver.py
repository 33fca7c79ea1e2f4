"""The few calls of the CUDA driver that an engine needs: a context, a stream, memory, copies. Every
host with an NVIDIA GPU has the driver, so a deployment host needs neither torch nor a CUDA package.
"""

import ctypes
import sys
from typing import Any

from numpy.typing import NDArray

from nordocr_cli.errors import MissingBackendError

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_OUT_OF_MEMORY = 2
# The attributes of a device that hold the major and the minor number.
_CAPABILITY = (75, 76)


class Cuda:
    """One GPU's primary context, which TensorRT uses too, and one stream on it. `capability` is
    that GPU's (major, minor).

    Raises MissingBackendError when there is no driver or no such GPU, or when a call fails.
    """

    def __init__(self, index: int = 0, driver: Any = None) -> None:
        try:
            self._driver = driver or ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise MissingBackendError(
                f"no NVIDIA driver on this machine ({error}); use the .onnx here"
            ) from None
        self._call("cuInit", 0)
        device = ctypes.c_int()
        context = ctypes.c_void_p()
        stream = ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), index)
        self.capability = (
            self._attribute(_CAPABILITY[0], device),
            self._attribute(_CAPABILITY[1], device),
        )
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._context = context
        self.enter()
        self._call("cuStreamCreate", ctypes.byref(stream), 0)
        self._stream = stream

    @property
    def stream(self) -> int:
        """The handle of the stream, as TensorRT expects it."""
        return int(self._stream.value or 0)

    def enter(self) -> None:
        """Make the context current in this thread. A context is current only in the thread that set
        it.
        """
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """Return the address of `size` bytes on the GPU."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return int(address.value)

    def free(self, address: int) -> None:
        """Free memory on the GPU."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def to_device(self, address: int, values: NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU, in the stream's order."""
        size = ctypes.c_size_t(values.nbytes)
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(address),
            ctypes.c_void_p(values.ctypes.data),
            size,
            self._stream,
        )

    def to_host(self, address: int, values: NDArray[Any]) -> None:
        """Copy from the GPU into a contiguous array and wait until the stream has finished all its
        work.
        """
        assert values.flags.c_contiguous
        size = ctypes.c_size_t(values.nbytes)
        self._call(
            "cuMemcpyDtoHAsync_v2",
            ctypes.c_void_p(values.ctypes.data),
            ctypes.c_uint64(address),
            size,
            self._stream,
        )
        self._call("cuStreamSynchronize", self._stream)

    def _attribute(self, number: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, device)
        return value.value

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(code, ctypes.byref(text))
            why = (text.value or b"").decode(errors="replace") or "unknown"
            if code == _OUT_OF_MEMORY:
                help_ = "; read fewer lines at once, or build the engine with a lower --max"
            else:
                help_ = ""
            raise MissingBackendError(
                f"the NVIDIA driver says to {name}: {why} ({code}){help_}"
            )


class GpuBuffer:
    """Memory on the GPU that grows on request and never shrinks."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._size = 0
        self._address = 0

    def reserve(self, size: int) -> int:
        """Return the address of at least `size` bytes. Growing loses the content."""
        if size > self._size:
            if self._address:
                self._cuda.free(self._address)
                # so that nothing writes there when the larger block cannot be allocated
                self._size = self._address = 0
            self._address = self._cuda.allocate(size)
            self._size = size
        return self._address
