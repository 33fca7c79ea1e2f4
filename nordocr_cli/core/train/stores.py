"""The line stores of a training run, opened and in batches."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.train.plan import TrainRequest, open_store, store_and_ratio
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, profile_to_json
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.trocr.network import TrOcr

_LEAST_STEPS = 50  # of an epoch, whatever memory there is
_LEAST_PX = 8  # half a patch of TrOCR's encoder: narrower characters share one
_NAMED_ROWS = 3  # as many row ids as an error names


@dataclass(frozen=True)
class TrainData:
    """The opened line stores, in batches. `identity` is all that makes a run this run: a resumed
    one must have the same.
    """

    charset: "Charset"
    geometry: Geometry
    train: "LineBatches"
    val: "LineBatches"
    identity: dict[str, Any]


def open_data(
    profile: Profile,
    request: TrainRequest,
    device: "torch.device",
    stack: ExitStack,
    share: tuple[int, int] = (0, 1),
) -> TrainData:
    """Open the stores, which `stack` closes; `share` is (number of this process, processes).

    Raises UsageError for a missing store, DataError for one that does not fit."""
    from nordocr_cli.data.batches import LineBatches

    charset, train = profile.load_charset(), open_train(profile, request, device, stack, share)
    val_stores = _open(request.val, stack)
    identity = {
        "profile": profile_to_json(profile),
        "charset_sha256": charset.sha256,
        "geometry": train.geometry.to_json(),
        "train_content_sha256": [store.header.content_sha256 for store in train.stores],
        "val_content_sha256": [store.header.content_sha256 for store in val_stores],
        "lines_a_batch": lines_a_batch(profile, device),
        "overfit": request.overfit,
        "max_train_samples": request.max_train_samples,
        **({"processes": share[1]} if share[1] > 1 else {}),
        **({"train_ratios": list(train.ratios)} if train.ratios else {}),
    }
    # An overfit check is judged on the very lines that it learns.
    judged = (
        _spread(sum(map(len, val_stores)), request.max_val_samples)
        if request.max_val_samples
        else None
    )
    only = train.members.tolist() if request.overfit else judged
    val = LineBatches(val_stores, charset, train.geometry, only=only, **_common(profile, device))
    return TrainData(charset, train.geometry, train, val, identity)


def open_train(
    profile: Profile,
    request: TrainRequest,
    device: "torch.device",
    stack: ExitStack,
    share: tuple[int, int] = (0, 1),
) -> "LineBatches":
    """Open the stores to train on, which `stack` closes, as batches. Raises as `open_data` does."""
    from nordocr_cli.data.batches import LineBatches

    named = [store_and_ratio(path) for path in request.train]
    stores = _open([path for path, _ in named], stack)
    wanted = request.overfit or request.max_train_samples
    return LineBatches(
        stores,
        profile.load_charset(),
        _decided(profile.geometry, stores),
        seed=profile.train.seed,
        shuffle=True,
        augment=None if request.overfit else profile.augment,
        mask_share=profile.train.mask_share,
        share=share,
        only=_spread(sum(map(len, stores)), wanted) if wanted else None,
        ratios=[ratio or 1.0 for _, ratio in named] if any(ratio for _, ratio in named) else None,
        **_common(profile, device),
    )


def fit_batch(
    profile: Profile, request: TrainRequest, device: "torch.device", precision: str, processes: int
) -> tuple[int, str]:
    """How many lines a batch of this network may have on this device, and how that was found. Never
    so many that an epoch has fewer than 50 steps. Raises as `largest_batch` does, and UsageError
    for a missing store.
    """
    from nordocr_cli.models.guidance import build_guidance
    from nordocr_cli.models.registry import build_model
    from nordocr_cli.training.batch_fit import largest_batch
    from nordocr_cli.training.freezing import freeze
    from nordocr_cli.training.step import Stepper

    with ExitStack() as stack:
        lines = sum(map(len, _open([store_and_ratio(path)[0] for path in request.train], stack)))
    lines = min(lines, request.overfit or lines, request.max_train_samples or lines)
    charset = profile.load_charset()
    classes = charset.num_classes
    model = build_model(profile.model, classes, charset).to(device).train()
    freeze(model, profile.train.trainable)
    guidance = (
        build_guidance(model, classes).to(device) if profile.train.guidance == "smtr" else None
    )
    stepper = Stepper(model, guidance, profile.geometry, profile.train, device, precision)
    return largest_batch(
        stepper, profile.geometry, classes, max(1, lines // (_LEAST_STEPS * processes))
    )


def require_labels(data: TrainData, model: "TrOcr", progress: Progress) -> None:
    """Check the labels of `data` by the tokenizer of `model`, and warn of lines that it will see
    crushed.

    Raises DataError naming the first rows to train on whose label is too long in tokens, or comes
    back as another text: the network would learn what does not stand there.
    """
    problems: list[str] = []
    crushed, most = 0, model.folder.image_size[1] // _LEAST_PX
    for row in data.train.rows():
        crushed += len(row.text) > most
        if problem := model.label_problem(row.text):
            problems.append(f"row {row.id!r} {problem}")
    if problems:
        raise DataError(
            "; ".join(problems[:_NAMED_ROWS])
            + (f" and {len(problems) - _NAMED_ROWS:,} more" if len(problems) > _NAMED_ROWS else "")
            + ". Leave such lines out of the manifest and prepare again"
        )
    if crushed:
        height, width = model.folder.image_size
        progress.warn(
            f"{crushed:,} of {len(data.train):,} lines have more than {most} characters: in a"
            f" picture of {height}x{width} px each of them is less than {_LEAST_PX} px wide, and is"
            " read badly. svtrv2-nano reads long lines"
        )


def _open(paths: Sequence[Path], stack: ExitStack) -> "list[LineStore]":
    from nordocr_cli.data.store import LineStore

    return [stack.enter_context(open_store(path, LineStore)) for path in paths]


def _common(profile: Profile, device: "torch.device") -> dict[str, Any]:
    """What the batches of training and of validation have in common."""
    return {
        "budget_px": lines_a_batch(profile, device) * profile.train.batch_width_px,
        "workers": profile.data.num_workers,
        "pin": device.type == "cuda",
        "max_label_length": getattr(profile.model, "max_label_length", None),
        "line_px": profile.train.batch_width_px if profile.model.name == "trocr" else None,
    }


def _decided(geometry: Geometry, stores: "Sequence[LineStore]") -> Geometry:
    """The profile's geometry, with `over_width = "auto"` replaced by what prep decided for the
    first store.
    """
    return (
        replace(geometry, over_width=stores[0].header.geometry.over_width)
        if geometry.over_width == "auto"
        else geometry
    )


def lines_a_batch(profile: Profile, device: "torch.device") -> int:
    """Lines of `batch_width_px` in a full batch on this device."""
    if device.type == "cuda":
        import torch

        major, minor = torch.cuda.get_device_capability(device)
        return profile.train.batch_by_arch.get(f"sm{major}{minor}", profile.train.batch_size)
    return profile.train.batch_size


def _spread(lines: int, wanted: int) -> list[int]:
    """`wanted` line numbers spread evenly over `lines`."""
    return [index * lines // min(wanted, lines) for index in range(min(wanted, lines))]
