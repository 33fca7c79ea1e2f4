"""The log that TensorRT writes to while it builds or runs an engine."""

import re
from types import ModuleType
from typing import Any

# Without a driver TensorRT-RTX ends every error message with this. It needs no driver, so this is
# never the reason.
_NOISE = re.compile(
    r"catchCudaError|CUDA driver version is insufficient|CUDA initialization failure|Error reading"
    r" CUDA GPU"
)
_MEMORY = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")


def recorder(trt: ModuleType) -> Any:
    """Return a logger that keeps errors, warnings and the memory figures. It must not raise, since
    TensorRT discards exceptions.
    """
    severity = trt.ILogger.Severity

    class Recorder(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []
            self.memory: dict[str, int] = {}

        def log(self, level: Any, message: str) -> None:
            if level in (severity.ERROR, severity.INTERNAL_ERROR):
                self.errors.append(message)
            elif level == severity.WARNING:
                self.warnings.append(message)
            else:
                self._record_memory(message)

        def _record_memory(self, message: str) -> None:
            # reported for each shape range
            found = _MEMORY.search(message)
            if found:
                kind = found[1]
                size = int(found[2])
                self.memory[kind] = max(self.memory.get(kind, 0), size)

        def reason(self, before: str) -> str:
            """Return the distinct errors so far after the prefix `before`; "" without any. The
            noise is shown only when there is nothing else.
            """
            lines = list(
                dict.fromkeys(" ".join(message.split()) for message in self.errors)
            )
            shown = [line for line in lines if not _NOISE.search(line)] or lines
            if shown:
                return before + " | ".join(shown)
            return ""

    return Recorder()
