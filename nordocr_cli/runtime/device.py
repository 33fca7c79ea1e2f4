"""The name of a device, parsed in one place for every backend, without torch."""

from dataclasses import dataclass
from typing import Literal

from nordocr_cli.errors import UsageError


@dataclass(frozen=True)
class Device:
    """The requested device. `auto` means a GPU where one works, else the CPU; `index` is the number
    of the GPU. `tensorrt` is a GPU through ONNX Runtime's TensorRT provider.
    """

    kind: Literal["auto", "cpu", "cuda", "tensorrt"]
    index: int = 0

    def __str__(self) -> str:
        if self.kind in ("cuda", "tensorrt"):
            return f"{self.kind}:{self.index}"
        return self.kind


def parse_device(text: str) -> Device:
    """Return the device that `auto`, `cpu`, `cuda` (the first GPU), `cuda:N`, `tensorrt` or
    `tensorrt:N` names. Raises UsageError for anything else.
    """
    match text.split(":"):
        case ["auto"]:
            return Device("auto")
        case ["cpu"]:
            return Device("cpu")
        case ["cuda" | "tensorrt" as kind]:
            return Device(kind)
        case ["cuda" | "tensorrt" as kind, number] if (
            number.isascii() and number.isdecimal()
        ):
            return Device(kind, int(number))
    raise UsageError(
        f"unknown device {text!r}; use auto, cpu, cuda or cuda:N, and for ONNX models tensorrt or"
        " tensorrt:N"
    )
