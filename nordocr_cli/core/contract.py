"""The contracts of two artifacts side by side: charset, geometry, network, output, and which was
made from which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from nordocr_cli.artifact.contract import Contract, OutputActivation, contract_from_json
from nordocr_cli.artifact.probing import SIDECAR_SCHEMA, read_contract, tensors_sha256
from nordocr_cli.artifact.sealing import (
    JSON_DIGEST,
    require_sealed_json,
    require_undamaged_onnx,
)
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs, replacing, sha256_of, write_json
from nordocr_cli.charset import Charset, differences, load_charset
from nordocr_cli.core.lineage import is_model, trace
from nordocr_cli.deploy.onnx_file import OnnxFile, contract_path
from nordocr_cli.errors import ArtifactError, UsageError, nearest
from nordocr_cli.limits import read_json, require_regular_file
from nordocr_cli.profile import flatten
from nordocr_cli.runtime.backends.tensorrt.engine_file import read_sidecar
from nordocr_cli.settings import unused_options

_CHARSET_SUFFIXES = (".txt", ".rs")
# Entries that may differ between files: precision (fp16 and fp32 weights), learning rate, how the
# output is decoded, and temperature, which changes confidences but no text.
_OWN = (
    "precision",
    "temperature",
    "line_confidence",
    "language_model",
    "trained_widths",
    "profile",
)
_TENSORS = ("input_type", "output_type")
# Options of a network that matter in training only.
_TRAINING_ONLY = ("model.drop_path", "model.dropout", "model.permutations")

_PROBE_WIDTH = 512  # pixels; networks of one fixed width are narrower


@dataclass(frozen=True)
class Side:
    """One artifact. `contract` is None for a dictionary or charset.rs, which holds only classes.
    `sha256` is the hash of the artifact's bytes (for a contract JSON, of the model that it
    describes), None without one.
    """

    path: Path
    charset: Charset
    contract: Contract | None = None
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the contract as plain JSON values; for a charset file, its classes."""
        if self.contract:
            contract = self.contract.to_json()
        else:
            contract = {"charset": {"characters": self.charset.characters}}
        return {"path": str(self.path), "sha256": self.sha256, **contract}

    def fields(self) -> dict[str, Any]:
        """Return the fields by dotted key, with the charset as one hash and without the parent."""
        if self.contract is None:
            return {}
        table = {**self.contract.to_json(), "charset": self.charset.sha256}
        del table["parent_sha256"], table[JSON_DIGEST]
        if self.path.suffix == ".safetensors":  # weights have no input and output tensors
            del table["input_type"], table["output_type"]
        return flatten(table)


@dataclass(frozen=True)
class ArtifactComparison:
    """The differences between two artifacts. With `differences` one cannot replace the other. `own`
    are entries that may differ (precision, temperature, trained widths, the rest of the profile).
    `lineage` describes which was made from which.
    """

    a: Side
    b: Side
    compared: int
    differences: tuple[str, ...]
    own: tuple[str, ...]
    lineage: str

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "a": str(self.a.path),
            "b": str(self.b.path),
            "same": not self.differences,
            "fields_compared": self.compared,
            "differences": list(self.differences),
            "own": list(self.own),
            "lineage": self.lineage,
        }


def read_side(path: Path) -> Side:
    """Read the contract of `path`: weights, a run folder, an ONNX model, an engine, the JSON next
    to either, a dictionary (.txt) or a charset.rs. The network is not loaded. Raises UsageError
    when the file does not exist, ArtifactError when it carries no contract, is damaged, or is not
    the file that the JSON next to it describes.
    """
    if path.suffix in _CHARSET_SUFFIXES:
        return Side(path, load_charset(str(path)))
    path = find_weights(path)
    if path.suffix == ".json":
        return _described(path)
    if path.suffix == ".engine":
        read_sidecar(path)
    contract = read_contract(path)
    return Side(path, contract.charset, contract, sha256_of(path))


def _described(path: Path) -> Side:
    """Read model.contract.json or ENGINE.json."""
    value = read_json(path, "description of a model", error=ArtifactError)
    try:
        described = value.get("model") or value["engine"]
        model = path.with_name(described["name"])
        sha256 = str(described["sha256"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(
            f"{path} describes no model ({type(error).__name__}: {error}); give the JSON that"
            " export or build-engine writes"
        ) from error
    require_sealed_json(value, str(path), SIDECAR_SCHEMA)
    if model.is_file() and sha256_of(model) != sha256:
        raise ArtifactError(
            f"{model} is not the file that {path.name} describes (another sha256); make it again"
        )
    contract = contract_from_json(value.get("contract"), str(path))
    return Side(path, contract.charset, contract, sha256)


def attach_contract(
    model: Path, source: Path, output: Path, activation: str | None = None
) -> OnnxFile:
    """Write the ONNX `model` with the contract of `source` (any artifact that has one, or the JSON
    next to it) to `output`. Input and output types, output activation and precision must agree with
    the contract. The precision of `source` weights is not compared: it describes how they are
    stored, not the model. The result passes every check of an export except parity, since the
    weights are not known. Raises UsageError and ArtifactError.
    """
    if model.suffix != ".onnx" or output.suffix != ".onnx":
        raise UsageError("a contract is put into an ONNX model: MODEL.onnx -o NEW.onnx")
    refuse_inputs(output, [model, source])
    side = read_side(source)
    contract = side.contract
    if contract is None:
        raise UsageError(
            f"{source} holds only a charset; give a run, weights, an ONNX model or"
            " model.contract.json"
        )
    if not model.is_file():
        raise UsageError(f"no file {model}")
    contract = replace(contract, parent_sha256=None)
    if activation is not None:
        contract = replace(contract, output_activation=_activation(activation))
    return write_with_contract(
        model, contract, output, own_precision=side.path.suffix == ".safetensors"
    )


def _activation(text: str) -> OutputActivation:
    for known in get_args(OutputActivation):
        if text == known:
            return cast("OutputActivation", known)
    raise UsageError(
        f"--output-activation {text!r}: {nearest(text, get_args(OutputActivation))}"
    )


def write_with_contract(
    model: Path, contract: Contract, output: Path, own_precision: bool = False
) -> OnnxFile:
    """Write the network of an ONNX `model` with another contract to `output`, and the contract's
    JSON next to it. With `own_precision` the contract gets the precision of the model's weights.
    Raises ArtifactError when the model is not ONNX or does not fit the contract, DataError when the
    disk is full.
    """
    import onnx
    from google.protobuf.message import DecodeError

    from nordocr_cli.deploy.onnx_file import file_bytes, inspect_onnx, weights_precision

    require_regular_file(model, "ONNX model")
    require_undamaged_onnx(model)
    try:
        graph = onnx.load(model)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise ArtifactError(f"{model} is not a readable ONNX model ({error})") from error
    if own_precision:
        contract = replace(contract, precision=weights_precision(graph, str(model)))
    with replacing(output) as temporary:
        temporary.write_bytes(file_bytes(graph, contract, output.name))
        file = replace(inspect_onnx(temporary, name=output.name), path=output)
        _require_activation(temporary, contract, output.name)
    write_json(contract_path(output), file.sidecar())
    return file


def _require_activation(model: Path, contract: Contract, name: str) -> None:
    """Run an ONNX model on noise and compare its output with the contract's output activation. A
    graph may hold a softmax in a form that its operators do not show. Raises ArtifactError.
    """
    import numpy as np

    from nordocr_cli.decode.probabilities import (
        require_declared_activation,
        require_probabilities,
    )
    from nordocr_cli.runtime.backends.onnxruntime.runner import OnnxRuntimeRunner

    if contract.precision == "bf16":
        return  # ONNX Runtime does not run it on a CPU
    runner = OnnxRuntimeRunner(model, "cpu", threads=1)
    height = contract.geometry.height
    width = min(_PROBE_WIDTH, contract.geometry.max_width)
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), np.uint8)
    output = runner.run(noise, np.array([width]))[0]  # (T, C)
    require_declared_activation(output, len(output), contract, name)
    require_probabilities(output, contract, name)


def compare_contracts(a: Path, b: Path) -> ArtifactComparison:
    """Compare two artifacts field by field, and charsets class by class. Raises what `read_side`
    raises, and UsageError for a file that is compared with itself.
    """
    if a.exists() and b.exists() and a.samefile(b):
        raise UsageError(f"{a} and {b} are the same file")
    left = read_side(a)
    right = read_side(b)
    found = [f"charset: {line}" for line in differences(left.charset, right.charset)]
    mine = left.fields()
    theirs = right.fields()
    if not mine or not theirs:
        return ArtifactComparison(
            left,
            right,
            len(left.charset.characters),
            tuple(found),
            (),
            "a charset file has no parent",
        )
    own: list[str] = []
    without_effect = {*_TRAINING_ONLY, *_unused_by_both(left, right)}
    for key in [
        key
        for key in dict.fromkeys([*mine, *theirs])
        if key not in _TENSORS or (key in mine and key in theirs)
    ]:
        one = mine.get(key, "not there")
        other = theirs.get(key, "not there")
        if key != "charset" and one != other:
            is_own = key.split(".")[0] in _OWN or key in without_effect
            (own if is_own else found).append(f"{key}: {one} / {other}")
    lineage, broken = _lineage(left, right)
    if broken:
        found.append(f"parent_sha256: {lineage}")
    return ArtifactComparison(
        left, right, len(mine.keys() | theirs.keys()), tuple(found), tuple(own), lineage
    )


def _unused_by_both(a: Side, b: Side) -> set[str]:
    """Return the keys of the model options that have no effect in either network."""
    assert a.contract is not None
    assert b.contract is not None
    unused = set(unused_options(a.contract.model)) & set(unused_options(b.contract.model))
    return {f"model.{name}" for name in unused}


def _lineage(a: Side, b: Side) -> tuple[str, bool]:
    """Describe which file was made from which, and whether that is a fault: two networks of other
    weights, such as an ONNX and weights that it was not exported from.
    """
    names = _names(a, b)
    if a.sha256 == b.sha256:
        return f"{names[0]} and {names[1]} describe the same bytes", False
    family = _family(a, b)
    lines = [_ancestors(side, family) for side in (a, b)]
    for child, parent, line in ((1, 0, lines[1]), (0, 1, lines[0])):
        above = str((a, b)[parent].sha256)
        if above in line:
            steps = line.index(above)
            over = f", over {steps} steps" if steps > 1 else ""
            return f"{names[child]} was made from {names[parent]}{over}", False
    shared = [sha256 for sha256 in lines[0] if sha256 in lines[1]]
    if _networks(a, family) & _networks(b, family):
        direct = shared and shared[0] == lines[0][1] == lines[1][1]
        return f"both were made from the same {'parent' if direct else 'weights'}", False
    missing = _missing_origin(a, family) or _missing_origin(b, family)
    if shared and missing:
        return (
            f"it is not known whether {names[0]} and {names[1]} hold the same weights: both were"
            f" made from one file, and the origin {missing} is not here: put it next to them"
        ), False
    return _fault(a, b, names, is_trained_twice=bool(shared)), True


def _names(a: Side, b: Side) -> tuple[str, str]:
    """Return the names of the files, with their folders where the names are the same."""
    if a.path.name != b.path.name:
        return a.path.name, b.path.name
    return str(a.path), str(b.path)


def _fault(a: Side, b: Side, names: tuple[str, str], *, is_trained_twice: bool) -> str:
    if is_trained_twice:
        return (
            f"{names[0]} and {names[1]} were made from one file, but trained apart: their weights"
            " differ"
        )
    suffixes = {a.path.suffix: names[0], b.path.suffix: names[1]}
    for made, origin in ((".onnx", ".safetensors"), (".engine", ".onnx")):
        if {made, origin} == set(suffixes):
            return (
                f"{suffixes[made]} was not made from {suffixes[origin]}, but from another {origin}"
                " file"
            )
    return (
        f"neither {names[0]} nor {names[1]} was made from the other, nor both from one file;"
        " `nordocr lineage` follows them through the files in between"
    )


@dataclass(frozen=True)
class _Family:
    """The models next to two files: each one's parent and path, by hash."""

    parents: Mapping[str, str]
    paths: Mapping[str, Path]


def _family(a: Side, b: Side) -> _Family:
    files = [path for side in (a, b) for path in side.path.parent.iterdir()]
    models = [path for path in dict.fromkeys(files) if is_model(path)]
    if not models:
        return _Family({}, {})
    known = trace(models, check_tensors=False)
    parents = {
        node.sha256: link.sha256
        for node in known.nodes
        for link in node.links
        if link.role == "parent"
    }
    return _Family(parents, {node.sha256: node.path for node in known.nodes})


def _ancestors(side: Side, family: _Family) -> list[str]:
    """Return the hashes of a file and of its origins, nearest first."""
    assert side.contract is not None
    line = [str(side.sha256)]
    following = side.contract.parent_sha256 or family.parents.get(line[0])
    while following and following not in line:
        line.append(following)
        following = family.parents.get(following)
    return line


def _networks(side: Side, family: _Family) -> set[str]:
    """Return the hashes of a file and of those origins that hold the same weights, and the hash of
    the weights. An export keeps them; weights made from weights may have been trained.
    """
    line = _ancestors(side, family)
    found = {line[0]}
    path = side.path
    for parent in line[1:]:
        origin = family.paths.get(parent)
        if path.suffix == ".safetensors":
            tensors = tensors_sha256(path)
            found.add(tensors)
            if origin is None or origin.suffix != ".safetensors":
                break  # trained from weights that are not here, or imported
            if tensors_sha256(origin) != tensors:
                break
        found.add(parent)
        if origin is None:
            break
        path = origin
    return found


def _missing_origin(side: Side, family: _Family) -> str:
    """Return the hash of the file that would show the weights of `side`, where it is not here; ""
    when they are known. Weights show them; other files are followed to the weights they are made
    from.
    """
    path = side.path
    for parent in _ancestors(side, family)[1:]:
        if path.suffix == ".safetensors":
            return ""
        if parent not in family.paths:
            return parent
        path = family.paths[parent]
    return ""
