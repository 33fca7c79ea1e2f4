"""Reading the contract of weights, an ONNX model or an engine without loading the network."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.artifact.contract import (
    CONTRACT_SCHEMA,
    METADATA_KEY,
    Contract,
    contract_from_json,
    contract_from_metadata,
    schema_of,
)
from nordocr_cli.artifact.sealing import (
    ONNX_DIGEST,
    read_sealed_json,
    require_old,
    require_onnx_digest,
)
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.limits import open_regular, parse_json, read_regular

if TYPE_CHECKING:
    import onnx

SIDECAR_SCHEMA = 2
_MAX_HEADER_BYTES = 64 << 20
_PART_BYTES = 1 << 20
# A protobuf, and so an ONNX file, ends at 2 GiB.
MAX_ONNX_BYTES = 2 << 30


def read_contract(path: Path) -> Contract:
    """Read the contract of a weights file (`.safetensors`), an ONNX model or an engine.

    Raises ArtifactError when there is none or it is damaged, UsageError for a file of another kind.
    """
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise UsageError(
            f"{path}: expected weights (.safetensors), a model (.onnx) or an engine (.engine)"
        )
    return reader(path)


def has_contract(weights: Path) -> bool:
    """Whether a `.safetensors` file carries a contract. Raises ArtifactError when it is damaged."""
    return METADATA_KEY in safetensors_metadata(weights)


def safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file: a length (8 bytes, little endian), then a JSON
    header. Raises ArtifactError when it is damaged, UsageError when it is not a regular file.
    """
    with open_regular(path, "weights file") as file:
        try:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = parse_json(file.read(length))
            return dict(header.get("__metadata__", {}))
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise ArtifactError(
                f"{path} is not a readable weights file ({error})"
            ) from error


def tensors_sha256(path: Path) -> str:
    """Return the SHA-256 of the tensors in a safetensors file, without its header: files that
    differ only in their contract have the same. Raises UsageError when it is no regular file.
    """
    digest = hashlib.sha256()
    with open_regular(path, "weights file") as file:
        length = int.from_bytes(file.read(8), "little")
        file.seek(8 + length)
        while part := file.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()


def read_onnx(path: Path, what: str | None = None) -> "tuple[onnx.ModelProto, Contract]":
    """Return an ONNX model without its external data, and its contract, from one reading of the
    file. `what` names the file in messages.

    Raises ArtifactError when it is damaged or has no contract, UsageError when there is no such
    regular file.
    """
    content, what = read_regular(path, MAX_ONNX_BYTES, "ONNX model"), what or str(path)
    has_digest = require_onnx_digest(content, what)
    model = parse_onnx(content, what)
    if has_digest and any(tensor.external_data for tensor in model.graph.initializer):
        raise ArtifactError(
            f"{what} keeps weights in another file, which its digest does not cover; put them into"
            f" one file: nordocr contract attach {what} --contract RUN -o NEW.onnx"
        )
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return model, contract_of_onnx(metadata, has_digest, what)


def parse_onnx(content: bytes, what: str) -> "onnx.ModelProto":
    """Return the model that bytes hold, without its external data. Raises ArtifactError."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(content)
    except (ValueError, DecodeError) as error:
        raise ArtifactError(
            f"{what} is not a readable ONNX model ({error}); export it again"
        ) from error
    if not model.graph.node:  # an empty file parses as an empty model
        raise ArtifactError(
            f"{what} is not an ONNX model: {len(content)} bytes without a node; export it again"
        )
    return model


def contract_of_onnx(metadata: Mapping[str, str], has_digest: bool, what: str) -> Contract:
    """Return the contract in ONNX metadata. `has_digest` says whether the digest of the file was
    found and right.

    Raises ArtifactError when there is no contract, it is damaged, or a file of the current schema
    has no digest.
    """
    contract = contract_from_metadata(metadata, what)
    if not has_digest:
        if ONNX_DIGEST in metadata:
            raise ArtifactError(
                f"{what} is damaged: its digest cannot be read; export it again"
            )
        require_old(schema_of(metadata), CONTRACT_SCHEMA, what)
    return contract


def _contract_of_weights(path: Path) -> Contract:
    return contract_from_metadata(safetensors_metadata(path), str(path))


def _contract_of_onnx(path: Path) -> Contract:
    return read_onnx(path)[1]


def _contract_of_engine(path: Path) -> Contract:
    sidecar = Path(f"{path}.json")
    if not sidecar.is_file():
        raise ArtifactError(f"{path} has no sidecar {sidecar.name}; build the engine again")
    value = read_sealed_json(sidecar, f"sidecar of {path.name}", SIDECAR_SCHEMA)
    return contract_from_json(value.get("contract"), str(sidecar))


_READERS: dict[str, Callable[[Path], Contract]] = {
    ".safetensors": _contract_of_weights,
    ".onnx": _contract_of_onnx,
    ".engine": _contract_of_engine,
}
