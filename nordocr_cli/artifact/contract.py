"""The contract: what an artifact was made with, embedded in every checkpoint, ONNX file and engine
sidecar.

A loader compares the contract it finds with the one it needs and refuses a mismatch, naming each
field. The JSON holds a digest of its own values (see sealing.py), so that a changed one is refused.

Schema 2 (current) requires that digest. Schema 1 had none: it is accepted with a warning.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from nordocr_cli.artifact.sealing import require_sealed_json, sealed_json
from nordocr_cli.charset import Charset, differences
from nordocr_cli.errors import ArtifactError, DataError
from nordocr_cli.geometry import Geometry
from nordocr_cli.limits import parse_json
from nordocr_cli.settings import Decoding, decoding_of

# argmax+confidence: each frame holds two numbers, the best class and its probability, instead of
# one number for each class.
OutputActivation = Literal["logits", "softmax", "argmax+confidence"]
# Floats are normalized pixels. uint8 are pixels 0…255, which the network normalizes itself.
InputType = Literal["float32", "float16", "uint8"]
OutputType = Literal["float32", "float16"]

CONTRACT_SCHEMA = 2
METADATA_KEY = "nordocr.contract"
# The model option with the number of positions in the output of a decoding.
_LENGTH_OPTION: dict[Decoding, str] = {
    "autoregressive": "max_label_length",
    "seq2seq": "generation_max_length",
}
# No width, height or length of a line comes near it.
_LARGEST_INTEGER = 1_000_000
_NAMED_DIFFERENCES = 3
_LARGEST_LOG_ODDS = 700.0  # beyond it the exponential overflows


@dataclass(frozen=True)
class LineConfidence:
    """The share of lines that are exact, by the surprise S of a line: minus the sum of the natural
    logarithms of its characters' confidences, in nats.

    confidence = 1 / (1 + (S / nats)^power): half of the lines with S = `nats` are exact. It is the
    logistic regression of exactness on ln S (Platt 1999, of another score), so it falls with S and
    the order of lines of one length stays. Raises ValueError for values that are not above 0.
    """

    nats: float
    power: float

    def __post_init__(self) -> None:
        if not (0 < self.nats < math.inf and 0 < self.power < math.inf):
            raise ValueError(
                f"line_confidence has nats {self.nats:g} and power {self.power:g}; both must be"
                " above 0"
            )

    def of(self, mean: float, characters: int) -> float:
        """Return the confidence of a line of `characters` characters whose confidences have the
        geometric mean `mean`, in (0, 1].
        """
        surprise = -characters * math.log(min(1.0, mean))
        if surprise <= 0:
            return 1.0
        odds = self.power * math.log(surprise / self.nats)  # log odds of an error
        return 1 / (1 + math.exp(min(odds, _LARGEST_LOG_ODDS)))


@dataclass(frozen=True)
class Contract:
    """What must be known to feed an artifact and to read its output.

    - `model`: the profile's model table (name and options)
    - `profile`: the complete resolved profile as plain JSON
    - `trained_widths`: (minimum, maximum) line width in pixels seen in training, None before it
    - `parent_sha256`: the digest of the file that this artifact was made from
    - `precision`: the number format of the weights
    - `input_type`, `output_type`: those of a deployed network's tensors; weights say float32
    - `temperature`: logits are divided by it before they become probabilities; a network whose
      output are probabilities has done so already
    - `line_confidence`: how often a line is exact, given its characters' confidences; None where
      that was not fitted
    - `language_model`: the name of the shipped language model that this network is read with (see
      decode/rescoring.py); None for plain greedy decoding
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
    line_confidence: LineConfidence | None = None
    language_model: str | None = None

    @property
    def output_channels(self) -> int:
        """How many numbers a frame of the output holds: one per class, or class and confidence."""
        if self.output_activation == "argmax+confidence":
            return 2
        return self.charset.num_classes

    @property
    def decoding(self) -> Decoding:
        """How the output is read."""
        return decoding_of(str(self.model.get("name")))

    def out_length(self, width: int) -> int:
        """Positions T of the output for an input `width` pixels wide: CTC frames, or the longest
        text and its end.
        """
        match self.decoding:
            case "seq2seq":
                return int(self.model[_LENGTH_OPTION["seq2seq"]])
            case "autoregressive":
                return int(self.model[_LENGTH_OPTION["autoregressive"]]) + 1
            case _:
                return self.geometry.out_length(width)

    def _special_classes(self) -> dict[str, int]:
        """The number of classes, and the classes that stand for no character. `begin` and `padding`
        are fed to a decoder and are never predicted.
        """
        classes = self.charset.num_classes
        match self.decoding:
            case "autoregressive":
                return {
                    "end": 0,
                    "begin": classes,
                    "padding": classes + 1,
                    "num_classes": classes,
                }
            case "seq2seq":
                # The classes of labels; the output are tokens of the network's own tokenizer.
                return {"num_classes": classes}
            case _:
                return {"blank": 0, "num_classes": classes}

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values, with its digest under `sha256`. The charset is
        written out with its own hash.
        """
        widths = list(self.trained_widths) if self.trained_widths else None
        value = {
            "schema": CONTRACT_SCHEMA,
            "charset": {
                "name": self.charset.name,
                "characters": self.charset.characters,
                "sha256": self.charset.sha256,
                **self._special_classes(),
            },
            "geometry": self.geometry.to_json(),
            "model": dict(self.model),
            "decoding": self.decoding,
            "output_activation": self.output_activation,
            "trained_widths": widths,
            "parent_sha256": self.parent_sha256,
            "precision": self.precision,
            "input_type": self.input_type,
            "output_type": self.output_type,
            "temperature": self.temperature,
            "profile": dict(self.profile),
        }
        if self.line_confidence is not None:
            value["line_confidence"] = asdict(self.line_confidence)
        if self.language_model is not None:
            value["language_model"] = self.language_model
        return sealed_json(value)

    def metadata_props(self) -> dict[str, str]:
        """Return the contract as ONNX `metadata_props`: one JSON value under `nordocr.contract`."""
        return {
            METADATA_KEY: json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True)
        }

    def require_readable_by(self, required: "Contract", what: str) -> None:
        """Refuse to use this artifact where `required` holds. Raises ArtifactError naming each
        difference.

        Maximum widths, the rule for lines that are too wide and tightening may differ: they decide
        what part of a crop a network is given, not what its classes and pixels mean.
        """
        found = differences(self.charset, required.charset)
        if found:
            shown = "; ".join(found[:_NAMED_DIFFERENCES])
            rest = len(found) - _NAMED_DIFFERENCES
            more = f" and {rest} more" if rest > 0 else ""
            raise ArtifactError(f"{what}: charset mismatch: {shown}{more}")
        conflicts = self.geometry.conflicts(
            required.geometry, ignore=("max_width", "over_width", "tighten")
        )
        if conflicts:
            raise ArtifactError(
                f"{what}: geometry mismatch (artifact / required): " + "; ".join(conflicts)
            )


def contract_from_json(value: Any, what: str) -> Contract:
    """Rebuild a contract from `Contract.to_json()`. `what` names the file in messages.

    Raises ArtifactError when it is damaged, too new, or of the current schema without a digest.
    Warns of an older schema, which has no digest.
    """
    require_sealed_json(value, f"the contract of {what}", CONTRACT_SCHEMA)
    try:
        contract = _contract(value)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        DataError,
    ) as error:
        raise ArtifactError(
            f"{what}: damaged contract ({type(error).__name__}: {error}); make the file again"
        ) from error
    return contract


def contract_from_metadata(metadata: Mapping[str, str], what: str) -> Contract:
    """Read the contract out of ONNX or safetensors metadata.

    Raises ArtifactError when there is none, and as `contract_from_json` does.
    """
    return contract_from_json(_embedded(metadata, what), what)


def schema_of(metadata: Mapping[str, str]) -> int:
    """Return the schema of the contract in metadata from which `contract_from_metadata` has read
    it.
    """
    return int(_embedded(metadata, "the file")["schema"])


def _embedded(metadata: Mapping[str, str], what: str) -> Any:
    if METADATA_KEY not in metadata:
        raise ArtifactError(
            f"{what} carries no nordocr contract (charset, geometry, activation); export it with"
            f" `nordocr export`, or give it one: nordocr contract attach {what} --contract RUN -o"
            " NEW.onnx"
        )
    try:
        return parse_json(metadata[METADATA_KEY])
    except ValueError as error:
        raise ArtifactError(
            f"{what}: damaged contract ({error}); make the file again"
        ) from error


def _contract(value: Mapping[str, Any]) -> Contract:
    """The contract that checked JSON holds. Raises what a missing key or a wrong value raises."""
    charset = Charset(value["charset"]["name"], value["charset"]["characters"])
    if charset.sha256 != value["charset"]["sha256"]:
        raise ValueError("the charset does not match its own hash")

    # Files written before these keys existed were float32 and not calibrated.
    input_type = value.get("input_type", "float32")
    output_type = value.get("output_type", "float32")
    temperature = float(value.get("temperature", 1.0))
    _require_one_of(value["output_activation"], OutputActivation, "output activation")
    _require_one_of(input_type, InputType, "input type")
    _require_one_of(output_type, OutputType, "output type")
    if not 0 < temperature < math.inf:
        raise ValueError(f"a temperature of {temperature:g}; it must be above 0")

    contract = Contract(
        charset=charset,
        geometry=_geometry(value["geometry"]),
        model=dict(value["model"]),
        profile=dict(value["profile"]),
        output_activation=value["output_activation"],
        trained_widths=_widths(value["trained_widths"]),
        parent_sha256=_text_or_none(value["parent_sha256"], "parent_sha256"),
        precision=str(value["precision"]),
        input_type=input_type,
        output_type=output_type,
        temperature=temperature,
        line_confidence=_line_confidence(value.get("line_confidence")),
        language_model=_text_or_none(value.get("language_model"), "language_model"),
    )
    option = _LENGTH_OPTION.get(contract.decoding)
    if option is not None:
        _require_integer(contract.model[option], f"model.{option}")
    return contract


def _line_confidence(value: Mapping[str, Any] | None) -> LineConfidence | None:
    if value is None:
        return None
    return LineConfidence(nats=float(value["nats"]), power=float(value["power"]))


def _geometry(value: Mapping[str, Any]) -> Geometry:
    for known in fields(Geometry):
        if known.type is int and known.name in value:
            _require_integer(value[known.name], f"geometry.{known.name}")
    return Geometry(**value)


def _widths(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    minimum, maximum = value
    _require_integer(minimum, "trained_widths")
    _require_integer(maximum, "trained_widths")
    if minimum > maximum:
        raise ValueError(f"trained_widths {value} begin above their end")
    return minimum, maximum


def _text_or_none(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not a text")
    return value


def _require_integer(value: Any, name: str) -> None:
    if type(value) is not int or not 0 <= value <= _LARGEST_INTEGER:
        raise ValueError(
            f"{name} is {value!r}, not a whole number from 0 to {_LARGEST_INTEGER:,}"
        )


def _require_one_of(value: Any, choices: Any, name: str) -> None:
    if value not in get_args(choices):
        raise ValueError(f"unknown {name} {value!r}; update nordocr")
