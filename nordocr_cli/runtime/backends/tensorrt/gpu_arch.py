"""GPU architectures: the accepted names, and which TensorRT can build for which architecture."""

import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from nordocr_cli.errors import UsageError, nearest


@dataclass(frozen=True)
class GpuArch:
    """One compute capability. `rtx_bit` is its bit in an RTX engine's header, None where
    TensorRT-RTX cannot target it; no classic TensorRT before `min_tensorrt` (major, minor) builds
    for it.
    """

    name: str  # e.g. "sm86"
    capability: tuple[int, int]  # (major, minor)
    generation: str
    gpus: tuple[str, ...]
    memory_gb: int  # of the first of `gpus`
    rtx_bit: int | None
    min_tensorrt: tuple[int, int]

    @property
    def number(self) -> int:
        """The number in the name, e.g. 86."""
        return 10 * self.capability[0] + self.capability[1]

    def __str__(self) -> str:
        return f"{self.name} ({self.gpus[0]}, {self.generation}, {self.memory_gb} GB)"


# TensorRT 10 is the oldest that the engine builder is written for; Blackwell came with 10.8 (its
# release notes).
ARCHES: tuple[GpuArch, ...] = (
    GpuArch(
        "sm75", (7, 5), "Turing", ("Quadro RTX 8000", "T4", "RTX 2080"), 48, 1, (10, 0)
    ),
    GpuArch("sm80", (8, 0), "Ampere", ("A100",), 80, 2, (10, 0)),
    GpuArch("sm86", (8, 6), "Ampere", ("RTX A6000", "A40", "RTX 3090"), 48, 4, (10, 0)),
    GpuArch("sm89", (8, 9), "Ada", ("RTX 6000 Ada", "L40S", "RTX 4090"), 48, 8, (10, 0)),
    GpuArch("sm90", (9, 0), "Hopper", ("H100", "H200"), 80, None, (10, 0)),
    GpuArch("sm100", (10, 0), "Blackwell", ("B200",), 180, None, (10, 8)),
    GpuArch("sm120", (12, 0), "Blackwell", ("RTX PRO 6000", "RTX 5090"), 96, 16, (10, 8)),
    GpuArch("sm121", (12, 1), "Blackwell", ("GB10",), 128, 32, (10, 8)),
)


# GB of memory of the cards that differ from the first card of their architecture.
_CARD_GB = {
    "T4": 16,
    "RTX 2080": 8,
    "RTX 3090": 24,
    "RTX 4090": 24,
    "H200": 141,
    "RTX 5090": 32,
}


def card_of(text: str) -> tuple[str, int] | None:
    """Return the card that `text` names and its memory in GB, e.g. ("RTX 3090", 24) for "rtx3090";
    None for a capability or a generation.
    """
    name = _squeeze(text)
    for arch in ARCHES:
        for card in arch.gpus:
            if name in (_squeeze(card), _squeeze(card.split(" ", 1)[-1])):
                return card, _CARD_GB.get(card, arch.memory_gb)
    return None


def _squeeze(text: str) -> str:
    return "".join(
        character for character in text.lower() if character.isalnum()
    ).removeprefix("nvidia")


def _spellings() -> dict[str, list[GpuArch]]:
    """Return every accepted spelling, reduced to letters and digits, with the architectures that it
    may mean.
    """
    meanings: dict[str, list[GpuArch]] = {}
    for arch in ARCHES:
        names = {arch.name, str(arch.number), arch.generation, *arch.gpus}
        names |= {
            gpu.split(" ", 1)[1] for gpu in arch.gpus if gpu.startswith(("RTX ", "Quadro "))
        }
        for spelling in {_squeeze(name) for name in names}:
            meanings.setdefault(spelling, []).append(arch)
    meanings["rtxpro6000blackwell"] = meanings["rtx6000pro"] = meanings["rtxpro6000"]
    return meanings


def find_arch(text: str) -> GpuArch:
    """Return the architecture that `text` names: sm86, sm_86, 8.6, 86, compute_86, a6000, rtx-a6000
    and so on.

    Raises UsageError with the nearest name, or with the choices when a generation's name fits
    several.
    """
    meanings = _spellings()
    found = meanings.get(_squeeze(text).removeprefix("compute"), [])
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"{arch.name} ({arch.gpus[0]})" for arch in found)
        raise UsageError(f"--arch {text!r} fits several: name {choices}")
    help_ = nearest(_squeeze(text), [arch.name for arch in ARCHES])
    raise UsageError(
        f"unknown --arch {text!r}: {help_} A compute capability (8.6) or a card (a6000) will do too"
    )


def parse_arches(texts: Iterable[str]) -> tuple[GpuArch, ...]:
    """Return the architectures of repeated or comma-separated names, each once, in order. Raises
    UsageError.
    """
    names = [name for text in texts for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(
            "--arch names no GPU; e.g. --arch sm86 (RTX A6000) or --arch sm120 (RTX PRO 6000"
            " Blackwell)"
        )
    return tuple(dict.fromkeys(find_arch(name) for name in names))


def arch_of(capability: tuple[int, int]) -> GpuArch | None:
    """The architecture of a compute capability (major, minor); None for an unknown one."""
    return next((arch for arch in ARCHES if arch.capability == capability), None)


def local_arch() -> GpuArch | None:
    """The architecture of this machine's first NVIDIA GPU; None when there is no GPU, no driver, or
    an unknown one.
    """
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    major, _, minor = (done.stdout.split() or [""])[0].partition(".")
    if major.isdecimal() and minor.isdecimal():
        return arch_of((int(major), int(minor)))
    return None
