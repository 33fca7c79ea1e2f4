"""Weights files: `.safetensors` whose header carries the contract, so that a file describes by
itself what it reads.

A file that does not fit is refused by name - tensor, shape, charset - and never loaded in part.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from nordocr_cli.artifact.contract import (
    CONTRACT_SCHEMA,
    Contract,
    contract_from_metadata,
    schema_of,
)
from nordocr_cli.artifact.probing import safetensors_metadata
from nordocr_cli.artifact.sealing import (
    WEIGHTS_DIGEST,
    require_weights_digest,
    weights_digest,
)
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import replacing
from nordocr_cli.errors import ArtifactError
from nordocr_cli.limits import require_regular_file
from nordocr_cli.models.base import LineNetwork
from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import Model

# Files of contract schema 1 hold a digest of the tensors alone.
_TENSORS_DIGEST = "nordocr.tensors_sha256"
# A network may register a parameter more than once while it is built.
_PARAMETERS_PER_STORED = 4
_SMALL_NETWORK = 10_000_000
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def save_weights(path: Path, state: Mapping[str, Tensor], contract: Contract) -> None:
    """Write a state dict and its contract atomically. `contract.precision` says how kernels and
    matrices are stored, fp32 or fp16; vectors (norms, biases, running statistics) stay fp32, which
    costs nothing and keeps small variances.

    The header also holds the SHA-256 of the tensors and the contract, and the same weights give the
    same bytes.

    Raises ArtifactError for a tensor with NaN or infinity, one too large for fp16, or an unknown
    precision, and DataError when the disk is full.
    """
    if contract.precision not in ("fp32", "fp16"):
        raise ArtifactError(
            f"{path}: weights are stored as fp32 or fp16, not {contract.precision!r}"
        )
    half = contract.precision == "fp16"
    tensors = {}
    for key, tensor in state.items():
        stored = tensor.detach().cpu()
        if stored.is_floating_point():
            stored = stored.to(torch.float16 if half and stored.ndim > 1 else torch.float32)
        tensors[key] = stored.contiguous()
    _require_finite(tensors, f"refusing to write {path}")
    metadata = contract.metadata_props()
    metadata[WEIGHTS_DIGEST] = weights_digest(_entries(tensors, path), metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(_serialized(tensors, metadata))


def load_weights(path: Path) -> tuple[dict[str, Tensor], Contract]:
    """Return the state dict (floats as float32, on the CPU) and the contract of a weights file or a
    run folder.

    Raises UsageError when there is no such file and ArtifactError when it is damaged, has no
    contract or is not finite.
    """
    path = find_weights(path)
    require_regular_file(path, "weights file")
    # A header of millions of tensors is refused before it is parsed.
    safetensors_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is not a readable weights file ({error})") from error
    contract = contract_from_metadata(metadata, str(path))
    if metadata.get(_TENSORS_DIGEST) not in (None, _tensors_digest(state)):
        raise ArtifactError(
            f"{path} is damaged: its tensors are not those that were written; copy or make it again"
        )
    found = weights_digest(_entries(state, path), metadata)
    require_weights_digest(found, metadata, schema_of(metadata), CONTRACT_SCHEMA, path)
    _require_finite(state, str(path))
    return {
        key: t.float() if t.is_floating_point() else t for key, t in state.items()
    }, contract


def load_model(path: Path) -> tuple[LineNetwork, Contract]:
    """Return the network of a weights file or run folder, in evaluation mode, and its contract.

    Raises UsageError when there is no such file and ArtifactError when it is damaged or does not
    fit its own contract.
    """
    path = find_weights(path)
    state, contract = load_weights(path)
    try:
        model = TypeAdapter(Model).validate_python(dict(contract.model))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ArtifactError(
            f"{path}: this nordocr cannot build its model ({where}: {problem['msg']}); update"
            " nordocr"
        ) from None
    stored = math.inf  # a folder of pretrained weights is checked on its own
    if not model.extends_folder:
        stored = sum(tensor.numel() for tensor in state.values())
    # fresh weights draw random numbers; loading must not change the caller's
    with torch.random.fork_rng(devices=[]), _parameters_limited_to(stored, path):
        network = build_model(
            model, contract.charset.num_classes, contract.charset, path.parent
        )
    require_same_tensors(
        network, state, str(path), "They do not fit the network that the file itself names"
    )
    network.load_state_dict(state)
    return network.eval(), contract


@contextmanager
def _parameters_limited_to(stored: float, path: Path) -> Iterator[None]:
    """Raise ArtifactError when this thread builds a network of many times more parameters than the
    `stored` numbers of its file: a small file may name a network that fills the memory.
    """
    maximum = _PARAMETERS_PER_STORED * stored + _SMALL_NETWORK
    thread = threading.get_ident()
    count = 0

    def count_parameter(module: nn.Module, name: str, parameter: Tensor | None) -> None:
        nonlocal count
        if parameter is None or threading.get_ident() != thread:
            return
        count += parameter.numel()
        if count > maximum:
            raise ArtifactError(
                f"{path} holds {stored:,} numbers, but names a network of more than {maximum:,};"
                " copy the file again, or use one that you trust"
            )

    # Called before the memory of a parameter is first written to.
    hook = register_module_parameter_registration_hook(count_parameter)
    try:
        yield
    finally:
        hook.remove()


def _serialized(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with its metadata in order: the library's own order of several keys
    differs from call to call.
    """
    content = save(dict(tensors), metadata=dict(metadata))
    end = 8 + int.from_bytes(content[:8], "little")
    header = {**json.loads(content[8:end]), "__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return len(text).to_bytes(8, "little") + text + content[end:]


def _entries(
    tensors: Mapping[str, Tensor], path: Path
) -> Iterator[tuple[str, str, list[int], memoryview]]:
    """Yield (name, dtype, shape, bytes) of each tensor, as `weights_digest` takes them."""
    for name, tensor in tensors.items():
        dtype = _DTYPES.get(tensor.dtype)
        if dtype is None:
            raise ArtifactError(
                f"{path}: tensor {name} is {tensor.dtype}, which is not supported"
            )
        yield name, dtype, list(tensor.shape), _bytes_of(tensor)


def _tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """The digest of contract schema 1: SHA-256, in hex, of the tensors alone."""
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _require_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(
                f"{what}: tensor {key} holds NaN or infinity; use an earlier checkpoint, or fp32"
            )
