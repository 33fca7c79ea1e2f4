"""Which reader takes another program's checkpoint."""

from pathlib import Path

from nordocr_cli.models.checkpoints.foreign import Imported, read_tensors
from nordocr_cli.models.checkpoints.openocr import read_openocr
from nordocr_cli.models.parseq.weights import MARK, read_parseq, without_prefixes


def read_checkpoint(path: Path) -> Imported:
    """Read the checkpoint of another program and find out which network it holds.

    Raises UsageError when there is no such file, and ArtifactError when it is damaged, carries code
    or holds a network that cannot be imported.
    """
    tensors = without_prefixes(read_tensors(path, "CHECKPOINT"))
    if MARK in tensors:
        return read_parseq(tensors, path)
    return read_openocr(tensors, path)
