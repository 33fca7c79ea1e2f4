"""merge-lora: a fine-tuned TrOCR as one folder that transformers can load, with the adapters merged
into the weights.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs, replacing, sha256_of
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.progress import SILENT, Progress

# Copied from the pretrained folder: tokenizer and image processor. The files of the network itself
# are written by transformers.
_COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
    "processor_config.json",
)
# Maximum difference of a logit: merged weights round differently from separate adapters.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class MergePlan:
    """Weights of a TrOCR and the folder to write."""

    weights: Path
    contract: Contract
    output: Path

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        model = self.contract.model
        return {
            "weights": str(self.weights),
            "pretrained": model["pretrained"],
            "lora_rank": model["lora_rank"],
            "output": str(self.output),
        }


@dataclass(frozen=True)
class LoraMergeResult:
    """The written folder. `max_diff` is the maximum difference of a logit between the merged
    network and the one with adapters.
    """

    output: Path
    parameters: int
    max_diff: float
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "output": str(self.output),
            "parameters": self.parameters,
            "max_diff": self.max_diff,
            "files": list(self.files),
        }


def plan_merge(weights: Path, output: Path) -> MergePlan:
    """Return what `merge` would do, without torch.

    Raises UsageError for weights of another network, for weights that are already merged, and for
    an output that exists.
    """
    source = find_weights(weights)
    contract = read_contract(source)
    if contract.decoding != "seq2seq":
        name = contract.model.get("name")
        more = ""
        if contract.model.get("use_lora"):
            more = "; `nordocr export` merges its adapters automatically"
        raise UsageError(f"{source} is a {name}, and merge-lora is for trocr{more}")
    if not contract.model["pretrained"]:
        raise UsageError(f"{source} is already merged")
    refuse_inputs(output, [source])
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"-o {output} already exists; give a new folder")
    return MergePlan(source, contract, output)


def merge_adapters(plan: MergePlan, progress: Progress = SILENT) -> LoraMergeResult:
    """Write the folder. It appears only when complete, and only if the merged network computes the
    same as the one with adapters. Besides transformers' files it holds a `best.safetensors` with
    the contract and without tensors, so that every command that reads lines accepts the folder.
    Raises ArtifactError for weights that do not fit, and when the results differ.
    """
    from nordocr_cli.models.trocr.folder import WEIGHTS
    from nordocr_cli.models.trocr.network import difference, require_trocr
    from nordocr_cli.models.weights import load_model, save_weights
    from nordocr_cli.training.runlog import BEST

    network, contract = load_model(plan.weights)
    model = require_trocr(network)
    merged: Any = model.merged().eval()
    found = difference(model, merged)
    if not found <= _TOLERANCE:
        raise ArtifactError(
            f"{plan.weights}: the merged network computes something else, a logit differs by"
            f" {found:.1e}; nothing was written"
        )
    with replacing(plan.output) as temporary:
        temporary.mkdir()
        merged.save_pretrained(temporary)
        # transformers makes the weights readable for their owner only
        shutil.copymode(temporary / "config.json", temporary / WEIGHTS)
        for name in _COPIED:
            if (model.folder.path / name).is_file():
                shutil.copy(model.folder.path / name, temporary / name)
        table = {
            **contract.model,
            "pretrained": "",
            "pretrained_sha256": sha256_of(temporary / WEIGHTS),
            "lora_rank": 0,
            "load_in": "fp32",
        }
        merged_contract = replace(
            contract, model=table, parent_sha256=sha256_of(plan.weights), precision="fp32"
        )
        save_weights(temporary / BEST, {}, merged_contract)
        files = tuple(sorted(path.name for path in temporary.iterdir()))
    parameters = sum(weight.numel() for weight in merged.parameters())
    progress.note(f"merged: logits differ by {found:.1e} at most from those with adapters")
    return LoraMergeResult(plan.output, parameters, found, files)
