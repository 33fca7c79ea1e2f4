"""A label file as a source of line images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.data.entry import Entry
from nordocr_cli.data.images import ImageFinder, resolve_image
from nordocr_cli.data.labels.label_file import NO_COLUMNS, Columns
from nordocr_cli.data.manifest import iterate_manifest
from nordocr_cli.data.pages import crop_size, shared_page_images
from nordocr_cli.errors import DataError

if TYPE_CHECKING:
    from nordocr_cli.pixels import Pixels


class ManifestSource:
    """A label file; its images are inside `root`, its own folder when left out. See Source."""

    def __init__(
        self,
        path: Path,
        kind: str,
        root: Path | None = None,
        columns: Columns = NO_COLUMNS,
    ) -> None:
        self.path = path
        self.kind = kind
        self.root = root or path.parent
        self._columns = columns
        self._pages = shared_page_images()
        self._finder = ImageFinder(self.root, self._image_names)

    @property
    def files(self) -> Sequence[Path]:
        """See Source."""
        return (self.path,)

    def entries(self) -> Iterator[Entry]:
        """See Source."""
        return iterate_manifest(self.path, self.kind, self.root, self._columns)

    def crop(self, entry: Entry) -> "Pixels":
        """See Source."""
        from nordocr_cli.data.resize import decode_image

        if entry.place is not None:
            return self._pages.crop(Path(self._finder.find(entry.key)), entry.place)
        return decode_image(self._image_bytes(entry), entry.key, keep_gray=True)

    def crop_size(self, entry: Entry) -> tuple[int, int]:
        """See Source."""
        from nordocr_cli.data.resize import image_size

        if entry.place is not None:
            return crop_size(entry.place)
        return image_size(self._image_bytes(entry), entry.key)

    def images_elsewhere(self, missing: Sequence[str]) -> tuple[str, int]:
        """Return the folder below the root with most of the missing images, and how many."""
        return self._finder.elsewhere(missing)

    def close(self) -> None:
        """See Source."""

    def _image_names(self) -> Iterator[str]:
        return (entry.key for entry in self.entries() if entry.row is not None)

    def _image_bytes(self, entry: Entry) -> bytes:
        from nordocr_cli.data.resize import read_image_bytes

        try:
            return read_image_bytes(resolve_image(self.root, entry.key))
        except DataError as error:
            path = self._finder.find(entry.key)
            if os.path.exists(path):
                return read_image_bytes(path)
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                raise FileNotFoundError(path) from None
            raise
