"""The weights files that a Mamba profile names, checked without torch."""

from pathlib import Path

from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.settings import MambaModel

_KEYS = ("backbone_weights", "pretrained")


def require_mamba_files(model: MambaModel, _geometry: Geometry, fresh: bool) -> None:
    """Check that the files exist. Weights of ours hold everything, so that a run which starts from
    them needs no file. Raises UsageError.
    """
    if not fresh:
        return
    for key in _KEYS:
        path = getattr(model, key)
        if path and not Path(path).is_file():
            raise UsageError(
                f"model.{key}: no file {path}; it must be on this machine: nothing is downloaded"
            )
