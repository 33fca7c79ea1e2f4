"""Weights & Biases in addition to TensorBoard, with --wandb. Needs the extra
`wandb`; `WANDB_MODE=offline` keeps everything in the run's folder until `wandb sync`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nordocr_cli.errors import DataError
from nordocr_cli.extras import missing


def require_wandb() -> None:
    """Raise MissingBackendError when wandb cannot be imported."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise missing("wandb", "--wandb") from error


class WandbBoard:
    """A run in `project`, named as its folder. A session that resumes it writes to the same one,
    found by its id.

    Raises DataError when wandb refuses, for want of a key above all.
    """

    def __init__(
        self, folder: Path, project: str, identity: str, config: Mapping[str, Any]
    ) -> None:
        import wandb

        self._table = wandb.Table
        try:
            self._run = wandb.init(
                project=project,
                name=folder.resolve().name,
                id=identity,
                resume="allow",
                dir=str(folder),
                config=dict(config),
            )
        except wandb.Error as error:
            raise DataError(
                f"wandb: {error}; log in with `wandb login`, or keep it here with"
                " WANDB_MODE=offline"
            ) from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve."""
        self._run.log(dict(values), step=step)

    def samples(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Show (reference, hypothesis) pairs as a table."""
        self._run.log(
            {
                "samples": self._table(
                    columns=["reference", "hypothesis"], data=[list(pair) for pair in pairs]
                )
            },
            step=step,
        )

    def close(self) -> None:
        """End the session; what is not sent yet is sent."""
        self._run.finish()
