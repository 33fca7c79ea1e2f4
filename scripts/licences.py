"""The licences of what nordocr uses, as the page docs/licences.md.

python3 scripts/licences.py    write the page

Run inside the project's environment: the list is made from the metadata of the installed packages.
"""

import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("", "train", "serve", "rtx", "trocr", "tesserocr")

_NAME = re.compile(r"^[A-Za-z0-9_.-]+")
_LONG_CLASSIFIER = "License :: OSI Approved :: "

# Licences that the metadata of a package does not name in a few words.
_KNOWN = {
    "numpy": "BSD-3-Clause",
    "onnxruntime": "MIT",
    "tensorrt-rtx": "NVIDIA proprietary",
    "typer": "MIT",
}

_OTHER_PARTS = """
## Weights

| part | licence | from |
|---|---|---|
| `nordocr-default*` | Apache-2.0 | trained by this project on rendered lines: [recipe](recipe.md) |
| the text detector in `pages/weights/` | Apache-2.0 | PaddleOCR's PP-OCR small detector as ONNX |

Networks for training start from random numbers or from weights that you name; none are downloaded
unasked.

## Fonts

The wheel holds no typeface but `glyphless.ttf` for the invisible text of searchable PDF files.
Lines are rendered with fonts of the machine; `samples/train/fonts.tsv` names the fonts of the
sample lines.

## Code that we learned from

The networks are this project's own code after published papers and reference projects: see
[Networks](networks.md).
`nordocr_cli/writers/NOTICE` names what the PDF writer uses.
"""


def licences_page() -> str:
    """The page: direct dependencies by extra with version and licence, then weights and fonts."""
    lines = [
        "# Licences",
        "",
        "nordocr is Apache-2.0. It uses these packages; each extra adds to the plain install.",
        "",
        "| package | licence | extra |",
        "|---|---|---|",
    ]
    for extra in EXTRAS:
        for name in sorted(_requirements(extra), key=str.lower):
            lines.append(f"| {name} | {_licence(name)} | {extra or 'plain install'} |")
    return "\n".join(lines) + "\n" + _OTHER_PARTS


def _requirements(extra: str) -> list[str]:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    requirements = (
        project["optional-dependencies"][extra] if extra else project["dependencies"]
    )
    names = [_NAME.findall(text)[0] for text in requirements]
    return [name for name in names if name != "nordocr-cli"]


def _licence(name: str) -> str:
    if name in _KNOWN:
        return _KNOWN[name]
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return "see the package"
    expression = metadata.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = metadata.get_all("Classifier") or []
    approved = [
        c.removeprefix(_LONG_CLASSIFIER) for c in classifiers if "OSI Approved ::" in c
    ]
    if approved:
        return ", ".join(approved)
    named = str(metadata.get("License") or "see the package").strip().split("\n")[0]
    return named[:60]


if __name__ == "__main__":
    (ROOT / "docs" / "licences.md").write_text(licences_page(), encoding="utf-8")
