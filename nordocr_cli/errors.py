"""Errors that a user can act on, and the exit codes they end in.

    NordocrError                 1
    ├── UsageError               2    a wrong flag, profile, key, name or path
    ├── DataError                3    bad data: unreadable, damaged, mismatched, or a full disk
    │   └── ArtifactError        3    a bad model, engine, contract or sidecar
    ├── GateMissed               4    a quality gate was missed
    ├── MissingBackendError      5    a library, program or device is missing
    └── Interrupted            130    the user stopped the work; what was done is saved

    OldArtifactWarning                a UserWarning: an older file without a complete digest
    DamagedImageWarning               a UserWarning: an image that was decoded in spite of damage

Every message says what is wrong, where (file:line, dotted key, row id) and how to fix it, in one or
two lines. Any other exception is a bug: it ends with a traceback and exit code 1.
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
    """Bad data or a bad artifact: unreadable, damaged, mismatched; also a full disk (exit 3)."""

    exit_code = 3


class ArtifactError(DataError):
    """An artifact that is damaged or does not fit the contract that it has to meet (exit 3)."""


class GateMissed(NordocrError):
    """A quality gate was missed (exit 4)."""

    exit_code = 4


class MissingBackendError(NordocrError):
    """A library, program or device that the work needs is missing (exit 5). The message holds the
    command that installs it.
    """

    exit_code = 5


class Interrupted(NordocrError):
    """The user stopped the work; everything that was done is saved (exit 130)."""

    exit_code = 130


class OldArtifactWarning(UserWarning):
    """An artifact of an older schema, whose digest does not cover all of it, was accepted."""


class DamagedImageWarning(UserWarning):
    """An image is damaged, and its decoder went on: some of its pixels may be wrong."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for a misspelt name, or the list of known names when none is
    close to it.
    """
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    if names:
        return "known: " + ", ".join(sorted(names))
    return "there are none"
