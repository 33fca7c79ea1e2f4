"""Commands in a process that has its libraries loaded and goes on to the next one: a few hundredths
of a second each, where a new interpreter takes two seconds.
"""

import io
import os
import resource
import stat
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from .trials import Result, TimedOut, WrongResult

ALLOWED = (0, 2, 3, 4, 5)  # 1 is a bug
# A command that is limited to this address space ends with MemoryError instead of taking the
# machine with it.
ADDRESS_SPACE = 12 << 30
_NULL_DEVICE = os.makedev(1, 3)  # Linux


def make_device(path: Path) -> bool:
    """Make a device that swallows what is written to it, as /dev/null does, for trials that write
    to a device: root may replace the one of the machine. Returns whether this user may make one.
    """
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, _NULL_DEVICE)
        path.write_bytes(b"x")
    except OSError:
        path.unlink(missing_ok=True)
        return False
    return True


def require_device(path: Path, words: Sequence[object]) -> None:
    """Raise WrongResult when a command has replaced or renamed a device."""
    if not path.is_char_device():
        shown = " ".join(map(repr, map(str, words)))
        raise WrongResult(f"{shown}: replaced the device {path}")


def isolate(home: Path, log: Path) -> None:
    """Give this process a home folder of its own, limits, and a file for what it prints."""
    home.mkdir(exist_ok=True)
    os.environ.update(
        HOME=str(home), XDG_CACHE_HOME=str(home), NORDOCR_CACHE=str(home / "cache")
    )
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    empty = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def call(words: Sequence[str], log: Path) -> Result:
    """Run one command line. Raises WrongResult when it ends with a bug, TimedOut when the time of
    the trial is over.
    """
    code, printed = _call(words, log)
    if code in ALLOWED:
        return "accepted" if code == 0 else "refused"

    shown = " ".join(map(repr, words))
    raise WrongResult(f"{shown}: exit code {code}: {printed[-400:]}")


def _call(words: Sequence[str], log: Path) -> tuple[int | None, str]:
    """Return the exit code (1 after an unexpected exception) and what was printed."""
    from nordocr_cli.app import main

    os.truncate(log, 0)
    sys.argv = ["nordocr", *words]
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding="utf-8")
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8")
    show_warning = warnings.showwarning
    try:
        main()
        code: int | None = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except TimedOut:
        raise TimedOut(f"no end of {' '.join(map(repr, words))}") from None
    except BaseException:  # noqa: BLE001 - what the campaign looks for
        traceback.print_exc()
        code = 1
    finally:
        warnings.showwarning = show_warning
        sys.stdout.flush()
        sys.stderr.flush()
    return code, log.read_bytes()[-3000:].decode("utf-8", "replace")
