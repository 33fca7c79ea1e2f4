"""Weights files: `.safetensors` whose header carries the contract, so that a file says by itself
what it reads.

A file that does not fit is refused by name - tensor, shape, charset - and never loaded in part.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from nordocr_cli.artifact.contract import Contract, contract_from_metadata, find_weights
from nordocr_cli.atomic import replacing
from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.checkpoints.fit import require_fit
from nordocr_cli.models.registry import build_model
from nordocr_cli.settings import Model

_DIGEST_KEY = "nordocr.tensors_sha256"


def save_weights(path: Path, state: Mapping[str, Tensor], contract: Contract) -> None:
    """Write a state dict and its contract atomically. `contract.precision` says how kernels and
    matrices are stored, fp32 or fp16; vectors (norms, biases, running statistics) stay fp32, which
    costs nothing and keeps small variances.

    The header also holds the SHA-256 of the tensors, and the same weights give the same bytes.
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
    with replacing(path) as temporary:
        temporary.write_bytes(
            _serialized(tensors, {**contract.metadata_props(), _DIGEST_KEY: _digest(tensors)})
        )


def load_weights(path: Path) -> tuple[dict[str, Tensor], Contract]:
    """Return the state dict (floats as float32, on the CPU) and the contract of a weights file or a
    run folder.

    Raises UsageError when there is no such file and ArtifactError when it is damaged, has no
    contract or is not finite.
    """
    path = find_weights(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is not a readable weights file ({error})") from error
    contract = contract_from_metadata(metadata, str(path))
    if metadata.get(_DIGEST_KEY) not in (None, _digest(state)):  # older files have none
        raise ArtifactError(
            f"{path} is damaged: its tensors are not those that were written; copy or make it again"
        )
    _require_finite(state, str(path))
    return {key: t.float() if t.is_floating_point() else t for key, t in state.items()}, contract


def load_model(path: Path) -> tuple[nn.Module, Contract]:
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
    # fresh weights draw random numbers; loading must not change the caller's
    with torch.random.fork_rng(devices=[]):
        network = build_model(model, contract.charset.num_classes, contract.charset, path.parent)
    require_fit(network, state, str(path), "They do not fit the network that the file itself names")
    network.load_state_dict(state)
    return network.eval(), contract


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


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, in hex, of the names, dtypes, shapes and bytes of the tensors, by name."""
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _require_finite(state: Mapping[str, Tensor], what: str) -> None:
    for key, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(
                f"{what}: tensor {key} holds NaN or infinity; use an earlier checkpoint, or fp32"
            )
