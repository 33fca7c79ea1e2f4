"""Networks by name. The name of a profile's model table leads to the network's class, which is
imported only when it is needed.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.charset import Charset
from nordocr_cli.geometry import Geometry
from nordocr_cli.settings import MODEL_KINDS, Model, ModelTable

if TYPE_CHECKING:
    from nordocr_cli.models.base import AuxiliaryBranch, LineNetwork


def build_model(
    model: Model,
    num_classes: int,
    charset: Charset | None = None,
    weights_folder: Path | None = None,
) -> "LineNetwork":
    """Return the network of a profile's model table with fresh weights, in training mode.

    TrOCR has its pretrained weights from the start. It alone needs the `charset` of its labels, and
    may need the folder that its weights file lies in.
    """
    return network_class(model.name).create(model, num_classes, charset, weights_folder)


def network_class(name: str) -> "type[LineNetwork]":
    """Return the class of the network `name`, which must be a key of MODEL_KINDS."""
    network: type[LineNetwork] = _load(MODEL_KINDS[name].network)
    return network


def build_branch(network: "LineNetwork", num_classes: int) -> "AuxiliaryBranch":
    """Return the branch that `train.guidance` adds to a network. Raises TypeError where there is
    none, which the check of the profile reports first.
    """
    entry = network.options.auxiliary_branch
    if not entry:
        raise TypeError(f"no auxiliary branch for {network.options.name}")
    branch: AuxiliaryBranch = _load(entry).create(network, num_classes)
    return branch


def check_files(model: ModelTable, geometry: Geometry, *, fresh: bool) -> None:
    """Check the files that a model table names, without torch. `fresh`: training starts without
    weights of ours. Raises UsageError or ArtifactError.
    """
    if model.file_check:
        _load(model.file_check)(model, geometry, fresh)


def _load(entry: str) -> Any:
    """Import "package.module:attribute"."""
    module, _, attribute = entry.partition(":")
    return getattr(import_module(module), attribute)
