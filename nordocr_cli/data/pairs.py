"""Images with their texts next to them, each of one line: `NAME.gt.txt` (tesstrain, kraken,
Calamari, OCRopus), `NAME.txt`, or `NAME.json` with a text (webdataset).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.data.entry import IMAGE_NAMES, TEXT_NAMES, Entry, make_entry
from nordocr_cli.data.images import SEARCHED_SUFFIXES, is_of_macos, resolve_image
from nordocr_cli.data.labels.label_file import decoded, lines_of
from nordocr_cli.data.layouts.json import has_pages
from nordocr_cli.data.pages import is_layout_text
from nordocr_cli.errors import DataError
from nordocr_cli.limits import read_json

if TYPE_CHECKING:
    from nordocr_cli.pixels import Pixels

GT_SUFFIX = ".gt.txt"
# Of one line there may be several images: the first of these is read. OCRopus writes binarized and
# normalized ones.
_VARIANTS = (*SEARCHED_SUFFIXES, ".nrm.png", ".bin.png", ".raw.png", ".dew.png")
_MAX_JSON_BYTES = 1 << 20
_IMAGE_ENDINGS = tuple(suffix.lower() for suffix in SEARCHED_SUFFIXES)


class PairSource:
    """A folder of images and their texts (see the module), or one such pair. See Source."""

    kind = "pairs"

    def __init__(self, path: Path, texts: Sequence[Path], root: Path | None = None) -> None:
        self.path = path
        self.texts = tuple(texts)
        self.root = root or (path if path.is_dir() else path.parent)

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return self.texts

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        for text_file in self.texts:
            name = _stem(text_file)
            image = self._image_of(name)
            try:
                yield make_entry({**_row(text_file), "image": image}, str(text_file), image)
            except (ValueError, DataError) as error:
                problem = str(error).removeprefix(f"{text_file}: ")
                yield Entry(str(text_file), image, problem=problem)

    def images_without_text(self) -> int:
        """Number of images that have no text."""
        named = {self._image_of(_stem(text)) for text in self.texts}
        stems = {name.split(".")[0] for name in named}
        images = [name for name in self._names if name.lower().endswith(_IMAGE_ENDINGS)]
        return sum(name.split(".")[0] not in stems for name in images)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        from nordocr_cli.data.resize import decode_image

        return decode_image(self._image_bytes(entry), entry.key, keep_gray=True)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        from nordocr_cli.data.resize import image_size

        return image_size(self._image_bytes(entry), entry.key)

    def close(self) -> None:
        """See Source."""

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(child.name for child in self.root.iterdir())

    def _image_of(self, name: str) -> str:
        found = (name + suffix for suffix in _VARIANTS if name + suffix in self._names)
        return next(found, name + _VARIANTS[0])

    def _image_bytes(self, entry: Entry) -> bytes:
        from nordocr_cli.data.resize import read_image_bytes

        path = Path(resolve_image(self.root, entry.key))
        if not path.is_file():
            raise FileNotFoundError(path)
        return read_image_bytes(path)


def is_marked_text(name: str) -> bool:
    """Whether a file is named as the text of a line, in any letter case."""
    return name.lower().endswith(GT_SUFFIX)


def find_pairs(folder: Path) -> list[Path]:
    """Return the text files of a folder's pairs: its `*.gt.txt`, else each `NAME.txt` or
    `NAME.json` with an image NAME.
    """
    names = {
        child.name
        for child in folder.iterdir()
        if child.is_file() and not is_of_macos(child.name)
    }
    marked = sorted(name for name in names if is_marked_text(name))
    if marked:
        return [folder / name for name in marked]
    pairs: list[Path] = []
    for name in sorted(names):
        stem, _, suffix = name.rpartition(".")
        if suffix not in ("txt", "json") or not any(
            stem + end in names for end in _VARIANTS
        ):
            continue
        if _is_text_of_line(folder / name):
            pairs.append(folder / name)
    return pairs


def _is_text_of_line(file: Path) -> bool:
    """Whether a file next to an image is the text of a line and no layout of a page."""
    if file.suffix == ".txt":
        return not is_layout_text(file)
    try:
        value = read_json(file, max_bytes=_MAX_JSON_BYTES)
    except DataError:
        return False
    return (
        isinstance(value, dict) and bool(TEXT_NAMES & value.keys()) and not has_pages(value)
    )


def _stem(text_file: Path) -> str:
    name = text_file.name
    if is_marked_text(name):
        return name[: -len(GT_SUFFIX)]
    return text_file.stem


def _row(text_file: Path) -> dict[str, Any]:
    """The row that a file gives, but for its image. Raises ValueError or DataError."""
    if text_file.suffix.lower() == ".txt":
        return {"text": _only_line(text_file)}
    value = read_json(text_file, max_bytes=_MAX_JSON_BYTES)
    return {key: item for key, item in value.items() if key not in (*IMAGE_NAMES, "id")}


def _only_line(text_file: Path) -> str:
    """The text of a file. Raises ValueError when it holds several lines."""
    texts = [decoded(line) for _, line in lines_of(text_file)]
    lines = [text for text in texts if text.strip()]
    if len(lines) > 1:
        raise ValueError(f"{len(lines)} lines of text; the image of a line has one")
    if lines:
        return lines[0]
    return ""
