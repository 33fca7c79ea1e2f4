"""The recognizers that are on this machine by name: those that ship, and those that were added to
the cache folder with `models get`. Nothing is downloaded.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.shipped import SHIPPED, added_models_folder
from nordocr_cli.atomic import replacing, sha256_of
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.limits import read_text, require_regular_or_folder

SUMS = "SHA256SUMS"
_SUFFIXES = (".safetensors", ".int8.onnx", ".onnx")
_PART = re.compile(r"\.part-?\d+$")
_SUM_LINE = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class NamedModel:
    """A recognizer with its files: the same network as weights, ONNX and int8 ONNX."""

    name: str
    files: tuple[Path, ...]
    ships: bool

    @property
    def megabytes(self) -> float:
        """Size of all files."""
        return sum(path.stat().st_size for path in self.files) / 1e6

    def to_json(self) -> dict[str, Any]:
        """Return the model as plain JSON values."""
        return {
            "name": self.name,
            "ships": self.ships,
            "megabytes": round(self.megabytes, 1),
            "files": [str(path) for path in self.files],
        }


def named_models() -> list[NamedModel]:
    """Return the recognizers that are known by name, those that ship first."""
    return [*_in_folder(SHIPPED, True), *_in_folder(added_models_folder(), False)]


def find_model(name: str) -> NamedModel:
    """Return a recognizer by name. Raises UsageError naming the nearest one."""
    models = {model.name: model for model in named_models()}
    if name not in models:
        raise UsageError(f"no recognizer {name!r} on this machine; {nearest(name, models)}")
    return models[name]


def describe_model(model: NamedModel) -> dict[str, Any]:
    """Return what a recognizer reads and the checksums of its files."""
    from nordocr_cli.artifact.probing import read_contract

    weights = [path for path in model.files if path.suffix == ".safetensors"]
    contract = read_contract(weights[0] if weights else model.files[0])
    return {
        **model.to_json(),
        "charset": contract.charset.name,
        "classes": contract.charset.num_classes,
        "network": contract.model.get("name", ""),
        "height_px": contract.geometry.height,
        "max_width_px": contract.geometry.max_width,
        "sha256": {path.name: sha256_of(path) for path in model.files},
    }


def add_model(sources: Sequence[Path]) -> list[Path]:
    """Copy model files, or the parts of one, into the cache folder and return the new files.

    A source is a model file, or a folder with model files, parts (`NAME.onnx.part-00`, …) and
    SHA256SUMS. Where there is a SHA256SUMS next to a file, its content must agree; parts need one.
    Raises UsageError when a source is no model, DataError when a checksum differs or a part is
    missing.
    """
    added = []
    for source in sources:
        for name, pieces in _pieces(source).items():
            added.append(_join(name, pieces))
    if not added:
        raise UsageError(f"no model file in {', '.join(map(str, sources))}")
    return added


def _in_folder(folder: Path, ships: bool) -> list[NamedModel]:
    if not folder.is_dir():
        return []
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        name = _model_name(path)
        if name:
            found.setdefault(name, []).append(path)
    return [NamedModel(name, tuple(files), ships) for name, files in sorted(found.items())]


def _model_name(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.endswith(suffix):
            return path.name.removesuffix(suffix)
    return ""


def _pieces(source: Path) -> dict[str, list[Path]]:
    """Return the files of a source by the name of the model file that they make."""
    if not source.exists():
        raise UsageError(f"no file or folder {source}")
    require_regular_or_folder(source)
    files = [source]
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.is_file())
    pieces: dict[str, list[Path]] = {}
    for path in files:
        name = _PART.sub("", path.name)
        if _model_name(Path(name)):
            pieces.setdefault(name, []).append(path)
    return pieces


def _join(name: str, pieces: list[Path]) -> Path:
    """Write the pieces as one file, checked against SHA256SUMS next to them."""
    sums = _checksums(pieces[0].parent / SUMS)
    is_in_parts = any(_PART.search(path.name) for path in pieces)
    if is_in_parts and name not in sums:
        raise DataError(
            f"{pieces[0].parent / SUMS} does not name {name}: parts need a checksum"
        )

    target = added_models_folder() / name
    with replacing(target) as temporary:
        with temporary.open("wb") as joined:
            for path in pieces:
                with path.open("rb") as piece:
                    while chunk := piece.read(_CHUNK_BYTES):
                        joined.write(chunk)
        expected = sums.get(name)
        found = sha256_of(temporary)
        if expected and found != expected:
            raise DataError(
                f"{name}: sha256 {found[:12]}…, expected {expected[:12]}…; a part is missing or"
                " damaged: get the files again"
            )
    return target


def _checksums(path: Path) -> dict[str, str]:
    """Return the checksums of a SHA256SUMS file by file name; empty without the file."""
    if not path.is_file():
        return {}
    sums = {}
    for number, line in enumerate(
        read_text(path, "list of checksums").splitlines(), start=1
    ):
        match = _SUM_LINE.match(line)
        if match is None:
            raise DataError(f"{path}:{number}: expected a SHA-256 and a file name")
        sums[match[2]] = match[1]
    return sums
