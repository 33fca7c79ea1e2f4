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
from nordocr_cli.core.train.plan import (
    TrainRequest,
    other_options,
    require_charset,
    with_batch_size,
)
from nordocr_cli.core.train.stores import TrainData, fit_batch, require_labels
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, profile_from_json, profile_to_json
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.guidance import Guidance
    from nordocr_cli.models.head import HeadReport
    from nordocr_cli.training.distributed import Team
    from nordocr_cli.training.freezing import Freezing
    from nordocr_cli.training.state import Limits


# options of which the shapes of the weights say nothing
_SHAPELESS = ("local_window", "scale_positions")


@dataclass(frozen=True)
class Begun:
    """What training goes on from: the network, its contract, the saved `state` of a run that is
    resumed, and what a move of the head did.
    """

    model: "torch.nn.Module"
    contract: Contract
    freezing: "Freezing | None"
    state: dict[str, Any] | None
    head: "HeadReport | None" = None


def begin(profile: Profile, request: TrainRequest, data: TrainData, progress: Progress) -> Begun:
    """Build the network: fresh, with the weights of `--load`, or to be resumed. Raises what does
    not fit.
    """
    from nordocr_cli.models.trocr.network import TrOcr
    from nordocr_cli.training.checkpoint import load_state, require_same_run
    from nordocr_cli.training.freezing import freeze

    if request.resume:
        model = _seeded(profile, data.charset)
        state = load_state(request.resume)
        # Read again by this version, so that a key which the run's version did not have counts as
        # its default.
        then = profile_to_json(profile_from_json(state["identity"]["profile"], str(request.resume)))
        require_same_run({**state["identity"], "profile": then}, data.identity, request.resume)
        contract = contract_from_json(state["contract"], str(request.resume))
        if isinstance(model, TrOcr):
            model.require_same_pretrained(contract.model, str(request.resume))
        return Begun(model, contract, freeze(model, profile.train.trainable), state)
    model, loaded, head = new_network(profile, request, data.charset, data.geometry, progress)
    if isinstance(model, TrOcr):
        require_labels(data, model, progress)
    # what it had learnt it still reads
    seen = [*data.train.width_range, *(loaded.trained_widths or () if loaded else ())]
    contract = Contract(
        charset=data.charset,
        geometry=data.geometry,
        model=(model.options if isinstance(model, TrOcr) else profile.model).model_dump(
            mode="json"
        ),
        profile=profile_to_json(profile),
        trained_widths=(min(seen), max(seen)),
        parent_sha256=sha256_of(find_weights(request.load)) if request.load else None,
    )
    freezing = freeze(model, profile.train.trainable)
    if not request.load:
        warn_of_random(model, progress)
    return Begun(model, contract, freezing, None, head)


def new_network(
    profile: Profile,
    request: TrainRequest,
    charset: Charset,
    geometry: Geometry,
    progress: Progress,
) -> "tuple[torch.nn.Module, Contract | None, HeadReport | None]":
    """Build the network of a new run; with `request.load`, return the contract of its weights, and
    what a move of the head did.

    Raises ArtifactError when the weights are of another charset, geometry or network.
    """
    from nordocr_cli.models.checkpoints.fit import require_fit
    from nordocr_cli.models.head import move_head
    from nordocr_cli.models.registry import load_pretrained
    from nordocr_cli.models.trocr.network import TrOcr
    from nordocr_cli.models.weights import load_weights

    model, head = _seeded(profile, charset), None
    if isinstance(model, TrOcr):
        model.folder.require_geometry(geometry)
    if not request.load:
        load_pretrained(model, progress)
        return model, None, None
    weights, found = load_weights(request.load)
    if isinstance(model, TrOcr):
        model.require_same_pretrained(found.model, str(request.load))
        # its tokens are the same whatever the labels' charset
        found = replace(found, charset=charset)
    elif differences(found.charset, charset):
        if not request.move_head:
            require_charset(found.charset, charset, request.load)
        weights, head = move_head(weights, found.charset, charset)
        found = replace(found, charset=charset)
        progress.note(head.line())
    found.require_readable_by(Contract(charset, geometry, {}), str(request.load))
    require_fit(model, weights, str(request.load), other_options(found.model, profile.model))
    for key in _SHAPELESS:
        was, now = found.model.get(key), profile.model.model_dump(mode="json").get(key)
        if was != now:
            progress.warn(
                f"{request.load} was trained with model.{key} = {was} and goes on with {now}:"
                " another network at first"
            )
    model.load_state_dict(weights)
    return model, found, head


def warn_of_random(model: "torch.nn.Module", progress: Progress) -> None:
    """Say where Mamba blocks that start from random weights are frozen in part."""
    from nordocr_cli.models.mamba import MambaOcr

    if not isinstance(model, MambaOcr) or model.model.pretrained:
        return
    frozen = sum(weight.numel() for weight in model.mamba.parameters() if not weight.requires_grad)
    if frozen:
        progress.warn(
            f"model.pretrained is empty, and train.trainable freezes {frozen:,} parameters of its"
            " blocks: they stay RANDOM. Give a file: --set"
            ' model.pretrained=mamba-130m-hf.safetensors, or put "mamba" into train.trainable'
        )


def _seeded(profile: Profile, charset: Charset) -> "torch.nn.Module":
    import torch

    from nordocr_cli.models.registry import build_model

    torch.manual_seed(profile.train.seed)
    return build_model(profile.model, charset.num_classes, charset)


def guidance_of(
    profile: Profile, model: "torch.nn.Module", charset: Charset, progress: Progress
) -> "Guidance | None":
    """The branch that guides the network, where the profile asks for one."""
    from nordocr_cli.models.guidance import build_guidance

    if profile.train.guidance != "smtr":
        return None
    guidance = build_guidance(model, charset.num_classes)
    progress.note(
        f"guided by context: {sum(p.numel() for p in guidance.parameters()):,} parameters more,"
        " never shipped"
    )
    return guidance


def precision_of(profile: Profile, device: "torch.device", progress: Progress) -> str:
    """The precision that the run computes in on this device."""
    if profile.train.precision == "fp16" and device.type == "cpu":
        progress.warn("fp16 training needs a GPU; this run uses bf16 instead")
        return "bf16"
    return profile.train.precision


def with_fitting_batch(
    profile: Profile,
    request: TrainRequest,
    device: "torch.device",
    precision: str,
    team: "Team",
    progress: Progress,
) -> Profile:
    """The profile with as many lines a batch as fit, where `--batch-size auto` asks for that.
    Raises as `fit_batch` does.
    """
    if request.batch_size != "auto":
        return profile
    fitting, how = fit_batch(profile, request, device, precision, team.size)
    lines = -int(team.most(-fitting))  # of all processes the least
    progress.note(
        how if lines == fitting else f"batch size {lines}: what fits the smallest of the GPUs"
    )
    return with_batch_size(profile, lines)


def lr_scale(profile: Profile, lines_a_batch: int, processes: int = 1) -> float:
    """What the learning rate is multiplied by: the root of the lines of a whole step over
    `lr_batch`.
    """
    here = lines_a_batch * profile.train.accumulate
    return math.sqrt(here * processes / (profile.train.lr_batch or here))


def require_unfinished(state: dict[str, Any], limits: "Limits", lines: int, folder: Path) -> None:
    """Refuse another length for a run that has come to its end: its learning rate is nearly
    nothing, and would stay so.
    """
    from nordocr_cli.training.state import Limits, Position

    before = Limits(**state["limits"]) if "limits" in state else limits
    if before != limits and before.progress(Position(**state["position"]), lines) >= 1.0:
        raise UsageError(
            f"--resume {folder}: this run is finished, its learning rate has come down to nothing."
            f" Start a longer one from its weights: --load {folder}"
        )


def facts_at_start(
    profile: Profile,
    request: TrainRequest,
    data: TrainData,
    begun: Begun,
    device: "torch.device",
    precision: str,
) -> dict[str, Any]:
    """What run.json says of a run at its start."""
    import torch

    from nordocr_cli.models.trocr.network import TrOcr
    from nordocr_cli.training.runlog import environment

    return {
        "environment": environment(),
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "parameters": sum(p.numel() for p in begun.model.parameters()),
        "train": [_facts_of(store) for store in data.train.stores],
        "val": [_facts_of(store) for store in data.val.stores],
        "padding_share": round(data.train.padding_share(), 4),
        "profile": profile_to_json(profile),
        "request": {
            "train": [str(path) for path in request.train],
            "val": [str(path) for path in request.val],
            "max_steps": request.max_steps,
            "max_minutes": request.max_minutes,
            "overfit": request.overfit,
            "max_train_samples": request.max_train_samples,
        },
        **({"freezing": begun.freezing.to_json()} if begun.freezing else {}),
        **(
            {"loaded": {"path": str(request.load), "sha256": begun.contract.parent_sha256}}
            if request.load
            else {}
        ),
        **({"head": begun.head.to_json()} if begun.head else {}),
        **({"trocr": begun.model.to_json()} if isinstance(begun.model, TrOcr) else {}),
    }


def _facts_of(store: "LineStore") -> dict[str, Any]:
    return {
        "path": str(store.path),
        "lines": len(store),
        "content_sha256": store.header.content_sha256,
    }
