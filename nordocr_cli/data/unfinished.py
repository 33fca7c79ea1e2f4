"""Interrupted runs of prep: what they had done, so that `--resume` continues from there.

While a store grows under its temporary name (see atomic.py) a journal lies next to its data: what
the run is made from, then a line for each row. A kept row's line says which store got it and the
checksum of its pixels; another's says why it was rejected. A resumed run reads rows and pixels from
the unfinished store and writes a store of its own. The journal is removed before the store gets its
name.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nordocr_cli.atomic import (
    RESUMABLE,
    RESUMABLE_PART,
    hold,
    is_abandoned,
    release,
    remove_temporary,
    temporaries_of,
)
from nordocr_cli.data.line_record import EncodedLine, decode_row, encoded_line
from nordocr_cli.data.lmdb_file import LmdbReader
from nordocr_cli.errors import DataError
from nordocr_cli.limits import parse_json
from nordocr_cli.records import LineRow

_LINES_PER_FLUSH = 100


class PrepJournal(AbstractContextManager["PrepJournal"]):
    """Notes row by row what a run does, in the folder of its first store; `folders` are those of
    all its stores. In the folders of the others a file names the first one.

    Removed when the `with` block ends well; otherwise it stays with its folders, for `Unfinished`.
    """

    def __init__(self, folders: Sequence[Path], made_from: Mapping[str, Any]) -> None:
        self._path = folders[0] / RESUMABLE
        self._others = [folder / RESUMABLE_PART for folder in folders[1:]]
        self._lines = 0
        self._head = {
            "made_from": made_from,
            "folders": [folder.name for folder in folders],
        }

    def __enter__(self) -> Self:
        self._file = open(self._path, "w", encoding="utf-8", newline="\n")
        self._add(json.dumps(self._head, ensure_ascii=False) + "\n")
        self._file.flush()
        for other in self._others:
            other.write_text(self._path.parent.name, encoding="utf-8")
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
        if self._lines % _LINES_PER_FLUSH == 0:
            self._file.flush()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk: what was flushed before is kept
            if kind is None:
                raise
        if kind is None:
            for path in (self._path, *self._others):
                path.unlink()


class Unfinished(AbstractContextManager["Unfinished"]):
    """An interrupted run with the journal at `journal`. `made_from` is what its `PrepJournal` got.

    In its `with` block no other process removes its folders. Raises DataError when the journal
    cannot be read.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._stack = ExitStack()
        try:
            with open(journal, encoding="utf-8") as file:
                head = parse_json(file.readline())
            self.made_from: Mapping[str, Any] = head["made_from"]
            self.folders = [
                journal.parent.parent / Path(name).name for name in head["folders"]
            ]
            self.size = journal.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{journal} cannot be read ({error!r})") from error

    def __enter__(self) -> Self:
        for folder in self.folders:
            with suppress(OSError):
                self._stack.callback(release, hold(folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outcomes(self) -> Iterator[tuple[LineRow, EncodedLine] | Mapping[str, Any]]:
        """Yield for each row, from the first on, its line or what `Journal.left_out` got; ends
        before what was not written completely.
        """
        try:
            readers = [
                self._stack.enter_context(LmdbReader(folder)) for folder in self.folders
            ]
        except DataError:
            return  # nothing was written yet
        counts = [0] * len(readers)
        with open(self._journal, encoding="utf-8", errors="replace") as file:
            file.readline()
            for text in file:
                try:
                    noted = parse_json(text)
                    if isinstance(noted, dict):
                        yield noted
                        continue
                    part, checksum = noted
                    counts[part] += 1
                    yield _line(readers[part], counts[part], checksum)
                except (ValueError, TypeError, IndexError, DataError):
                    # The last lines of the journal, or the lines that they name, were not written.
                    return

    def is_running(self) -> bool:
        """Whether the process that writes it is alive."""
        return not is_abandoned(self._journal.parent)

    def remove(self) -> None:
        """Delete what the run has written."""
        self._stack.close()
        for folder in self.folders:
            remove_temporary(folder)


def find_unfinished(target: Path) -> list[Unfinished]:
    """Return the interrupted runs that were to write `target`, the one that got furthest first."""
    found = []
    for folder in temporaries_of(target):
        # A folder without a journal holds nothing to resume from: atomic.py removes it.
        with suppress(DataError):
            found.append(Unfinished(folder / RESUMABLE))
    stopped = [run for run in found if not run.is_running()]
    return sorted(stopped, key=lambda run: -run.size)


def _line(reader: LmdbReader, number: int, checksum: int) -> tuple[LineRow, EncodedLine]:
    """Line `number` of an unfinished store. Raises ValueError when it is not there, or not the one
    that was noted.
    """
    record = reader.get(f"image-{number:09d}")
    row = reader.get(f"nordocr-row-{number:09d}")
    if record is None or row is None:
        raise ValueError("not written")
    line = encoded_line(record)
    if line.crc32 != checksum:
        raise ValueError("not the line that was noted")
    return decode_row(row), line
