"""`lines.txt` and `words.txt` of the IAM database.

A line is `a01-000u-00 ok 154 19 408 746 1661 89 A|MOVE|to|stop`: id, segmentation, gray level,
number of components, box on the form, text with `|` for spaces. Images are
`a01/a01-000u/a01-000u-00.png`, in `lines/` or `words/` if there is such a folder.
"""

import re
from collections.abc import Iterator

from nordocr_cli.data.entry import Entry, make_entry
from nordocr_cli.data.labels.label_file import LabelFile, bad_entry

_LINE = re.compile(
    r"([a-z]\d\d-\d{3}[a-z]*(?:-\d\d){1,2}) (ok|err) -?\d+ (?:-?\d+ ){4,5}(.+)"
)
_WORD_PARTS = 4  # form, page, line and word


def sniff(file: LabelFile) -> bool:
    """Whether most of its first lines that are no comments are of this form."""
    lines = [line for line in file.sample if not line.startswith("#")]
    found = sum(_LINE.fullmatch(line) is not None for line in lines)
    return found > 0 and found * 2 > len(lines)


def read(file: LabelFile) -> Iterator[Entry]:
    """Yield an entry per line; its document is the form."""
    for where, text, problem in file.text_lines():
        if not problem and text.startswith("#"):
            continue
        found = None if problem else _LINE.fullmatch(text.rstrip())
        if found is None:
            yield bad_entry(
                where, problem or f"expected a line of IAM; found {text[:60]!r}"
            )
            continue
        name, segmentation, label = found.groups()
        parts = name.split("-")
        if len(parts) == _WORD_PARTS:
            label = label.split(" ", 1)[-1]  # after the word's grammatical tag
        form = "-".join(parts[:2])
        image = f"{parts[0]}/{form}/{name}.png"
        for folder in ("lines", "words"):
            if (file.root / folder / image).is_file():
                image = f"{folder}/{image}"
        row = {"id": name, "image": image, "text": label.replace("|", " "), "source": form}
        try:
            yield make_entry({**row, "language": "en", "segmentation": segmentation}, where)
        except ValueError as error:
            yield bad_entry(where, error)
