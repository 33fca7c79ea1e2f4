"""How a training run begins: its network with the weights that it starts from, its precision and
learning rate, and the facts that run.json records.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact.contract import Contract, contract_from_json
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import Charset, differences
from nordocr_cli.core.train.plan import TrainPlan, other_options, require_charset
from nordocr_cli.core.train.request import TrainRequest, with_batch_size
from nordocr_cli.core.train.stores import TrainData, fit_batch, require_labels
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, profile_from_json, profile_to_json
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.base import AuxiliaryBranch, LineNetwork
    from nordocr_cli.models.head_transfer import HeadReport
    from nordocr_cli.training.distributed import DistributedContext
    from nordocr_cli.training.freezing import Freezing
    from nordocr_cli.training.state import RunLimits


@dataclass(frozen=True)
class NewNetwork:
    """A network that a run starts from. With `--load`, `loaded` is the contract of the weights and
    `head` what moving the head changed.
    """

    model: "LineNetwork"
    loaded: Contract | None = None
    head: "HeadReport | None" = None


@dataclass(frozen=True)
class TrainStart:
    """What training starts from: the network, its contract, what is frozen, and the saved `state`
    of a run that is resumed.
    """

    model: "LineNetwork"
    contract: Contract
    freezing: "Freezing | None"
    state: dict[str, Any] | None
    head: "HeadReport | None" = None


def start_training(
    profile: Profile, request: TrainRequest, data: TrainData, progress: Progress
) -> TrainStart:
    """Build the network: fresh, with the weights of `--load`, or to be resumed. Raises UsageError,
    ArtifactError or DataError for what does not fit.
    """
    if request.resume:
        return _resumed(profile, request.resume, data)
    return _new(profile, request, data, progress)


def _resumed(profile: Profile, folder: Path, data: TrainData) -> TrainStart:
    from nordocr_cli.training.checkpoint import load_state, require_same_run
    from nordocr_cli.training.freezing import freeze

    model = _seeded(profile, data.charset)
    state = load_state(folder)
    # Validated by this version, so that a key which the run's version did not have gets its
    # default.
    saved_profile = profile_from_json(state["identity"]["profile"], str(folder))
    saved = {**state["identity"], "profile": profile_to_json(saved_profile)}
    require_same_run(saved, data.identity, folder)
    contract = contract_from_json(state["contract"], str(folder))
    model.require_same_base(contract.model, str(folder))
    return TrainStart(model, contract, freeze(model, profile.train.trainable), state)


def _new(
    profile: Profile, request: TrainRequest, data: TrainData, progress: Progress
) -> TrainStart:
    from nordocr_cli.training.freezing import freeze

    made = new_network(profile, request, data.charset, data.geometry, progress)
    model = made.model
    require_labels(data, model, progress)
    # Widths that the loaded weights were trained on still count as trained.
    seen = [*data.train.width_range]
    if made.loaded and made.loaded.trained_widths:
        seen += made.loaded.trained_widths
    contract = Contract(
        charset=data.charset,
        geometry=data.geometry,
        model=model.options.model_dump(mode="json"),
        profile=profile_to_json(profile),
        trained_widths=(min(seen), max(seen)),
        parent_sha256=sha256_of(find_weights(request.load)) if request.load else None,
        language_model=made.loaded.language_model if made.loaded else None,
    )
    freezing = freeze(model, profile.train.trainable)
    if not request.load:
        model.warn_of_frozen(progress)
    return TrainStart(model, contract, freezing, None, made.head)


def new_network(
    profile: Profile,
    request: TrainRequest,
    charset: Charset,
    geometry: Geometry,
    progress: Progress,
) -> NewNetwork:
    """Build the network of a new run, with the weights of `request.load` where given.

    Raises ArtifactError when the weights are of another charset, geometry or network.
    """
    from nordocr_cli.models.checkpoints.fit import require_same_tensors
    from nordocr_cli.models.head_transfer import move_head
    from nordocr_cli.models.weights import load_weights

    model = _seeded(profile, charset)
    model.require_geometry(geometry)
    if not request.load:
        model.load_pretrained(progress)
        return NewNetwork(model)

    weights, found = load_weights(request.load)
    model.require_same_base(found.model, str(request.load))
    head = None
    if model.own_tokens:
        found = replace(found, charset=charset)  # its tokens fit labels of any charset
    elif differences(found.charset, charset):
        if not request.move_head:
            require_charset(found.charset, charset, request.load)
        weights, head = move_head(weights, found.charset, charset, type(model))
        found = replace(found, charset=charset)
        progress.note(head.line())
    found.require_readable_by(Contract(charset, geometry, {}), str(request.load))
    require_same_tensors(
        model, weights, str(request.load), other_options(found.model, profile.model)
    )
    _warn_of_shapeless(found, profile, request.load, progress)
    model.load_state_dict(weights)
    return NewNetwork(model, found, head)


def _warn_of_shapeless(
    found: Contract, profile: Profile, load: Path, progress: Progress
) -> None:
    """Warn of options that changed although the weights' shapes do not show it."""
    now = profile.model.model_dump(mode="json")
    for key in profile.model.shapeless:
        if found.model.get(key) != now.get(key):
            progress.warn(
                f"{load} was trained with model.{key} = {found.model.get(key)} and continues with"
                f" {now.get(key)}: at first it reads worse"
            )


def _seeded(profile: Profile, charset: Charset) -> "LineNetwork":
    import torch

    from nordocr_cli.models.registry import build_model

    torch.manual_seed(profile.train.seed)
    return build_model(profile.model, charset.num_classes, charset)


def auxiliary_branch(
    profile: Profile, model: "LineNetwork", charset: Charset, progress: Progress
) -> "AuxiliaryBranch | None":
    """Return the auxiliary branch of the network, where the profile requests one."""
    from nordocr_cli.models.registry import build_branch

    if profile.train.guidance == "none":
        return None
    branch = build_branch(model, charset.num_classes)
    parameters = sum(parameter.numel() for parameter in branch.parameters())
    progress.note(f"guided by context: {parameters:,} parameters more, never shipped")
    return branch


def precision_of(profile: Profile, device: "torch.device", progress: Progress) -> str:
    """Return the precision that the run computes in on this device."""
    if profile.train.precision == "fp16" and device.type == "cpu":
        progress.warn("fp16 training needs a GPU; this run uses bf16 instead")
        return "bf16"
    return profile.train.precision


def with_fitting_batch(
    profile: Profile,
    request: TrainRequest,
    device: "torch.device",
    precision: str,
    context: "DistributedContext",
    progress: Progress,
) -> Profile:
    """Return the profile with as many lines a batch as fit, where `--batch-size auto` requests
    that. Raises as `fit_batch` does.
    """
    if request.batch_size != "auto":
        return profile
    fitting, how = fit_batch(profile, request, device, precision, context.world_size)
    lines = -int(context.all_reduce_max(-fitting))  # the minimum of all processes
    if lines < fitting:
        how = f"batch size {lines}: what fits the smallest of the GPUs"
    progress.note(how)
    return with_batch_size(profile, lines)


def lr_scale(profile: Profile, lines_per_batch: int, processes: int = 1) -> float:
    """Return the factor of the learning rate: the square root of the lines of a step over
    `lr_batch`.
    """
    own_lines = lines_per_batch * profile.train.accumulate
    return math.sqrt(own_lines * processes / (profile.train.lr_batch or own_lines))


def require_unfinished(
    state: dict[str, Any], limits: "RunLimits", lines: int, folder: Path
) -> None:
    """Refuse another length for a run that has reached its end: its learning rate is nearly zero,
    and would stay so. Raises UsageError.
    """
    from nordocr_cli.training.state import RunLimits, TrainState

    before = RunLimits(**state["limits"]) if "limits" in state else limits
    if (
        before != limits
        and before.progress(TrainState.from_saved(state["position"]), lines) >= 1.0
    ):
        raise UsageError(
            f"--resume {folder}: this run is finished, its learning rate has come down to nothing."
            f" Start a longer one from its weights: --load {folder}"
        )


def facts_at_start(
    plan: TrainPlan,
    data: TrainData,
    start: TrainStart,
    device: "torch.device",
    precision: str,
) -> dict[str, Any]:
    """Return what run.json records at the start of a run."""
    import torch

    from nordocr_cli.training.runlog import run_environment

    request = plan.request
    if device.type == "cpu":
        device_name = str(device)
    else:
        device_name = torch.cuda.get_device_name(device)
    facts: dict[str, Any] = {
        "environment": run_environment(),
        "device": device_name,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "parameters": sum(parameter.numel() for parameter in start.model.parameters()),
        "train": [_facts_of(store) for store in data.train.stores],
        "val": [_facts_of(store) for store in data.val.stores],
        "padding_share": round(data.train.padding_share(), 4),
        "profile": profile_to_json(plan.profile),
        "request": {
            "train": [str(path) for path in request.train],
            "val": [str(path) for path in request.val],
            "max_steps": request.max_steps,
            "max_minutes": request.max_minutes,
            "overfit": request.overfit,
            "max_train_samples": request.max_train_samples,
        },
    }
    if start.freezing:
        facts["freezing"] = start.freezing.to_json()
    if request.load:
        facts["loaded"] = {
            "path": str(request.load),
            "sha256": start.contract.parent_sha256,
        }
    if start.head:
        facts["head"] = start.head.to_json()
    own_facts = start.model.facts()
    if own_facts:
        facts[plan.profile.model.name] = own_facts
    if plan.origins:
        facts["origins"] = dict(plan.origins)
    return facts


def _facts_of(store: "LineStore") -> dict[str, Any]:
    return {
        "path": str(store.path),
        "lines": len(store),
        "content_sha256": store.header.content_sha256,
    }
