"""Reading the Rust pipeline's settings: its `--config` JSON, and the presets of a `config.rs`.

A config.rs holds several presets: functions, constants or match arms. Each is one struct literal or
a few assignments and may build on another preset (`..Self::production()`). `rust_source` splits the
source into tokens, so comments and strings never count as settings.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from nordocr_cli import limits
from nordocr_cli.deploy.consumer import (
    CONFIG_KEYS,
    DEFAULTS,
    FIXED_RULES,
    ConsumerSetting,
    arch_named_in,
)
from nordocr_cli.deploy.rust_values import value_of
from nordocr_cli.errors import DataError, UsageError, nearest
from nordocr_cli.rust_source import (
    Constant,
    Token,
    compiled,
    find_constants,
    group_end,
    spelled,
    tokens_of,
)

_PREFIX = "recognize_"  # of the recognizer's own keys
_SETTERS = ("set_", "with_")  # of methods that set a key
_MAX_BASES = 8


@dataclass(frozen=True)
class Preset:
    """The recognizer's settings in one preset, or in a complete JSON file (named ""). `unknown` are
    keys that look like the recognizer's but do not exist. `computed` are keys whose value only the
    running pipeline knows; their value here is its source. `others` are keys of the rest of the
    pipeline, which are not checked. `base` is a preset of another file that this one builds on.
    """

    name: str
    line: int
    settings: tuple[ConsumerSetting, ...]
    unknown: tuple[ConsumerSetting, ...] = ()
    computed: tuple[ConsumerSetting, ...] = ()
    others: tuple[str, ...] = ()
    base: str = ""

    @property
    def values(self) -> dict[str, Any]:
        """The value of each key that was read."""
        return {setting.key: setting.value for setting in self.settings}

    @property
    def unset(self) -> tuple[str, ...]:
        """The keys that the preset leaves to the pipeline. The override of the GPU may be left."""
        given = {setting.key for setting in (*self.settings, *self.computed)}
        return tuple(
            key for key in CONFIG_KEYS if key not in given and key != "gpu_arch_override"
        )

    @property
    def arch(self) -> str | None:
        """The GPU of the preset, from its engine's name or else its override; None without both."""
        values = {
            s.key: str(s.value) for s in self.settings if s.line and s.value is not None
        }
        engine = arch_named_in(values.get("recognize_engine_path", ""))
        return engine or arch_named_in(values.get("gpu_arch_override", ""))


def misspelt(key: str) -> str:
    """Return why a key that looks like the recognizer's is none, and which one was probably meant;
    "" for a key of another part of the pipeline.
    """
    rule = FIXED_RULES.get(key.removeprefix(_PREFIX))
    if rule is not None:
        return f"the pipeline has no key for it: it {rule}"
    plain = {_plain(known): known for known in CONFIG_KEYS}
    plain |= {_plain(known.removeprefix(_PREFIX)): known for known in CONFIG_KEYS}
    if _plain(key) in plain:
        return f"did you mean {plain[_plain(key)]!r}?"
    begins = _begins_one(key)
    if begins:
        return f"did you mean {begins!r}?"
    close = get_close_matches(_plain(key), plain, n=1, cutoff=0.8)
    if close:
        return f"did you mean {plain[close[0]]!r}?"
    if _plain(key).startswith(("recognize", "recognise")):
        return "known: " + ", ".join(CONFIG_KEYS)
    return ""


def _plain(key: str) -> str:
    """Return a key in lower case without signs: `recognizeMaxBatch` is `recognize_max_batch`."""
    return "".join(character for character in key.lower() if character.isalnum())


def _begins_one(key: str) -> str:
    """Return the key whose first two words or more are `key`, such as `gpu_arch`; else ""."""
    if "_" not in key or key == _PREFIX:
        return ""
    begun = [known for known in CONFIG_KEYS if known.startswith(f"{key.lower()}_")]
    return begun[0] if len(begun) == 1 else ""


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
    if not any(each.settings or each.unknown or each.computed for each in presets):
        raise DataError(
            f"{path} sets none of {', '.join(CONFIG_KEYS)}; is it the pipeline's config?"
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
        # Rejects what the second parsing, which keeps repeated keys, would accept.
        limits.parse_json(text)
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
        for key in CONFIG_KEYS
        if key in value
    ]
    unknown = tuple(
        ConsumerSetting(k, value[k], _line_of(text, k))
        for k in value
        if k not in CONFIG_KEYS
    )
    if settings:
        missing = (key for key in DEFAULTS if key not in value)
        settings += [ConsumerSetting(key, DEFAULTS[key]) for key in missing]
    wrong = tuple(setting for setting in unknown if misspelt(setting.key))
    others = tuple(setting.key for setting in unknown if not misspelt(setting.key))
    return [Preset("", 1, tuple(settings), wrong, others=others)]


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


@dataclass(frozen=True)
class _Computed:
    """A value that only the running pipeline knows; `source` is its expression."""

    source: str


@dataclass
class _Draft:
    """A preset while its file is parsed; `base` is the preset that it builds on, and `updates` says
    that this is certain (`..base`). The value of a setting may be `_Computed`.
    """

    name: str
    line: int
    settings: list[ConsumerSetting] = field(default_factory=list)
    base: str = ""
    updates: bool = False


def _rust_presets(source: str, file: str) -> list[Preset]:
    constants = find_constants(source, file)
    drafts = _Presets(compiled(tokens_of(source, file)), constants).drafts
    by_name = {draft.name: draft for draft in reversed(drafts)}
    named = [draft.name for draft in drafts if draft.settings]
    presets = [_preset_of(draft, by_name, named) for draft in drafts]
    return [each for each in presets if each is not None] or [Preset("", 1, ())]


def _preset_of(
    draft: _Draft, by_name: Mapping[str, _Draft], named: Sequence[str]
) -> Preset | None:
    """Return the preset of a draft with what it inherits; None for one without a setting."""
    settings, base = _with_base(draft, by_name)
    if not settings:
        return None
    known = [setting for setting in settings if setting.key in CONFIG_KEYS]
    unknown = tuple(setting for setting in settings if setting.key not in CONFIG_KEYS)
    read = tuple(each for each in known if not isinstance(each.value, _Computed))
    computed = tuple(
        ConsumerSetting(each.key, each.value.source, each.line)
        for each in known
        if isinstance(each.value, _Computed)
    )
    name = draft.name
    line = draft.line
    if known and known[0].line and named.count(name) > 1:
        line = known[0].line
        name = f"{name or 'line'}:{line}"
    return Preset(name, line, read, unknown, computed, base=base)


def _with_base(
    draft: _Draft, by_name: Mapping[str, _Draft]
) -> tuple[list[ConsumerSetting], str]:
    """Return the settings of a preset, those of its bases included, and the base that this file
    does not declare ("" when it declares all of them).
    """
    values = {setting.key: setting for setting in draft.settings}
    below = draft
    base = draft.base
    for _ in range(_MAX_BASES):
        following = by_name.get(base)
        if following is None or following is below:
            break
        for setting in following.settings:
            values.setdefault(setting.key, setting)
        below = following
        base = following.base
    if base == "default" and base not in by_name and values:
        for key, value in DEFAULTS.items():
            values.setdefault(key, ConsumerSetting(key, value))
        base = ""
    undeclared = below.updates and base not in by_name
    return list(values.values()), base if undeclared else ""


class _Presets:
    """A single pass over the tokens of a config.rs."""

    def __init__(self, tokens: Sequence[Token], constants: Sequence[Constant]) -> None:
        self.tokens = tokens
        self.constants = constants
        self.blocks = [_Block("", 1)]
        self.brackets: list[str] = ["{"]
        self.drafts: list[_Draft] = []
        self.header = 0  # where the statement, field or match arm began
        self.variables = _variables(tokens)
        for index in range(len(tokens)):
            self._step(index)

    def _step(self, index: int) -> None:
        token = self.tokens[index]
        if token.is_sign("{"):
            self.blocks.append(self._block(index))
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

    def _block(self, opening: int) -> _Block:
        """Return the block that the `{` at `opening` opens, from the tokens before it."""
        header = self.tokens[self.header : opening]
        line = self.tokens[opening].line
        words = [token.text for token in header if token.kind != "lifetime"]
        if {"struct", "enum", "trait", "union"} & set(words):
            return _Block("", line, declares=True)
        if self._is_pattern(opening):
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
        of_another_part = _is_field(header) and not self._recognizes(opening)
        ignored = outer.declares or of_another_part
        return _Block(outer.name, outer.line if outer.name else line, declares=ignored)

    def _is_pattern(self, opening: int) -> bool:
        """Whether a block takes a value apart: `let Self { precision, .. } = self;`."""
        behind = group_end(self.tokens, opening) + 1
        return behind < len(self.tokens) and self.tokens[behind].is_sign("=")

    def _recognizes(self, opening: int) -> bool:
        """Whether a block holds a key of the recognizer. `precision` may be another part's too."""
        block = self.tokens[opening : group_end(self.tokens, opening)]
        return any(t.kind == "ident" and t.text.startswith(_PREFIX) for t in block)

    def _read(self, index: int) -> None:
        """Read the setting or the base preset that begins at `index`, if there is one."""
        token = self.tokens[index]
        rest = self.tokens[index + 1 : index + 4]
        if token.is_sign(".") and rest and rest[0].is_sign("."):
            self._base(self._value(index + 2), updates=True)
        elif token.text == "let" and token.kind == "ident":
            statement = self._value(index + 1)
            following = _after_equals(statement)
            if following and following[0].text[:1].isupper():  # Self::production()
                self._base(following, updates=False)
        elif self._is_other_variable(index):
            return
        elif _is_key(token) and _assigns(rest):
            self._setting(token, self._value(index + 2), self._receiver(index))
        elif _is_key(token) and _changes(rest):
            self._setting(token, (), self._receiver(index))
        elif self._is_shorthand(index):
            self._shorthand(token)
        elif self._is_call(index):
            end = group_end(self.tokens, index + 1)
            self._setting(token, self.tokens[index + 2 : end])

    def _is_other_variable(self, index: int) -> bool:
        """Whether the token is a local variable that only begins like a key: `recognize_ms`. A
        field of a struct literal is followed by a colon.
        """
        token = self.tokens[index]
        following = self.tokens[index + 1 : index + 2]
        if token.text not in self.variables or token.text in CONFIG_KEYS:
            return False
        is_declared = index > 0 and self.tokens[index - 1].text in ("let", "mut")
        is_field = any(sign.is_sign(":", ",", "}") for sign in following)
        return is_declared or not (is_field or self._receiver(index))

    def _is_shorthand(self, index: int) -> bool:
        """Whether the token is a field that has the value of a variable with its name."""
        if not (0 < index < len(self.tokens) - 1 and _is_key(self.tokens[index])):
            return False
        before = self.tokens[index - 1]
        after = self.tokens[index + 1]
        return before.is_sign("{", ",") and after.is_sign(",", "}")

    def _is_call(self, index: int) -> bool:
        """Whether the token is a method that sets a key: `.set_recognize_max_batch(64)`. Without
        `set_` or `with_` it has the name of a known key: `.recognize_lines(crops)` sets none.
        """
        around = self.tokens[index - 1 : index + 3]
        if index == 0 or len(around) < 4:
            return False
        called = around[0].is_sign(".") and around[2].is_sign("(")
        if not called or around[3].is_sign(")"):
            return False
        name = around[1]
        return name.text in CONFIG_KEYS or (
            name.text.startswith(_SETTERS) and _is_key(_without_setter(name))
        )

    def _shorthand(self, token: Token) -> None:
        """A local variable of this name was read before as a setting; an argument was not."""
        known = {setting.key for draft in self._drafts_here() for setting in draft.settings}
        if token.text not in known:
            self._setting(token, (token,))

    def _value(self, start: int) -> Sequence[Token]:
        """Return the tokens up to the end of a field or statement."""
        depth = 0
        end = start
        while end < len(self.tokens):
            token = self.tokens[end]
            if depth == 0 and token.is_sign(",", ";", "}", ")", "]"):
                break
            depth += token.is_sign("(", "[", "{")
            depth -= token.is_sign(")", "]", "}")
            end += 1
        return self.tokens[start:end]

    def _drafts_here(self) -> list[_Draft]:
        block = self.blocks[-1]
        return [d for d in self.drafts if (d.name, d.line) == (block.name, block.line)]

    def _receiver(self, index: int) -> str:
        """Return the variable before a field: `config` of `config.precision = …`; "" without."""
        before = self.tokens[max(index - 2, 0) : index]
        if len(before) == 2 and before[1].is_sign(".") and before[0].kind == "ident":
            return before[0].text
        return ""

    def _changed(self, key: str, receiver: str) -> _Draft:
        """Return a copy of the preset that an assignment changes, without this key. The preset
        before it stays: the assignment may stand in an `if`.
        """
        named = [draft for draft in self.drafts if draft.name == receiver]
        before = (named or self._drafts_here() or [self._draft()])[-1]
        if not named and key not in {setting.key for setting in before.settings}:
            return before
        others = [setting for setting in before.settings if setting.key != key]
        changed = replace(before, settings=others)
        self.drafts.append(changed)
        return changed

    def _draft(self, key: str = "") -> _Draft:
        """Return the preset of this block. Lines outside braces have no name: there a repeated key
        begins the next preset. So does a repeated key in a second struct literal of one function.
        """
        same = self._drafts_here()
        last = same[-1] if same else None
        if last is None or key in {setting.key for setting in last.settings}:
            last = _Draft(self.blocks[-1].name, self.blocks[-1].line)
            self.drafts.append(last)
        return last

    def _base(self, tokens: Sequence[Token], *, updates: bool) -> None:
        path = []
        for token in tokens:
            if token.kind != "ident" and not token.is_sign(":"):
                break
            path.append(token.text)
        if path and path[-1] != ":":
            draft = self._draft()
            draft.base = path[-1]
            draft.updates = updates

    def _setting(self, token: Token, tokens: Sequence[Token], receiver: str = "") -> None:
        """Add the setting of a key; `tokens` are its value, or its type and its value. `receiver`
        is the variable whose field is assigned.
        """
        key = _without_setter(token).text
        expression = _after_equals(tokens) or tokens
        try:
            value = value_of(expression, self.constants)
        except LookupError:
            value = _Computed(spelled(expression) or "changed in place")
        draft = self._changed(key, receiver) if receiver else self._draft(key)
        draft.settings.append(ConsumerSetting(key, value, token.line))


def _variables(tokens: Sequence[Token]) -> set[str]:
    """Return the names that `let` declares."""
    names: set[str] = set()
    for before, token in itertools.pairwise(tokens):
        if before.text in ("let", "mut") and token.kind == "ident":
            names.add(token.text)
    return names


def _is_key(token: Token) -> bool:
    return token.kind == "ident" and (
        token.text in CONFIG_KEYS or token.text.startswith(_PREFIX)
    )


def _without_setter(token: Token) -> Token:
    for setter in _SETTERS:
        if token.text.startswith(setter):
            return Token(token.kind, token.text.removeprefix(setter), token.line)
    return token


def _assigns(following: Sequence[Token]) -> bool:
    """Return whether `: value` or `= value` follows a name, but not `::` or `==`."""
    if len(following) < 2 or not following[0].is_sign(":", "="):
        return False
    return not following[1].is_sign(":", "=")


def _changes(following: Sequence[Token]) -> bool:
    """Return whether an assignment such as `*= 2` follows a name, but not `<=` or `>=`."""
    if len(following) < 2 or not following[1].is_sign("="):
        return False
    return following[0].is_sign("+", "-", "*", "/", "%", "|", "&", "^")


def _is_field(header: Sequence[Token]) -> bool:
    """Return whether a block is the value of a field: `detect: Detect {`."""
    if len(header) < 2 or header[0].kind != "ident" or not header[1].is_sign(":"):
        return False
    return len(header) == 2 or not header[2].is_sign(":")


def _has_arrow(words: Sequence[str]) -> bool:
    return any(pair == ("=", ">") for pair in itertools.pairwise(words))


def _after_equals(tokens: Sequence[Token]) -> Sequence[Token]:
    """Return what follows the first `=` outside brackets; nothing without one."""
    index = 0
    while index < len(tokens):
        if tokens[index].is_sign("(", "[", "{"):
            index = group_end(tokens, index)
        elif tokens[index].is_sign("="):
            return tokens[index + 1 :]
        index += 1
    return ()
