"""Runs of prep that were stopped: what they had done, so that another one goes on from there.

While a store grows under its temporary name (see atomic.py) a journal lies beside its data: what
the run is made from, then a line for each row. A kept row's says which store got it and the
checksum of its pixels, another's why it was left out. A run that goes on reads rows and pixels from
the unfinished store and writes a store of its own. The journal leaves before the store gets its
name.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nordocr_cli.atomic import temporaries_of
from nordocr_cli.data.line_record import EncodedLine, decode_row, encoded_line
from nordocr_cli.data.lmdb_file import LmdbReader
from nordocr_cli.errors import DataError
from nordocr_cli.records import LineRow

_NAME = "journal.jsonl"
_LINES_A_FLUSH = 100


class Journal(AbstractContextManager["Journal"]):
    """Notes row by row what a run does, in the folder of its first store; `folders` are those of
    all its stores.

    Gone when the `with` block ends well; otherwise it stays with its folders, for `Unfinished`.
    """

    def __init__(self, folders: Sequence[Path], made_from: Mapping[str, Any]) -> None:
        self._path, self._lines = folders[0] / _NAME, 0
        self._head = {"made_from": made_from, "folders": [folder.name for folder in folders]}

    def __enter__(self) -> Self:
        self._file = open(self._path, "w", encoding="utf-8", newline="\n")
        _hold(self._file.fileno())
        self._add(json.dumps(self._head, ensure_ascii=False) + "\n")
        self._file.flush()
        return self

    def kept(self, part: int, line: EncodedLine) -> None:
        """Note a row whose line the store number `part` got."""
        self._add(f"[{part}, {line.crc32}]\n")

    def left_out(self, why: Mapping[str, Any]) -> None:
        """Note a row that is in no store, and why."""
        self._add(json.dumps(why, ensure_ascii=False) + "\n")

    def _add(self, line: str) -> None:
        self._file.write(line)
        self._lines += 1
        if self._lines % _LINES_A_FLUSH == 0:
            self._file.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if kind is None:
            self._path.unlink()


class Unfinished(AbstractContextManager["Unfinished"]):
    """A stopped run with the journal at `journal`. `made_from` is what its `Journal` was told.

    Raises DataError when the journal cannot be read.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._stack = ExitStack()
        try:
            with open(journal, encoding="utf-8") as file:
                head = json.loads(file.readline())
            self.made_from: Mapping[str, Any] = head["made_from"]
            self.folders = [journal.parent.parent / Path(name).name for name in head["folders"]]
            self.size = journal.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{journal} cannot be read ({error!r})") from error

    def __enter__(self) -> Self:
        for folder in self.folders:
            with suppress(OSError):
                # not stale any more: the writers that come now would sweep it away
                os.utime(folder)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outcomes(self) -> Iterator[tuple[LineRow, EncodedLine] | Mapping[str, Any]]:
        """Yield for each row, from the first on, its line or what `Journal.left_out` was told; ends
        before what is not whole.
        """
        try:
            readers = [self._stack.enter_context(LmdbReader(folder)) for folder in self.folders]
        except DataError:
            return  # nothing was written yet
        counts = [0] * len(readers)
        with open(self._journal, encoding="utf-8", errors="replace") as file:
            file.readline()
            for text in file:
                try:
                    noted = json.loads(text)
                    if isinstance(noted, dict):
                        yield noted
                        continue
                    part, checksum = noted
                    counts[part] += 1
                    yield _line(readers[part], counts[part], checksum)
                except (ValueError, TypeError, IndexError, DataError):
                    # the last lines of the journal, or what they speak of, had not been written
                    return

    def is_running(self) -> bool:
        """Whether the run that writes it is still at work, as far as can be told (not on
        Windows).
        """
        try:
            with open(self._journal, "r+b") as file:  # NFS locks only what is open for writing
                return not _hold(file.fileno())
        except OSError:
            return False

    def remove(self) -> None:
        """Delete what the run has written."""
        self._stack.close()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


def find_unfinished(target: Path) -> list[Unfinished]:
    """Return the stopped runs that were to write `target`, the one that had got furthest first."""
    found = []
    for folder in temporaries_of(target):
        # no head yet: there is nothing to go on from, and atomic.py sweeps it away one day
        with suppress(DataError):
            found.append(Unfinished(folder / _NAME))
    return sorted((run for run in found if not run.is_running()), key=lambda run: -run.size)


def _line(reader: LmdbReader, number: int, checksum: int) -> tuple[LineRow, EncodedLine]:
    """Line `number` of an unfinished store. Raises ValueError when it is not there, or not the one
    that was noted.
    """
    record, row = reader.get(f"image-{number:09d}"), reader.get(f"nordocr-row-{number:09d}")
    if record is None or row is None or (line := encoded_line(record)).crc32 != checksum:
        raise ValueError("not written")
    return decode_row(row), line


def _hold(descriptor: int) -> bool:
    """Lock a file until it is closed, so that others can tell that its run is alive; False when
    another process has it locked.

    Without flock (Windows) nothing is locked, and nobody seems to be alive: a folder in use cannot
    be deleted there anyway.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
