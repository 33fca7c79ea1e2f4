"""Finding the images that label files name: inside the root, whatever the names begin with.

| a label file says | and the image is |
|---|---|
| `a/1.png` | at `ROOT/a/1.png` |
| `a\\1.png` | there too: Windows writes backslashes |
| `/data/ROOT/a/1.png` | there too, when the path leads into the root |
| `train/1.png` in `train/labels.txt` | at `ROOT/1.png`: named from a folder above |
| `1.png` | in `ROOT/images`, `ROOT/../images` and the like |
| `Å.PNG` | named `å.png` or in another Unicode form |

All rows of a label file are found by the same rule, so that no row gets another row's picture.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from nordocr_cli.errors import DataError

_PLAIN_NAME = re.compile(r"(?:[\w-]+/)*[\w-]+\.\w+")
# Opened on Windows, these names are devices whatever their folder and suffix.
_WINDOWS_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|COM[1-9]|LPT[1-9]) *(?:\..*)?", re.IGNORECASE | re.DOTALL
)
# Where datasets keep their images, as seen from the label file.
IMAGE_FOLDERS = (
    *("images", "img", "imgs", "image", "train_images", "lines"),
    *("train2014", "val2014", "train2017", "val2017", "test2017"),
)
SEARCHED_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"),
    *(".PNG", ".JPG", ".JPEG", ".TIF", ".TIFF", ".BMP", ".WEBP"),
)
_SEARCHED_FOLDERS = 1000
_SAMPLE_ROWS = 200  # as many rows of a label file are tried to learn where its images are


def resolve_image(root: Path, image: str) -> str:
    """Return the path of `image` inside `root`, as text: paths are slow to make, and this runs for
    every row.

    A folder in the root may be a symlink to elsewhere, as people mount their data; a file may not.
    Raises DataError for a path that leaves the root (absolute elsewhere, `..`, a drive, a link to
    a file outside), holds NUL, or names a device.
    """
    path = os.path.join(root, image)
    if _PLAIN_NAME.fullmatch(image) and not os.path.islink(path):
        # `folder/name.png`, as nearly all are: it cannot leave the root.
        if any(map(_WINDOWS_DEVICE.fullmatch, image.split("/"))):
            raise DataError(f"image path {image!r} names a device on Windows")
        return path
    windows = PureWindowsPath(image)
    if not image or "\0" in image:
        raise DataError(f"image path {image!r} is empty or holds NUL")
    if any(map(_WINDOWS_DEVICE.fullmatch, windows.parts)):
        raise DataError(f"image path {image!r} names a device on Windows")
    if PurePosixPath(image).is_absolute():
        return _absolute(root, image)
    if windows.drive or windows.root or ".." in windows.parts:
        raise DataError(
            f"image path {image!r} leaves the manifest's folder {root}; give the folder of the"
            " images as LABELS:FOLDER"
        )
    if "\\" in image and not os.path.exists(path):
        return resolve_image(root, image.replace("\\", "/"))
    if os.path.islink(path):
        _require_inside(path, root, image)
    return path


def _absolute(root: Path, image: str) -> str:
    """An absolute path that leads into the root, from there; others are refused."""
    for base in dict.fromkeys((os.path.abspath(root), _real_folder(str(root)))):
        if image.startswith(os.path.join(base, "")):
            return resolve_image(root, image[len(os.path.join(base, "")) :])
    raise DataError(
        f"image path {image!r} is absolute and does not lie in {root}; give the folder of the"
        " images as LABELS:FOLDER"
    )


def _require_inside(path: str, root: Path, image: str) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(_real_folder(str(root))):
        raise DataError(
            f"image path {image!r} leads through a symlink out of {root}; copy the images there, or"
            " give their folder as LABELS:FOLDER"
        )


@lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def is_of_macos(name: str) -> bool:
    """Whether a file is what macOS writes next to each file of a foreign disk or archive: its
    attributes, under the file's own suffix.
    """
    return name.startswith("._")


class ImageFinder:
    """Finds the images of one label file; see the module. May be shared by threads.

    `names` gives the image names of the file's rows: the first of them that are not where they say
    decide how all such are looked for.
    """

    def __init__(self, root: Path, names: Callable[[], Iterable[str]]) -> None:
        self.root = root
        self._names = names
        self._rule: tuple[int, Path] | None = None
        self._is_searched = False

    def find(self, image: str) -> str:
        """Return the path of an image, which need not exist. Raises DataError for a path that
        leaves the root.
        """
        problem: DataError | None = None
        try:
            path = resolve_image(self.root, image)
            if os.path.exists(path):
                return path
        except DataError as error:
            problem = error
        moved = self._moved(image)
        if moved is not None:
            return moved
        if problem is not None:
            raise problem
        found = self._by_address(image) if "%" in image else None
        if found:
            return found
        return self._by_other_spelling(path)

    def elsewhere(self, missing: Sequence[str]) -> tuple[str, int]:
        """Return the folder below the root that holds most files of these names, and how many; ""
        and 0 when there is none.
        """
        all_parts = map(_parts, missing)
        names = {parts[-1] for parts in all_parts if parts}
        found = Counter[str]()
        for folder, _, files in islice(os.walk(self.root), _SEARCHED_FOLDERS):
            found[folder] = len(names.intersection(files))
        return max(found.items(), key=lambda item: item[1], default=("", 0))

    def _moved(self, image: str) -> str | None:
        """The path of an image that is not where it says, by the rule of its label file."""
        if not self._is_searched:
            self._rule = self._search()
            self._is_searched = True
        if self._rule is None:
            return None
        count, folder = self._rule
        return _inside(folder, _parts(image)[count:])

    def _search(self) -> tuple[int, Path] | None:
        """Leading folders to drop from the names, and the folder to start from."""
        for image in islice(self._names(), _SAMPLE_ROWS):
            parts = _parts(image)
            if not parts or _exists(self.root, image):
                continue
            for count in range(len(parts)):
                for folder in self._folders(is_named_from_here=count == 0):
                    path = _inside(folder, parts[count:])
                    if path is not None and os.path.isfile(path):
                        return count, folder
        return None

    def _folders(self, *, is_named_from_here: bool) -> list[Path]:
        root = Path(os.path.realpath(self.root))
        folders = [] if is_named_from_here else [root]
        folders += [root / name for name in IMAGE_FOLDERS]
        folders += [root.parent / name for name in IMAGE_FOLDERS]
        return folders

    def _by_address(self, image: str) -> str | None:
        """The image whose name is written as in an address, with %20 for a space."""
        try:
            path = resolve_image(self.root, unquote(image))
        except DataError:
            return None
        return path if os.path.exists(path) else None

    def _by_other_spelling(self, path: str) -> str:
        """The same path in the letter case and Unicode form of what is on the disk."""
        folder, name = os.path.split(path)
        return _folder_names(folder).get(_folded(name), path)


def _parts(image: str) -> list[str]:
    """Folders and name of an image path of any system; `..` and drives are dropped."""
    if "\\" in image:
        parts = PureWindowsPath(image).parts
    else:
        parts = PurePosixPath(image).parts
    return [
        part for part in parts if part not in ("/", "\\", "..") and not part.endswith(":\\")
    ]


def _inside(folder: Path, parts: Sequence[str]) -> str | None:
    if not parts:
        return None
    try:
        return resolve_image(folder, "/".join(parts))
    except DataError:
        return None


def _exists(root: Path, image: str) -> bool:
    try:
        return os.path.exists(resolve_image(root, image))
    except DataError:
        return False


@lru_cache(maxsize=64)
def _folder_names(folder: str) -> dict[str, str]:
    """The files of a folder by their names in lower case and NFC."""
    try:
        with os.scandir(folder) as found:
            return {_folded(entry.name): entry.path for entry in found}
    except OSError:
        return {}


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
