"""The state that a run is resumed from: plain types and tensors, read with weights_only=True, with
its SHA-256 in a file next to it.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nordocr_cli.atomic import replacing, sha256_of, write_text
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import flatten
from nordocr_cli.training.runlog import LAST, STATE_FILE, STATE_SHA256

STATE_SCHEMA = 1

# A resumed run may change these: they affect what is written and how fast, not what is learned.
FREE_ON_RESUME = frozenset(
    {
        "data.num_workers",
        "data.train",
        "data.val",
        "train.eval_every",
        "train.save_every",
        "train.log_every",
        "description",
    }
)


def save_state(folder: Path, payload: Mapping[str, Any]) -> None:
    """Write `state.pt` and its hash so that a kill at any moment leaves a pair that loads. Raises
    DataError on a full disk.
    """
    target = folder / STATE_FILE
    # torch's own writer reports a full disk as a RuntimeError about positions
    content = io.BytesIO()
    torch.save({"schema": STATE_SCHEMA, **payload}, content)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())
        # While the file is renamed, the sidecar holds both hashes: whichever file a crash leaves,
        # its hash is there. The old file is hashed again, since after such a crash its hash is not
        # the first one recorded.
        hashes = [sha256_of(temporary), *([sha256_of(target)] if target.exists() else [])]
        write_text(folder / STATE_SHA256, "\n".join(hashes) + "\n")


def load_state(folder: Path) -> dict[str, Any]:
    """Read `state.pt` onto the CPU. Raises ArtifactError when it is damaged or of another
    schema.
    """
    path = folder / STATE_FILE
    recorded = _recorded(folder)
    if not recorded:
        raise ArtifactError(
            f"{folder / STATE_SHA256} is missing or empty, without which a damaged {STATE_FILE}"
            f" cannot be recognized; copy it too (`sha256sum` of a {STATE_FILE} that you trust"
            f" creates it), or start a new run with --load {folder / LAST}"
        )
    if sha256_of(path) not in recorded:
        raise ArtifactError(
            f"{path} does not match {STATE_SHA256}; the file is damaged. Start a new run with"
            f" --load {folder / LAST}"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state.get("schema") != STATE_SCHEMA:
        raise ArtifactError(
            f"{path}: state schema {state.get('schema')!r}; this nordocr reads {STATE_SCHEMA}. Use"
            f" --load {folder / LAST}"
        )
    return dict(state)


def require_same_run(
    saved: Mapping[str, Any], requested: Mapping[str, Any], folder: Path
) -> None:
    """Refuse to resume with another charset, geometry, data or profile. Raises UsageError naming
    each field that differs.
    """
    before = flatten(saved)
    now = flatten(requested)
    free = {f"profile.{key}" for key in FREE_ON_RESUME}
    differing = [
        f"{key} is {before.get(key)!r} there and {now.get(key)!r} now"
        for key in sorted(before.keys() | now.keys())
        if key not in free and before.get(key) != now.get(key)
    ]
    if differing:
        raise UsageError(
            f"--resume {folder}: not the same run: {'; '.join(differing)}. A new run from its"
            f" weights: --load {folder}"
        )


def rng_state(device: torch.device) -> dict[str, Any]:
    """Return torch's random state: the CPU's, and that of `device` when it is a GPU."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def restore_rng(state: Mapping[str, Any], device: torch.device) -> bool:
    """Put `rng_state()` back; False when it does not hold all that `device` draws from, or holds
    another device's.
    """
    torch.set_rng_state(state["cpu"])
    if len(state["cuda"]) != (device.type == "cuda"):
        return False
    for gpu in state["cuda"]:
        torch.cuda.set_rng_state(gpu, device)
    return True


def _recorded(folder: Path) -> list[str]:
    try:
        return (folder / STATE_SHA256).read_text(encoding="utf-8").split()
    except OSError:
        return []
