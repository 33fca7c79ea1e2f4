"""import: another program's checkpoint as weights of ours, with a contract."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import has_contract
from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.profile import Profile, load_profile, profile_to_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.settings import Model

if TYPE_CHECKING:
    from nordocr_cli.models.checkpoints.foreign import Imported

FOREIGN_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")
_NOT_TORCH = (".pdparams", ".pdmodel", ".onnx")


@dataclass(frozen=True)
class ImportPlan:
    """A checkpoint, the charset that it was trained with (as named, and read), and where the
    weights go. `profile` is the one that the weights will carry; without it a bare one of the
    network. `assumed` means that nobody named it, so that the network found may be another.
    """

    checkpoint: Path
    output: Path
    charset_named: str
    charset: Charset
    profile: Profile | None = None
    assumed: bool = False

    def require_profile(self) -> Profile:
        """Return the profile. Raises UsageError where none was named."""
        if self.profile is None:
            raise UsageError(f"{self.checkpoint}: name the profile that it was trained by")
        return self.profile

    def contract(self) -> Contract:
        """Return the contract that the weights will have if the network is the profile's."""
        profile = self.require_profile()
        table = profile_to_json(profile)
        return Contract(
            charset=self.charset,
            geometry=profile.geometry,
            model=table["model"],
            profile=table,
            trained_widths=self.trained_widths(),
        )

    def trained_widths(self) -> tuple[int, int] | None:
        """The line widths in pixels of the training, as the named profile says; None where they are
        not known.
        """
        if self.profile is None or self.assumed:
            return None
        return self.profile.geometry.width_multiple, self.profile.geometry.max_width

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "checkpoint": str(self.checkpoint),
            "output": str(self.output),
            "charset": (
                f"{self.charset.name}, {self.charset.num_classes} classes, sha256"
                f" {self.charset.sha256[:12]}"
            ),
            "profile": self.profile.name if self.profile else None,
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
    contract: Contract

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


def is_foreign(path: Path) -> bool:
    """Whether a file is another program's checkpoint: torch's, or a .safetensors without a
    contract.
    """
    if not path.is_file():
        return False
    if path.suffix == ".safetensors":
        return not has_contract(path)
    return path.suffix in FOREIGN_SUFFIXES


def plan_import(
    checkpoint: Path,
    charset: str | None,
    output: Path | None,
    *,
    profile: str | None = None,
    sets: Sequence[str] = (),
    assumed: bool = False,
) -> ImportPlan:
    """Check what can be checked without torch. `charset` may be left out where the profile has it;
    `output` is chosen by the caller where it is None.

    Raises UsageError when there is no such file, for an unknown charset or profile, and an output
    that is the input or not .safetensors.
    """
    _require_checkpoint(checkpoint)
    if output is not None and output.suffix != ".safetensors":
        raise UsageError(f"-o {output}: weights are written as .safetensors")
    if output is not None:
        refuse_inputs(output, [checkpoint])
    if sets and profile is None:
        raise UsageError("--set changes a profile; name it with --profile")
    flags = {"charset": charset}
    if profile is not None:
        resolved = load_profile(profile, sets, flags).profile
    else:
        resolved = None
    named = resolved.charset if resolved else charset
    if named is None:
        raise UsageError(
            "--charset FILE: the characters that it was trained with, e.g. its dictionary .txt; or"
            " --profile NAME, which has a charset"
        )
    target = output or checkpoint.with_suffix(".safetensors")
    return ImportPlan(checkpoint, target, named, load_charset(named), resolved, assumed)


def _require_checkpoint(checkpoint: Path) -> None:
    if not checkpoint.is_file():
        raise UsageError(
            f"no checkpoint {checkpoint}; it must be on this machine: nothing is downloaded"
        )
    if checkpoint.suffix in _NOT_TORCH:
        raise UsageError(
            f"{checkpoint}: expected a torch or .safetensors checkpoint, not {checkpoint.suffix}"
        )
    if checkpoint.suffix == ".safetensors" and has_contract(checkpoint):
        raise UsageError(
            f"{checkpoint} is nordocr's own: use it as it is, or move its head with `nordocr"
            " charset move`"
        )


def import_checkpoint(plan: ImportPlan, progress: Progress = SILENT) -> ImportResult:
    """Read the checkpoint, find out which network it holds, and write its weights with a contract.

    Raises ArtifactError when it is damaged, carries code, holds another network than the profile
    says, or has other classes than the charset.
    """
    from nordocr_cli.models.checkpoints.readers import read_checkpoint
    from nordocr_cli.models.weights import save_weights

    found = read_checkpoint(plan.checkpoint)
    _require_classes(plan, found)
    if found.window_from:
        height, width = getattr(found.model, "local_window", (0, 0))
        progress.note(
            f"local attention of {height}x{width}, taken from {found.window_from}"
        )
    profile = _profile(plan, found.model, progress)
    table = profile_to_json(profile)
    contract = Contract(
        charset=plan.charset,
        geometry=profile.geometry,
        model=table["model"],
        profile=table,
        trained_widths=plan.trained_widths(),
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
        contract=contract,
    )


def _require_classes(plan: ImportPlan, found: "Imported") -> None:
    if found.num_classes == plan.charset.num_classes:
        return
    raise ArtifactError(
        f"{plan.checkpoint} has {found.num_classes} classes, charset {plan.charset.name!r}"
        f" {plan.charset.num_classes} (with the blank); give the dictionary that it was trained"
        " with, and for `use_space_char` add a last line with one space"
    )


def _profile(plan: ImportPlan, model: Model, progress: Progress) -> Profile:
    """The profile that the weights carry: the one that was named, or a bare one of the network."""
    if plan.profile is None:
        return _bare_profile(plan, model)
    _require_network(plan, plan.profile, model, progress)
    table = {**profile_to_json(plan.profile), "model": model.model_dump(mode="json")}
    table["charset"] = plan.charset_named
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise ArtifactError(
            f"{plan.checkpoint} does not fit profile {plan.profile.name}: {problem}"
        ) from None


def _require_network(
    plan: ImportPlan, profile: Profile, model: Model, progress: Progress
) -> None:
    """Refuse a checkpoint of another network than the profile's. Raises ArtifactError naming each
    option with both values.
    """
    theirs = model.model_dump(mode="json")
    ours = profile.model.model_dump(mode="json")
    keys = ("name",) if theirs["name"] != ours["name"] else tuple(theirs)
    differing = [
        f"model.{key} is {theirs[key]}, the profile's {ours[key]}"
        for key in keys
        if key not in model.training_only and theirs[key] != ours[key]
    ]
    if not differing:
        return
    if plan.assumed and theirs["name"].startswith("svtr"):
        progress.note(
            f"{plan.checkpoint}: {'; '.join(differing)}; the checkpoint's is used"
        )
        return
    if theirs["name"] != ours["name"]:
        fix = f"name a profile of {theirs['name']} with --profile"
    else:
        sets = (
            f"--set model.{key}={theirs[key]}" for key in keys if theirs[key] != ours[key]
        )
        fix = "use " + " ".join(sets)
    raise ArtifactError(
        f"{plan.checkpoint} is not the network of profile {profile.name}: {'; '.join(differing)};"
        f" {fix}"
    )


def _bare_profile(plan: ImportPlan, model: Model) -> Profile:
    named = {"name": plan.checkpoint.stem, "charset": plan.charset_named, "model": model}
    return Profile.model_validate({**named, **model.import_tables()})
