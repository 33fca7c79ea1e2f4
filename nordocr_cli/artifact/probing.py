"""Reading the contract of weights, an ONNX model or an engine without loading the network."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
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
_MAX_TENSORS = 50_000  # a network for lines has some hundred
_PART_BYTES = 1 << 20
# A protobuf, and so an ONNX file, ends at 2 GiB.
MAX_ONNX_BYTES = 2 << 30
# Of the protobuf message ModelProto of ONNX, and how protobuf writes the kinds of fields.
_METADATA_FIELD = 14
_MAX_FIELDS = 10_000
_LENGTH_GIVEN = 2
_FIXED_SIZES = {1: 8, 5: 4}


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
            content = file.read(length)
            if content.count(b'"dtype"') > _MAX_TENSORS:
                raise ValueError(f"more than {_MAX_TENSORS:,} tensors")
            metadata = dict(parse_json(content).get("__metadata__", {}))
            if not all(isinstance(value, str) for value in metadata.values()):
                raise ValueError("metadata that is no text")
            return metadata
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


def onnx_metadata(content: bytes, what: str) -> dict[str, str]:
    """Return the metadata of an ONNX model. Its graph is not looked at, so nothing in it can take
    memory or time. Raises ArtifactError when the bytes are no ONNX model.
    """
    if not content:
        raise ArtifactError(f"{what} is an empty file; export it again")
    found: dict[str, str] = {}
    try:
        for number, value in _protobuf_fields(memoryview(content)):
            if number == _METADATA_FIELD:
                entry = dict(_protobuf_fields(value))
                texts = (bytes(entry.get(field, b"")) for field in (1, 2))
                key, text = (text.decode("utf-8") for text in texts)
                found[key] = text
    except (ValueError, IndexError) as error:
        raise ArtifactError(
            f"{what} is not a readable ONNX model ({error}); export it again"
        ) from error
    return found


def _protobuf_fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, bytes) for the fields of a protobuf message, as they lie in `content`. Raises
    ValueError or IndexError when it is damaged.
    """
    at = fields = 0
    while at < len(content):
        fields += 1
        if fields > _MAX_FIELDS:
            raise ValueError(f"more than {_MAX_FIELDS:,} fields")
        tag, at = _protobuf_integer(content, at)
        if tag & 7 == _LENGTH_GIVEN:
            size, at = _protobuf_integer(content, at)
        elif tag & 7 == 0:  # an integer
            _, end = _protobuf_integer(content, at)
            size = end - at
        elif tag & 7 in _FIXED_SIZES:
            size = _FIXED_SIZES[tag & 7]
        else:
            raise ValueError(f"a field of kind {tag & 7}")
        if at + size > len(content):
            raise ValueError("it is cut off")
        yield tag >> 3, content[at : at + size]
        at += size


def _protobuf_integer(content: memoryview, at: int) -> tuple[int, int]:
    """Return the integer at `at`, seven bits to a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("an integer of more than 64 bits")


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
