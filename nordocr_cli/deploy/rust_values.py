"""The values in a config.rs, as far as they can be evaluated without running the pipeline: texts,
whole numbers with arithmetic, variants of enums, `None`, and constants of the file in all of them.

Whatever else a setting is given (a variable, a call, an `if`) is computed at run time. It raises
LookupError here, so that nobody takes an unknown value for a checked one.
"""

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nordocr_cli.rust_source import Constant, Token, group_end, integer, split

_MAX_REFERENCES = 8  # constants that name each other
_PATH_PREFIXES = {"self", "Self", "crate", "super"}
# What may stand around a text without changing it: `String::from("…")`, `Some("…".into())`.
_TEXT_WORDS = {
    *("std", "string", "path", "borrow", "sync", "rc", "boxed", "ffi"),
    *(
        "String",
        "PathBuf",
        "Path",
        "OsString",
        "Cow",
        "Borrowed",
        "Arc",
        "Rc",
        "Box",
        "Some",
    ),
    *("from", "new", "into", "to_string", "to_owned", "to_path_buf"),
    "join",
}
_TEXT_SIGNS = ("(", ")", ".", ",", ":", "&")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}")  # of format!
_NON_ZERO = "NonZero"  # begins the names of number types: NonZeroUsize, NonZeroU32
_NUMBER_TYPES = {f"{sign}{bits}" for sign in "ui" for bits in (8, 16, 32, 64, 128, "size")}
_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "<": lambda left, right: left << right,
    ">": lambda left, right: left >> right,
}
_MAX_SHIFT = 63  # bits
_MAX_TOKENS = 512  # of one value
_MAX_TEXT = 4096  # characters of a text that is put together; a path is shorter


def value_of(tokens: Sequence[Token], constants: Sequence[Constant], depth: int = 0) -> Any:
    """Return the value of an expression: a text, a whole number, the name of an enum's variant, or
    None for `None`. `constants` are those of the file.

    Raises LookupError for an expression whose value only the running program knows.
    """
    if len(tokens) > _MAX_TOKENS:
        raise LookupError
    tokens = list(_with_texts(tokens, constants, depth))
    words = [token.text for token in tokens]
    is_number = any(word.startswith(_NON_ZERO) for word in words)
    if not is_number and any(token.kind == "string" for token in tokens):
        return _text(tokens)
    if words[:2] == ["Some", "("] and words[-1:] == [")"]:
        tokens, words = tokens[2:-1], words[2:-1]
    if words == ["None"]:
        return None

    names = _path(tokens)
    if names:
        constant = _constant(names, constants)
        if constant is not None:
            return _value_of_constant(constant, constants, depth)
        if names[-1][:1].isupper():
            return names[-1]  # Precision::FP16, or FP16 after `use Precision::*`
    return _Arithmetic(tokens, constants, depth).value()


def _with_texts(
    tokens: Sequence[Token], constants: Sequence[Constant], depth: int
) -> Iterator[Token]:
    """Yield the tokens with each constant text, `format!(…)` and `concat!(…)` as one literal. The
    value of a constant (`depth` above 0) is another constant, a literal or `concat!`.

    Raises LookupError for a macro whose text only the running program knows.
    """
    index = 0
    while index < len(tokens):
        token = tokens[index]
        end = _path_end(tokens, index)
        is_macro = end < len(tokens) - 1 and tokens[end].is_sign("!")
        if is_macro and token.text in ("format", "concat"):
            closing = group_end(tokens, end + 1)
            parts = [part for part in split(tokens[end + 2 : closing]) if part]
            if token.text == "concat":
                text = _concatenated(parts)
            elif depth == 0:
                text = _formatted(parts, constants)
            else:
                raise LookupError
            yield Token("string", text, token.line)
            index = closing + 1
            continue

        text_of_constant = None
        if depth == 0 and _may_be_constant(tokens, index, end):
            text_of_constant = _constant_text(_path(tokens[index:end]), constants)
        if text_of_constant is not None:
            yield Token("string", text_of_constant, token.line)
        else:
            yield from tokens[index : max(end, index + 1)]
        index = max(end, index + 1)


def _may_be_constant(tokens: Sequence[Token], start: int, end: int) -> bool:
    """Whether a path is no field, no method and no function."""
    is_member = start > 0 and tokens[start - 1].is_sign(".")
    is_call = end < len(tokens) and tokens[end].is_sign("(", "!")
    return end > start and not is_member and not is_call


def _constant_text(names: Sequence[str], constants: Sequence[Constant]) -> str | None:
    """Return the text of the constant that a path names; None for another path. Raises LookupError
    for a text that is not known, or longer than a path.
    """
    constant = _constant(names, constants)
    if constant is None or not _is_text(constant):
        return None
    value = _value_of_constant(constant, constants, 0)
    if not isinstance(value, str):
        return None  # the None of an Option<&str>
    if len(value) > _MAX_TEXT:
        raise LookupError
    return value


def _path_end(tokens: Sequence[Token], start: int) -> int:
    """Return the index behind the path `A::B` that begins at `start`; `start` without one."""
    index = start
    while index < len(tokens) and tokens[index].kind == "ident":
        index += 1
        continues = [token.is_sign(":") for token in tokens[index : index + 2]]
        if continues != [True, True]:
            break
        index += 2
    return index


def _formatted(parts: Sequence[Sequence[Token]], constants: Sequence[Constant]) -> str:
    """Return the text of `format!("{MODELS}/{}.engine", NAME)`; `parts` are its arguments."""
    if not parts or [token.kind for token in parts[0]] != ["string"]:
        raise LookupError
    template = parts[0][0].text
    if len(template) > _MAX_TEXT:
        raise LookupError
    arguments = iter(parts[1:])

    def value(found: re.Match[str]) -> str:
        name = found["name"]
        if name is None:
            return found[0][0]  # {{ is {
        if name:
            return str(_displayed([Token("ident", name, 0)], constants))
        argument = next(arguments, None)
        if argument is None:
            raise LookupError
        return str(_displayed(argument, constants))

    text = _PLACEHOLDER.sub(value, template)
    if len(text) > _MAX_TEXT:
        raise LookupError
    return text


def _displayed(tokens: Sequence[Token], constants: Sequence[Constant]) -> str | int:
    """Return the text or number of an argument of `format!`. How an enum is shown is not known."""
    names = _path(tokens)
    if names:
        text = _constant_text(names, constants)
        if text is not None:
            return text
        constant = _constant(names, constants)
        if constant is None:
            raise LookupError
    value = value_of(tokens, constants)
    is_text = isinstance(value, str) and not names
    if not is_text and not isinstance(value, int):
        raise LookupError
    return value


def _concatenated(parts: Sequence[Sequence[Token]]) -> str:
    """Return the text of `concat!("…", "…")`."""
    if not all([token.kind for token in part] == ["string"] for part in parts):
        raise LookupError
    return "".join(part[0].text for part in parts)


def _text(tokens: Sequence[Token]) -> str:
    """Return the text of `"…".into()` or `Path::new("…").join("…")`."""
    strings = [token.text for token in tokens if token.kind == "string"]
    others = [token for token in tokens if token.kind != "string"]
    words = {token.text for token in others if token.kind == "ident"}
    plain = all(token.kind == "ident" or token.is_sign(*_TEXT_SIGNS) for token in others)
    if not plain or words - _TEXT_WORDS:
        raise LookupError
    if len(strings) == 1:
        return strings[0]
    if "join" in words:
        return posixpath.join(*strings)
    raise LookupError


def _path(tokens: Sequence[Token]) -> list[str]:
    """Return the names in `A::B::C`; an empty list for another expression."""
    if all(token.kind == "ident" or token.is_sign(":") for token in tokens):
        return [token.text for token in tokens if token.kind == "ident"]
    return []


def _constant(names: Sequence[str], constants: Sequence[Constant]) -> Constant | None:
    """Return the constant that a path names, None without one.

    Raises LookupError when several are meant, or when a macro or a feature decides.
    """
    named = [each for each in constants if each.name == names[-1]]
    named = [each for each in named if each.active is not False]
    if len(named) > 1:
        modules = [name for name in names[:-1] if name not in _PATH_PREFIXES]
        named = [each for each in named if list(each.scope[-len(modules) :]) == modules]
        if len(named) != 1 or not modules:
            raise LookupError
    if not named:
        return None
    if named[0].macro or named[0].active is None:
        raise LookupError
    return named[0]


def _is_text(constant: Constant) -> bool:
    """Whether a constant is declared as a text: `&'static str`."""
    return any(token.text == "str" for token in constant.type)


def _value_of_constant(
    constant: Constant, constants: Sequence[Constant], depth: int
) -> Any:
    if depth >= _MAX_REFERENCES:
        raise LookupError
    return value_of(constant.value, constants, depth + 1)


class _Arithmetic:
    """Evaluates `64 * 2`, `(N + 1) as usize`, `usize::from(64u16)`; one use for each expression."""

    def __init__(
        self, tokens: Sequence[Token], constants: Sequence[Constant], depth: int
    ) -> None:
        self.tokens = tokens
        self.constants = constants
        self.depth = depth
        self.at = 0

    def value(self) -> int:
        """Return the number. Raises LookupError for anything that is not such an expression."""
        result = self._shift()
        if self.at < len(self.tokens):
            raise LookupError
        return result

    def _takes(self, *texts: str) -> str:
        """Step over the next token if it is one of `texts`, and return it; else return ""."""
        if self.at < len(self.tokens) and self.tokens[self.at].text in texts:
            self.at += 1
            return self.tokens[self.at - 1].text
        return ""

    def _require(self, *texts: str) -> None:
        if not self._takes(*texts):
            raise LookupError

    def _shift(self) -> int:
        result = self._sum()
        sign = self._takes("<", ">")
        while sign:
            self._require(sign)
            bits = self._sum()
            if not 0 <= bits <= _MAX_SHIFT:
                raise LookupError
            result = _OPERATIONS[sign](result, bits)
            sign = self._takes("<", ">")
        return result

    def _sum(self) -> int:
        return self._chain(("+", "-"), self._product)

    def _product(self) -> int:
        return self._chain(("*", "/", "%"), self._cast)

    def _chain(self, signs: tuple[str, ...], operand: Callable[[], int]) -> int:
        result = operand()
        sign = self._takes(*signs)
        while sign:
            right = operand()
            if sign in "/%" and right == 0:
                raise LookupError
            result = _OPERATIONS[sign](result, right)
            sign = self._takes(*signs)
        return result

    def _cast(self) -> int:
        """Read an operand and the casts behind it: `as usize`, `.into()`, `.get()`."""
        result = self._operand()
        while True:
            if self._takes("as"):
                self._require(*_NUMBER_TYPES)
            elif self._takes("."):
                self._require("into", "get")
                self._require("(")
                self._require(")")
            else:
                return result

    def _operand(self) -> int:
        if self._takes("-"):
            return -self._cast()
        if self._takes("(", "{"):
            result = self._shift()
            self._require(")", "}")
            return result
        if self.at >= len(self.tokens):
            raise LookupError
        token = self.tokens[self.at]
        if token.kind == "number":
            self.at += 1
            number = integer(token.text)
            if number is None:
                raise LookupError
            return number
        return self._named()

    def _named(self) -> int:
        """Read the path of a constant, `usize::from(…)`, or `NonZeroUsize::new(…).unwrap()`."""
        start = self.at
        while self.at < len(self.tokens) and (
            self.tokens[self.at].kind == "ident" or self.tokens[self.at].is_sign(":")
        ):
            if self.tokens[self.at].text == "as":
                break
            self.at += 1
        names = _path(self.tokens[start : self.at])
        if names[-1:] == ["from"] and names[0] in _NUMBER_TYPES:
            return self._argument()
        if names[-1:] == ["new"] and len(names) > 1 and names[-2].startswith(_NON_ZERO):
            return self._non_zero()
        constant = _constant(names, self.constants) if names else None
        if constant is None:
            raise LookupError
        value = _value_of_constant(constant, self.constants, self.depth)
        if not isinstance(value, int):
            raise LookupError
        return value

    def _argument(self) -> int:
        self._require("(")
        result = self._shift()
        self._require(")")
        return result

    def _non_zero(self) -> int:
        """Read `(…).unwrap()` or `(…).expect("…")` behind `NonZeroUsize::new`."""
        result = self._argument()
        self._require(".")
        has_message = self._takes("unwrap", "expect") == "expect"
        self._require("(")
        if has_message and self.at < len(self.tokens):
            self.at += 1
        self._require(")")
        if result == 0:
            raise LookupError  # None, which ends the program
        return result
