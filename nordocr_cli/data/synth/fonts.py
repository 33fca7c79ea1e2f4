"""Which fonts lines are drawn in: found in folders, on the system, or listed in a TSV; checked
glyph by glyph.

A face is used only for texts whose every character it really draws: a character is missing when its
picture is empty or the same as that of a code point that no font has (the "missing glyph" box).
"""

import csv
import hashlib
import os
import random
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

from nordocr_cli.charset import Charset
from nordocr_cli.data.synth.letter_shapes import (
    LETTERS,
    MINIMUM_AGREEMENT,
    letter_agreement,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import require_regular_or_folder

# Lines are drawn at this size (pixels an em) and scaled to the size on the page: no hinting shows,
# and each face is opened once.
EM_PX = 48

_SUFFIXES = {".ttf", ".otf", ".ttc"}
_NEVER_A_CHARACTER = "\uffff"
_MAXIMUM_FACES = 64  # of a collection; a damaged header may say more
_MINIMUM_ACCENT = 0.02  # ink of an accent over that of its letter
_NOT_TEXT = re.compile(
    r"symbol|dingbat|emoji|ornament|barcode|music|math|wingding|webding|icon|braille|\bcaps\b|small"
    r" ?caps|\bsc\b",
    re.IGNORECASE,
)

# How often each kind of face is met in business documents.
CATEGORY_WEIGHTS: dict[str, float] = {
    "sans": 0.42,
    "serif": 0.27,
    "mono": 0.10,
    "typewriter": 0.08,
    "condensed": 0.09,
    "dotmatrix_like": 0.04,
}


@dataclass(frozen=True, slots=True)
class FontFace:
    """One face of a font file and the characters of the charset that it draws.

    `index` is its place in a collection (.ttc), `instance` the name of a variable font's instance.
    `caps_only`: its a-z look like A-Z.
    """

    path: str
    index: int
    family: str
    style: str
    category: str
    characters: frozenset[str]
    caps_only: bool = False
    instance: str = ""

    @property
    def name(self) -> str:
        """Family and style."""
        return f"{self.family} {self.style}".strip()


@lru_cache(maxsize=2048)
def open_font(path: str, index: int, instance: str = "") -> ImageFont.FreeTypeFont:
    """Return a face at EM_PX pixels an em. Basic layout: kerning, but no ligatures that join signs
    as code fonts do.
    """
    return _opened(path, index, instance, ImageFont.Layout.BASIC)


@lru_cache(maxsize=2048)
def open_shaped_font(path: str, index: int, instance: str = "") -> ImageFont.FreeTypeFont:
    """Return a face with the layout that word processors and browsers use: the font's own kerning
    pairs and ligatures.

    Where Pillow was built without libraqm it is `open_font`'s: kerning from the old table, no
    ligatures.
    """
    if features.check("raqm"):
        layout = ImageFont.Layout.RAQM
    else:
        layout = ImageFont.Layout.BASIC
    return _opened(path, index, instance, layout)


def open_face(face: FontFace) -> ImageFont.FreeTypeFont:
    """Return `face` as `open_font` opens it."""
    return open_font(face.path, face.index, face.instance)


def _opened(
    path: str, index: int, instance: str, layout: ImageFont.Layout
) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(path, EM_PX, index=index, layout_engine=layout)
    if instance:
        font.set_variation_by_name(instance)
    return font


def system_font_folders() -> list[Path]:
    """Folders where this platform keeps fonts, those that exist."""
    home = Path.home()
    if sys.platform == "win32":
        folders = [
            Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
            home / "AppData/Local/Microsoft/Windows/Fonts",
        ]
    elif sys.platform == "darwin":
        folders = [
            Path("/System/Library/Fonts"),
            Path("/Library/Fonts"),
            home / "Library/Fonts",
        ]
    else:
        folders = [
            Path(p)
            for p in (
                "/usr/share/fonts",
                "/usr/local/share/fonts",
                "/usr/share/texmf/fonts",
                "/usr/share/wine/fonts",
            )
        ]
        folders += [home / ".fonts", home / ".local/share/fonts"]
    return [folder for folder in folders if folder.is_dir()]


def find_faces(source: Path | None, charset: Charset) -> tuple[list[FontFace], list[str]]:
    """Return the faces that can draw text of `charset`, sorted by file, and one line per file left
    out and why.

    `source` is a folder, a TSV with a `file` column (and `category`, `family`, `style` where known;
    a bare file name is looked up in the system's font folders), or None for the system's fonts.
    Raises UsageError when there is no such source and DataError when it holds no usable face.
    """
    if source is not None and not source.exists():
        raise UsageError(f"--fonts {source}: no such folder or file")
    if source is not None and source.is_file():
        listed = _read_tsv(source)
    else:
        listed = None
    if listed is not None:
        files = _locate(listed)
    else:
        folders = system_font_folders() if source is None else [source]
        files = {str(path): {} for path in _font_files(folders)}
    faces: list[FontFace] = []
    left_out: list[str] = []
    found_first: dict[bytes, str] = {}
    for path, row in files.items():
        for where, inspected in _inspect_file(
            path, row, charset, trusted=listed is not None
        ):
            if isinstance(inspected, str):
                left_out.append(f"{where}: {inspected}")
                continue
            face, letters = inspected
            first = found_first.setdefault(letters, where)
            if first != where:
                left_out.append(f"{where}: the same letters as {first}")
                continue
            faces.append(face)
    if not faces:
        raise DataError(
            f"no font for text under {source or 'the system folders'} ({len(left_out)} files looked"
            " at); give --fonts FOLDER"
        )
    return sorted(faces, key=lambda face: (face.path, face.index, face.instance)), left_out


# Plain faces that most systems have one of; looked at first.
_LABEL_FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "Arial.ttf",
    "arial.ttf",
    "segoeui.ttf",
)


def label_font(charset: Charset, size_px: int) -> ImageFont.FreeTypeFont:
    """Return a font of the system that draws every character of `charset`, for labels under
    pictures. Raises UsageError when there is none.
    """
    files = _font_files(system_font_folders())
    for path in sorted(
        files, key=lambda file: (file.name not in _LABEL_FONTS, "Regular" not in file.stem)
    ):
        for _, inspected in _inspect_file(str(path), {}, charset, trusted=False):
            if isinstance(inspected, str):
                continue
            face, _ = inspected
            if face.characters >= set(charset.characters) and not face.instance:
                return ImageFont.truetype(face.path, size_px, index=face.index)
    raise UsageError(
        f"none of the {len(files)} fonts of this system draws all characters of charset"
        f" {charset.name!r}; install one that does, e.g. DejaVu Sans (Debian: fonts-dejavu-core)"
    )


def _style_weight(face: FontFace) -> float:
    """How often a face occurs compared with the upright regular one of its family: a family's many
    cuts must not outweigh it.
    """
    style = face.style.lower()
    weight = 1.0
    if "italic" in style or "oblique" in style:
        weight *= 0.35
    if "bold" in style or "semi" in style or "demi" in style:
        weight *= 0.6
    if any(cut in style for cut in ("thin", "light", "black", "heavy", "extra")):
        weight *= 0.35
    return weight


class FontPicker:
    """Draws faces: the category by its weight, then a family of it, then one of the family's faces
    by its style.
    """

    def __init__(self, faces: Sequence[FontFace]) -> None:
        by_category: dict[str, dict[str, list[FontFace]]] = {}
        for face in faces:
            by_category.setdefault(face.category, {}).setdefault(face.family, []).append(
                face
            )
        self._families = {
            category: [
                (family, list(map(_style_weight, family))) for family in families.values()
            ]
            for category, families in by_category.items()
        }
        self._categories = sorted(self._families)

    def draw(
        self, rng: random.Random, text: str, categories: Mapping[str, float] | None = None
    ) -> FontFace | None:
        """Return a face that has every character of `text`, or None when ten draws gave none.
        `categories` are weights, by default an office's; where no face is of any of them, all
        categories are drawn from.
        """
        needed = set(text) - {" "}
        category_weights = CATEGORY_WEIGHTS if categories is None else categories
        shares = [category_weights.get(category, 0.0) for category in self._categories]
        if not sum(shares):
            shares = [1.0] * len(shares)
        for _ in range(10):
            category = rng.choices(self._categories, shares)[0]
            family, weights = rng.choice(self._families[category])
            face = rng.choices(family, weights)[0]
            if needed <= face.characters:
                return face
        return None


def _read_tsv(path: Path) -> list[dict[str, str]]:
    require_regular_or_folder(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read fonts {path}: {error}") from error
    if not rows or "file" not in rows[0]:
        raise DataError(
            f"{path}: no rows with a `file` column; a font list is a TSV with file, and category,"
            " family, style where known"
        )
    return rows


def _font_files(folders: Iterable[Path]) -> list[Path]:
    return sorted(
        p
        for folder in folders
        for p in folder.rglob("*")
        if p.suffix.lower() in _SUFFIXES and p.is_file()
    )


def _locate(rows: Sequence[dict[str, str]]) -> dict[str, dict[str, str]]:
    on_system: dict[str, str] = {}
    for found in _font_files(system_font_folders()):
        on_system.setdefault(found.name, str(found))
    located: dict[str, dict[str, str]] = {}
    for row in rows:
        if Path(row["file"]).is_file():
            path = row["file"]
        else:
            path = on_system.get(row["file"], row["file"])
        located.setdefault(path, row)
    return located


# A face and a digest of what it draws, or why it is left out.
_Inspected = tuple[FontFace, bytes] | str
_Picture = tuple[tuple[float, float, float, float], bytes]


def _inspect_file(
    path: str, row: dict[str, str], charset: Charset, *, trusted: bool
) -> Iterator[tuple[str, _Inspected]]:
    """Yield every face of a file, all of a collection and all named instances of a variable font,
    with its path (and the number or the name of the face).
    """
    if not Path(path).is_file():
        yield path, f"not on this system (package {row.get('package', 'unknown')})"
        return
    for index in range(_faces_in(path)):
        where = f"{path}[{index}]" if index else path
        try:
            instances = _instances(open_font(path, index))
        except (OSError, ValueError) as error:
            yield where, f"cannot be read: {error}"
            continue
        for instance in instances:
            named = f"{where} ({instance})" if instance else where
            yield named, _inspect(path, index, instance, row, charset, trusted=trusted)


def _faces_in(path: str) -> int:
    """Return the number of faces in a file: 1, or the number in a collection's header."""
    with open(path, "rb") as file:
        header = file.read(12)
    if header[:4] != b"ttcf" or len(header) < 12:
        return 1
    return min(_MAXIMUM_FACES, max(1, int.from_bytes(header[8:12], "big")))


def _instances(font: ImageFont.FreeTypeFont) -> list[str]:
    """The names of a variable font's instances; one empty name for any other font."""
    try:
        names = font.get_variation_names()
    except OSError:
        return [""]  # no variable font
    return [name.decode("utf-8", errors="replace") for name in names] or [""]


def _inspect(
    path: str,
    index: int,
    instance: str,
    row: dict[str, str],
    charset: Charset,
    *,
    trusted: bool,
) -> _Inspected:
    try:
        font = open_font(path, index, instance)
        pictures = _pictures(font, charset)
        agreement = letter_agreement(font)
    except (OSError, ValueError) as error:
        return f"cannot be read: {error}"
    family = row.get("family") or font.getname()[0] or Path(path).stem
    style = instance or row.get("style") or font.getname()[1] or ""
    if not trusted and _NOT_TEXT.search(f"{family} {style}"):
        return "symbols or small capitals, by its name"
    if agreement < MINIMUM_AGREEMENT:
        return (
            f"draws no letters: {agreement:.0%} of A-Z, a-z and 0-9 look like other faces"
        )
    characters = _drawn_characters(pictures, charset)
    missing = set(LETTERS) & set(charset.characters) - characters
    if missing:
        return f"lacks {len(missing)} of A-Z, a-z, 0-9"
    if len({pictures[digit] for digit in "0123456789" if digit in pictures}) < len(
        set("0123456789") & set(charset.characters)
    ):
        return "draws two digits alike"
    caps_only = all(pictures.get(letter) == pictures.get(letter.upper()) for letter in "ag")
    category = row.get("category") or _category(f"{family} {style}")
    face = FontFace(path, index, family, style, category, characters, caps_only, instance)
    return face, _digest(pictures)


def _pictures(font: ImageFont.FreeTypeFont, charset: Charset) -> dict[str, _Picture]:
    """The picture of every character of the charset, and of the code point that no font has."""
    return {c: _picture(font, c) for c in (*charset.characters, _NEVER_A_CHARACTER)}


def _digest(pictures: Mapping[str, _Picture]) -> bytes:
    """Two faces that draw the same have the same digest, whatever their files and names are."""
    digest = hashlib.sha256()
    for box, ink in pictures.values():
        digest.update(repr(box).encode())
        digest.update(ink)
    return digest.digest()


def _drawn_characters(pictures: Mapping[str, _Picture], charset: Charset) -> frozenset[str]:
    """Characters with a picture of their own. Some faces draw ø as o, or – as -: the label would
    say what nobody can see.
    """
    missing = pictures[_NEVER_A_CHARACTER]
    seen: set[_Picture] = set()
    drawn = {" "}
    for character in charset.characters:
        picture = pictures[character]
        # Faces of which 0 and O, or a and A, are alike are met in print; there the words tell.
        alike_is_fine = character.isascii() and character.isalnum()
        own = picture not in seen and not _is_bare(character, pictures)
        if any(picture[1]) and picture != missing and (own or alike_is_fine):
            drawn.add(character)
        seen.add(picture)
    return frozenset(drawn)


def _is_bare(character: str, pictures: Mapping[str, _Picture]) -> bool:
    """Whether an accented letter shows nearly the same ink as its letter without the accent."""
    base = unicodedata.normalize("NFD", character)[0]
    if base == character or base not in pictures:
        return False
    (box, ink), (base_box, base_ink) = pictures[character], pictures[base]
    if box != base_box or len(ink) != len(base_ink):
        return False
    differing = sum(abs(one - other) for one, other in zip(ink, base_ink, strict=True))
    return differing < _MINIMUM_ACCENT * sum(base_ink)


def _picture(font: ImageFont.FreeTypeFont, character: str) -> _Picture:
    """Where a character's ink lies about the pen, and the ink: ' and , may be the same ink at other
    heights.
    """
    return font.getbbox(character, anchor="ls"), bytes(font.getmask(character, mode="L"))


def _category(name: str) -> str:
    """Guess a category from a name, for fonts that no list describes."""
    name = name.lower()
    for category, words in (
        ("condensed", ("condensed", "narrow")),
        ("typewriter", ("typewriter", "courier", "cursor")),
        ("mono", ("mono", "code", "consol", "console", "terminal")),
        ("serif", ("serif", "roman", "times", "georgia", "garamond", "book", "slab")),
    ):
        if any(word in name.replace("sans serif", "sans") for word in words):
            if not (category == "serif" and "sans" in name):
                return category
            return "sans"
    return "sans"
