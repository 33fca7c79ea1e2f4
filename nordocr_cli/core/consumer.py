"""The Rust pipeline's configuration for a model: written, and an existing one checked."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import write_json
from nordocr_cli.charset import NORDIC, Charset, differences, load_charset
from nordocr_cli.deploy.consumer import (
    ConsumerConfig,
    arch_named_in,
    pipeline_conflicts,
    pipeline_notes,
)
from nordocr_cli.deploy.consumer_presets import (
    Preset,
    misspelt,
    read_presets,
    select_preset,
)
from nordocr_cli.deploy.onnx_file import default_onnx_path
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_text
from nordocr_cli.profile import profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.engine_file import (
    default_engine_path,
    read_sidecar,
)
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.rust_source import find_constants
from nordocr_cli.settings import Engine

DEFAULT_ARCH = "sm120"  # the pipeline's own default engine is for it
_SHOWN = 20  # disagreements in one message

# fits: loads the model and is right. wrong: loads the model and is not. other: another engine's.
# unclear: loads the model, and the value of a key is computed when the pipeline runs.
FitVerdict = Literal["fits", "wrong", "unclear", "other"]


@dataclass(frozen=True)
class PresetVerdict:
    """How one preset of a config.rs fits the model; `reasons` say what is wrong, or why the preset
    is for another model. A JSON config has one preset, named "".
    """

    name: str
    line: int
    arch: str
    verdict: FitVerdict
    checked: int
    reasons: tuple[str, ...]

    @property
    def function(self) -> str:
        """The function of the preset: a setting that changes later makes several presets of it."""
        return self.name.partition(":")[0]

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values."""
        return {**vars(self), "reasons": list(self.reasons)}


@dataclass(frozen=True)
class ConsumerCheck:
    """What does not fit between a file of the pipeline and a model. Each disagreement is one
    sentence with the step that fixes it; `notes` change no verdict.
    """

    file: Path
    checked: int
    disagreements: tuple[str, ...]
    presets: tuple[PresetVerdict, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {
            "file": str(self.file),
            "checked": self.checked,
            "disagreements": list(self.disagreements),
            "presets": [preset.to_json() for preset in self.presets],
            "notes": list(self.notes),
        }


def consumer_config(
    model: Path, arch: str | None = None, progress: Progress = SILENT
) -> ConsumerConfig:
    """Return the pipeline's settings for `model`'s engine: an engine names them itself (its
    sidecar); for an ONNX model, weights or a run they are those of the engine that `build-engine
    --backend tensorrt --arch ARCH` makes by the profile they carry.

    Raises DataError for a model that the pipeline would misread, UsageError for an RTX engine,
    which the pipeline cannot load, for an architecture that the engine is not for, and for a range
    that does not hold the model's widest line; ArtifactError for a damaged artifact.
    """
    path = find_weights(model)
    contract = read_contract(path)
    _require_pipeline(contract, path.name)
    return _config_of(path, contract, arch, progress)


def config_of(
    contract: Contract,
    onnx: Path | None = None,
    arch: str | None = None,
    progress: Progress = SILENT,
) -> ConsumerConfig:
    """Return the pipeline's settings for the engine that is to be built from a model with this
    contract; `onnx` is where the model lies or will lie. Raises what consumer_config raises.
    """
    _require_pipeline(contract, onnx.name if onnx else "the weights")
    return _of_contract(contract, onnx, arch, progress)


def _require_pipeline(contract: Contract, what: str) -> None:
    conflicts = pipeline_conflicts(contract)
    if conflicts:
        raise DataError(f"the pipeline would misread {what}:\n  " + "\n  ".join(conflicts))


def _config_of(
    path: Path, contract: Contract, arch: str | None, progress: Progress
) -> ConsumerConfig:
    if path.suffix == ".engine":
        return _of_engine(path, contract, arch)
    return _of_contract(contract, path if path.suffix == ".onnx" else None, arch, progress)


def _of_contract(
    contract: Contract, onnx: Path | None, arch: str | None, progress: Progress
) -> ConsumerConfig:
    profile = profile_from_json(
        contract.profile, f"{onnx or 'the weights'}: embedded profile"
    )
    target = find_arch(arch or DEFAULT_ARCH)
    ranges = profile.engine.get(target.name)
    if ranges is None:
        progress.warn(
            f"profile {profile.name} has no [engine.{target.name}]; using the ranges of a 48 GB"
            " card"
        )
        ranges = Engine()
    model = onnx or default_onnx_path(profile)
    engine = default_engine_path(model, profile, target.name, "tensorrt")
    widest = ranges.widest
    limits = (widest.max_batch, widest.max_width)
    return _config(engine, target.name, ranges.precision, limits, contract)


def _of_engine(path: Path, contract: Contract, arch: str | None) -> ConsumerConfig:
    sidecar = read_sidecar(path)
    if sidecar["backend"] == "tensorrt-rtx":
        raise UsageError(
            f"{path} is an engine of TensorRT-RTX, which the pipeline cannot load; on its GPU host:"
            f" nordocr build-engine --backend tensorrt --arch {sidecar['arch']}"
            f" {sidecar['onnx']['name']}"
        )
    if arch is not None and find_arch(arch).name != sidecar["arch"]:
        raise UsageError(f"{path} is for {sidecar['arch']}, not for --arch {arch}")
    maximum = sidecar["ranges"]["max"]
    limits = (maximum["batch"], maximum["width"])
    return _config(path, sidecar["arch"], sidecar["precision"], limits, contract)


def _config(
    engine: Path, arch: str, precision: str, limits: tuple[int, int], contract: Contract
) -> ConsumerConfig:
    """`limits` are the maximum batch and width (pixels) of the engine."""
    geometry = contract.geometry
    max_batch, max_width = limits
    if max_width < geometry.max_width:
        raise UsageError(
            f"{engine.name} takes lines up to {max_width} px, the model is given lines up to"
            f" {geometry.max_width} px; build the engine with a greater --max, or export with"
            " --max-width"
        )
    return ConsumerConfig(
        engine_path=engine.as_posix(),
        arch=arch,
        precision=precision,
        max_batch=max_batch,
        height=geometry.height,
        max_width=max_width,
        line_width=geometry.max_width,
        stride=geometry.stride,
    )


def write_consumer_config(config: ConsumerConfig, output: Path) -> None:
    """Write the pipeline's `--config` JSON, atomically."""
    write_json(output, config.to_json())


def check_consumer(
    file: Path,
    model: Path,
    arch: str | None = None,
    *,
    preset: str | None = None,
    charset: str | None = None,
    progress: Progress = SILENT,
) -> ConsumerCheck:
    """Compare a config JSON, config.rs, charset.rs or dictionary of the pipeline, and what its code
    fixes, with `model`.

    Of a config.rs, `preset` alone is compared, or else each: those that load the model's engine
    must be right, those for other engines are reported, and at least one must fit. `charset` is the
    pipeline's charset.rs where it is not the one of 125 characters. Raises UsageError when a file
    or preset is not there, DataError when `file` is none of these.
    """
    source = find_weights(model)
    theirs = require_consumer_file(file)
    contract = read_contract(source)
    if isinstance(theirs, Charset):
        return _check_charset(file, model, theirs, contract)

    pipelines = load_charset(charset) if charset else NORDIC
    code = [f"{model}: {line}" for line in pipeline_conflicts(contract, pipelines)]
    requested = theirs if preset is None else [select_preset(theirs, preset, file)]
    # A function that only passes arguments on, such as a setter, is no preset.
    presets = [each for each in requested if each.settings or each.unknown] or requested
    strict = preset is not None or len(presets) == 1
    judge = _Judge(file, source, contract, arch, progress)
    verdicts = tuple(judge.verdict(each, strict=strict) for each in presets)
    found = tuple(dict.fromkeys(code + _refusals(verdicts)))
    notes = [
        *pipeline_notes(contract),
        *_unclear_notes(verdicts),
        *_preset_notes(file, theirs, presets),
    ]
    checked = sum(each.checked for each in verdicts)
    return ConsumerCheck(file, checked, found, verdicts, tuple(notes))


def _check_charset(
    file: Path, model: Path, theirs: Charset, contract: Contract
) -> ConsumerCheck:
    ours = contract.charset
    if ours.name == theirs.name:
        ours = replace(ours, name=f"the model's {ours.name}")
    classes = [f"{file}: {line}" for line in differences(theirs, ours)]
    # the charset was compared class by class
    code = pipeline_conflicts(contract, contract.charset)
    found = tuple(classes + [f"{model}: {line}" for line in code])
    return ConsumerCheck(
        file, len(theirs.characters), found, notes=tuple(pipeline_notes(contract))
    )


def _refusals(verdicts: Sequence[PresetVerdict]) -> list[str]:
    """Return why the presets do not fit; empty when one fits and none is wrong. A preset that is
    computed at run time does not refuse a file in which another one fits.
    """
    fitting = _fitting(verdicts)
    wrong = [each for each in verdicts if each.verdict == "wrong"]
    unclear = [
        each
        for each in verdicts
        if each.verdict == "unclear" and not fitting - {each.function}
    ]
    if not wrong and not unclear and not fitting:
        wrong = list(verdicts)
    has_choice = len({each.function for each in verdicts}) > 1
    hint = ", or another preset alone with --preset" if has_choice else ""
    reasons = [reason for each in wrong for reason in each.reasons]
    return reasons + [f"{reason}{hint}" for each in unclear for reason in each.reasons]


def _unclear_notes(verdicts: Sequence[PresetVerdict]) -> list[str]:
    """Return which presets were not checked, as their values are known only at run time."""
    fitting = _fitting(verdicts)
    return [
        f"preset {each.name} is not checked: {reason}"
        for each in verdicts
        if each.verdict == "unclear" and fitting - {each.function}
        for reason in each.reasons
    ]


def _fitting(verdicts: Sequence[PresetVerdict]) -> set[str]:
    """Return the functions of the presets that fit."""
    return {each.function for each in verdicts if each.verdict == "fits"}


def _preset_notes(
    file: Path, read: Sequence[Preset], judged: Sequence[Preset]
) -> list[str]:
    """Return what of the file was not compared, so that nobody takes it for checked."""
    others = [
        f"{file}: not checked: {', '.join(each.others)}" for each in read if each.others
    ]
    others += [
        f"{file}:{setting.line}: not checked: {setting.key} is set to `{setting.value}` when the"
        " pipeline runs"
        for each in read
        if each not in judged and not each.settings
        for setting in each.computed
    ]
    unset = [key for key in judged[0].unset if all(key in each.unset for each in judged)]
    if unset:
        others.append(
            f"{file}: not set and so not checked: {', '.join(unset)}; compare the pipeline's own"
            " values with `nordocr consumer config`"
        )
    return list(dict.fromkeys(others))


@dataclass(frozen=True)
class _Judge:
    """Compares presets of one file with one model."""

    file: Path
    source: Path
    contract: Contract
    arch: str | None
    progress: Progress

    def verdict(self, preset: Preset, *, strict: bool) -> PresetVerdict:
        """Judge one preset; with `strict` it is meant for the model, whatever engine it loads."""
        # A preset is judged for the GPU that it is written for, unless one was requested or the
        # model is an engine.
        named = None if self.source.suffix == ".engine" else preset.arch
        config = _config_of(self.source, self.contract, self.arch or named, self.progress)
        other = "" if strict else self._why_other(preset, config)
        wrong = self._wrong(preset, config)
        unclear = self._unclear(preset)
        verdict: FitVerdict = "fits"
        reasons = (*wrong, *unclear)
        if other:
            verdict = "other"
            reasons = (f"{self.file}:{preset.line}: {other}",)
        elif wrong:
            verdict = "wrong"
        elif unclear:
            verdict = "unclear"
        return PresetVerdict(
            preset.name, preset.line, config.arch, verdict, len(preset.settings), reasons
        )

    def _wrong(self, preset: Preset, config: ConsumerConfig) -> list[str]:
        """Return one sentence for each setting that does not fit, and for each unknown key."""
        reasons: list[str] = []
        for setting in preset.settings:
            where = f"{self.file}:{setting.line}: {setting.key}"
            if setting.line is None:
                where = f"{self.file}: {setting.key} is not set; the default"
            found = config.disagreements(setting, preset.values)
            reasons += [f"{where}: {sentence}" for sentence in found]
        for setting in preset.unknown:
            hint = misspelt(setting.key)
            reasons.append(
                f"{self.file}:{setting.line}: unknown key {setting.key!r}; {hint}"
            )
        return reasons

    def _unclear(self, preset: Preset) -> list[str]:
        """Return one sentence for each value that cannot be compared without the pipeline."""
        reasons = [
            f"{self.file}:{setting.line}: {setting.key} is `{setting.value}`, which is known only"
            " when the pipeline runs: write a number, a text or a constant of this file, or check"
            " the JSON of --config"
            for setting in preset.computed
        ]
        if preset.base and preset.unset:
            reasons.append(
                f"{self.file}:{preset.line}: {', '.join(preset.unset)} come from {preset.base},"
                " which this file does not declare: set them here, or check the JSON of --config"
            )
        return reasons

    def _why_other(self, preset: Preset, config: ConsumerConfig) -> str:
        """Say why a preset is not for this model; "" when it is."""
        values = preset.values
        network = values.get("recognize_model", config.model)
        if str(network).lower() != config.model.lower():
            return f"recognize_model: {network!r}; this model is {config.model}"
        engine = values.get("recognize_engine_path")
        if engine is not None and not config.is_loaded_by(str(engine)):
            expected = config.engine_path
            return f"recognize_engine_path: {engine!r}; this model's engine is {expected!r}"
        named = arch_named_in(str(engine)) if engine is not None else None
        if named is not None and named != config.arch:
            return f"recognize_engine_path: {engine!r} is for {named}; requested: {config.arch}"
        return ""


def require_consumer_file(file: Path) -> Charset | list[Preset]:
    """Return the charset of a charset.rs (also charset.rs#LINE) or dictionary, or the presets of a
    config. Raises what check_consumer raises.
    """
    names_an_array = ".rs#" in file.name
    if names_an_array or file.suffix == ".txt" or _declares_charset(file):
        return load_charset(str(file))
    if file.suffix not in (".json", ".rs"):
        raise UsageError(
            f"{file}: expected the pipeline's config (.json, config.rs), charset.rs or dictionary"
            " (.txt)"
        )
    return read_presets(file)


def _declares_charset(file: Path) -> bool:
    """Whether a Rust file declares the charset's array; a mention in a comment does not count."""
    if file.suffix != ".rs":
        return False
    if file.name == "charset.rs":
        return True
    constants = find_constants(read_text(file, "file"), str(file))
    return any(constant.name == "CTC_CHARSET" for constant in constants)


def require_agreement(check: ConsumerCheck, model: Path) -> None:
    """Raise DataError naming each disagreement, if there is one."""
    if not check.disagreements:
        return
    raise DataError(
        f"{check.file} does not fit {model} ({len(check.disagreements)}):\n  "
        + _listed(check.disagreements)
    )


def _listed(sentences: Sequence[str]) -> str:
    more = len(sentences) - _SHOWN
    shown = list(sentences[:_SHOWN])
    if more > 0:
        shown.append(f"and {more} more")
    return "\n  ".join(shown)
