"""Errors that a user can act on, and the exit codes they end in.

Every message says what is wrong, where (file:line, dotted key, row id) and how to mend it, in one
or two lines.
"""

from collections.abc import Iterable


class NordocrError(Exception):
    """Base of all expected errors. `exit_code` is what the process returns."""

    exit_code = 1
    hint = ""  # the command that helps, where there is one; `--json` shows it


class UsageError(NordocrError):
    """A wrong flag, profile, key, name or path (exit 2)."""

    exit_code = 2


class DataError(NordocrError):
    """Bad data or a bad artifact: unreadable, damaged, mismatched (exit 3)."""

    exit_code = 3


class ArtifactError(DataError):
    """An artifact that is damaged or does not fit the contract it is asked to meet (exit 3)."""


class GateMissed(NordocrError):
    """A quality gate was missed (exit 4)."""

    exit_code = 4


class MissingBackendError(NordocrError):
    """A library, program or device that this job needs is not here (exit 5); the message holds the
    install line.
    """

    exit_code = 5


class Interrupted(NordocrError):
    """The user stopped the work; everything that was done is saved (exit 130)."""

    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for a misspelt name, or the list of known ones when none is
    near.
    """
    from difflib import get_close_matches

    known = list(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(sorted(known)) if known else "there are none"
