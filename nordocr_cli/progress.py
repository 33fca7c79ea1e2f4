"""How the core reports its progress to its caller. The core uses this protocol; the console
implements it.
"""

from typing import Protocol


class Progress(Protocol):
    """Receives progress, notes and warnings of long work. One task at a time: `start`, then
    `advance`, then `finish`.
    """

    def start(self, label: str, total: int | None = None, unit: str = "lines") -> None:
        """Begin a task of `total` units (None = not known)."""

    def advance(self, units: int = 1, **fields: str) -> None:
        """Add `units` done; `fields` are shown next to the bar, e.g. `loss="0.41"`."""

    def finish(self) -> None:
        """End the task."""

    def note(self, message: str) -> None:
        """Say one line about what was done."""

    def warn(self, message: str) -> None:
        """Say one line about something that the user should know, a fallback above all."""


class Silent:
    """A Progress that shows nothing: the default of every core function."""

    def start(self, label: str, total: int | None = None, unit: str = "lines") -> None:
        """Ignore."""

    def advance(self, units: int = 1, **fields: str) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def note(self, message: str) -> None:
        """Ignore."""

    def warn(self, message: str) -> None:
        """Ignore."""


SILENT = Silent()
