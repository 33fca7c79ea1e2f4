"""What `predict` is going to do, checked before anything is opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nordocr_cli.artifact.shipped import DEFAULT_MODEL
from nordocr_cli.atomic import refuse_inputs
from nordocr_cli.core.predict.contents import Contents
from nordocr_cli.core.predict.inputs import ResolvedLayout, resolve_layout
from nordocr_cli.data.regions import read_regions
from nordocr_cli.decode.language import LanguageFiles
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.limits import Limits
from nordocr_cli.pages.outline import CROP_RULES, Crop
from nordocr_cli.records import STDIN
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.specs import (
    AUTO,
    LANGUAGE,
    Spec,
    default_model,
    parse_spec,
    require_options,
)

if TYPE_CHECKING:
    from nordocr_cli.data.layouts.layout import Layout

Wide = Literal["split", "squash"]


@dataclass(frozen=True)
class PredictOptions:
    """How lines are found, cut and read.

    `model` is a path, `tesseract`, or None for the one that ships. `layout` is auto, line, page or
    tesseract; `crop` says how given regions are cut (see pages/cut.py). A line wider than the
    network takes is cut into windows that overlap (`wide="split"`) or squashed as in training;
    `compiled` lets torch compile the network.
    """

    model: str | None = None
    layout: str = "auto"
    crop: Crop = "outline"
    device: str = "auto"
    threads: int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    language: str = ""
    decoder: str = AUTO
    beam_width: int = 10
    wide: str = "split"
    compiled: bool = False
    lm: LanguageFiles | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def model_name(self) -> str:
        """The model, or the one that ships, in its fastest form for the device."""
        if self.model:
            return self.model
        if self.compiled:
            return DEFAULT_MODEL
        return default_model(self.device, self.precision)

    def check(self) -> Spec:
        """Return what the model is. Raises UsageError for options that do not go together."""
        if self.wide not in get_args(Wide):
            raise UsageError(f"--wide {self.wide!r}: {nearest(self.wide, get_args(Wide))}")
        if self.crop not in CROP_RULES:
            raise UsageError(f"--crop {self.crop!r}: {nearest(self.crop, CROP_RULES)}")
        parse_device(self.device)
        spec = parse_spec(self.model_name)
        require_options(spec, self.precision, self.decoder, self.compiled)
        if self.lm:
            self.lm.require()
            if self.lm.lexicon and self.decoder != "beam":
                raise UsageError("--lexicon requires --decoder beam")
            if self.decoder not in (LANGUAGE, "beam"):
                raise UsageError("--char-lm requires --decoder language or beam")
        return spec

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values, those that say nothing left out."""
        values: dict[str, Any] = {
            "model": self.model_name,
            "backend": parse_spec(self.model_name).backend,
            "device": self.device,
            "precision": self.precision,
            "decoder": self.decoder,
            "wide": self.wide,
        }
        if self.crop != "outline":
            values["crop"] = self.crop
        if self.decoder == "beam":
            values["beam_width"] = self.beam_width
        values |= self.lm.to_json() if self.lm else {}
        return values


@dataclass(frozen=True)
class PredictPlan:
    """What `predict` would do. `regions` are the given lines of the one input, read from
    `regions_file`; without them `layout` says how they are found. `contents` holds the files that
    planning looked at.
    """

    inputs: tuple[Path, ...]
    options: PredictOptions
    spec: Spec
    layout: ResolvedLayout | None = None
    regions_file: Path | None = None
    regions: "Layout | None" = None
    contents: Contents = field(default_factory=Contents, compare=False, repr=False)

    @property
    def num_regions(self) -> int:
        """Number of given lines."""
        if self.regions:
            return self.regions.num_regions
        return 0

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        plan: dict[str, Any] = {"inputs": [str(path) for path in self.inputs]}
        plan |= self.options.to_json()
        if self.layout:
            plan["layout"] = self.layout
        if self.regions_file:
            plan |= {"regions": str(self.regions_file), "lines": self.num_regions}
        return plan


def plan_predict(
    inputs: Sequence[Path],
    model: str | None = None,
    *,
    regions: Path | None = None,
    output: Path | None = None,
    **options: Any,
) -> PredictPlan:
    """Return what `predict` would do; no network is opened and no image decoded.

    `options` are those of PredictOptions.

    Raises UsageError for options that do not go together, an unknown name, what is not there, and
    an output that is an input; DataError for damaged regions.
    """
    chosen = PredictOptions(model, **options)
    if regions:
        _check_regions(inputs, chosen)
    spec = chosen.check()
    _require_inputs(inputs, regions)
    if output:
        refuse_inputs(output, filter(None, (*inputs, regions, Path(chosen.model_name))))
    if regions:
        layout = read_regions(regions, inputs[0])
        return PredictPlan(
            tuple(inputs), chosen, spec, regions_file=regions, regions=layout
        )
    contents = Contents(chosen.limits)
    found = resolve_layout(inputs, chosen.layout, contents)
    return PredictPlan(tuple(inputs), chosen, spec, layout=found, contents=contents)


def _check_regions(inputs: Sequence[Path], options: PredictOptions) -> None:
    if len(inputs) != 1:
        raise UsageError(
            f"--regions belongs to one document, {len(inputs)} inputs were given"
        )
    if options.layout != "auto":
        raise UsageError(
            "--regions says where the lines are, --layout how they are found; give one of them"
        )


def _require_inputs(inputs: Sequence[Path], regions: Path | None) -> None:
    for path in inputs:
        if path == STDIN:
            continue
        if regions and not path.is_file():
            raise UsageError(f"no document {path}")
        if not path.exists():
            raise UsageError(f"no image or folder {path}")
