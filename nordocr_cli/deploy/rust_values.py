"""The values in a config.rs, as far as they can be evaluated without running the pipeline: texts,
whole numbers with arithmetic, variants of enums, and `None`.

Whatever else a setting is given (a variable, a call, an `if`) is computed at run time. It raises
LookupError here, so that nobody takes an unknown value for a checked one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nordocr_cli.rust_source import Constant, Token, integer

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
    *("format", "concat", "join"),
}
_TEXT_SIGNS = ("(", ")", ".", ",", ":", "&", "!")
_NUMBER_TYPES = {f"{sign}{bits}" for sign in "ui" for bits in (8, 16, 32, 64, 128, "size")}
_OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left // right,
    "%": lambda left, right: left % right,
}


def value_of(tokens: Sequence[Token], constants: Sequence[Constant], depth: int = 0) -> Any:
    """Return the value of an expression: a text, a whole number, the name of an enum's variant, or
    None for `None`. `constants` are those of the file.

    Raises LookupError for an expression whose value only the running program knows.
    """
    words = [token.text for token in tokens]
    if any(token.kind == "string" for token in tokens):
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


def _text(tokens: Sequence[Token]) -> str:
    """Return the text of `"…".into()`, `concat!("…", "…")`, `Path::new("…").join("…")`."""
    strings = [token.text for token in tokens if token.kind == "string"]
    others = [token for token in tokens if token.kind != "string"]
    words = {token.text for token in others if token.kind == "ident"}
    plain = all(token.kind == "ident" or token.is_sign(*_TEXT_SIGNS) for token in others)
    if not plain or words - _TEXT_WORDS:
        raise LookupError
    if "format" in words and "{" in strings[0]:
        raise LookupError
    if len(strings) == 1:
        return strings[0]
    if "concat" in words and "join" not in words:
        return "".join(strings)
    if "join" in words and "concat" not in words:
        return "/".join(strings)
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
        self.tokens, self.constants, self.depth = tokens, constants, depth
        self.at = 0

    def value(self) -> int:
        """Return the number. Raises LookupError for anything that is not such an expression."""
        result = self._sum()
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
        """Read an operand and the casts behind it: `as usize`, `.into()`."""
        result = self._operand()
        while True:
            if self._takes("as"):
                self._require(*_NUMBER_TYPES)
            elif self._takes("."):
                for text in ("into", "(", ")"):
                    self._require(text)
            else:
                return result

    def _operand(self) -> int:
        if self._takes("-"):
            return -self._cast()
        if self._takes("(", "{"):
            result = self._sum()
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
        """Read the path of a constant, or `usize::from(…)`."""
        start = self.at
        while self.at < len(self.tokens) and (
            self.tokens[self.at].kind == "ident" or self.tokens[self.at].is_sign(":")
        ):
            if self.tokens[self.at].text == "as":
                break
            self.at += 1
        names = _path(self.tokens[start : self.at])
        if names[-1:] == ["from"] and names[0] in _NUMBER_TYPES:
            self._require("(")
            result = self._sum()
            self._require(")")
            return result
        constant = _constant(names, self.constants) if names else None
        if constant is None:
            raise LookupError
        value = _value_of_constant(constant, self.constants, self.depth)
        if not isinstance(value, int):
            raise LookupError
        return value
