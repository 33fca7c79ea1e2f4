"""import: another program's checkpoint as weights of ours, with a contract."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import has_contract
from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import Profile, profile_to_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import Model, ParseqModel


@dataclass(frozen=True)
class ImportPlan:
    """A checkpoint, the charset that it was trained with (as named, and read), and where the
    weights go.
    """

    checkpoint: Path
    output: Path
    charset_named: str
    charset: Charset

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "checkpoint": str(self.checkpoint),
            "output": str(self.output),
            "charset": (
                f"{self.charset.name}, {self.charset.num_classes} classes, sha256"
                f" {self.charset.sha256[:12]}"
            ),
        }


@dataclass(frozen=True)
class ImportResult:
    """What was found and written; `dropped` counts tensors that inference has no use for, by what
    they are.
    """

    output: Path
    model: Mapping[str, Any]
    num_classes: int
    tensors: int
    parameters: int
    dropped: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "output": str(self.output),
            "model": dict(self.model),
            "num_classes": self.num_classes,
            "tensors": self.tensors,
            "parameters": self.parameters,
            "dropped": dict(self.dropped),
        }


def plan_import(checkpoint: Path, charset: str, output: Path) -> ImportPlan:
    """Check what can be checked without torch.

    Raises UsageError when there is no such file, for an unknown charset and an output that is the
    input or not .safetensors.
    """
    if not checkpoint.is_file():
        raise UsageError(
            f"no checkpoint {checkpoint}; it must be on this machine: nothing is downloaded"
        )
    if checkpoint.suffix in (".pdparams", ".pdmodel", ".onnx"):
        raise UsageError(
            f"{checkpoint}: expected a torch or .safetensors checkpoint, not {checkpoint.suffix}"
        )
    if checkpoint.suffix == ".safetensors" and has_contract(checkpoint):
        raise UsageError(
            f"{checkpoint} is nordocr's own: use it as it is, or move its head with `nordocr"
            " charset move`"
        )
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output}: weights are written as .safetensors")
    refuse_inputs(output, [checkpoint])
    return ImportPlan(checkpoint, output, charset, load_charset(charset))


def import_checkpoint(plan: ImportPlan, progress: Progress = SILENT) -> ImportResult:
    """Read the checkpoint, find out which network it holds, and write its weights with a contract.

    Raises ArtifactError when it is damaged, carries code, holds another network, or has other
    classes than the charset.
    """
    from nordocr_cli.models.checkpoints.foreign import read_tensors
    from nordocr_cli.models.checkpoints.openocr import read_openocr
    from nordocr_cli.models.parseq.weights import MARK, read_parseq, without_prefixes
    from nordocr_cli.models.weights import save_weights

    tensors = without_prefixes(read_tensors(plan.checkpoint, "CHECKPOINT"))
    found = (read_parseq if MARK in tensors else read_openocr)(tensors, plan.checkpoint)
    if found.num_classes != plan.charset.num_classes:
        raise ArtifactError(
            f"{plan.checkpoint} has {found.num_classes} classes, charset {plan.charset.name!r}"
            f" {plan.charset.num_classes} (with the blank); give the dictionary that it was trained"
            " with, and for `use_space_char` add a last line with one space"
        )
    if found.window_from:
        height, width = getattr(found.model, "local_window", (0, 0))
        progress.note(f"local attention of {height}x{width}, taken from {found.window_from}")
    profile = _profile(plan, found.model)
    table = profile_to_json(profile)
    contract = Contract(
        charset=plan.charset,
        geometry=profile.geometry,
        model=table["model"],
        profile=table,
        parent_sha256=sha256_of(plan.checkpoint),
    )
    save_weights(plan.output, found.state, contract)
    trained = [
        tensor
        for name, tensor in found.state.items()
        if "running_" not in name and tensor.is_floating_point()
    ]
    return ImportResult(
        output=plan.output,
        model=table["model"],
        num_classes=found.num_classes,
        tensors=len(found.state),
        parameters=sum(tensor.numel() for tensor in trained),
        dropped=found.dropped,
    )


def _profile(plan: ImportPlan, model: Model) -> Profile:
    named = {"name": plan.checkpoint.stem, "charset": plan.charset_named, "model": model}
    if not isinstance(model, ParseqModel):
        return Profile.model_validate(named)
    # A position for each patch of its one width, and a mask always: it stretches each line from its
    # own width.
    tables = {
        "geometry": {"max_width": model.width},
        "train": {"mask_share": 1.0},
        "augment": {"join": 0.0, "pad_right": 0.0},
    }
    return Profile.model_validate({**named, **tables})
