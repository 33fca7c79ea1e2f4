"""charset lock: one file that fixes a charset, and a check of everything that must agree with it.

A charset is written in several places: the host's `charset.rs`, a dictionary file, the contract of
every model, the header of every line store. One character in another place misreads text without an
error. The lock file is committed next to the code; CI compares all those places with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import refuse_inputs, write_json
from nordocr_cli.charset import Charset, differences, load_charset
from nordocr_cli.core.contract import read_side
from nordocr_cli.data.store import LineStore
from nordocr_cli.errors import DataError
from nordocr_cli.limits import read_json

LOCK_SCHEMA = "nordocr.charset-lock/1"


@dataclass(frozen=True)
class LockCheck:
    """How one file compares with the lock: `differences` names each class that differs."""

    path: Path
    charset: str
    sha256: str
    differences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "path": str(self.path),
            "charset": self.charset,
            "sha256": self.sha256,
            "same": not self.differences,
            "differences": list(self.differences),
        }


def write_lock(name: str, output: Path) -> Charset:
    """Write the lock file of the charset `name` (a name, a dictionary or a charset.rs).

    Raises UsageError for an unknown name or an output that is the input, DataError for a damaged
    charset.
    """
    refuse_inputs(output, [Path(name)])
    charset = load_charset(name)
    lock = {
        "schema": LOCK_SCHEMA,
        "name": charset.name,
        "num_classes": charset.num_classes,
        "sha256": charset.sha256,
        "characters": charset.characters,
    }
    write_json(output, lock)
    return charset


def read_lock(path: Path) -> Charset:
    """Read a lock file. Raises DataError when it is damaged or its hash does not fit."""
    lock = read_json(path, "charset lock")
    fields = ("name", "characters", "sha256")
    is_lock = isinstance(lock, dict) and lock.get("schema") == LOCK_SCHEMA
    if not is_lock or not all(isinstance(lock.get(field), str) for field in fields):
        raise DataError(
            f"{path} is not a charset lock ({LOCK_SCHEMA}); write one with: nordocr charset lock"
            " NAME -o FILE"
        )

    charset = Charset(lock["name"], lock["characters"])
    if charset.sha256 != lock["sha256"] or charset.num_classes != lock.get("num_classes"):
        raise DataError(
            f"{path} was edited: its hash or number of classes does not fit its characters; write"
            " it again with: nordocr charset lock"
        )
    return charset


def check_lock(lock: Path, files: Sequence[Path]) -> tuple[LockCheck, ...]:
    """Compare the charset of each file with the lock.

    A file is a dictionary (.txt), a charset.rs, a line store, or any artifact with a contract.
    Raises DataError for a damaged lock or store, ArtifactError for a damaged artifact.
    """
    locked = read_lock(lock)
    return tuple(_compare(path, locked) for path in files)


def _compare(path: Path, locked: Charset) -> LockCheck:
    if not (path / "data.mdb").is_file():
        charset = read_side(path).charset
        return LockCheck(
            path, charset.name, charset.sha256, tuple(differences(charset, locked))
        )

    # A store keeps the hash of its charset, not the characters.
    with LineStore(path) as store:
        name = store.header.charset_name
        sha256 = store.header.charset_sha256
    if sha256 == locked.sha256:
        return LockCheck(path, name, sha256, ())
    difference = (
        f"prepared for charset {name!r}, sha256 {sha256}; the lock has {locked.sha256}"
    )
    return LockCheck(path, name, sha256, (difference,))
