"""The documents that a server has read, on disk and bounded in number."""

import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr.documents import Document

if TYPE_CHECKING:
    from nordocr.reading import Pixels


@dataclass(frozen=True)
class Stored:
    """One document: the uploaded file and what was read in it. `name` is the client's file name."""

    key: str
    name: str
    path: Path
    document: Document


class Library:
    """Keeps the last `kept` documents in a temporary folder; used from several threads."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._folder = Path(tempfile.mkdtemp(prefix="nordocr-serve-"))
        self._documents: OrderedDict[str, Stored] = OrderedDict()
        self._lock = threading.Lock()

    def new_file(self, suffix: str) -> Path:
        """Return a path for an upload; the folder is the document's own."""
        folder = self._folder / secrets.token_urlsafe(12)
        folder.mkdir()
        return folder / f"document{suffix}"

    def add(self, name: str, path: Path, document: Document) -> Stored:
        """Keep a document that was read, and forget the oldest if there are too many."""
        stored = Stored(path.parent.name, name, path, document)
        with self._lock:
            self._documents[stored.key] = stored
            while len(self._documents) > self._kept:
                _, oldest = self._documents.popitem(last=False)
                self.forget(oldest.path)
        return stored

    def get(self, key: str) -> Stored | None:
        """Return a document, or None if it is not there or was forgotten."""
        with self._lock:
            return self._documents.get(key)

    def forget(self, path: Path) -> None:
        """Delete the folder of an upload."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Delete every document."""
        shutil.rmtree(self._folder, ignore_errors=True)


def page_pixels(stored: Stored, index: int) -> "Pixels":
    """Return one page of a document, uint8 (height, width, 3) RGB. Raises DataError, IndexError."""
    from nordocr_cli.data.documents import read_pages

    pixels: Pixels = read_pages(stored.path)[index]
    return pixels
