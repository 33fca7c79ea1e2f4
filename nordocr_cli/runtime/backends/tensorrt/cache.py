"""Engines that need no second build: the existing one, and those of a cache folder. The key covers
everything that an engine depends on.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_bytes, write_json
from nordocr_cli.errors import ArtifactError
from nordocr_cli.progress import Progress
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    read_engine,
    read_sidecar,
    sidecar_path,
)


def cache_key(depends_on: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of what an engine depends on, as JSON."""
    return hashlib.sha256(
        json.dumps(depends_on, sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()


def find_engine(
    engine: Path, folder: Path | None, key: str, progress: Progress
) -> tuple[Path, dict[str, Any]] | None:
    """Return an engine with this key and its sidecar, from `engine` or from the cache `folder`;
    None when it has to be built. An engine whose bytes do not match its sidecar is not used, with a
    warning.
    """
    for path in (engine, *([_cached(folder, key)] if folder else ())):
        if not path.is_file() or not sidecar_path(path).is_file():
            continue
        try:
            sidecar = read_sidecar(path)
        except ArtifactError as error:
            progress.warn(f"not used from the cache: {error}")
            continue
        if sidecar.get("cache_key") == key:
            return path, sidecar
    return None


def keep_engine(engine: Path, folder: Path, key: str) -> None:
    """Put a copy of an engine and its sidecar into the cache folder. Raises DataError when the disk
    is full.
    """
    target = _cached(folder, key)
    content, sidecar = read_engine(engine)
    write_bytes(target, content)
    write_json(sidecar_path(target), sidecar)


def _cached(folder: Path, key: str) -> Path:
    return folder / f"{key}.engine"
