"""Results written as they come, next to their final name, so that an interrupted command that
reads many files can be resumed.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli.atomic import (
    OutputLock,
    refuse_inputs,
    replacing,
    sha256_of,
    without_link,
    write_json,
)
from nordocr_cli.errors import DataError, Interrupted, UsageError
from nordocr_cli.limits import parse_json, read_json
from nordocr_cli.printable import shown_path
from nordocr_cli.runtime.specs import parse_spec


class PredictJournal:
    """JSON lines on their way to `target`: `.NAME.part`, and next to it the options of the command,
    `.NAME.part.json`. The target of a symbolic link is replaced, not the link.

    `image in journal` says which images are done; each takes eight bytes of memory. Images that
    could not be read are tried again.

    Raises UsageError when another process is writing `target`, when an interrupted command left its
    files and `resume` was not given or its options differ, DataError when its files are damaged.
    """

    def __init__(self, target: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
        target = without_link(target)
        self.target = target
        self.part = target.with_name(f".{target.name}.part")
        self._options = target.with_name(f".{target.name}.part.json")
        refuse_inputs(target, [Path(name) for name in plan["inputs"]])
        self.read = 0  # lines that the interrupted command has read
        self._done = np.empty(0, np.uint64)
        self._lock = OutputLock(target)
        try:
            self._begin(plan, resume)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, plan: Mapping[str, Any], resume: bool) -> None:
        if not self.part.exists():
            write_json(self._options, _with_hashes(plan))
        elif not resume:
            raise UsageError(
                f"{self.part} holds lines of a run that was stopped: add --resume to continue, or"
                " delete it"
            )
        else:
            self._require_same(plan)
            self._done = np.unique(np.fromiter(self._recorded(), np.uint64))

    def __contains__(self, image: object) -> bool:
        key = _key(str(image))
        at = int(np.searchsorted(self._done, key))
        return at < len(self._done) and bool(self._done[at] == key)

    def write(self, lines: Iterable[str]) -> None:
        """Append `lines`, each at once; after the last one the file gets its name. Raises DataError
        when the disk is full, and Interrupted, saying how to go on, for Ctrl-C.
        """
        try:
            with self.part.open("a", encoding="utf-8", newline="\n") as file:
                for line in lines:
                    file.write(line)
                    file.flush()
            self.part.replace(self.target)
            self._options.unlink(missing_ok=True)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; {self.part} holds what was read, the same command with --resume"
                " continues"
            ) from None
        except OSError as error:
            raise DataError(
                f"cannot write {self.part}: {error.strerror or error}; what it holds is kept,"
                " --resume"
            ) from error
        finally:
            self._lock.release()

    def release(self) -> None:
        """Let another process write the output; what was written is kept."""
        self._lock.release()

    def discard(self) -> None:
        """Forget what was written: nothing of it was read."""
        self.part.unlink(missing_ok=True)
        self._options.unlink(missing_ok=True)
        self._lock.release()

    def _require_same(self, plan: Mapping[str, Any]) -> None:
        try:
            before = read_json(self._options)
        except (UsageError, DataError) as error:
            raise DataError(
                f"{self._options} is not readable ({error}); delete it and {self.part.name}"
            ) from error
        requested = json.loads(json.dumps(_with_hashes(plan)))
        differ = [
            name
            for name in sorted({*before, *requested})
            if before.get(name) != requested.get(name)
        ]
        if differ:
            name = differ[0]
            raise UsageError(
                f"{self.part} was begun with {name} {before.get(name)!r}, now it is"
                f" {requested.get(name)!r}"
            )

    def _recorded(self) -> Iterator[np.uint64]:
        """Yield the key of each image that was read, and rewrite the part without the others and
        a last line cut off.
        """
        with (
            replacing(self.part) as temporary,
            self.part.open("rb") as before,
            temporary.open("wb") as after,
        ):
            for number, line in enumerate(before, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    record = parse_json(line)
                    key = _key(record["image"])
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise DataError(
                        f"{self.part}:{number}: not a line that predict wrote ({error}); delete the"
                        " file"
                    ) from error
                if "error" not in record:
                    after.write(line)
                    self.read += 1
                    yield key


def _with_hashes(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plan and the hashes of the files that it reads with: under the same name may stand
    another model by now.
    """
    model = parse_spec(plan["model"]).path if "model" in plan else None
    files = {
        "model": model,
        **{name: Path(plan[name]) for name in ("char_lm", "lexicon") if name in plan},
    }
    return {
        **{name: _encodable(value) for name, value in plan.items()},
        **{f"{name}_sha256": sha256_of(path) for name, path in files.items() if path},
    }


def _encodable(value: Any) -> Any:
    """Return paths, alone or in a list, as text that JSON can hold; see `shown_path`."""
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return shown_path(value) if isinstance(value, str) else value


def _key(image: str) -> np.uint64:
    name = shown_path(image).encode("utf-8")  # as the record names it
    return np.uint64(int.from_bytes(blake2b(name, digest_size=8).digest(), "little"))
