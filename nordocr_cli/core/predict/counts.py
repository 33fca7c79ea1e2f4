"""What was read and what was not, counted while it happens."""

from dataclasses import dataclass, field

from nordocr_cli.errors import DataError, GateMissed
from nordocr_cli.progress import SILENT, Progress


@dataclass
class Counts:
    """Lines and pages read, pages doubtful, and images, pages and lines that could not be read.

    `first_failure` and `first_doubt` are the first reasons in words.
    """

    progress: Progress = SILENT
    read: int = 0
    pages: int = 0
    failed: int = 0
    doubtful: int = 0
    first_failure: str = field(default="")
    first_doubt: str = field(default="")

    def fail(self, error: DataError) -> None:
        """Name one failure and go on."""
        self.failed += 1
        self.first_failure = self.first_failure or str(error)
        self.progress.warn(str(error))

    def doubt(self, reason: str) -> None:
        """Name one doubtful page or image and go on."""
        self.doubtful += 1
        self.first_doubt = self.first_doubt or reason
        self.progress.warn(f"{reason}; look at the result")

    def require_some(self) -> None:
        """Raise DataError when something was to be read and nothing could be."""
        if self.failed and not self.read and not self.pages:
            raise DataError(
                f"not one line of {self.failed} could be read; the first: {self.first_failure}"
            )

    def require_all(self) -> None:
        """Raise DataError when something could not be read."""
        self.require_some()
        if self.failed:
            raise DataError(
                f"{self.failed} of {self.failed + self.read} could not be read; the first:"
                f" {self.first_failure}"
            )

    def require_no_doubt(self) -> None:
        """Raise GateMissed when a page or an image is doubtful."""
        if self.doubtful:
            raise GateMissed(f"{self.doubtful} doubtful; the first: {self.first_doubt}")
