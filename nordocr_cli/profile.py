"""Profiles: one TOML file that defines everything about a recognizer, and the origin of each value.

Precedence, highest first: flag, `--set dotted.key=value`, environment variable, the profile, the
profile it extends, default. An unknown key is an error that names the file, the dotted key and the
nearest known key.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import Field, ValidationError, model_validator

from nordocr_cli import __version__
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.counterparts import key_here
from nordocr_cli.errors import ArtifactError, NordocrError, UsageError, nearest
from nordocr_cli.geometry import Geometry
from nordocr_cli.limits import parse_toml, read_toml
from nordocr_cli.settings import (
    MODEL_KINDS,
    Augment,
    Data,
    Engine,
    Export,
    Model,
    Table,
    Train,
)
from nordocr_cli.variables import VARIABLES, Variable

# Assumed where a model or a command names no profile: the next production model.
DEFAULT_PROFILE = "svtrv2-1024"
_MAX_EXTENDS = 8
# Origins other than files.
_GIVEN = ("--set", "flag", *(variable.name for variable in VARIABLES))


class Profile(Table):
    """A resolved profile."""

    name: str = ""
    description: str = ""
    # Names the run's folder, runs/<experiment>-<n>, and is a column of `nordocr runs`.
    experiment: str = ""
    charset: str = "nordic"
    model: Model
    geometry: Geometry = Geometry()
    data: Data = Data()
    train: Train = Train()
    augment: Augment = Augment()
    export: Export = Export()
    engine: dict[str, Engine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _engines_know_their_arch(self) -> "Profile":
        for arch in self.engine:
            if not (arch.startswith("sm") and arch[2:].isdigit()):
                raise ValueError(
                    f"[engine.{arch}]: a table is named by GPU architecture, e.g. [engine.sm120]"
                )
        return self

    @model_validator(mode="after")
    def _suits_the_network(self) -> "Profile":
        self.model.check_profile(self.geometry, self.train, self.augment)
        return self

    @property
    def run_name(self) -> str:
        """The name of a new run's folder, without its number."""
        return self.experiment or self.name

    def load_charset(self) -> Charset:
        """Return the charset. Raises UsageError or DataError when the file is missing or is not a
        charset.
        """
        return load_charset(self.charset)


@dataclass(frozen=True)
class ResolvedProfile:
    """A profile with the origin (`default`, a file's name, a variable's name, `--set`, `flag`) of
    each dotted key.
    """

    profile: Profile
    origins: Mapping[str, str]
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Return every value as plain JSON."""
        return profile_to_json(self.profile)


def profile_to_json(profile: Profile) -> dict[str, Any]:
    """Return a profile as plain JSON values (tuples become lists)."""
    return profile.model_dump(mode="json")


def profile_from_json(value: Mapping[str, Any], what: str) -> Profile:
    """Validate a profile that was embedded in an artifact. Raises ArtifactError naming `what` and
    each bad key.
    """
    try:
        return _validate(dict(value), what)
    except UsageError as error:
        raise ArtifactError(
            f"{error}\nwas it written by a newer nordocr, or by hand? Update nordocr (this is"
            f" {__version__})"
        ) from None


def profile_folders() -> list[Path]:
    """Return the folders in which a profile is looked up by name, in this order:
    `NORDOCR_PROFILES`, then the shipped ones.
    """
    extra = os.environ.get("NORDOCR_PROFILES", "")
    package = Path(__file__).parent
    if (package / "profiles").is_dir():
        shipped = package / "profiles"
    else:
        shipped = package.parent / "profiles"
    return [*(Path(p) for p in extra.split(os.pathsep) if p), shipped]


def profile_names() -> list[str]:
    """Return the names of all profiles for `--profile`, sorted."""
    return sorted(
        {path.stem for folder in profile_folders() for path in folder.glob("*.toml")}
    )


def find_profile(name_or_path: str) -> Path:
    """Return the profile's file. Raises UsageError with the nearest name."""
    path = Path(name_or_path)
    if path.suffix == ".toml" or len(path.parts) > 1:
        if path.is_file():
            return path
        raise UsageError(f"no profile file {path}")
    for folder in profile_folders():
        if (folder / f"{name_or_path}.toml").is_file():
            return folder / f"{name_or_path}.toml"
    raise UsageError(
        f"unknown profile {name_or_path!r}: {nearest(name_or_path, profile_names())}"
    )


def load_profile(
    name_or_path: str,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    variables: Mapping[str, Variable] | None = None,
) -> ResolvedProfile:
    """Read, merge and validate a profile.

    `sets` are `dotted.key=value` with a TOML value (a bare word is a string). `flags` are dotted
    keys with the values of command line options; None means not given. `variables` are dotted keys
    with the values of environment variables that are set. Raises UsageError naming file, dotted key
    and the nearest known key.
    """
    path = find_profile(name_or_path)
    table, origins = _read_with_parents(path)
    table.setdefault("name", path.stem)
    for key, variable in (variables or {}).items():
        found = variable.get()
        if found:
            _put(table, key, found, variable.name)
            _mark(origins, key, found, variable.name)
    for assignment in sets:
        key, value = parse_set(assignment)
        _put(table, key, value, "--set")
        _mark(origins, key, value, "--set")
    for key, value in (flags or {}).items():
        if value is not None:
            _put(table, key, value, "flag")
            _mark(origins, key, value, "flag")
    profile = _validate(table, str(path), origins)
    _require_folder_name(profile, origins, path)
    _require_normalization(profile, origins, path)
    try:
        profile.load_charset()
    except UsageError as error:
        origin = origins.get("charset", "")
        place = origin if origin in _GIVEN else str(path)
        raise UsageError(f"{place}: charset: {error}") from None
    complete = {
        key: origins.get(key, "default") for key in flatten(profile_to_json(profile))
    }
    return ResolvedProfile(profile, complete, path)


def _require_folder_name(profile: Profile, origins: Mapping[str, str], path: Path) -> None:
    """Reject an experiment that cannot name the folder of a run. Profiles saved in artifacts are
    not checked: the experiment had no effect in older versions, and could be any text.
    """
    experiment = profile.experiment
    if not experiment or re.fullmatch(r"\w[\w.-]{0,99}", experiment):
        return
    origin = origins.get("experiment", "")
    place = origin if origin in _GIVEN else str(path)
    raise UsageError(
        f"{place}: experiment: {experiment!r} names the run's folder: use letters, digits, '_',"
        " '-' and '.'"
    )


def _require_normalization(
    profile: Profile, origins: Mapping[str, str], path: Path
) -> None:
    """Reject another normalization for an SVTR or SVTRv2: the pipeline that serves them computes v
    / 127.5 - 1, and such a model would output nonsense there. Imported networks carry their own
    normalization in their contract and are not checked here.
    """
    normalization = profile.geometry.normalization
    if normalization == "symmetric" or not profile.model.name.startswith("svtr"):
        return
    source = origins.get("geometry.normalization", str(path))
    raise UsageError(
        f"{source}: geometry.normalization is {normalization!r}; networks of the SVTR family are"
        " served with v / 127.5 - 1: use geometry.normalization = 'symmetric'"
    )


def parse_set(assignment: str) -> tuple[str, Any]:
    """Split `dotted.key=value`. Raises UsageError when `=` or the key is missing."""
    key, equals, text = assignment.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise UsageError(
            f"--set {assignment!r}: expected dotted.key=value, e.g. --set train.lr=3e-4"
        )
    try:
        return key, parse_toml(f"value = {text}")["value"]
    except ValueError:
        if text and not set(text) & set("\"'[]{}=\n"):
            return key, text
        raise UsageError(
            f"--set {key}: {text!r} is not a TOML value; quote strings, e.g. --set {key}='\"text\"'"
        ) from None


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{dotted.key: value}` for every leaf of nested tables."""
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves


def _read_with_parents(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    chain: list[tuple[Path, dict[str, Any]]] = []
    current: Path | None = path
    while current is not None:
        if any(current == seen for seen, _ in chain) or len(chain) == _MAX_EXTENDS:
            names = " → ".join(p.stem for p, _ in chain)
            raise UsageError(
                f"{path}: `extends` is circular or too deep: {names} → {current.stem}"
            )
        table = _read_toml(current)
        chain.append((current, table))
        parent = table.pop("extends", None)
        if parent is not None and not isinstance(parent, str):
            raise UsageError(
                f"{current}: extends must be the name of a profile, not {parent!r}"
            )
        sibling = current.parent / f"{parent}.toml"
        if parent is None:
            current = None
        else:
            current = sibling if sibling.is_file() else find_profile(parent)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file, table in reversed(chain):
        # A network of another name shares no options with the network that it replaces.
        if "name" in table.get("model", {}) and table["model"]["name"] != merged.get(
            "model", {}
        ).get("name"):
            merged.pop("model", None)
            origins = {
                key: origin
                for key, origin in origins.items()
                if not key.startswith("model.")
            }
        table.setdefault("description", "")
        _merge(merged, table)
        origins |= dict.fromkeys(flatten(table), file.name)
    return merged, origins


def _read_toml(path: Path) -> dict[str, Any]:
    return read_toml(path, "profile")


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    for key, value in table.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _put(table: dict[str, Any], dotted: str, value: Any, origin: str) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if isinstance(table, dict):
            continue
        counterpart = key_here(dotted)
        if counterpart:
            raise UsageError(f"{origin} {dotted}: unknown key; use {counterpart}")
        raise UsageError(f"{origin} {dotted}: {parent!r} is a value, not a table")
    table[last] = value


def _mark(origins: dict[str, str], dotted: str, value: Any, origin: str) -> None:
    if isinstance(value, Mapping):
        keys = list(flatten(value, f"{dotted}."))
    else:
        keys = [dotted]
    origins |= dict.fromkeys(keys, origin)


def _validate(
    table: dict[str, Any], where: str, origins: Mapping[str, str] | None = None
) -> Profile:
    """Validate a merged table. Errors name `where`, or the `--set` or option that gave a wrong
    value.
    """
    try:
        return Profile.model_validate(table)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            location = _location(dict(problem), table)
            source = _asked(".".join(location), origins or {}) or where
            problems.append(f"{source}: {_explain(dict(problem), location, table)}")
        raise UsageError("\n".join(problems)) from None
    except NordocrError as error:
        raise UsageError(f"{where}: {error}") from None


def _asked(dotted: str, origins: Mapping[str, str]) -> str:
    """Return which part of the command line or which variable set a key. For a table whose values
    do not go together, return all that were set there; else "".
    """
    origin = origins.get(dotted, "")
    if origin in _GIVEN:
        return origin
    given = [
        key
        for key, origin in origins.items()
        if key.startswith(f"{dotted}.") and origin in _GIVEN
    ]
    if given:
        return f"{origins[given[0]]} {', '.join(given)}"
    return ""


def _location(problem: Mapping[str, Any], table: Mapping[str, Any]) -> list[str]:
    location = [str(part) for part in problem["loc"]]
    if len(location) > 1 and location[0] == "model" and location[1] == _model_name(table):
        del location[1]  # pydantic adds the union's tag to the path
    return location


def _model_name(table: Mapping[str, Any]) -> str | None:
    if isinstance(table.get("model"), Mapping):
        return table.get("model", {}).get("name")
    return None


def _explain(
    problem: Mapping[str, Any], location: list[str], table: Mapping[str, Any]
) -> str:
    tag = _model_name(table)
    dotted = ".".join(location) or "the profile"
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        named = _given_key(dotted, problem["input"])
        counterpart = key_here(named)
        if counterpart:
            return f"unknown key {named!r}; use {counterpart}"
        return (
            f"unknown key {dotted!r};"
            f" {nearest(location[-1], sorted(_known_keys(location[:-1], tag)))}"
        )
    if problem["type"].endswith("_type") and isinstance(problem["input"], Mapping):
        named = _given_key(dotted, problem["input"])
        counterpart = key_here(named)
        if counterpart:
            return f"unknown key {named!r}; use {counterpart}"
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"model.name {tag!r}: {nearest(str(tag), list(MODEL_KINDS))}"
    if problem["type"] == "missing":
        return f"{dotted} is missing"
    if problem["type"] == "value_error":
        shown = ""
    else:
        shown = f" (got {problem['input']!r})"
    return f"{dotted}: {problem['msg'].removeprefix('Value error, ')}{shown}"


def _given_key(dotted: str, value: Any) -> str:
    """Return the first key that was given in an unknown table; the key itself when it is not a
    table.
    """
    if not isinstance(value, Mapping):
        return dotted
    leaves = flatten(value, f"{dotted}.")
    return next(iter(leaves), dotted)


def _known_keys(parents: Sequence[str], tag: str | None) -> set[str]:
    """Return the keys that the table at `parents` may hold."""
    kind: Any = Profile
    for parent in parents:
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif parent == "model":
            kind = MODEL_KINDS.get(str(tag))
        else:
            kind = kind.model_fields[parent].annotation
    return set(
        getattr(kind, "model_fields", None) or getattr(kind, "__dataclass_fields__", {})
    )
