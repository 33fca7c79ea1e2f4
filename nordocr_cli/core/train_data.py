"""The line stores of a training run, opened and in batches."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nordocr_cli.core.train_request import TrainRequest, open_store
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import Profile, profile_to_json

if TYPE_CHECKING:
    import torch

    from nordocr_cli.charset import Charset
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore


@dataclass(frozen=True)
class TrainData:
    """The opened line stores, in batches. `identity` is all that makes a run this run: a resumed one must have the same."""

    charset: "Charset"
    geometry: Geometry
    train: "LineBatches"
    val: "LineBatches"
    identity: dict[str, Any]


def open_data(profile: Profile, request: TrainRequest, device: "torch.device", stack: ExitStack) -> TrainData:
    """Open the stores, which `stack` closes. Raises UsageError for a missing store, DataError for one that does not fit."""
    from nordocr_cli.data.batches import LineBatches
    from nordocr_cli.data.store import LineStore

    settings, charset, lines_a_batch = profile.train, profile.load_charset(), _lines_a_batch(profile, device)
    train_stores, val_stores = (
        [stack.enter_context(open_store(path, LineStore)) for path in paths] for paths in (request.train, request.val)
    )
    geometry = _decided(profile.geometry, train_stores)
    common: dict[str, Any] = {
        "budget_px": lines_a_batch * settings.batch_width_px,
        "workers": profile.data.num_workers,
        "pin": device.type == "cuda",
    }
    wanted = request.overfit or request.max_train_samples
    only = _spread(sum(map(len, train_stores)), wanted) if wanted else None
    train_batches = LineBatches(
        train_stores,
        charset,
        geometry,
        seed=settings.seed,
        shuffle=True,
        augment=None if request.overfit else profile.augment,
        mask_share=settings.mask_share,
        only=only,
        **common,
    )
    identity = {
        "profile": profile_to_json(profile),
        "charset_sha256": charset.sha256,
        "geometry": geometry.to_json(),
        "train_content_sha256": [store.header.content_sha256 for store in train_stores],
        "val_content_sha256": [store.header.content_sha256 for store in val_stores],
        "lines_a_batch": lines_a_batch,
        "overfit": request.overfit,
        "max_train_samples": request.max_train_samples,
    }
    # An overfit check is judged on the very lines that it learns.
    val_batches = LineBatches(val_stores, charset, geometry, only=only if request.overfit else None, **common)
    return TrainData(charset, geometry, train_batches, val_batches, identity)


def _decided(geometry: Geometry, stores: "Sequence[LineStore]") -> Geometry:
    """The profile's geometry, with `over_width = "auto"` replaced by what prep decided for the first store."""
    return replace(geometry, over_width=stores[0].header.geometry.over_width) if geometry.over_width == "auto" else geometry


def _lines_a_batch(profile: Profile, device: "torch.device") -> int:
    if device.type == "cuda":
        import torch

        major, minor = torch.cuda.get_device_capability(device)
        return profile.train.batch_by_arch.get(f"sm{major}{minor}", profile.train.batch_size)
    return profile.train.batch_size


def _spread(lines: int, wanted: int) -> list[int]:
    """`wanted` line numbers spread evenly over `lines`."""
    return [index * lines // min(wanted, lines) for index in range(min(wanted, lines))]
