"""Rust source, as far as constants go: a lexer, the constants of a file, and their characters.

The Rust pipeline keeps its charset in source code, so the classes of a model are only as right as
our reading of that file. A search for the array's name would also find it in a comment, a string,
a test module or a macro. This reader therefore splits the source into tokens as rustc does, follows
modules and `#[cfg(...)]`, and refuses whatever it cannot evaluate:

    constants = find_constants(source, "charset.rs")
    text = characters_of(select(constants, "CTC_CHARSET"), constants)
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nordocr_cli.errors import DataError, nearest

TokenKind = Literal[
    "ident", "lifetime", "char", "byte", "string", "bytes", "number", "punct"
]

_OPEN = "([{"
_CLOSE = ")]}"
_CLOSING = dict(zip(_OPEN, _CLOSE, strict=True))
_MAX_REFERENCES = 16  # constants that name each other
_MAX_CHARACTERS = 1 << 16
_WORDS = ("ident", "lifetime", "number")  # kinds of tokens that need a space between them
# Words that begin an item. A comma does not end an item, as it does a field or a match arm.
_ITEMS = {
    *("fn", "mod", "impl", "struct", "enum", "trait", "union"),
    *("const", "static", "use", "type", "extern", "pub", "unsafe", "async"),
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "'": "'", '"': '"', "\\": "\\"}

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<line_comment>//[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<raw_prefix>[bc]?)r(?P<hashes>\#*)"(?P<raw>.*?)"(?P=hashes)
    | (?P<string_prefix>[bc]?)"(?P<string>(?:\\.|[^"\\])*)"
    | (?P<char_prefix>b?)'(?P<char>\\u\{[^}'\n]*\}|\\x[^'\n]{2}|\\[^\n]|[^'\\\n\r\t])'
    | b?'(?P<decomposed>[^'\\\s][\u0300-\u036f\u200d\ufe0e\ufe0f]+)'
    | '(?P<lifetime>[^\W\d]\w*)
    | (?:r\#)?(?P<ident>[^\W\d]\w*)
    | (?P<number>\d\w*(?:\.\d\w*)?)
    | (?P<punct>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(u\{(?P<unicode>[^}]*)\}|x(?P<hex>..)|(?P<skip>\n\s*)|(?P<single>.))", re.S
)
_INTEGER = re.compile(
    r"(0x[0-9a-fA-F_]+|0o[0-7_]+|0b[01_]+|\d[\d_]*?)_?(?:[ui](?:8|16|32|64|128|size))?"
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `text` is the source of a name, number or sign, and the value of a literal with
    its escapes resolved; `line` counts from 1.
    """

    kind: TokenKind
    text: str
    line: int

    def is_sign(self, *signs: str) -> bool:
        """Whether this is one of these punctuation characters."""
        return self.kind == "punct" and self.text in signs

    def __str__(self) -> str:
        if self.kind in ("char", "byte", "string", "bytes"):
            return repr(self.text)
        if self.text.isprintable():
            return self.text
        return " ".join(f"U+{ord(character):04X}" for character in self.text)


@dataclass(frozen=True)
class Constant:
    """A `const` or `static` item: its name, the modules and functions around it, its declared type
    and its value as tokens.

    `active` is what `#[cfg(...)]` makes of it in a normal build: True, False, or None where that
    depends on features. `macro` names the macro whose arguments hold the item, else "".
    """

    name: str
    scope: tuple[str, ...]
    line: int
    type: tuple[Token, ...]
    value: tuple[Token, ...]
    active: bool | None
    macro: str
    file: str

    @property
    def path(self) -> str:
        """E.g. `legacy::CTC_CHARSET`; `self::CTC_CHARSET` at the top of the file."""
        return "::".join((*(self.scope or ("self",)), self.name))

    def error(self, line: int, message: str) -> DataError:
        """Return an error about this constant at a line of its file."""
        return DataError(f"{self.file}:{line}: {self.name}: {message}")


def tokens_of(source: str, file: str) -> list[Token]:
    """Return the tokens of Rust source without comments and white space.

    Raises DataError, with `file` and line, for a literal, comment or bracket that does not end, and
    for an escape that Rust does not have.
    """
    source = source.replace("\r\n", "\n")  # as rustc does, in literals too
    tokens: list[Token] = []
    position = 0
    line = 1
    if source.startswith("#!") and not source.startswith("#!["):
        position = source.find("\n") if "\n" in source else len(source)  # a shebang
    while position < len(source):
        found = _TOKEN.match(source, position)
        if found is None:  # cannot happen: the last alternative takes any character
            raise DataError(f"{file}:{line}: unreadable source")
        end = found.end()
        if found["block_comment"]:
            end = _comment_end(source, position, f"{file}:{line}")
        elif not (found["space"] or found["line_comment"]):
            tokens.append(_token(found, f"{file}:{line}", line))
        line += source.count("\n", position, end)
        position = end
    _require_balance(tokens, file)
    return tokens


def _comment_end(source: str, start: int, where: str) -> int:
    """Return where a block comment ends; block comments nest."""
    depth = 0
    for mark in re.compile(r"/\*|\*/").finditer(source, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    raise DataError(f"{where}: a comment /* is not closed")


def _token(found: re.Match[str], where: str, line: int) -> Token:
    if found["raw"] is not None:
        kind: TokenKind = "bytes" if found["raw_prefix"] else "string"
        return Token(kind, found["raw"], line)
    if found["string"] is not None:
        kind = "bytes" if found["string_prefix"] else "string"
        return Token(kind, _unescaped(found["string"], where, in_string=True), line)
    if found["char"] is not None:
        kind = "byte" if found["char_prefix"] else "char"
        return Token(kind, _unescaped(found["char"], where, in_string=False), line)
    for name in ("lifetime", "ident", "number"):
        if found[name] is not None:
            named: TokenKind = name
            return Token(named, found[name], line)
    if found["decomposed"] is not None:
        raise DataError(f"{where}: {_several_in_quotes(found['decomposed'])}")
    if found["punct"] in "'\"":
        raise DataError(
            f"{where}: a {found['punct']} is not closed, or its escape is wrong"
        )
    return Token("punct", found["punct"], line)


def _several_in_quotes(text: str) -> str:
    """Return the message for a char literal that holds a letter and its combining marks."""
    points = " and ".join(f"U+{ord(point):04X}" for point in text)
    composed = unicodedata.normalize("NFC", text)
    if len(composed) == 1:
        advice = f"save the file in Unicode NFC, where it is '\\u{{{ord(composed):x}}}'"
    else:
        advice = "a char holds only one"
    return (
        f"the quotes hold {len(text)} characters ({points}), and rustc refuses it: {advice}"
    )


def _unescaped(text: str, where: str, *, in_string: bool) -> str:
    """Return the value of a literal. Raises DataError for an escape that Rust does not have."""

    def value(found: re.Match[str]) -> str:
        if found["skip"] is not None and in_string:
            return ""
        if found["unicode"] is not None:
            digits = found["unicode"]
        else:
            digits = found["hex"]
        if digits is None:
            if found["single"] in _ESCAPES:
                return _ESCAPES[found["single"]]
            raise DataError(f"{where}: unknown escape {found[0]!r}")
        if found["unicode"] is not None:
            hexadecimal = digits.replace("_", "")
        else:
            hexadecimal = digits
        if not re.fullmatch("[0-9A-Fa-f]{1,6}", hexadecimal) or digits.startswith("_"):
            raise DataError(f"{where}: {found[0]!r} is not an escape of Rust")
        code = int(hexadecimal, 16)
        limit = 0x10FFFF if found["unicode"] is not None else 0x7F
        if code > limit or 0xD800 <= code <= 0xDFFF:
            raise DataError(f"{where}: {found[0]!r} is not a character")
        return chr(code)

    return _ESCAPE.sub(value, text)


def _require_balance(tokens: Sequence[Token], file: str) -> None:
    opened: list[Token] = []
    for token in tokens:
        if token.is_sign(*_OPEN):
            opened.append(token)
        elif token.is_sign(*_CLOSE):
            if not opened or _CLOSING[opened[-1].text] != token.text:
                raise DataError(f"{file}:{token.line}: {token.text!r} closes nothing")
            opened.pop()
    if opened:
        raise DataError(f"{file}:{opened[-1].line}: {opened[-1].text!r} is not closed")


def group_end(tokens: Sequence[Token], start: int) -> int:
    """Return the index of the bracket that closes the one at `start`. The tokens are balanced."""
    depth = 0
    for index in range(start, len(tokens)):
        depth += tokens[index].is_sign(*_OPEN)
        depth -= tokens[index].is_sign(*_CLOSE)
        if depth == 0:
            return index
    return len(tokens) - 1


def compiled(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens that a normal build compiles: without attributes, without the items,
    fields and statements that a `#[cfg(...)]` leaves out, and without the rules of macros.

    What depends on a feature stays.
    """
    kept: list[Token] = []
    index = 0
    while index < len(tokens):
        attribute = _attribute_end(tokens, index)
        if attribute is not None:
            opening = index + 1 + tokens[index + 1].is_sign("!")
            excluded = _cfg(tokens[opening + 1 : attribute - 1]) is False
            index = _end_of_attributed(tokens, attribute) if excluded else attribute
        elif tokens[index].text == "macro_rules" and tokens[index].kind == "ident":
            index = _end_of_attributed(tokens, index)
        else:
            kept.append(tokens[index])
            index += 1
    return kept


def _attribute_end(tokens: Sequence[Token], index: int) -> int | None:
    """Return the index behind the attribute that begins at `index`; None without one."""
    if not tokens[index].is_sign("#"):
        return None
    opening = index + 1
    if opening < len(tokens) and tokens[opening].is_sign("!"):
        opening += 1
    if opening < len(tokens) and tokens[opening].is_sign("["):
        return group_end(tokens, opening) + 1
    return None


def _end_of_attributed(tokens: Sequence[Token], index: int) -> int:
    """Return the index behind the item, field, match arm or statement that begins at `index`."""
    attribute = _attribute_end(tokens, index) if index < len(tokens) else None
    while attribute is not None and attribute < len(tokens):
        index = attribute
        attribute = _attribute_end(tokens, index)
    is_item = index < len(tokens) and tokens[index].text in _ITEMS
    while index < len(tokens):
        token = tokens[index]
        if token.is_sign(*_CLOSE):
            return index  # the last one of its block
        if token.is_sign(";") or (token.is_sign(",") and not is_item):
            return index + 1
        if not token.is_sign(*_OPEN):
            index += 1
            continue
        index = group_end(tokens, index) + 1
        ends = token.is_sign("{") and not _continues(tokens, index)
        if ends:
            return index
    return index


def _continues(tokens: Sequence[Token], index: int) -> bool:
    """Whether an expression goes on behind a block: `Gpu { … }.name()`, `Self { … },`."""
    return index < len(tokens) and tokens[index].is_sign(".", ",", ";", "?")


# --- constants -----------------------------------------------------------------------------------


def find_constants(source: str, file: str) -> list[Constant]:
    """Return every `const` and `static` item of a source file, those in macro arguments and test
    modules included (see `Constant.active` and `Constant.macro`). Raises what `tokens_of` raises.
    """
    return _Scanner(tokens_of(source, file), file).constants


class _Scanner:
    """One walk through the tokens. `scopes` are the braces around the current token: the name of
    the module or function that each belongs to, and whether it is compiled.
    """

    def __init__(self, tokens: Sequence[Token], file: str, macro: str = "") -> None:
        self.tokens = tokens
        self.file = file
        self.macro = macro
        self.constants: list[Constant] = []
        self.scopes: list[tuple[str, bool | None]] = [("", True)]
        self.attribute: bool | None = True  # what the attributes before the next item say
        self.scope_name = ""  # of the next brace
        index = 0
        while index < len(tokens):
            index = self._step(index)

    def _step(self, index: int) -> int:
        """Handle the token at `index`; return the index of the next one to look at."""
        token = self.tokens[index]
        if token.is_sign("#"):
            return self._attribute(index)
        if token.is_sign("{"):
            self.scopes.append((self.scope_name, self.attribute))
            self._item_ends()
        elif token.is_sign("}"):
            self.scopes.pop()
            self._item_ends()
        elif token.is_sign(";"):
            self._item_ends()
        elif token.kind == "ident":
            return self._word(index)
        return index + 1

    def _item_ends(self) -> None:
        self.attribute = True
        self.scope_name = ""

    def _word(self, index: int) -> int:
        word = self.tokens[index].text
        following = self._at(index + 1)
        if word == "macro_rules" and following and following.is_sign("!"):
            opening = next(i for i in range(index, len(self.tokens)) if self._opens(i))
            return group_end(self.tokens, opening) + 1
        if following and following.is_sign("!") and self._opens(index + 2):
            return self._macro_call(index)
        if word in ("mod", "fn") and following and following.kind == "ident":
            self.scope_name = following.text
            return index + 2
        if word in ("const", "static"):
            return self._constant(index)
        return index + 1

    def _at(self, index: int) -> Token | None:
        if index < len(self.tokens):
            return self.tokens[index]
        return None

    def _opens(self, index: int) -> bool:
        token = self._at(index)
        return token is not None and token.is_sign(*_OPEN)

    def _macro_call(self, index: int) -> int:
        """Look at the arguments of a macro call apart: what it makes of them is not known."""
        end = group_end(self.tokens, index + 2)
        inside = _Scanner(self.tokens[index + 3 : end], self.file, self.tokens[index].text)
        self.constants += inside.constants
        return end + 1

    def _attribute(self, index: int) -> int:
        inner = self._at(index + 1) is not None and self.tokens[index + 1].is_sign("!")
        opening = index + 1 + inner
        if not (self._opens(opening) and self.tokens[opening].text == "["):
            return index + 1
        end = group_end(self.tokens, opening)
        active = _cfg(self.tokens[opening + 1 : end])
        if inner:
            name, known = self.scopes[-1]
            self.scopes[-1] = (name, _all([known, active]))
        else:
            self.attribute = _all([self.attribute, active])
        return end + 1

    def _constant(self, index: int) -> int:
        """Read `static [mut] NAME: TYPE = VALUE;` and return the index behind it."""
        at = index + 1
        token = self._at(at)
        if token is not None and token.kind == "ident" and token.text in ("mut", "ref"):
            at += 1
        name = self._at(at)
        colon = self._at(at + 1)
        generic = index > 0 and self.tokens[index - 1].is_sign("<", ",")
        if name is None or name.kind != "ident" or colon is None or not colon.is_sign(":"):
            return index + 1
        equals = self._find("=", at + 2)
        end = self._find(";", at + 2)
        if generic or end is None or equals is None or equals > end:
            return index + 1  # a const parameter, or an associated constant without a value
        scope = tuple(name for name, _ in self.scopes if name)
        active = _all([self.attribute, *(known for _, known in self.scopes)])
        self.constants.append(
            Constant(
                name=name.text,
                scope=scope,
                line=name.line,
                type=tuple(self.tokens[at + 2 : equals]),
                value=tuple(self.tokens[equals + 1 : end]),
                active=active,
                macro=self.macro,
                file=self.file,
            )
        )
        self._item_ends()
        return end + 1

    def _find(self, sign: str, start: int) -> int | None:
        """Return the index of the next `sign` outside brackets; None if the block ends first."""
        index = start
        while index < len(self.tokens):
            token = self.tokens[index]
            if token.is_sign(sign):
                return index
            if token.is_sign(*_CLOSE):
                return None
            if token.is_sign(*_OPEN):
                index = group_end(self.tokens, index) + 1
            else:
                index = index + 1
        return None


def _cfg(attribute: Sequence[Token]) -> bool | None:
    """What `cfg(...)` is in a normal build: True, False, or None; True for other attributes."""
    if len(attribute) < 3 or attribute[0].text != "cfg" or not attribute[1].is_sign("("):
        return True
    return _predicate(attribute[2:-1])


def _predicate(tokens: Sequence[Token]) -> bool | None:
    if not tokens:
        return True
    word = tokens[0].text
    if len(tokens) > 1 and tokens[1].is_sign("("):
        parts = [_predicate(part) for part in split(tokens[2:-1]) if part]
        if word == "all":
            return _all(parts)
        if word == "any":
            return _not(_all([_not(part) for part in parts]))
        if word == "not" and parts:
            return _not(parts[0])
        return None
    known = {"test": False, "doc": False, "doctest": False, "true": True, "false": False}
    if len(tokens) == 1:
        return known.get(word)
    return None


def _all(parts: Sequence[bool | None]) -> bool | None:
    if False in parts:
        return False
    if None in parts:
        return None
    return True


def _not(value: bool | None) -> bool | None:
    if value is None:
        return None
    return not value


def split(tokens: Sequence[Token], sign: str = ",") -> list[Sequence[Token]]:
    """Split tokens at each `sign` outside brackets; an empty part where two signs meet."""
    parts: list[Sequence[Token]] = []
    start = index = 0
    while index < len(tokens):
        if tokens[index].is_sign(*_OPEN):
            index = group_end(tokens, index)
        elif tokens[index].is_sign(sign):
            parts.append(tokens[start:index])
            start = index + 1
        index += 1
    parts.append(tokens[start:])
    return parts


def select(constants: Sequence[Constant], requested: str, file: str) -> Constant:
    """Return the constant that `requested` names: `NAME`, a path such as `legacy::NAME` or
    `self::NAME` (the top of the file), or the line on which it is declared.

    Raises DataError when there is none, when it is compiled in tests only or made by a macro, and
    when several are meant, naming each line.
    """
    named = [constant for constant in constants if _is_named(constant, requested)]
    usable = [each for each in named if each.active is not False and not each.macro]
    if len(usable) == 1:
        return usable[0]
    if usable:
        lines = ", ".join(f"line {each.line} ({each.path})" for each in usable)
        one_line = len({each.line for each in usable}) < len(usable)
        names = [each.path if one_line else str(each.line) for each in usable]
        examples = " or ".join(f"{file}#{name}" for name in names)
        raise DataError(
            f"{file} declares {requested} {len(usable)} times: {lines}; say which one: {examples}"
        )
    if named and named[0].macro:
        raise named[0].error(
            named[0].line,
            f"it stands in {named[0].macro}!(…), and macros are not expanded here",
        )
    if named:
        raise named[0].error(
            named[0].line, "its #[cfg(...)] leaves it out of a normal build"
        )
    names = sorted({each.name for each in constants if _holds_characters(each)})
    if names:
        hint = nearest(requested, names)
    else:
        hint = "it declares no array of char"
    raise DataError(f"{file}: no constant {requested!r}; {hint}")


def _is_named(constant: Constant, requested: str) -> bool:
    if requested.isdecimal():
        return constant.line == int(requested)
    parts = [part for part in requested.split("::") if part not in ("", "crate")]
    if parts[0] == "self":
        return not constant.scope and [constant.name] == parts[1:]
    return [*constant.scope, constant.name][-len(parts) :] == parts


def _holds_characters(constant: Constant) -> bool:
    return any(token.text in ("char", "str") for token in constant.type)


# --- values --------------------------------------------------------------------------------------


def characters_of(constant: Constant, constants: Sequence[Constant]) -> str:
    """Return the characters of a `&[char]`, `[char; N]`, `&[char; N]` or `&str`, in order; a name
    in it is looked up among `constants`.

    Raises DataError with file and line for another type, for a length that is not the declared one,
    for a missing comma and for any value that this reader cannot evaluate.
    """
    references, kind, length = _type_of(constant)
    value = _without_references(constant.value)
    given = len(constant.value) - len(value)
    characters = _Evaluator(constants, constant).value(value, 0)
    if value and not _is_name(value) and given != references and value[0].kind != "string":
        raise constant.error(
            constant.line,
            f"its type has {references} '&' and its value {given}; rustc refuses it",
        )
    is_text = bool(value) and (value[0].kind == "string" or value[0].text == "concat")
    if is_text != (kind == "str") and not _is_name(value):
        raise constant.error(
            constant.line, f"it is declared as {kind}, and its value is not"
        )
    expected = _length(length, constant, constants)
    if expected is not None and expected != len(characters):
        raise constant.error(
            constant.line,
            f"it is declared with {expected} characters and lists {len(characters)};"
            " is a line missing or commented out?",
        )
    return characters


def _type_of(constant: Constant) -> tuple[int, str, Sequence[Token]]:
    """Return the number of `&`, `char` or `str`, and the tokens of the declared length."""
    plain = [token for token in constant.type if token.kind != "lifetime"]
    core = _without_references(plain)
    words = [token.text for token in core]
    references = len(plain) - len(core)
    if words == ["str"] and references:
        return 0, "str", ()
    if words[:2] == ["[", "char"] and words[-1] == "]":
        if len(core) > 3 and core[2].is_sign(";"):
            length = core[3:-1]
        else:
            length = ()
        return references, "char", length
    declared = spelled(constant.type)
    raise constant.error(
        constant.line,
        f"it is a {declared}; expected &[char], [char; N], &[char; N] or &str",
    )


def spelled(tokens: Sequence[Token]) -> str:
    """Return tokens as source: words that follow each other keep a space between them."""
    text = ""
    for before, token in zip((None, *tokens), tokens, strict=False):
        word = f"'{token.text}" if token.kind == "lifetime" else str(token)
        follows_word = before is not None and before.kind in _WORDS
        if follows_word and token.kind in _WORDS:
            word = f" {word}"
        text += word
    return text


def _without_references(tokens: Sequence[Token]) -> Sequence[Token]:
    count = 0
    while count < len(tokens) and tokens[count].is_sign("&"):
        count += 1
    return tokens[count:]


def _is_name(tokens: Sequence[Token]) -> bool:
    """Whether tokens are a path: `NAME`, `self::NAME`."""
    return bool(tokens) and all(
        token.kind == "ident" or token.is_sign(":") for token in tokens
    )


def _length(
    tokens: Sequence[Token], constant: Constant, constants: Sequence[Constant]
) -> int | None:
    """Return a declared length: numbers and constants of this file with + and - between them; None
    for any other expression.
    """
    if [token.text for token in tokens] == ["_"]:
        raise constant.error(constant.line, "its length is _, which rustc refuses here")
    terms = split(tokens, "+")
    if len(terms) > 1:
        return _added([_length(term, constant, constants) for term in terms])
    terms = split(tokens, "-")
    if len(terms) > 1:
        minuend, *subtracted = [_length(term, constant, constants) for term in terms]
        less = _added(subtracted)
        return None if minuend is None or less is None else minuend - less
    return _single_length(tokens, constant, constants)


def _added(terms: Sequence[int | None]) -> int | None:
    known = [term for term in terms if term is not None]
    if len(known) < len(terms):
        return None
    return sum(known)


def _single_length(
    tokens: Sequence[Token], constant: Constant, constants: Sequence[Constant]
) -> int | None:
    """Return the value of a number or of a constant of this file; None otherwise."""
    for _ in range(_MAX_REFERENCES):
        if len(tokens) == 1 and tokens[0].kind == "number":
            return integer(tokens[0].text)
        if not _is_name(tokens):
            return None
        known = [each for each in constants if each.name == tokens[-1].text and each.active]
        if len(known) != 1:
            return None
        tokens = known[0].value
    raise constant.error(constant.line, "its length refers to itself")


def number_of(
    name: str, constants: Sequence[Constant], same_module: Constant
) -> tuple[Constant, int] | None:
    """Return the constant `name` of the module of `same_module` and its value; None when it is not
    there, or when it is no sum or difference of numbers.
    """
    named = [
        each for each in constants if each.name == name and each.active and not each.macro
    ]
    named = [each for each in named if each.scope == same_module.scope]
    if len(named) != 1:
        return None
    value = _length(named[0].value, named[0], constants)
    return None if value is None else (named[0], value)


def integer(text: str) -> int | None:
    """Return the value of an integer literal such as `1_792`, `448usize` or `0x7D`; else None."""
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    digits = found[1].replace("_", "")
    base = {"0x": 16, "0o": 8, "0b": 2}.get(digits[:2], 10)
    return int(digits, base)


class _Evaluator:
    """Evaluates the value of one constant."""

    def __init__(self, constants: Sequence[Constant], of: Constant) -> None:
        self.constants = constants
        self.of = of

    def value(self, tokens: Sequence[Token], depth: int) -> str:
        """Return the characters of an array, a string, `concat!(…)` or a named constant."""
        tokens = _without_references(tokens)
        if not tokens:
            raise self.of.error(self.of.line, "it has no value")
        first = tokens[0]
        if first.is_sign("[") and group_end(tokens, 0) == len(tokens) - 1:
            return self._array(tokens[1:-1], depth)
        if len(tokens) == 1 and first.kind == "string":
            return first.text
        if first.text == "concat" and len(tokens) > 3 and tokens[1].is_sign("!"):
            parts = [part for part in split(tokens[3:-1]) if part]
            return "".join(self._literal(part) for part in parts)
        if _is_name(tokens):
            named = self._named(tokens, depth)
            return _Evaluator(self.constants, named).value(named.value, depth + 1)
        raise self.of.error(first.line, f"expected a char array or a string, found {first}")

    def _array(self, tokens: Sequence[Token], depth: int) -> str:
        repeated = split(tokens, ";")
        if len(repeated) == 2:
            count = _length(repeated[1], self.of, self.constants)
            if count is None or count > _MAX_CHARACTERS:
                raise self.of.error(
                    tokens[0].line, "the number of repetitions cannot be evaluated"
                )
            return self._element(repeated[0], depth) * count
        parts = split(tokens)
        if not parts[-1]:
            parts.pop()  # a comma behind the last one
        line = tokens[0].line if tokens else self.of.line
        characters: list[str] = []
        for part in parts:
            if not part:
                raise self.of.error(line, "two commas follow each other")
            line = part[-1].line
            characters.append(self._element(part, depth))
        return "".join(characters)

    def _element(self, tokens: Sequence[Token], depth: int) -> str:
        """Return one character, or "" where an attribute leaves the element out."""
        left = self._after_attributes(tokens)
        if left is None:
            return ""
        tokens = left
        while len(tokens) > 2 and tokens[0].is_sign("(") and tokens[-1].is_sign(")"):
            tokens = tokens[1:-1]
        if not tokens:
            raise self.of.error(self.of.line, "an element is empty")
        first = tokens[0]
        if _is_name(tokens):
            named = self._named(tokens, depth)
            return _Evaluator(self.constants, named)._element(named.value, depth + 1)
        as_char = [token.text for token in tokens[1:]] == ["as", "char"]
        if first.kind == "byte" and as_char:
            return first.text
        if first.kind == "number" and as_char:
            code = integer(first.text)
            if code is not None and code < 256:
                return chr(code)
        return self._char(tokens)

    def _after_attributes(self, tokens: Sequence[Token]) -> Sequence[Token] | None:
        """Return the tokens after the attributes, None where one leaves the element out."""
        while len(tokens) > 1 and tokens[0].is_sign("#"):
            end = group_end(tokens, 1)
            active = _cfg(tokens[2:end])
            if active is None:
                raise self.of.error(
                    tokens[0].line,
                    "a #[cfg(...)] decides whether this character is in the array",
                )
            if active is False:
                return None
            tokens = tokens[end + 1 :]
        return tokens

    def _char(self, tokens: Sequence[Token]) -> str:
        """Return the character of a char literal that stands alone."""
        first = tokens[0]
        if first.kind != "char":
            raise self.of.error(first.line, f"expected a char literal, found {first}")
        if len(tokens) == 1:
            return first.text

        following = tokens[1]
        what = "a comma is missing before" if following.kind == "char" else "unexpected"
        raise self.of.error(following.line, f"{what} {following}")

    def _literal(self, tokens: Sequence[Token]) -> str:
        if len(tokens) == 1 and tokens[0].kind in ("string", "char"):
            return tokens[0].text
        raise self.of.error(
            tokens[0].line, f"concat! of something else than literals: {tokens[0]}"
        )

    def _named(self, tokens: Sequence[Token], depth: int) -> Constant:
        if depth >= _MAX_REFERENCES:
            raise self.of.error(tokens[0].line, "constants refer to each other in a circle")
        name = tokens[-1].text
        known = [
            each
            for each in self.constants
            if each.name == name and each.active is not False
        ]
        if len(known) > 1:
            near = [each for each in known if each.scope == self.of.scope]
            known = near if len(near) == 1 and len(tokens) == 1 else known
        if len(known) != 1 or known[0].macro:
            if known:
                times = f"declared {len(known)} times"
            else:
                times = "not a constant of this file"
            raise self.of.error(
                tokens[0].line, f"expected a char literal, found {name}, which is {times}"
            )
        return known[0]
