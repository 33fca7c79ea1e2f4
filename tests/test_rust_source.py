"""Rust constants are read as rustc reads them: checked against rustc itself where it is installed,
and by properties on generated sources.
"""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nordocr_cli.charset import Charset, from_rust_source, load_charset
from nordocr_cli.errors import DataError
from nordocr_cli.rust_source import (
    characters_of,
    find_constants,
    integer,
    select,
    tokens_of,
)

NAME = "CTC_CHARSET"

# Each source declares CTC_CHARSET so that rustc reads "ab'" from it.
READABLE = {
    "a slice": r"pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];",
    "a static slice": r"pub(crate) const CTC_CHARSET: &'static [char] = &['a', 'b', '\''];",
    "a fixed array": r"pub const CTC_CHARSET: [char; 3] = ['a', 'b', '\'',];",
    "a fixed array with a suffix": r"pub const CTC_CHARSET: [char; 3usize] = ['a', 'b', '\''];",
    "a reference to a fixed array": (
        r"pub const N: usize = 0x3; pub static CTC_CHARSET: &'static [char; N] = &['a', 'b', '\''];"
    ),
    "a string": r"""pub const CTC_CHARSET: &str = "ab\u{27}";""",
    "a raw string": """pub const CTC_CHARSET: &'static str = r#"ab'"#;""",
    "a string on two lines": 'pub const CTC_CHARSET: &str = "a\\\n      b\'";',
    "a concatenation": r"""pub const CTC_CHARSET: &str = concat!("a", 'b', "\x27");""",
    "Windows line ends": 'pub const CTC_CHARSET: &str = "a\\\r\n  b\'";\r\n',
    "a length that is a difference": (
        r"const N: usize = 4; pub const CTC_CHARSET: [char; N - 1] = ['a', 'b', '\''];"
    ),
    "a line comment before it": r"""
        // pub static CTC_CHARSET: &[char] = &['x', 'y'];
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "a commented-out line in it": r"""
        pub static CTC_CHARSET: &[char] = &[
            'a', // 'x', ']' and "
            // 'y',
            'b', /* 'z', ] /* nested */ " */ '\'',
        ];""",
    "a nested comment before it": r"""
        /* /* pub static CTC_CHARSET: &[char] = &['x']; */ 'q' " */
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "a doc comment that shows it": r"""
        /// `pub static CTC_CHARSET: &[char] = &['x'];`
        /** pub static CTC_CHARSET: &[char] = &['y']; */
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "a string that shows it": r"""
        pub const HELP: &str = "pub static CTC_CHARSET: &[char] = &['x'];";
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "a raw string that shows it": r"""
        pub const HELP: &str = r##"static CTC_CHARSET: &[char] = &["#;'x'];"##;
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "attributes on it": r"""
        #[rustfmt::skip]
        #[allow(dead_code)]
        pub static CTC_CHARSET: &[char] = &[#[cfg(test)] 'x', 'a', 'b', '\'', #[cfg(any())] 'y'];""",
    "another one in a test module": r"""
        #[cfg(test)]
        mod tests { pub static CTC_CHARSET: &[char] = &['x']; }
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "another one that is not compiled": r"""
        #[cfg(any(test, not(all())))]
        pub static CTC_CHARSET: &[char] = &['x'];
        #[cfg(not(test))]
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "a macro that would declare it": r"""
        #[allow(unused_macros)]
        macro_rules! declare { () => { pub static CTC_CHARSET: &[char] = &['x']; }; }
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
    "named characters": r"""
        const QUOTE: char = '\'';
        mod names { pub const B: char = 'b'; }
        pub static CTC_CHARSET: &[char] = &['a', names::B, (self::QUOTE)];""",
    "another array's name": r"""
        const NORDIC: [char; 3] = ['a', 'b', '\''];
        pub static CTC_CHARSET: &[char] = &NORDIC;""",
    "bytes as characters": (
        r"pub static CTC_CHARSET: &[char] = &[b'a' as char, 0x62u8 as char, b'\'' as char];"
    ),
    "lifetimes and generics around it": r"""
        pub struct Words<'a, const N: usize>(pub &'a [char; N]);
        pub fn first<'b>(text: &'b str) -> &'b str { let q = '"'; let _ = q; text }
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];
        pub static AFTER: &[char] = &['x'];""",
    "the older array before it": r"""
        pub static CHARSET: &[char] = &['\0', '\u{FFFD}', '\n', 'x'];
        pub static CTC_CHARSET: &[char] = &['a', 'b', '\''];""",
}

REFUSED = {
    "a letter and its mark in quotes": (
        "pub static CTC_CHARSET: &[char] = &['a\u030a'];", r"U\+0061 and U\+030A.*'\\u\{e5\}'"
    ),
    "an invisible space": (
        "pub static CTC_CHARSET: &[char] = &['a',\u200b'b'];", r"found U\+200B"
    ),
    "strings in an array": (
        'pub static CTC_CHARSET: &[&\'static str] = &["a"];', r"it is a &\[&'static str\]"
    ),
    "a string of C": ('pub const CTC_CHARSET: &str = c"ab";', "expected a char array or a string"),
    "a length that is left to rustc": (
        "pub const CTC_CHARSET: [char; _] = ['a'];", "its length is _"
    ),
    "a length that is a sum": (
        "const N: usize = 2; pub const CTC_CHARSET: [char; N + 2 - 1] = ['a'];", "with 3 characters"
    ),
    "two functions on one line": (
        "fn f() { const CTC_CHARSET: [char; 1] = ['a']; }"
        " fn g() { const CTC_CHARSET: [char; 1] = ['b']; }",
        r"c\.rs#f::CTC_CHARSET or c\.rs#g::CTC_CHARSET",
    ),
    "a missing comma": (
        "pub static CTC_CHARSET: &[char] = &['a'\n 'b'];", r"c\.rs:2: .*a comma is missing before"
    ),
    "two commas": ("pub static CTC_CHARSET: &[char] = &['a',, 'b'];", "two commas"),
    "an array that does not end": ("pub static CTC_CHARSET: &[char] = &['a', 'b';", "is not closed"),
    "a file that was cut off": ("pub static CTC_CHARSET: &[char] = &['a', 'b", "is not closed"),
    "a comment that does not end": ("/* pub static CTC_CHARSET: &[char] = &['a'];", "not closed"),
    "a missing semicolon": ("pub static CTC_CHARSET: &[char] = &['a']", "no constant"),
    "a length that is another": (
        "pub const CTC_CHARSET: [char; 3] = ['a', 'b'];", "declared with 3 characters and lists 2"
    ),
    "a length constant that is another": (
        "const N: usize = 4; pub const CTC_CHARSET: &[char; N] = &['a'];", "with 4 characters"
    ),
    "a slice without &": ("pub static CTC_CHARSET: &[char] = ['a'];", "rustc refuses it"),
    "bytes": ("pub static CTC_CHARSET: &[u8] = b\"ab\";", r"it is a &\[u8\]"),
    "a call": ("pub static CTC_CHARSET: &[char] = build();", "expected a char array"),
    "an unknown escape": (r"pub static CTC_CHARSET: &[char] = &['\q'];", "unknown escape"),
    "a surrogate": (r"pub static CTC_CHARSET: &[char] = &['\u{D800}'];", "is not a character"),
    "two characters in quotes": ("pub static CTC_CHARSET: &[char] = &['ab'];", "is not closed"),
    "only a comment": ("// pub static CTC_CHARSET: &[char] = &['a'];", "no constant"),
    "only a test": (
        "#[cfg(test)] mod t { pub static CTC_CHARSET: &[char] = &['a']; }", "leaves it out"
    ),
    "only a macro": (
        "lazy_static! { static ref CTC_CHARSET: &[char] = &['a']; }", "macros are not expanded"
    ),
    "two modules": (
        "mod a { pub static CTC_CHARSET: &[char] = &['a']; }\n"
        "mod b { pub static CTC_CHARSET: &[char] = &['b']; }",
        r"2 times: line 1 \(a::CTC_CHARSET\), line 2 .*c\.rs#1 or c\.rs#2",
    ),
    "a feature decides": (
        '#[cfg(feature = "x")]\npub static CTC_CHARSET: &[char] = &[\'a\'];\n'
        '#[cfg(not(feature = "x"))]\npub static CTC_CHARSET: &[char] = &[\'b\'];',
        "2 times",
    ),
    "a circle": (
        "const A: &[char] = B; const B: &[char] = A; pub static CTC_CHARSET: &[char] = A;",
        "in a circle",
    ),
}  # fmt: skip


def read(source, name=NAME):
    constants = find_constants(source, "c.rs")
    return characters_of(select(constants, name, "c.rs"), constants)


def outcome(reader):
    """What a reader gives, or None and the message with which it refuses."""
    try:
        return reader(), ""
    except DataError as error:
        return None, str(error)


@pytest.mark.parametrize("source", READABLE.values(), ids=READABLE)
def test_it_reads_what_rustc_reads(source):
    assert read(source) == "ab'"


@pytest.mark.parametrize(("source", "message"), REFUSED.values(), ids=REFUSED)
def test_it_refuses_what_rustc_refuses_or_what_is_ambiguous(source, message):
    with pytest.raises(DataError, match=message):
        read(source)


@pytest.mark.skipif(shutil.which("rustc") is None, reason="rustc is not installed")
def test_rustc_reads_the_same_characters(tmp_path):
    modules, checks = [], []
    for index, source in enumerate(READABLE.values()):
        modules.append(f"mod m{index} {{ {source}\n}}")
        characters = f"m{index}::CTC_CHARSET"
        is_text = re.search(r"CTC_CHARSET: &(?:'static )?str =", source)
        text = characters if is_text else f"&{characters}.iter().collect::<String>()"
        checks.append(f'assert_eq!("ab\'", {text}, "{index}");')
    main = "\n".join((*modules, "fn main() {", *checks, 'println!("read"); }'))
    (tmp_path / "main.rs").write_text(main, encoding="utf-8")
    command = ["rustc", "--edition", "2021", "-A", "warnings", "-o", "main", "main.rs"]
    compiled = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run([tmp_path / "main"], capture_output=True, text=True)
    assert ran.stdout == "read\n", ran.stderr


# --- properties ----------------------------------------------------------------------------------

# What may stand between two tokens, each a trap for a reader that searches for text.
NOISE = st.lists(
    st.sampled_from(
        [
            " ",
            "\n",
            "\t",
            "// 'x', ] \" /*\n",
            "/* 'y', // ] \" */",
            "/* /* ' */ \" */",
            "/***/",
        ]
    ),
    max_size=3,
).map("".join)
CHARACTERS = st.lists(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r"), unique=True, min_size=1,
    max_size=20,
)  # fmt: skip


@st.composite
def literals(draw, character):
    """One of the ways to write a character in Rust."""
    ways = [f"'\\u{{{ord(character):x}}}'", f"'\\u{{{ord(character):06X}}}'"]
    if ord(character) < 0x80:
        ways.append(f"'\\x{ord(character):02x}'")
    named = {"\n": r"\n", "\r": r"\r", "\t": r"\t", "\0": r"\0", "'": r"\'", "\\": r"\\"}
    if character in named:
        ways.append(f"'{named[character]}'")
    else:
        ways.append(f"'{character}'")
    return draw(st.sampled_from(ways))


@given(st.data(), CHARACTERS)
def test_any_array_between_any_comments_is_read(data, characters):

    def noise():  # drawn again at each place
        return data.draw(NOISE)

    elements = "".join(
        f"{noise()}{data.draw(literals(character))}{noise()}," for character in characters
    )
    size = data.draw(st.sampled_from(["&[char]", f"&[char; {len(characters)}]"]))
    source = (
        f"{noise()}pub static OTHER: &[char] = &['z'];{noise()}\n"
        f"pub{noise()}\nstatic {noise()} CTC_CHARSET{noise()}:{noise()}{size}{noise()}="
        f"{noise()}&{noise()}[{elements}{noise()}]{noise()};"
    )
    assert read(source) == "".join(characters)


@given(st.data(), CHARACTERS)
def test_an_array_with_one_comma_left_out_is_refused(data, characters):
    if len(characters) < 2:
        return
    gap = data.draw(st.integers(0, len(characters) - 2))
    elements = [f"'\\u{{{ord(character):x}}}'" for character in characters]
    joined = "".join(
        element + (" " if index == gap else ", ") for index, element in enumerate(elements)
    )
    with pytest.raises(DataError, match="a comma is missing"):
        read(f"static CTC_CHARSET: &[char] = &[{joined}];")


@given(st.text())
def test_any_text_gives_tokens_or_a_sentence(text):
    tokens, message = outcome(lambda: tokens_of(text, "c.rs"))
    if tokens is None:
        assert message.startswith("c.rs:")
        return
    lines = [token.line for token in tokens]
    assert lines == sorted(lines)
    assert not lines or 1 <= lines[-1] <= text.count("\n") + 1


@given(st.text(alphabet="pub static const mod {}[]()#!;:=&,'\"\\/*acfgtestCTC_CHARSET \n"))
def test_any_scramble_of_rust_is_read_or_refused_in_a_sentence(text):
    characters, message = outcome(lambda: read(text))
    assert characters is not None or message.startswith("c.rs:")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("125", 125),
        ("1_792", 1792),
        ("448usize", 448),
        ("0x7D", 125),
        ("0b11_u8", 3),
        ("x", None),
    ],
)
def test_integers_of_rust(text, value):
    assert integer(text) == value


# --- where it is used ----------------------------------------------------------------------------

TWO = """
pub static CTC_CHARSET: &[char] = &['a', 'b'];
pub mod wide {
    pub static CTC_CHARSET: &[char] = &['a', 'b', 'c'];
}
"""


def test_a_file_with_several_arrays_is_asked_about(tmp_path):
    path = tmp_path / "charset.rs"
    path.write_text(TWO, encoding="utf-8")
    with pytest.raises(DataError, match=r"charset\.rs#2 or .*charset\.rs#4"):
        load_charset(str(path))
    assert load_charset(f"{path}#self::CTC_CHARSET").characters == "ab"
    assert load_charset(f"{path}#wide::CTC_CHARSET").characters == "abc"
    assert load_charset(f"{path}#4").characters == "abc"
    with pytest.raises(DataError, match="no constant 'CTC_CHARSETS'; did you mean"):
        load_charset(f"{path}#CTC_CHARSETS")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "charset.rs"
    path.write_text("static CTC_CHARSET: [char; 1] = ['a'];", encoding="utf-8-sig")
    assert load_charset(str(path)) == Charset("rust:CTC_CHARSET", "a")


@pytest.mark.parametrize(
    "source",
    [
        r"pub static CTC_CHARSET: &[char] = &['b', 'a', '\u{30a}'];",
        'pub const CTC_CHARSET: &str = "ba\u030a";',
    ],
    ids=["array", "string"],
)
def test_a_letter_and_its_mark_as_two_classes_are_refused(source):
    message = r"c\.rs:1: CTC_CHARSET: class 3 is .*COMBINING RING.* save the file in NFC"
    with pytest.raises(DataError, match=message):
        from_rust_source(source, file="c.rs")


ARRAY = "pub const CTC_CHARSET: &[char] = &['a', 'b'];\n"


@pytest.mark.parametrize(
    "number",
    [
        "pub const CTC_NUM_CLASSES: usize = 3;",
        "const N: usize = 2; pub const CTC_NUM_CLASSES: usize = N + 1;",
        "pub const CTC_NUM_CLASSES: usize = CTC_CHARSET.len() + 1;",
        "pub const NUM_CLASSES: usize = 127;",
        "mod old { pub const CTC_NUM_CLASSES: usize = 127; }",
        "// pub const CTC_NUM_CLASSES: usize = 127;",
    ],
)
def test_a_number_of_classes_that_is_right_or_of_another_array_is_accepted(number):
    assert from_rust_source(ARRAY + number).characters == "ab"


def test_a_number_of_classes_that_is_wrong_is_refused():
    source = ARRAY + "pub const CTC_NUM_CLASSES: usize = 2;"
    message = (
        r"c\.rs:2: CTC_NUM_CLASSES: it is 2, but CTC_CHARSET \(line 1\) has 2 characters"
    )
    with pytest.raises(DataError, match=message):
        from_rust_source(source, file="c.rs")


def test_duplicates_are_still_refused():
    with pytest.raises(DataError, match="each character may appear once"):
        from_rust_source("static CTC_CHARSET: [char; 3] = ['a'; 3];")
