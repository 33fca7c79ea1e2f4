"""Provenance: what an artifact was made with, embedded in every checkpoint, ONNX file and engine
sidecar.

A loader compares the contract it finds with the one it needs and refuses a mismatch, naming each
field. An ONNX file also holds the hash of its own bytes, so that a changed one is refused.
"""

import hashlib
import json
import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from nordocr_cli.charset import Charset, differences
from nordocr_cli.errors import ArtifactError, DataError, UsageError, nearest
from nordocr_cli.geometry import Geometry

# `argmax+confidence`: two numbers a frame instead of one a class, the best class and its
# probability.
OutputActivation = Literal["logits", "softmax", "argmax+confidence"]
# Floats are normalized pixels; uint8 are pixels as they are, and the network normalizes them
# itself.
InputType = Literal["float32", "float16", "uint8"]
OutputType = Literal["float32", "float16"]
# ctc: a class for each frame of the image, 0 the blank. autoregressive: a class for each position
# of the text, 0 its end. seq2seq: tokens of a tokenizer of its own, generated one after the other
# (TrOCR); there is no output of fixed shape.
Decoding = Literal["ctc", "autoregressive", "seq2seq"]
_DECODING_OF: dict[str, Decoding] = {"parseq": "autoregressive", "trocr": "seq2seq"}

SCHEMA = 1
METADATA_KEY = "nordocr.contract"
DIGEST_KEY = "nordocr.file_sha256"
_DIGEST_CHARACTERS = 64
# The recognizers that ship with the package, and the one that reads where none is named.
SHIPPED = Path(__file__).parents[1] / "weights"
DEFAULT_MODEL = "nordocr-default"
_MAX_HEADER_BYTES = 64 << 20


@dataclass(frozen=True)
class Contract:
    """What must be known to feed an artifact and to read its output.

    `model` is the profile's model table (name and options); `profile` the whole resolved profile as
    plain JSON; `trained_widths` the (least, greatest) line width in pixels seen in training, None
    before training; `parent_sha256` the hash of the artifact that this one was made from;
    `precision` the number format of the weights; `input_type` and `output_type` are those of the
    tensors of a deployed network (weights alone have neither: they say float32). Logits are divided
    by `temperature` before they become probabilities; a network that gives probabilities has done
    so itself.
    """

    charset: Charset
    geometry: Geometry
    model: Mapping[str, Any]
    profile: Mapping[str, Any] = field(default_factory=dict)
    output_activation: OutputActivation = "logits"
    trained_widths: tuple[int, int] | None = None
    parent_sha256: str | None = None
    precision: str = "fp32"
    input_type: InputType = "float32"
    output_type: OutputType = "float32"
    temperature: float = 1.0

    @property
    def output_channels(self) -> int:
        """Numbers that a frame of the output holds: one a class, or class and confidence."""
        return 2 if self.output_activation == "argmax+confidence" else self.charset.num_classes

    @property
    def decoding(self) -> Decoding:
        """How the output is read."""
        return _DECODING_OF.get(str(self.model.get("name")), "ctc")

    def out_length(self, width: int) -> int:
        """Positions T of the output for an input `width` pixels wide: CTC frames, or the longest
        text and its end.
        """
        if self.decoding == "seq2seq":
            return int(self.model["generation_max_length"])
        return (
            int(self.model["max_label_length"]) + 1
            if self.decoding == "autoregressive"
            else self.geometry.out_length(width)
        )

    def _classes(self) -> dict[str, int]:
        """What the classes are that no character has. A beginning and padding are fed to a decoder,
        and never come out.
        """
        classes = self.charset.num_classes
        if self.decoding == "autoregressive":
            return {"end": 0, "begin": classes, "padding": classes + 1, "num_classes": classes}
        if self.decoding == "seq2seq":
            return {"num_classes": classes}  # of labels; what comes out are the tokenizer's tokens
        return {"blank": 0, "num_classes": classes}

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values. The charset is written out with its hash."""
        return {
            "schema": SCHEMA,
            "charset": {
                "name": self.charset.name,
                "characters": self.charset.characters,
                "sha256": self.charset.sha256,
                **self._classes(),
            },
            "geometry": self.geometry.to_json(),
            "model": dict(self.model),
            "decoding": self.decoding,
            "output_activation": self.output_activation,
            "trained_widths": list(self.trained_widths) if self.trained_widths else None,
            "parent_sha256": self.parent_sha256,
            "precision": self.precision,
            "input_type": self.input_type,
            "output_type": self.output_type,
            "temperature": self.temperature,
            "profile": dict(self.profile),
        }

    def metadata_props(self) -> dict[str, str]:
        """Return the contract as ONNX `metadata_props`: one JSON value under `nordocr.contract`."""
        return {METADATA_KEY: json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True)}

    def require_readable_by(self, wanted: "Contract", what: str) -> None:
        """Refuse to use this artifact where `wanted` holds. Raises ArtifactError naming each
        difference.

        Widths and the over-width rule may differ: they bound what is asked of a network, not what
        its classes and pixels mean.
        """
        found = differences(self.charset, wanted.charset)
        if found:
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise ArtifactError(f"{what}: charset mismatch: " + "; ".join(found[:3]) + more)
        conflicts = self.geometry.conflicts(wanted.geometry, ignore=("max_width", "over_width"))
        if conflicts:
            raise ArtifactError(
                f"{what}: geometry mismatch (artifact / wanted): " + "; ".join(conflicts)
            )


def contract_from_json(value: Any, what: str) -> Contract:
    """Rebuild a contract from `Contract.to_json()`. Raises ArtifactError naming `what` when it is
    damaged or too new.
    """
    try:
        if value["schema"] != SCHEMA:
            raise ArtifactError(
                f"{what}: contract schema {value['schema']!r}; this nordocr reads schema {SCHEMA}:"
                " update it"
            )
        stored = value["charset"]
        charset = Charset(stored["name"], stored["characters"])
        if charset.sha256 != stored["sha256"]:
            raise ArtifactError(
                f"{what}: the charset does not match its own hash; the file is damaged, make it"
                " again"
            )
        activation = value["output_activation"]
        # older files have neither
        tensors = value.get("input_type", "float32"), value.get("output_type", "float32")
        if activation not in get_args(OutputActivation):
            raise ArtifactError(f"{what}: unknown output activation {activation!r}")
        if tensors[0] not in get_args(InputType) or tensors[1] not in get_args(OutputType):
            raise ArtifactError(
                f"{what}: unknown types of input and output {tensors}; update nordocr"
            )
        temperature = float(value.get("temperature", 1.0))
        if not 0 < temperature < math.inf:
            raise ArtifactError(f"{what}: a temperature of {temperature:g}; it must be above 0")
        widths = value["trained_widths"]
        return Contract(
            charset=charset,
            geometry=Geometry(**value["geometry"]),
            model=dict(value["model"]),
            profile=dict(value["profile"]),
            output_activation=activation,
            trained_widths=(int(widths[0]), int(widths[1])) if widths else None,
            parent_sha256=value["parent_sha256"],
            precision=str(value["precision"]),
            input_type=tensors[0],
            output_type=tensors[1],
            temperature=temperature,
        )
    except ArtifactError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, DataError) as error:
        raise ArtifactError(
            f"{what}: damaged contract ({type(error).__name__}: {error}); make the file again"
        ) from error


def contract_from_metadata(metadata: Mapping[str, str], what: str) -> Contract:
    """Read the contract out of ONNX metadata. Raises ArtifactError when there is none."""
    if METADATA_KEY not in metadata:
        raise ArtifactError(
            f"{what} carries no nordocr contract (charset, geometry, activation); export it with"
            f" `nordocr export`, or give it one: nordocr contract attach {what} --contract RUN -o"
            " NEW.onnx"
        )
    try:
        value = json.loads(metadata[METADATA_KEY])
    except ValueError as error:  # not JSON, or not UTF-8
        raise ArtifactError(f"{what}: damaged contract ({error}); make the file again") from error
    return contract_from_json(value, what)


def find_weights(path: Path) -> Path:
    """Return the weights file that `path` means: itself, `best.safetensors` of a run folder, or a
    recognizer that ships with the package by its name (`nordocr-default`, or with its suffix
    `nordocr-default.onnx`). Raises UsageError.
    """
    if not path.exists() and path.parent == Path() and path.name.startswith(DEFAULT_MODEL):
        shipped = SHIPPED / (path.name if path.suffix else f"{path.name}.safetensors")
        if not shipped.is_file():
            names = sorted(
                p.name for p in SHIPPED.iterdir() if p.suffix in (".safetensors", ".onnx")
            )
            raise UsageError(
                f"no recognizer {path.name!r} ships with nordocr; those that do: {', '.join(names)}"
            )
        return shipped
    if path.is_dir():
        if (path / "best.safetensors").is_file():
            return path / "best.safetensors"
        raise UsageError(f"{path} holds no best.safetensors; is it the folder of a run?")
    if not path.exists():
        stems = (p.stem for p in SHIPPED.iterdir() if p.suffix == ".safetensors")
        ships = (
            f", and no recognizer of that name ships; {nearest(path.name, stems)}"
            if path.parent == Path()
            else ""
        )
        raise UsageError(f"no file or run folder {path}{ships}")
    return path


def has_contract(weights: Path) -> bool:
    """Whether a `.safetensors` file carries a contract. Raises ArtifactError when it is damaged."""
    return METADATA_KEY in _safetensors_metadata(weights)


def read_contract(path: Path) -> Contract:
    """Read the contract of a weights file (`.safetensors`), an ONNX model or an engine, without
    loading the network.

    Raises ArtifactError when there is none or it is damaged, UsageError for a file of another kind.
    """
    match path.suffix:
        case ".safetensors":
            return contract_from_metadata(_safetensors_metadata(path), str(path))
        case ".onnx":
            import onnx

            require_undamaged(path)
            try:
                model = onnx.load(path, load_external_data=False)
            except (OSError, ValueError, _decode_error()) as error:
                raise ArtifactError(
                    f"{path} is not a readable ONNX model ({error}); export it again"
                ) from error
            if not model.graph.node:  # an empty file parses as an empty model
                raise ArtifactError(
                    f"{path} is not an ONNX model: {path.stat().st_size} bytes, not one node;"
                    " export it again"
                )
            return contract_from_metadata({p.key: p.value for p in model.metadata_props}, str(path))
        case ".engine":
            sidecar = Path(f"{path}.json")
            try:
                value = json.loads(sidecar.read_text(encoding="utf-8"))["contract"]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise ArtifactError(
                    f"{path} has no readable sidecar {sidecar.name} ({error}); build the engine"
                    " again"
                ) from error
            return contract_from_json(value, str(sidecar))
    raise UsageError(
        f"{path}: expected weights (.safetensors), a model (.onnx) or an engine (.engine)"
    )


def sealed(content: bytes) -> bytes:
    """Return the bytes of an ONNX file with their SHA-256 in place of the zeros that stand in its
    metadata under DIGEST_KEY.

    The hash is that of the file with those zeros, so that it covers every other byte. Raises
    ValueError without the zeros.
    """
    at = _digest_at(content)
    if at is None or content[at : at + _DIGEST_CHARACTERS] != b"0" * _DIGEST_CHARACTERS:
        raise ValueError(f"no zeros under {DIGEST_KEY} in the metadata")
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:at] + digest + content[at + _DIGEST_CHARACTERS :]


def require_undamaged(path: Path) -> None:
    """Raise ArtifactError when an ONNX file is not the one that was written, by the hash that it
    holds; older files hold none.

    The file is neither parsed nor copied into memory.
    """
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            at = _digest_at(content)
            if at is None:
                return
            found = hashlib.sha256(memoryview(content)[:at])
            found.update(b"0" * _DIGEST_CHARACTERS)
            found.update(memoryview(content)[at + _DIGEST_CHARACTERS :])
            wanted = content[at : at + _DIGEST_CHARACTERS].decode("ascii", "replace")
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ArtifactError(
            f"{path} is not a readable ONNX model ({error}); export it again"
        ) from error
    if found.hexdigest() != wanted:
        raise ArtifactError(
            f"{path} is damaged: its bytes are not those that export wrote; copy or export it again"
        )


def _digest_at(content: bytes | mmap.mmap) -> int | None:
    """Where the 64 digits of the hash begin; None when there are none. In a protobuf a string
    stands as it is, and the value behind its key has two bytes before it: which field, and how
    long.
    """
    at = content.rfind(DIGEST_KEY.encode() + bytes((0x12, _DIGEST_CHARACTERS)))
    return None if at < 0 else at + len(DIGEST_KEY) + 2


def _decode_error() -> type[Exception]:
    """The exception that a damaged protobuf raises; imported late because onnx is heavy."""
    from google.protobuf.message import DecodeError

    return DecodeError


def _safetensors_metadata(path: Path) -> dict[str, str]:
    """Metadata of a safetensors file: a length (8 bytes, little endian), then a JSON header."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= _MAX_HEADER_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        return dict(header.get("__metadata__", {}))
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a readable weights file ({error})") from error
