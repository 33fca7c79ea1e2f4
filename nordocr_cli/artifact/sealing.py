"""Digests: each artifact holds the SHA-256 of everything in it, and a changed one is refused.

| artifact | digest | covers |
|---|---|---|
| contract (JSON, wherever it is embedded) | `sha256` in the JSON | every other value of the JSON |
| sidecar of an engine or ONNX model (JSON) | `sha256` in the JSON | every other value |
| weights (.safetensors) | `nordocr.sha256` in the metadata | all tensors and all other metadata |
| ONNX model | `nordocr.file_sha256` in the metadata | every other byte of the file |

Files of the current schema must have their digest. Older ones were written with fewer digests: they
are accepted with an OldArtifactWarning, and `nordocr contract seal` rewrites them.

A digest finds damage and mix-ups. It does not prove who wrote a file: whoever changes a file on
purpose can compute the digest again.
"""

import hashlib
import json
import mmap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import write_json
from nordocr_cli.errors import ArtifactError, NordocrError, OldArtifactWarning
from nordocr_cli.limits import open_regular, read_json

JSON_DIGEST = "sha256"
WEIGHTS_DIGEST = "nordocr.sha256"
ONNX_DIGEST = "nordocr.file_sha256"
# Name, dtype as safetensors writes it, such as `F16`, shape, and bytes in row order.
NamedTensor = tuple[str, str, Sequence[int], bytes | memoryview]
_DIGEST_CHARACTERS = 64
_COPY_AGAIN = "copy the file again from where it was written, or make it again"


def json_digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hex, of a JSON object without its own `sha256`.

    It is that of the UTF-8 text with sorted keys, no spaces and no escapes that JSON does not
    require, so that a reader in another language computes the same.
    """
    content = {key: item for key, item in value.items() if key != JSON_DIGEST}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def sealed_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON object with its digest under `sha256`; one that is there is replaced."""
    return {**value, JSON_DIGEST: json_digest(value)}


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with its digest, atomically. Raises DataError when the disk is full."""
    write_json(path, sealed_json(value))


def read_sealed_json(path: Path, what: str, schema: int) -> dict[str, Any]:
    """Return the JSON object of a sidecar after checking its digest.

    Raises UsageError when there is no such file, ArtifactError when it is damaged, or of a newer
    schema than `schema`. `what` says in messages which kind of file it is.
    """
    value = read_json(path, what, error=ArtifactError)
    require_sealed_json(value, f"{path}", schema)
    return dict(value)


def require_sealed_json(value: Any, where: str, schema: int) -> None:
    """Check the schema and the digest of a JSON object. Raises ArtifactError naming `where`, warns
    of an older schema without a digest.
    """
    if not isinstance(value, Mapping):
        raise ArtifactError(f"{where}: holds no JSON object; make the file again")
    found = value.get("schema")
    if type(found) is not int or not 1 <= found <= schema:
        raise ArtifactError(
            f"{where}: schema {found!r}; this nordocr reads schemas 1 to {schema}: update nordocr"
        )
    if JSON_DIGEST in value:
        if value[JSON_DIGEST] != json_digest(value):
            raise ArtifactError(f"{where} is damaged: its values do not match their digest")
        return
    require_old(found, schema, where)


def require_old(found: int, current: int, where: str) -> None:
    """Accept a file without a digest when its schema is older than `current`, with a warning.
    Raises ArtifactError for a file of the current schema.
    """
    if found >= current:
        raise ArtifactError(f"{where} has lost its digest: it is damaged; {_COPY_AGAIN}")
    warnings.warn(
        f"{where} was written by an older nordocr, without a digest over all of it: damage could"
        " go unnoticed. `nordocr contract seal` adds the digest",
        OldArtifactWarning,
        stacklevel=3,
    )


def weights_digest(tensors: Iterable[NamedTensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256, in hex, of named tensors and of all metadata but the digest itself.

    The order of tensors does not matter.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, content in sorted(tensors, key=lambda tensor: tensor[0]):
        digest.update(json.dumps([name, dtype, list(shape)]).encode() + b"\n")
        digest.update(content)
    for key, text in sorted(metadata.items()):
        if key != WEIGHTS_DIGEST:
            digest.update(json.dumps([key, text]).encode() + b"\n")
    return digest.hexdigest()


def require_weights_digest(
    found: str, metadata: Mapping[str, str], schema: int, current: int, path: Path
) -> None:
    """Compare the digest of weights with the one in their metadata. Raises ArtifactError when they
    differ, or when a file of the current contract schema has none; warns of older files.
    """
    expected = metadata.get(WEIGHTS_DIGEST)
    if expected is None:
        require_old(schema, current, str(path))
    elif expected != found:
        raise ArtifactError(
            f"{path} is damaged: its tensors or its contract are not those that were written;"
            f" {_COPY_AGAIN}"
        )


def sealed_onnx(content: bytes) -> bytes:
    """Return the bytes of an ONNX file with their SHA-256 in place of the 64 zeros that its
    metadata holds under ONNX_DIGEST.

    The digest is that of the file with those zeros, so that it covers every other byte. Raises
    ValueError without the zeros.
    """
    at = _onnx_digest_at(content)
    if at is None or content[at : at + _DIGEST_CHARACTERS] != b"0" * _DIGEST_CHARACTERS:
        raise ValueError(f"no zeros under {ONNX_DIGEST} in the metadata")
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:at] + digest + content[at + _DIGEST_CHARACTERS :]


def require_onnx_digest(content: bytes | mmap.mmap, what: str) -> bool:
    """Check the digest that the bytes of an ONNX file hold; return whether they hold one.

    Raises ArtifactError when the bytes are not those that were written.
    """
    at = _onnx_digest_at(content)
    if at is None:
        return False
    view = memoryview(content)
    found = hashlib.sha256(view[:at])
    found.update(b"0" * _DIGEST_CHARACTERS)
    found.update(view[at + _DIGEST_CHARACTERS :])
    expected = bytes(view[at : at + _DIGEST_CHARACTERS])
    view.release()
    if found.hexdigest().encode() != expected:
        raise ArtifactError(
            f"{what} is damaged: its bytes are not those that export wrote; {_COPY_AGAIN}"
        )
    return True


def require_undamaged_onnx(path: Path) -> bool:
    """Check the digest of an ONNX file; return whether it holds one. The file is neither parsed nor
    copied into memory.

    Raises ArtifactError when it is damaged or cannot be read.
    """
    try:
        with (
            open_regular(path, "ONNX model") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return require_onnx_digest(content, str(path))
    except NordocrError:
        raise
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ArtifactError(
            f"{path} is not a readable ONNX model ({error}); export it again"
        ) from error


def _onnx_digest_at(content: bytes | mmap.mmap) -> int | None:
    """Where the 64 digits of the digest begin; None when there are none.

    A protobuf holds a string as it is. Two bytes stand between key and value: the number of the
    field (0x12) and the length.
    """
    at = content.rfind(ONNX_DIGEST.encode() + bytes((0x12, _DIGEST_CHARACTERS)))
    if at < 0:
        return None
    return at + len(ONNX_DIGEST) + 2
