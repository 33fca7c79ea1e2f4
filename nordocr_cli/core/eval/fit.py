"""Whether a network can read the lines of a store, and whether they are what it was made for."""

from typing import TYPE_CHECKING

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import SHIPPED
from nordocr_cli.errors import ArtifactError
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.data.store_header import StoreHeader

# What may differ between a store and the network that reads it: the network pads and normalizes by
# itself, and widths and resampling change how well a line can be read, not what it says. Lines
# that a store holds as they were are tightened when they are read.
_ONLY_WARNED = ("max_width", "over_width", "resampler", "tighten")
_NETWORKS_OWN = ("pad_value", "normalization")
_ADVICE = (
    "make a store with the model's profile, or name the lines' manifest, which is prepared as the"
    " model needs"
)


def require_line_fit(
    lines: "LineStore | ManifestLines", contract: Contract, model: str, progress: Progress
) -> None:
    """Refuse a network that cannot read the store; warn where it can but does not get the lines
    that it was made for.

    `model` names it in messages. Raises ArtifactError naming the charsets, or each value of the
    geometry, that differ.
    """
    from nordocr_cli.data.manifest_lines import ManifestLines

    if not isinstance(lines, ManifestLines):
        _require_store_fit(lines, contract, model, progress)
    if not contract.trained_widths:
        return

    _, widest = contract.trained_widths
    beyond = int((lines.widths > widest).sum())
    if beyond:
        progress.warn(
            f"{beyond} lines are wider than {widest} px, the widest in {model}'s training; see the"
            " widths"
        )


def _other_reader(header: "StoreHeader") -> str:
    """Name a recognizer that ships and writes the store's charset, if there is one."""
    for file in sorted(SHIPPED.glob("*.safetensors")):
        if read_contract(file).charset.sha256 == header.charset_sha256:
            return f", or take {file.stem}, which writes {header.charset_name!r}"
    return ""


def _require_store_fit(
    lines: "LineStore", contract: Contract, model: str, progress: Progress
) -> None:
    header = lines.header
    if contract.charset.sha256 != header.charset_sha256:
        raise ArtifactError(
            f"{model} writes charset {contract.charset.name!r} ({contract.charset.sha256[:12]}…),"
            f" {lines.path} was made for {header.charset_name!r} ({header.charset_sha256[:12]}…);"
            f" {_ADVICE}{_other_reader(header)}"
        )
    conflicts = header.geometry.conflicts(
        contract.geometry, ignore=(*_ONLY_WARNED, *_NETWORKS_OWN)
    )
    if conflicts:
        raise ArtifactError(
            f"{lines.path} does not fit {model} (store / model): {'; '.join(conflicts)};"
            f" {_ADVICE}"
        )
    warned = header.geometry.conflicts(
        contract.geometry, ignore=("height", "width_multiple", "stride", *_NETWORKS_OWN)
    )
    if warned:
        limit = contract.geometry.max_width
        narrowed = int((lines.widths > limit).sum())
        if contract.geometry.over_width == "center-crop":
            done = "cropped"
        else:
            done = "squashed"
        if narrowed:
            again = f"; {narrowed} lines are wider than {limit} px and {done} once more"
        else:
            again = ""
        progress.warn(
            f"{lines.path} was prepared with other settings than the lines that {model} was trained"
            f" on (store / model): {'; '.join(warned)}{again}"
        )
