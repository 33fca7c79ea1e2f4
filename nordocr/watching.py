"""Watching a folder: each document that appears is read into another folder."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nordocr.reading import Reader
from nordocr_cli.atomic import make_folder, require_utf8, resolved_path, write_text
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.printable import printable
from nordocr_cli.progress import SILENT, Progress

SUFFIXES = (".pdf", ".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".webp")
_XML_ENDINGS = {"alto": ".alto.xml", "page": ".page.xml"}
_ERROR_ENDING = ".error.txt"

# Size in bytes and time of change in nanoseconds: equal twice means that writing has ended.
Signature = tuple[int, int]


@dataclass(frozen=True)
class Outcome:
    """What came of one document: the number of lines, or why it could not be read."""

    source: Path
    lines: int = 0
    error: str = ""


class Watcher:
    """Reads the documents of a folder and of the folders below it into `target`.

    A result is named after its document (`a/scan.pdf` → `a/scan.pdf.txt`) and appears complete. A
    document is read again only when it is newer than its results. One that cannot be read leaves
    `NAME.error.txt` with the reason and is tried again when it changes. One whose name is too long
    for a result, or is not UTF-8, is reported once. Nothing in `source` is changed.
    """

    def __init__(
        self,
        reader: Reader,
        source: Path,
        target: Path,
        formats: Sequence[str] = ("text",),
        *,
        progress: Progress = SILENT,
    ) -> None:
        if not source.is_dir():
            raise UsageError(f"no folder {source}")
        if resolved_path(target) == resolved_path(source):
            raise UsageError(
                "the folder of results must be another one than the watched folder"
            )
        self._reader = reader
        self._source = source
        self._target = target
        self._formats = tuple(formats)
        self._progress = progress
        self._seen: dict[Path, Signature] = {}
        self._without_note: dict[Path, Signature] = {}

    def pass_over(self, *, settled: bool = True) -> Iterator[Outcome]:
        """Read what is new and yield what came of it.

        With `settled` a file is read only when its size and time are those of the pass before: a
        scanner may still be writing it.
        """
        for path in self._documents():
            signature = _signature(path)
            if signature is None:
                continue
            is_settled = self._seen.get(path) == signature
            self._seen[path] = signature
            if settled and not is_settled:
                continue
            if self._without_note.get(path) == signature:
                continue
            if self._is_new(path, signature):
                outcome, is_noted = self._read(path)
                if not is_noted:
                    self._without_note[path] = signature
                yield outcome

    def run(self, interval_s: float, stopped: Callable[[], bool]) -> Iterator[Outcome]:
        """Pass over the folder until `stopped` returns True, `interval_s` seconds apart."""
        while not stopped():
            yield from self.pass_over()
            time.sleep(interval_s)

    def _documents(self) -> list[Path]:
        inside_target = resolved_path(self._target)
        found = []
        for path in sorted(self._source.rglob("*")):
            hidden = any(
                part.startswith(".") for part in path.relative_to(self._source).parts
            )
            if hidden or path.suffix.lower() not in SUFFIXES:
                continue
            # What is no file may be a link that leads to itself, which cannot be resolved.
            if not path.is_file() or inside_target in resolved_path(path).parents:
                continue
            found.append(path)
        return found

    def _outputs(self, path: Path) -> dict[str, Path]:
        from nordocr_cli.writers.registry import require_format

        base = self._target / path.relative_to(self._source)
        outputs = {}
        for kind in self._formats:
            ending = _XML_ENDINGS.get(kind) or require_format(kind).suffixes[0]
            outputs[kind] = base.with_name(base.name + ending)
        return outputs

    def _error_file(self, path: Path) -> Path:
        base = self._target / path.relative_to(self._source)
        return base.with_name(base.name + _ERROR_ENDING)

    def _is_new(self, path: Path, signature: Signature) -> bool:
        """Whether a document is newer than its results, or than the note of its failure."""
        failed = _signature(self._error_file(path))
        if failed is not None:
            return failed[1] < signature[1]
        results = [_signature(output) for output in self._outputs(path).values()]
        return any(result is None or result[1] < signature[1] for result in results)

    def _read(self, path: Path) -> tuple[Outcome, bool]:
        """Read a document. Return what came of it, and whether a failure is noted in a file."""
        note = self._error_file(path)
        try:
            require_utf8(path)  # its results are named after it
        except UsageError as error:
            return self._failed(path, str(error)), False
        make_folder(note.parent)
        try:
            document = self._reader.read(path)
            for kind, output in self._outputs(path).items():
                document.save(output, kind)
        except DataError as error:
            return self._failed(path, str(error)), _write_note(note, str(error))
        # Every other error (a missing program, an unknown option) is true for every document.

        unread = [page.error for page in document.pages if page.error]
        if unread:
            is_noted = _write_note(note, "\n".join(unread))
            return Outcome(path, len(document.lines), unread[0]), is_noted
        note.unlink(missing_ok=True)
        return Outcome(path, len(document.lines)), True

    def _failed(self, path: Path, reason: str) -> Outcome:
        self._progress.warn(f"{printable(str(path))}: {reason}")
        return Outcome(path, error=reason)


def _write_note(note: Path, text: str) -> bool:
    """Write why a document could not be read; return False when the name of the note is too long
    for the file system. Raises DataError when it cannot be written for another reason.
    """
    try:
        write_text(note, f"{text}\n")
    except DataError as error:
        if getattr(error.__cause__, "errno", None) != errno.ENAMETOOLONG:
            raise
        return False
    return True


def _signature(path: Path) -> Signature | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
