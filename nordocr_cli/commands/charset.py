"""`nordocr charset show|emit|check|coverage`: the classes of a recognizer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nordocr_cli import options
from nordocr_cli.commands import charset_lock, charset_move
from nordocr_cli.console import Console
from nordocr_cli.limits import read_text

if TYPE_CHECKING:
    from nordocr_cli.charset import Charset

app = typer.Typer(
    help="Show, write, check and compare character sets; move weights between them.",
    no_args_is_help=True,
)
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="nordic, nordic-ext, alphanumeric, a dictionary .txt or a charset.rs.",
    ),
]


@app.command()
def show(name: Name = "nordic", as_json: options.Json = False) -> None:
    """Show the characters of a charset, its number of classes and its hash.

    Example: nordocr charset show nordic
    """
    from nordocr_cli.charset import load_charset

    console = Console(as_json=as_json)
    found = load_charset(name)
    if as_json:
        console.json(_facts(found))
        return
    console.line(
        f"{found.name}: {found.num_classes} classes (blank 0, characters"
        f" 1-{len(found.characters)}), sha256 {found.sha256}"
    )
    for start in range(0, len(found.characters), 32):
        console.line(f"{start + 1:4d}  {found.characters[start : start + 32]}")


def _facts(charset: "Charset") -> dict[str, Any]:
    return {
        "name": charset.name,
        "num_classes": charset.num_classes,
        "sha256": charset.sha256,
        "characters": charset.characters,
    }


@app.command()
def emit(
    name: Name = "nordic",
    output: options.OptionalOutput = None,
    as_json: options.Json = False,
) -> None:
    """Write a charset as a dictionary file, one character a line; `sha256sum` of it is the
    charset's hash.

    Example: nordocr charset emit nordic -o nordic_dict.txt
    """
    from nordocr_cli.atomic import write_text
    from nordocr_cli.charset import load_charset

    console = Console(as_json=as_json)
    found = load_charset(name)
    if output is not None:
        write_text(output, found.to_dict_text())
    if as_json:
        console.json({"path": str(output) if output else None, **_facts(found)})
        return
    if output is None:
        typer.echo(found.to_dict_text(), nl=False)
        return
    console.note(f"{output}: {len(found.characters)} characters, sha256 {found.sha256}")
    console.next("nordocr", "charset", "check", output, "--against", name)


@app.command()
def check(
    file: Annotated[
        Path,
        typer.Argument(
            help="A dictionary file, the consumer's charset.rs, or any charset name."
        ),
    ],
    against: Annotated[
        str, typer.Option(help="The charset that it must equal.")
    ] = "nordic",
    as_json: options.Json = False,
) -> None:
    """Compare a dictionary file or Rust array with a charset, class by class; exit 3 when they
    differ.

    Example: nordocr charset check crates/nordocr-recognize/src/charset.rs
    """
    from nordocr_cli.charset import differences, load_charset
    from nordocr_cli.errors import DataError

    console = Console(as_json=as_json)
    theirs = load_charset(str(file))
    ours = load_charset(against)
    found = differences(theirs, ours)
    if as_json:
        console.json(
            {
                "file": str(file),
                "against": ours.name,
                "same": not found,
                "differences": found,
            }
        )
    if found:
        shown = "\n  ".join(found[:20])
        raise DataError(
            f"{file} is not charset {ours.name!r}: {len(found)} classes differ\n  {shown}"
        )
    if not as_json:
        console.line(
            f"{file} is charset {ours.name!r}: {ours.num_classes} classes, sha256 {ours.sha256}"
        )


@app.command()
def coverage(
    name: Name = "nordic",
    text: Annotated[
        Path | None,
        typer.Option(
            "--text", help="Count what the charset cannot write in this UTF-8 text too."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show, per language, the letters that a charset cannot write.

    Example: nordocr charset coverage nordic-ext --text labels.txt
    """
    from collections import Counter

    from nordocr_cli.charset import LANGUAGE_CHARACTERS, load_charset, to_nfc

    console = Console(as_json=as_json)
    found = load_charset(name)
    rows: dict[str, str] = {
        lang: "".join(found.missing("".join(letters)))
        for lang, letters in LANGUAGE_CHARACTERS.items()
    }
    counts: Counter[str] = Counter()
    if text is not None:
        counts.update(
            character
            for character in to_nfc(read_text(text))
            if character not in found.class_of and character not in "\r\n"
        )
    if as_json:
        console.json(
            {"charset": found.name, "missing": rows, "in_text": dict(counts.most_common())}
        )
        return
    console.table(
        f"what {found.name} cannot write",
        ("language", "missing"),
        [(lang, missing or "nothing") for lang, missing in rows.items()],
    )
    if text is not None:
        console.table(
            f"in {text}",
            ("character", "times"),
            [(repr(c), n) for c, n in counts.most_common(40)],
            right=(1,),
        )


# Commands of this group that have a module of their own.
app.command("move")(charset_move.move)
app.command("lock")(charset_lock.lock)
