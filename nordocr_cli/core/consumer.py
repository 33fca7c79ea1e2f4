"""The Rust pipeline's configuration for a model: written, and an existing one checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract, find_weights, read_contract
from nordocr_cli.atomic import write_json
from nordocr_cli.charset import Charset, differences, load_charset
from nordocr_cli.deploy.consumer import (
    ConsumerConfig,
    Setting,
    preset_arch,
    read_presets,
    read_text,
)
from nordocr_cli.deploy.onnx_file import default_onnx_path
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.profile import profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.runtime.backends.tensorrt.engine_file import default_engine_path, read_sidecar
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import find_arch
from nordocr_cli.settings import Engine

DEFAULT_ARCH = "sm120"  # the pipeline's own default engine is for it


@dataclass(frozen=True)
class ConsumerCheck:
    """What a file of the pipeline says that does not fit the model: one sentence each, with file
    and line.
    """

    file: Path
    checked: int
    disagreements: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {
            "file": str(self.file),
            "checked": self.checked,
            "disagreements": list(self.disagreements),
        }


def consumer_config(
    model: Path, arch: str | None = None, progress: Progress = SILENT
) -> ConsumerConfig:
    """Return what the pipeline must be told of `model`'s engine: an engine says it itself (its
    sidecar); for an ONNX model, weights or a run it is the engine that `build-engine --backend
    tensorrt --arch ARCH` makes by the profile they carry.

    Raises UsageError for an RTX engine, which the pipeline cannot load, for an architecture that
    the engine is not for, and for a range that does not hold the model's widest line; ArtifactError
    for a damaged artifact.
    """
    path = find_weights(model)
    if path.suffix == ".engine":
        return _of_engine(path, arch)
    contract = read_contract(path)
    return config_of(contract, path if path.suffix == ".onnx" else None, arch, progress)


def config_of(
    contract: Contract,
    onnx: Path | None = None,
    arch: str | None = None,
    progress: Progress = SILENT,
) -> ConsumerConfig:
    """Return what the pipeline must be told of the engine that is to be built from a model with
    this contract; `onnx` is where the model lies or will lie. Raises what consumer_config
    raises.
    """
    profile = profile_from_json(contract.profile, f"{onnx or 'the weights'}: embedded profile")
    target = find_arch(arch or DEFAULT_ARCH)
    ranges = profile.engine.get(target.name)
    if ranges is None:
        progress.warn(
            f"profile {profile.name} has no [engine.{target.name}]; the ranges of a 48 GB card are"
            " taken"
        )
        ranges = Engine()
    engine = default_engine_path(
        onnx or default_onnx_path(profile), profile, target.name, "tensorrt"
    )
    return _config(
        engine,
        target.name,
        ranges.precision,
        ranges.widest.max_batch,
        ranges.widest.max_width,
        contract,
    )


def _of_engine(path: Path, arch: str | None) -> ConsumerConfig:
    sidecar, contract = read_sidecar(path), read_contract(path)
    if sidecar["backend"] == "tensorrt-rtx":
        raise UsageError(
            f"{path} is an engine of TensorRT-RTX, which the pipeline cannot load; on its GPU host:"
            f" nordocr build-engine --backend tensorrt --arch {sidecar['arch']}"
            f" {sidecar['onnx']['name']}"
        )
    if arch is not None and find_arch(arch).name != sidecar["arch"]:
        raise UsageError(f"{path} is for {sidecar['arch']}, not for --arch {arch}")
    most = sidecar["ranges"]["max"]
    return _config(
        path, sidecar["arch"], sidecar["precision"], most["batch"], most["width"], contract
    )


def _config(
    engine: Path, arch: str, precision: str, max_batch: int, max_width: int, contract: Contract
) -> ConsumerConfig:
    geometry = contract.geometry
    if contract.input_type == "uint8" or contract.output_activation != "logits":
        takes = f"{contract.input_type} in, {contract.output_activation} out"
        raise UsageError(
            f"{engine.name}: {takes}; the pipeline normalizes pixels and takes the softmax itself,"
            " of probabilities a second time: export for it with --input float and"
            " --output-activation logits"
        )
    if max_width < geometry.max_width:
        raise UsageError(
            f"{engine.name} takes lines up to {max_width} px, the model is given lines up to"
            f" {geometry.max_width} px; build the engine with a greater --max, or export with"
            " --max-width"
        )
    return ConsumerConfig(
        engine.as_posix(),
        arch,
        precision,
        max_batch,
        geometry.height,
        max_width,
        geometry.max_width,
        geometry.stride,
    )


def write_consumer_config(config: ConsumerConfig, output: Path) -> None:
    """Write the pipeline's `--config` JSON, atomically."""
    write_json(output, config.to_json())


def check_consumer(
    file: Path, model: Path, arch: str | None = None, progress: Progress = SILENT
) -> ConsumerCheck:
    """Say what a config JSON, config.rs, charset.rs or dictionary of the pipeline says that does
    not fit `model`.

    Raises UsageError when a file is not there, DataError when `file` is none of these.
    """
    source, theirs = find_weights(model), require_consumer_file(file)
    if isinstance(theirs, Charset):
        return _check_charset(file, theirs, read_contract(source).charset)
    presets: list[list[Setting]] = theirs
    found: list[str] = []
    for settings in presets:
        values = {setting.key: setting.value for setting in settings}
        # A preset is judged for the GPU that it is written for, unless one was asked for or the
        # model is an engine.
        named = None if source.suffix == ".engine" else preset_arch(settings)
        config = consumer_config(source, arch or named, progress)
        for setting in settings:
            where = f"{file}:{setting.line}: {setting.key}"
            if setting.line is None:
                where = f"{file}: {setting.key} is not set; the default"
            found += [f"{where}: {wrong}" for wrong in config.disagreements(setting, values)]
    return ConsumerCheck(file, sum(map(len, presets)), tuple(found))


def require_consumer_file(file: Path) -> Charset | list[list[Setting]]:
    """Return the charset of a charset.rs or dictionary, or the presets of a config. Raises what
    check_consumer raises.
    """
    if file.suffix == ".txt" or (file.suffix == ".rs" and "CTC_CHARSET" in read_text(file)):
        return load_charset(str(file))
    if file.suffix not in (".json", ".rs"):
        raise UsageError(
            f"{file}: expected the pipeline's config (.json, config.rs), charset.rs or dictionary"
            " (.txt)"
        )
    return read_presets(file)


def _check_charset(file: Path, theirs: Charset, ours: Charset) -> ConsumerCheck:
    found = tuple(f"{file}: {line}" for line in differences(theirs, ours))
    return ConsumerCheck(file, len(theirs.characters), found)


def require_agreement(check: ConsumerCheck, model: Path) -> None:
    """Raise DataError naming each disagreement, if there is one."""
    if check.disagreements:
        shown = "\n  ".join(check.disagreements[:20])
        more = (
            f"\n  and {len(check.disagreements) - 20} more" if len(check.disagreements) > 20 else ""
        )
        raise DataError(
            f"{check.file} does not fit {model} ({len(check.disagreements)}):\n  {shown}{more}"
        )
