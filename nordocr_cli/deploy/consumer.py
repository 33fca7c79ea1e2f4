"""The Rust pipeline that loads the engines: its config keys, written as JSON and as lines of
config.rs, and checked.

The names are those of its `--config` JSON and of `crates/nordocr-pipeline/src/config.rs`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nordocr_cli.errors import DataError, UsageError

KEYS = (
    "recognize_model",
    "recognize_engine_path",
    "recognize_max_batch",
    "recognize_input_height",
    "recognize_max_input_width",
    "recognize_max_seq_len",
    "precision",
    "gpu_arch_override",
)
# The pipeline knows one name a generation; where it has none for the GPU, it finds out by itself.
OVERRIDES = {8: "sm_80", 12: "sm_120"}
# What the pipeline takes where a key is not set.
DEFAULTS: Mapping[str, Any] = {
    "recognize_engine_path": "models/recognize_svtrv2_sm120.engine",
    "recognize_max_input_width": 1792,
    "recognize_max_seq_len": 448,
}


@dataclass(frozen=True)
class ConsumerConfig:
    """What the pipeline must be told of one engine. `arch` is e.g. `sm120`; `max_batch` and
    `max_width` (pixels) are the most that the engine takes, `line_width` the widest line that the
    network was made for, `stride` pixels a frame.
    """

    engine_path: str
    arch: str
    precision: str
    max_batch: int
    height: int
    max_width: int
    line_width: int
    stride: int
    model: str = "SVTRv2"  # the pipeline's name for whatever is decoded by CTC

    def to_json(self) -> dict[str, Any]:
        """Return the keys of the pipeline's `--config` JSON."""
        values = (
            self.model,
            self.engine_path,
            self.max_batch,
            self.height,
            self.max_width,
            self.max_width // self.stride,
            self.precision.upper(),
            OVERRIDES.get(_generation(self.arch)),
        )
        return {key: value for key, value in zip(KEYS, values, strict=True) if value is not None}

    def to_rust(self) -> str:
        """Return the lines for a preset of config.rs. What is an enum there stands as a comment."""
        values = self.to_json()
        enums = [
            str(values.pop(key))
            for key in ("recognize_model", "precision", "gpu_arch_override")
            if key in values
        ]
        lines = [f"// for {self.arch}; {', '.join(enums)} as in the JSON config"]
        for key, value in values.items():
            why = f" // {self.max_width} / {self.stride}" if key == "recognize_max_seq_len" else ""
            lines.append(f"{key}: {json.dumps(value)},{why}")
        return "\n".join(lines) + "\n"

    def disagreements(self, found: "Setting", others: Mapping[str, Any]) -> Iterator[str]:
        """Yield in words what is wrong with one setting; `others` are all settings of the same
        file.
        """
        key, value, wanted = found.key, found.value, self.to_json().get(found.key)
        if isinstance(wanted, int) and (not isinstance(value, int) or isinstance(value, bool)):
            yield f"{value!r} is not a number"
            return
        match key:
            case "recognize_engine_path":
                yield from self._engine_disagreements(str(value))
            case "recognize_max_batch" if value > wanted:
                yield f"{value} lines at once; the engine takes {wanted}"
            case "recognize_input_height" if value != wanted:
                yield f"{value} px; the model reads lines {wanted} px high"
            case "recognize_max_input_width":
                if value % self.stride:
                    yield (
                        f"{value} px is no multiple of {self.stride}: every frame behind the first"
                        " line would shift"
                    )
                if value > wanted:
                    yield f"{value} px; the engine takes {wanted}"
                elif value < self.line_width:
                    yield (
                        f"{value} px: wider lines are squashed, though the model reads"
                        f" {self.line_width} px"
                    )
            case "recognize_max_seq_len":
                width = others.get(
                    "recognize_max_input_width", DEFAULTS["recognize_max_input_width"]
                )
                if isinstance(width, int) and value * self.stride < width:
                    yield (
                        f"{value} frames cover {value * self.stride} px; a line of {width} px needs"
                        f" {-(-width // self.stride)}"
                    )
            case "gpu_arch_override" if value is not None and value not in OVERRIDES.values():
                yield f"{value!r}; the pipeline knows {' and '.join(OVERRIDES.values())}"
            case "gpu_arch_override" if value is not None and value != wanted:
                yield f"{value!r}; the engine is for {self.arch}"
            case "precision" | "recognize_model" if str(value).lower() != str(wanted).lower():
                yield f"{value!r}; it must be {wanted!r}"

    def _engine_disagreements(self, path: str) -> Iterator[str]:
        name = PurePosixPath(path.replace("\\", "/")).name
        arch = _ARCH.search(name)
        if name.endswith(".rtx.engine"):
            yield f"{path!r} is an engine of TensorRT-RTX, which the pipeline cannot load"
        elif arch and f"sm{arch[1]}" != self.arch:
            yield f"{path!r} is for sm{arch[1]}; asked for {self.arch}"
        elif name != PurePosixPath(self.engine_path).name:
            yield f"{path!r}; this model's engine is {self.engine_path!r}"


@dataclass(frozen=True)
class Setting:
    """One `key: value` of a config file; `line` counts from 1, and is None for a value that the
    pipeline takes by default.
    """

    key: str
    value: Any
    line: int | None = None


_ARCH = re.compile(r"sm_?(\d+)", re.IGNORECASE)


def read_presets(path: Path) -> list[list[Setting]]:
    """Return the recognizer's settings of a config JSON, defaults included, or of each preset of a
    config.rs.

    Raises UsageError when there is no such file, DataError when it is not readable or holds no
    setting.
    """
    text = read_text(path)
    if path.suffix == ".rs":
        presets: list[list[Setting]] = [[]]
        for setting in _rust_settings(text):
            # the same key again: the next preset
            if setting.key in {known.key for known in presets[-1]}:
                presets.append([])
            presets[-1].append(setting)
    else:
        try:
            value = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path} is not readable JSON ({error})") from error
        if not isinstance(value, Mapping):
            raise DataError(
                f"{path}: expected one JSON object with keys such as recognize_engine_path"
            )
        settings = [
            Setting(key, value[key], _line_of(text, f'"{key}"')) for key in KEYS if key in value
        ]
        settings += [
            Setting(key, default)
            for key, default in DEFAULTS.items()
            if settings and key not in value
        ]
        presets = [settings]
    if not presets[0]:
        raise DataError(f"{path} sets none of {', '.join(KEYS)}; is it the pipeline's config?")
    return presets


def preset_arch(settings: Sequence[Setting]) -> str | None:
    """The architecture that a preset is for, by its engine's name or else its override; None when
    it names none.
    """
    values = {
        setting.key: str(setting.value)
        for setting in settings
        if setting.line and setting.value is not None
    }
    named = _ARCH.search(values.get("recognize_engine_path", "")) or _ARCH.search(
        values.get("gpu_arch_override", "")
    )
    return f"sm{named[1]}" if named else None


def read_text(path: Path) -> str:
    """Return a text file's content. Raises UsageError when it is not there, DataError when it is
    not UTF-8 text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_RUST_SETTING = re.compile(rf"\b({'|'.join(KEYS)})\s*[:=](?!:)\s*([^,;\n]+)")


def _rust_settings(source: str) -> Iterator[Setting]:
    """Yield `key: value` of Rust source outside comments; field declarations (`key: usize`) have no
    value and are left out.
    """
    source = _COMMENT.sub(lambda found: found[1] or "\n" * found[0].count("\n"), source)
    for found in _RUST_SETTING.finditer(source):
        key, text = found[1], found[2].strip()
        line = source.count("\n", 0, found.start()) + 1
        # "…", "…".into(), PathBuf::from("…"), Some("…".to_string())
        if quoted := re.search(r'"((?:\\.|[^"\\])*)"', text):
            yield Setting(key, quoted[1], line)
        elif number := re.fullmatch(r"([\d_]+)(?:_?[ui](?:8|16|32|64|size))?", text):
            yield Setting(key, int(number[1].replace("_", "")), line)
        elif text == "None":
            yield Setting(key, None, line)
        # Precision::FP16
        elif variant := re.fullmatch(r"(?:Some\()?\w+(?:::\w+)*::(\w+)\)?", text):
            yield Setting(key, variant[1], line)


def _line_of(text: str, what: str) -> int:
    return text.count("\n", 0, text.index(what)) + 1


def _generation(arch: str) -> int:
    """Major compute capability: 12 of sm120."""
    return int(re.sub("[^0-9]", "", arch)) // 10
