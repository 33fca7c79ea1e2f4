"""The line stores of a training run, opened and in batches."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.train.plan import open_store
from nordocr_cli.core.train.request import TrainRequest, store_and_ratio
from nordocr_cli.data.batch_options import BatchOptions
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, profile_to_json
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    import torch

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.models.base import LineNetwork

_MIN_STEPS = 50  # of an epoch, however much memory there is
_NAMED_ROWS = 3  # row ids that an error names


@dataclass(frozen=True)
class TrainData:
    """The opened line stores, in batches. `identity` holds everything that must be the same in a
    resumed run.
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
    """Open the stores, which `stack` closes; `share` is (rank of this process, processes).

    Raises UsageError for a missing store, DataError for one that does not fit.
    """
    from nordocr_cli.data.batches import LineBatches

    charset = profile.load_charset()
    train = open_train(profile, request, device, stack, share)
    val_stores = _open(request.val, stack)
    identity = {
        "profile": profile_to_json(profile),
        "charset_sha256": charset.sha256,
        "geometry": train.geometry.to_json(),
        "train_content_sha256": [store.header.content_sha256 for store in train.stores],
        "val_content_sha256": [store.header.content_sha256 for store in val_stores],
        "lines_a_batch": lines_per_batch(profile, device),
        "overfit": request.overfit,
        "max_train_samples": request.max_train_samples,
    }
    if share[1] > 1:
        identity["processes"] = share[1]
    ratios = train.options.ratios
    if ratios:
        identity["train_ratios"] = list(ratios)

    only: list[int] | None = None
    if request.overfit:  # judged on the lines that it memorizes
        only = train.members.tolist()
    elif request.max_val_samples:
        only = _spread(sum(map(len, val_stores)), request.max_val_samples)
    options = replace(_common_options(profile, device), only=only)
    val = LineBatches(val_stores, charset, train.geometry, options)
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
    ratios = None
    if any(ratio for _, ratio in named):
        ratios = tuple(ratio or 1.0 for _, ratio in named)
    limit = request.overfit or request.max_train_samples
    only = _spread(sum(map(len, stores)), limit) if limit else None
    options = replace(
        _common_options(profile, device),
        seed=profile.train.seed,
        shuffle=True,
        augment=None if request.overfit else profile.augment,
        mask_share=profile.train.mask_share,
        share=share,
        only=only,
        ratios=ratios,
    )
    geometry = _decided_geometry(profile.geometry, stores)
    return LineBatches(stores, profile.load_charset(), geometry, options)


def fit_batch(
    profile: Profile,
    request: TrainRequest,
    device: "torch.device",
    precision: str,
    processes: int,
) -> tuple[int, str]:
    """Return how many lines a batch of this network may have on this device, and how that was
    measured; never so many that an epoch has fewer than 50 steps. Raises as `largest_batch` does,
    and UsageError for a missing store.
    """
    from nordocr_cli.models.registry import build_branch, build_model
    from nordocr_cli.training.batch_fit import largest_batch
    from nordocr_cli.training.freezing import freeze
    from nordocr_cli.training.step import Stepper

    with ExitStack() as stack:
        paths = [store_and_ratio(path)[0] for path in request.train]
        lines = sum(map(len, _open(paths, stack)))
    lines = min(lines, request.overfit or lines, request.max_train_samples or lines)
    charset = profile.load_charset()
    classes = charset.num_classes
    model = build_model(profile.model, classes, charset).to(device).train()
    freeze(model, profile.train.trainable)
    branch = None
    if profile.train.guidance != "none":
        branch = build_branch(model, classes).to(device)
    stepper = Stepper(model, branch, profile.geometry, profile.train, device, precision)
    maximum = max(1, lines // (_MIN_STEPS * processes))
    return largest_batch(stepper, profile.geometry, classes, maximum)


def require_labels(data: TrainData, model: "LineNetwork", progress: Progress) -> None:
    """Check that the network can learn every label. Raises DataError naming the first rows whose
    label does not fit: the network would learn another text.
    """
    problems = model.label_problems(data.train.rows(), progress)
    if not problems:
        return
    more = ""
    if len(problems) > _NAMED_ROWS:
        more = f" and {len(problems) - _NAMED_ROWS:,} more"
    raise DataError(
        f"{'; '.join(problems[:_NAMED_ROWS])}{more}. Leave such lines out of the manifest and"
        " prepare again"
    )


def _open(paths: Sequence[Path], stack: ExitStack) -> "list[LineStore]":
    return [stack.enter_context(open_store(path)) for path in paths]


def _common_options(profile: Profile, device: "torch.device") -> BatchOptions:
    """What the batches of training and of validation have in common."""
    width_px = profile.train.batch_width_px
    return BatchOptions(
        budget_px=lines_per_batch(profile, device) * width_px,
        workers=profile.data.num_workers,
        pin=device.type == "cuda",
        label_limit=profile.model.label_limit,
        line_px=width_px if profile.model.fixed_input_size else None,
    )


def _decided_geometry(geometry: Geometry, stores: "Sequence[LineStore]") -> Geometry:
    """The profile's geometry, with `over_width = "auto"` replaced by what prep decided for the
    first store.
    """
    if geometry.over_width != "auto":
        return geometry
    return replace(geometry, over_width=stores[0].header.geometry.over_width)


def lines_per_batch(profile: Profile, device: "torch.device") -> int:
    """Return the lines of `batch_width_px` in a full batch on this device."""
    if device.type != "cuda":
        return profile.train.batch_size
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return profile.train.batch_by_arch.get(f"sm{major}{minor}", profile.train.batch_size)


def _spread(lines: int, count: int) -> list[int]:
    """Return `count` line numbers spread evenly over `lines`."""
    taken = min(count, lines)
    return [index * lines // taken for index in range(taken)]
