"""What the user sees: results on stdout, everything else on stderr."""

import os
import re
import shlex
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

from nordocr_cli.current_file import current_file
from nordocr_cli.errors import DamagedImageWarning, OldArtifactWarning
from nordocr_cli.printable import json_text, printable_lines, redacted

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

_PLAIN_LINE_EVERY_S = 5.0
_COLUMNS_WITHOUT_TERMINAL = 120
_WIDTH = re.compile("[1-9][0-9]{0,3}")


def _shown(text: str) -> str:
    """The text as rich markup that prints it literally: controls as <U+XXXX>, secrets as ***."""
    from rich.markup import escape

    return escape(printable_lines(redacted(text)))


class _PendingJson:
    """The JSON result of the running command. It is written when the command ends, so that an error
    after the result (a missed gate) joins it in one document.
    """

    def __init__(self) -> None:
        self.value: Any = None
        self.present = False
        self.deferred = False

    def put(self, value: Any) -> None:
        """Keep a value until the command ends, or write it at once if nobody flushes at the end."""
        if not self.deferred:
            _write_json(value)
            return
        if self.present:
            self.write({})
        self.value = value
        self.present = True

    def write(self, error: dict[str, Any]) -> None:
        """Write the waiting value with the error, if there is one of either."""
        document = self.value
        if error:
            if isinstance(document, dict):
                result = document
            else:
                result = {"result": document}
            document = {**(result if self.present else {}), "error": error}
        if self.present or error:
            _write_json(document)
        self.value = None
        self.present = False


_PENDING = _PendingJson()


def defer_json() -> None:
    """Hold JSON results back until `flush_json`, which the caller promises to call."""
    _PENDING.deferred = True


def stop_deferring_json() -> None:
    """Write JSON results at once again; a result that was never flushed is dropped."""
    _PENDING.deferred = False
    _PENDING.value = None
    _PENDING.present = False


def flush_json(error: dict[str, Any] | None = None) -> None:
    """Write the JSON result that is waiting, with `error` under that key if one is given.

    The error holds `code`, `message` and `hint`.
    """
    _PENDING.write(error or {})


def _write_json(value: Any) -> None:
    sys.stdout.write(redacted(json_text(value, indent=2)) + "\n")


def _columns() -> int | None:
    """Return the width of tables that go to a file or pipe: COLUMNS, else 120."""
    if sys.stdout.isatty():
        return None
    requested = os.environ.get("COLUMNS", "")
    if _WIDTH.fullmatch(requested):
        return int(requested)
    return _COLUMNS_WITHOUT_TERMINAL


class Console:
    """Implements `nordocr_cli.progress.Progress` for a terminal, and for a log where there is
    none. rich is imported with the first output, so that help does not wait for it.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: int = 0, as_json: bool = False
    ) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.as_json = as_json
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""
        self._unit = ""
        self._done = 0
        self._total = 0
        self._began_s = self._last_line_s = 0.0

    # GITHUB_ACTIONS makes rich force colours into logs; both decide by the stream alone.

    @cached_property
    def err(self) -> "RichConsole":
        """What writes to stderr."""
        from rich.console import Console as RichConsole

        return RichConsole(
            stderr=True, force_terminal=sys.stderr.isatty(), highlight=False, soft_wrap=True
        )

    @cached_property
    def out(self) -> "RichConsole":
        """What writes tables to stdout."""
        from rich.console import Console as RichConsole

        return RichConsole(
            force_terminal=sys.stdout.isatty(), highlight=False, width=_columns()
        )

    # Results
    # ----------------------------------------

    def json(self, value: Any) -> None:
        """Write one JSON value to stdout, at the end of the command."""
        _PENDING.put(value)

    def line(self, text: str) -> None:
        """Write a result to stdout: its line breaks are kept, other controls are shown as
        <U+XXXX>.
        """
        sys.stdout.write(printable_lines(text) + "\n")

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: Sequence[int] = (),
    ) -> None:
        """Print a table to stdout; the columns numbered in `right` are right-aligned. Cells are
        shown literally.
        """
        from rich.table import Table

        table = Table(
            title=_shown(title),
            title_justify="left",
            header_style="bold",
            title_style="bold",
        )
        for index, column in enumerate(columns):
            table.add_column(
                _shown(column),
                justify="right" if index in right else "left",
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(_shown(str(cell)) for cell in row))
        self.out.print(table)

    def next(self, *command: object) -> None:
        """Name the next command on stderr, as the last line of a success.

        Several words are a command; they are quoted so that it can be pasted into a shell. A single
        word is a sentence and is printed as it is.
        """
        if self.quiet or self.as_json:
            return
        words = [str(word) for word in command]
        text = words[0]
        if len(words) > 1:
            if os.name == "nt":
                text = subprocess.list2cmdline(words)
            else:
                text = shlex.join(words)
        self.err.print(f"[dim]next:[/dim] {_shown(text)}")

    # Progress
    # ----------------------------------------

    def start(self, label: str, total: int | None = None, unit: str = "lines") -> None:
        """Begin a task; see Progress."""
        self.finish()
        self._label = label
        self._unit = unit
        self._done = 0
        self._total = total or 0
        self._began_s = self._last_line_s = time.monotonic()
        if self.quiet or not self.err.is_terminal:
            return

        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[extra]}"),
            console=self.err,
            transient=True,
        )
        self._task = self._bar.add_task(_shown(label), total=total, rate="", extra="")
        self._bar.start()

    def advance(self, units: int = 1, **fields: str) -> None:
        """Add progress; see Progress."""
        self._done += units
        now_s = time.monotonic()
        elapsed_s = max(now_s - self._began_s, 1e-9)
        rate = f"{self._done / elapsed_s:,.1f} {self._unit}/s"
        extra = "  ".join(f"{key} {value}" for key, value in fields.items())

        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=self._done, rate=rate, extra=_shown(extra)
            )
            return
        if self.quiet or now_s - self._last_line_s < _PLAIN_LINE_EVERY_S:
            return

        self._last_line_s = now_s
        total = f"/{self._total}" if self._total else ""
        line = f"{self._label}: {self._done}{total} {self._unit}, {rate}  {extra}"
        self.err.print(_shown(line.rstrip()))

    def finish(self) -> None:
        """End the task; see Progress."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def note(self, message: str) -> None:
        """Print one line on stderr unless quiet."""
        if not self.quiet:
            self.err.print(_shown(message))

    def detail(self, message: str) -> None:
        """Print one line on stderr with -v."""
        if self.verbose:
            self.err.print(f"[dim]{_shown(message)}[/dim]")

    def warn(self, message: str) -> None:
        """Print a warning on stderr, also when quiet."""
        self.err.print(f"[yellow]warning:[/yellow] {_shown(message)}")

    def show_warnings(self) -> None:
        """From now on print Python's warnings about old artifacts and images as `warn` does; those
        of Pillow get the name of the file. Others keep Python's form.
        """
        python_form = warnings.showwarning
        # Python shows a warning once for each place in the code; another file has it too. Filters
        # that the user set come first.
        warnings.filterwarnings(
            "always", category=UserWarning, module=r"PIL\.", append=True
        )

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, (OldArtifactWarning, DamagedImageWarning)):
                self.warn(str(message))
            elif current_file():
                self.warn(f"{current_file()}: {message}")
            else:
                python_form(message, category, filename, lineno, file, line)

        warnings.showwarning = show

    def error(self, message: str) -> None:
        """End the progress bar and print an error on stderr."""
        self.finish()
        self.err.print(f"[bold red]error:[/bold red] {_shown(message)}")


def utf8_streams() -> None:
    """Make stdout and stderr UTF-8 where the platform's default differs (Windows, LANG=C); names
    that are not UTF-8 are written with escapes instead of ending the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def no_ansi_from_ci() -> None:
    """Keep Typer from forcing ANSI codes into help under GITHUB_ACTIONS without a terminal."""
    if not sys.stdout.isatty():
        os.environ.setdefault("_TYPER_FORCE_DISABLE_TERMINAL", "1")
