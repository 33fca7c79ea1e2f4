"""Seal: rewrite models of an older schema with the digests of the current one.

The values stay as they are: the same tensors, graph and contract. Only the digest, and so the hash
of the file, changes. A model that names another one as its parent by that hash gets the new hash,
when both are sealed in one call.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import SIDECAR_SCHEMA, read_contract, read_onnx
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import sha256_of, write_bytes, write_json
from nordocr_cli.errors import ArtifactError, OldArtifactWarning, UsageError
from nordocr_cli.limits import read_json

_SUFFIXES = (".safetensors", ".onnx", ".engine")


@dataclass(frozen=True)
class SealedFile:
    """A file that was sealed: the SHA-256 of all its bytes before and after."""

    path: Path
    before: str
    after: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"path": str(self.path), "before": self.before, "after": self.after}


def plan_seal(models: Sequence[Path]) -> list[Path]:
    """Return the files that `models` name, parents before what was made from them.

    Raises UsageError for a file of another kind, ArtifactError for one whose contract is damaged.
    """
    paths = [find_weights(path) for path in models]
    for path in paths:
        if path.suffix not in _SUFFIXES:
            raise UsageError(f"{path}: only {', '.join(_SUFFIXES)} files are sealed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldArtifactWarning)
        return _parents_first(paths)


def seal(models: Sequence[Path]) -> list[SealedFile]:
    """Seal weights, ONNX models and engines in place.

    Raises UsageError for a file of another kind, ArtifactError for one that is damaged already: the
    digests that it has are checked first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OldArtifactWarning)  # the reason to seal it
        return _seal_all(plan_seal(models))


def _seal_all(paths: Sequence[Path]) -> list[SealedFile]:
    new_hashes: dict[str, str] = {}
    sealed = []
    for path in paths:
        before = sha256_of(path)
        if path.suffix == ".safetensors":
            _seal_weights(path, new_hashes)
        elif path.suffix == ".onnx":
            _seal_onnx(path, new_hashes)
        else:
            _seal_engine(path, new_hashes)
        after = sha256_of(path)
        new_hashes[before] = after
        sealed.append(SealedFile(path, before, after))
    return sealed


def _parents_first(paths: Sequence[Path]) -> list[Path]:
    """The files in an order in which each one's parent, if it is among them, comes first."""
    by_hash = {sha256_of(path): path for path in paths}
    ordered: list[Path] = []
    for path in paths:
        chain = []
        current: Path | None = path
        while current is not None and current not in ordered and current not in chain:
            chain.append(current)
            current = by_hash.get(read_contract(current).parent_sha256 or "")
        ordered.extend(reversed(chain))
    return ordered


def _seal_weights(path: Path, new_hashes: Mapping[str, str]) -> None:
    import torch

    from nordocr_cli.models.weights import load_weights, save_weights

    state, contract = load_weights(path)
    temporary = path.with_name(f".{path.name}.sealing.safetensors")
    try:
        save_weights(temporary, state, _with_new_parent(contract, new_hashes))
        written, _ = load_weights(temporary)
        same = state.keys() == written.keys() and all(
            torch.equal(state[name], written[name]) for name in state
        )
        if not same:
            raise ArtifactError(
                f"{path}: its tensors are not stored as its precision {contract.precision!r} says;"
                " it is left as it is: save it again with the nordocr that wrote it"
            )
        write_bytes(path, temporary.read_bytes())
    finally:
        temporary.unlink(missing_ok=True)


def _seal_onnx(path: Path, new_hashes: Mapping[str, str]) -> None:
    from nordocr_cli.deploy.onnx_file import (
        GOLDEN_INDEX,
        contract_path,
        file_bytes,
        golden_path,
        inspect_onnx,
        load_external_data,
    )

    before = sha256_of(path)
    model, contract = read_onnx(path)
    load_external_data(model, path, str(path))
    write_bytes(path, file_bytes(model, _with_new_parent(contract, new_hashes), path.name))
    if contract_path(path).is_file():
        write_sealed_json(contract_path(path), inspect_onnx(path).sidecar())
    index = golden_path(path) / GOLDEN_INDEX
    if index.is_file():
        _point_golden_at(index, before, sha256_of(path))


def _point_golden_at(index: Path, before: str, after: str) -> None:
    """Golden lines name their model by its hash; those of another model are left as they are."""
    golden = read_json(index, "index of golden lines", error=ArtifactError)
    model = golden.get("model") if isinstance(golden, dict) else None
    if isinstance(model, dict) and model.get("sha256") == before:
        write_json(index, {**golden, "model": {**model, "sha256": after}})


def _seal_engine(path: Path, new_hashes: Mapping[str, str]) -> None:
    from nordocr_cli.runtime.backends.tensorrt.engine_file import read_sidecar, sidecar_path

    contract = read_contract(path)
    sidecar = read_sidecar(path)
    onnx = dict(sidecar.get("onnx") or {})
    if "sha256" in onnx:
        onnx["sha256"] = new_hashes.get(onnx["sha256"], onnx["sha256"])
        sidecar["onnx"] = onnx
    sidecar["schema"] = SIDECAR_SCHEMA
    sidecar["contract"] = _with_new_parent(contract, new_hashes).to_json()
    write_sealed_json(sidecar_path(path), sidecar)


def _with_new_parent(contract: Contract, new_hashes: Mapping[str, str]) -> Contract:
    parent = contract.parent_sha256
    if parent is None:
        return contract
    return replace(contract, parent_sha256=new_hashes.get(parent, parent))
