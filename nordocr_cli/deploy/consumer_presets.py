"""Reading the Rust pipeline's settings: its `--config` JSON, and the presets of a `config.rs`.

A config.rs holds several presets: functions, constants or match arms. Each is one struct literal or
a few assignments and may build on another preset (`..Self::production()`). `rust_source` splits the
source into tokens, so comments and strings never count as settings.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nordocr_cli import limits
from nordocr_cli.deploy.consumer import DEFAULTS, KEYS, ConsumerSetting, arch_named_in
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.rust_source import Constant, Token, find_constants, integer, tokens_of

_PREFIX = "recognize_"  # of the recognizer's own keys
_MAX_BASES = 8


@dataclass(frozen=True)
class Preset:
    """The recognizer's settings in one preset, or in a complete JSON file (named ""). `unknown` are
    keys that look like the recognizer's but do not exist. `others` are the keys of the rest of the
    pipeline and settings with a computed value, which are not checked.
    """

    name: str
    line: int
    settings: tuple[ConsumerSetting, ...]
    unknown: tuple[ConsumerSetting, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The value of each key."""
        return {setting.key: setting.value for setting in self.settings}

    @property
    def arch(self) -> str | None:
        """The GPU of the preset, from its engine's name or else its override; None without both."""
        values = {
            s.key: str(s.value) for s in self.settings if s.line and s.value is not None
        }
        engine = arch_named_in(values.get("recognize_engine_path", ""))
        return engine or arch_named_in(values.get("gpu_arch_override", ""))


def misspelt(key: str) -> str:
    """Return the key that was probably meant by an unknown key; "" for a key of another part."""
    close = get_close_matches(key, KEYS, n=1, cutoff=0.8)
    if key.startswith(_PREFIX) or close:
        return nearest(key, KEYS)
    return ""


def read_presets(path: Path) -> list[Preset]:
    """Return the presets of a config.rs, or the one of a config JSON, defaults included.

    Raises UsageError when the file does not exist, DataError when it is unreadable or holds no
    setting of the recognizer.
    """
    text = limits.read_text(path, "file")
    if path.suffix == ".rs":
        presets = _rust_presets(text, str(path))
    else:
        presets = _json_preset(text, path)
    if not any(preset.settings or preset.unknown for preset in presets):
        raise DataError(
            f"{path} sets none of {', '.join(KEYS)}; is it the pipeline's config?"
        )
    return presets


def select_preset(presets: Sequence[Preset], name: str, path: Path) -> Preset:
    """Return the preset called `name`. Raises UsageError with the nearest name."""
    named = [preset for preset in presets if preset.name.lower() == name.lower()]
    if len(named) == 1:
        return named[0]
    names = [preset.name for preset in presets if preset.name]
    if not names:
        raise UsageError(f"{path} has no named presets; leave --preset out")
    raise UsageError(f"{path} has no preset {name!r}: {nearest(name, names)}")


# --- JSON ----------------------------------------------------------------------------------------


def _json_preset(text: str, path: Path) -> list[Preset]:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, item in pairs:
            if key in value:
                repeated.append(key)
            value[key] = item
        return value

    try:
        limits.parse_json(
            text
        )  # rejects what the second parsing, which keeps repeated keys, would accept
        value = json.loads(text, object_pairs_hook=unique)
    except ValueError as error:
        raise DataError(f"{path} is not readable JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise DataError(
            f"{path}: expected one JSON object with keys such as recognize_engine_path"
        )
    if repeated:
        raise DataError(f"{path}: {repeated[0]} is set twice; keep one of them")
    settings = [
        ConsumerSetting(key, value[key], _line_of(text, key))
        for key in KEYS
        if key in value
    ]
    unknown = tuple(
        ConsumerSetting(k, value[k], _line_of(text, k)) for k in value if k not in KEYS
    )
    if settings:
        missing = (key for key in DEFAULTS if key not in value)
        settings += [ConsumerSetting(key, DEFAULTS[key]) for key in missing]
    wrong = tuple(setting for setting in unknown if misspelt(setting.key))
    others = tuple(setting.key for setting in unknown if not misspelt(setting.key))
    return [Preset("", 1, tuple(settings), wrong, others)]


def _line_of(text: str, key: str) -> int:
    """Return the line of a JSON key; 1 when the key is written with escapes."""
    at = text.find(json.dumps(key, ensure_ascii=False))
    return text.count("\n", 0, max(at, 0)) + 1


# --- config.rs -----------------------------------------------------------------------------------


@dataclass
class _Block:
    """A pair of braces: which preset it belongs to, and whether it declares a type instead of
    giving values.
    """

    name: str
    line: int
    declares: bool = False


@dataclass
class _Draft:
    """A preset while its file is parsed; `base` is the preset that it builds on."""

    name: str
    line: int
    settings: list[ConsumerSetting] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    base: str = ""


def _rust_presets(source: str, file: str) -> list[Preset]:
    constants = {each.name: each for each in find_constants(source, file)}
    drafts = _Presets(tokens_of(source, file), constants).drafts
    by_name = {draft.name: draft for draft in reversed(drafts)}
    named = [draft.name for draft in drafts if draft.settings]
    presets = []
    for draft in drafts:
        settings = _with_base(draft, by_name)
        known = tuple(setting for setting in settings if setting.key in KEYS)
        unknown = tuple(setting for setting in settings if setting.key not in KEYS)
        name, line = draft.name, draft.line
        if known and known[0].line and named.count(name) > 1:
            line = known[0].line
            name = f"{name or 'line'}:{line}"
        if known or unknown:
            others = tuple(dict.fromkeys(draft.others))
            presets.append(Preset(name, line, known, unknown, others))
    return presets or [Preset("", 1, ())]


def _with_base(draft: _Draft, by_name: Mapping[str, _Draft]) -> list[ConsumerSetting]:
    """Return the settings of a preset, including those inherited from its bases."""
    values = {setting.key: setting for setting in draft.settings}
    base = draft.base
    for _ in range(_MAX_BASES):
        below = by_name.get(base)
        if below is None or below is draft:
            break
        for setting in below.settings:
            values.setdefault(setting.key, setting)
        base = below.base
    if base == "default" and base not in by_name and values:
        for key, value in DEFAULTS.items():
            values.setdefault(key, ConsumerSetting(key, value))
    return list(values.values())


class _Presets:
    """A single pass over the tokens of a config.rs."""

    def __init__(self, tokens: Sequence[Token], constants: Mapping[str, Constant]) -> None:
        self.tokens, self.constants = tokens, constants
        self.blocks = [_Block("", 1)]
        self.brackets: list[str] = ["{"]
        self.drafts: list[_Draft] = []
        self.header = 0  # where the statement, field or match arm began
        for index in range(len(tokens)):
            self._step(index)

    def _step(self, index: int) -> None:
        token = self.tokens[index]
        if token.is_sign("{"):
            self.blocks.append(self._block(self.tokens[self.header : index], token.line))
            self.brackets.append("{")
            self.header = index + 1
        elif token.is_sign("(", "["):
            self.brackets.append(token.text)
        elif token.is_sign("}"):
            self.blocks.pop()
            self.brackets.pop()
            self.header = index + 1
        elif token.is_sign(")", "]"):
            self.brackets.pop()
        elif token.is_sign(";") or (token.is_sign(",") and self.brackets[-1] == "{"):
            self.header = index + 1
        elif self.brackets[-1] == "{" and not self.blocks[-1].declares:
            self._read(index)

    def _block(self, header: Sequence[Token], line: int) -> _Block:
        """Return the block that a `{` opens, from the tokens before it."""
        words = [token.text for token in header if token.kind != "lifetime"]
        if {"struct", "enum", "trait", "union"} & set(words):
            return _Block("", line, declares=True)
        for keyword in ("fn", "const", "static", "let"):
            if keyword in words:
                named = [
                    name for name in words[words.index(keyword) + 1 :] if name != "mut"
                ]
                return _Block(named[0] if named else "", line)
        if _has_arrow(words):
            pattern = [
                t for t in header[: words.index("=")] if t.kind in ("ident", "string")
            ]
            return _Block(pattern[-1].text if pattern else "", line)
        outer = self.blocks[-1]
        return _Block(outer.name, outer.line if outer.name else line)

    def _read(self, index: int) -> None:
        """Read the setting or the base preset that begins at `index`, if there is one."""
        token, rest = self.tokens[index], self.tokens[index + 1 : index + 4]
        if token.is_sign(".") and rest and rest[0].is_sign("."):
            self._base(self._value(index + 2))
        elif token.text == "let" and token.kind == "ident":
            statement = self._value(index + 1)
            equals = next((i for i, t in enumerate(statement) if t.is_sign("=")), None)
            if equals is not None:
                following = statement[equals + 1 :]
            else:
                following = ()
            if following and following[0].text[:1].isupper():  # Self::production()
                self._base(following)
        elif _is_key(token) and _assigns(rest):
            self._setting(token, self._value(index + 2))

    def _value(self, start: int) -> Sequence[Token]:
        """Return the tokens up to the end of a field or statement."""
        depth, end = 0, start
        while end < len(self.tokens):
            token = self.tokens[end]
            if depth == 0 and token.is_sign(",", ";", "}", ")", "]"):
                break
            depth += token.is_sign("(", "[", "{")
            depth -= token.is_sign(")", "]", "}")
            end += 1
        return self.tokens[start:end]

    def _draft(self, key: str = "") -> _Draft:
        """Return the preset of this block. Lines outside braces have no name: there a repeated key
        begins the next preset. So does a repeated key in a second struct literal of one function.
        """
        block = self.blocks[-1]
        same = [d for d in self.drafts if (d.name, d.line) == (block.name, block.line)]
        last = same[-1] if same else None
        if last is None or key in {setting.key for setting in last.settings}:
            last = _Draft(block.name, block.line)
            self.drafts.append(last)
        return last

    def _base(self, tokens: Sequence[Token]) -> None:
        path = []
        for token in tokens:
            if token.kind != "ident" and not token.is_sign(":"):
                break
            path.append(token.text)
        if path and path[-1] != ":":
            self._draft().base = path[-1]

    def _setting(self, key: Token, tokens: Sequence[Token]) -> None:
        try:
            value = _value_of(tokens, self.constants)
        except LookupError:
            if key.text in KEYS:
                self._draft().others.append(key.text)
            return
        self._draft(key.text).settings.append(ConsumerSetting(key.text, value, key.line))


def _is_key(token: Token) -> bool:
    return token.kind == "ident" and (token.text in KEYS or token.text.startswith(_PREFIX))


def _assigns(following: Sequence[Token]) -> bool:
    """Return whether `: value` or `= value` follows a name, but not `::` or `==`."""
    if len(following) < 2 or not following[0].is_sign(":", "="):
        return False
    return not following[1].is_sign(":", "=")


def _has_arrow(words: Sequence[str]) -> bool:
    return any(pair == ("=", ">") for pair in itertools.pairwise(words))


def _value_of(
    tokens: Sequence[Token], constants: Mapping[str, Constant], depth: int = 0
) -> Any:
    """Return the value of an expression: a text, a number, an enum's variant, or None. Raises
    LookupError for an expression that would have to be computed.
    """
    words = [token.text for token in tokens]
    strings = [token.text for token in tokens if token.kind == "string"]
    if len(strings) == 1:  # "…", "…".into(), PathBuf::from("…"), Some("…".to_string())
        return strings[0]
    if words[:2] == ["Some", "("] and words[-1:] == [")"]:
        tokens, words = tokens[2:-1], words[2:-1]
    if words == ["None"]:
        return None
    number = integer(words[0]) if len(words) == 1 else None
    if number is not None:
        return number
    names = list(_path(tokens))
    if not names or depth >= _MAX_BASES:
        raise LookupError
    if names[-1] in constants:
        return _value_of(constants[names[-1]].value, constants, depth + 1)
    if len(names) > 1:
        return names[-1]  # Precision::FP16
    raise LookupError  # a variable


def _path(tokens: Sequence[Token]) -> Iterator[str]:
    """Return the names in `A::B::C`; an empty result for another expression."""
    if all(token.kind == "ident" or token.is_sign(":") for token in tokens):
        yield from (token.text for token in tokens if token.kind == "ident")
