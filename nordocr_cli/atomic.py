"""Writing files whole or not at all, and hashing them.

Every artifact goes through `replacing` (or `replacing_all`): a temporary file beside the target,
fsync, rename, fsync of the folder. A reader sees the old file or the new one; a killed writer
leaves a `.name.*.tmp`, which the next writer of that name sweeps away. A folder of one file (a line
store) is replaced by renaming that file. Other folders need two renames: killed between them, the
old folder is `.name.old`, and the next writer puts it back first.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nordocr_cli.errors import DataError, UsageError

# A temporary this old belongs to a writer that died; a younger one may belong to a run beside this
# one.
_STALE_AFTER_S = 3600.0


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path in `target`'s folder; on success fsync it and rename it to `target`,
    else remove it.

    The body may write a file or make a folder at the yielded path (a folder needs a `target` that
    does not exist yet or is a folder: the old one is replaced). Raises DataError when the disk is
    full or the folder cannot be written.
    """
    with replacing_all([target]) as (temporary,):
        yield temporary


@contextmanager
def replacing_all(
    targets: Sequence[Path], *, keep_interrupted: bool = False
) -> Iterator[list[Path]]:
    """Yield a temporary path for each target, as `replacing` does; they get their names together
    when the body has ended well.

    Several targets must be folders: those that have their new name give it back when a later one
    cannot get its own. With `keep_interrupted` Ctrl-C leaves the temporaries as a killed writer
    does, for whoever goes on from them.
    """
    targets = [Path(target) for target in targets]
    names = ", ".join(map(str, targets))
    temporaries = [_temporary(target) for target in targets]
    kept = False
    try:
        try:
            yield temporaries
        except KeyboardInterrupt:
            kept = keep_interrupted
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise  # the body's own trouble with another file
            raise DataError(
                f"cannot write {names}: {error.strerror}; the previous file is untouched"
            ) from error
        try:
            for temporary in temporaries:
                _fsync_tree(temporary)
            _rename_all(temporaries, targets)
            for folder in {target.parent for target in targets} | {
                target for target in targets if target.is_dir()
            }:
                _fsync(folder)
        except OSError as error:
            raise DataError(
                f"cannot write {names}: {error.strerror or error}; the previous file is untouched"
            ) from error
    finally:
        for temporary in temporaries if not kept else ():
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def refuse_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError when writing the file or folder `output` would destroy one of `inputs`.

    Refused are the file itself, whatever lies inside an LMDB, and the weights of a run folder,
    which may well hold results beside them.
    """
    target = output.resolve()
    for path in inputs:
        source = path.resolve()
        is_lmdb, is_folder = (source / "data.mdb").is_file(), source.is_dir()
        weights = is_folder and target.parent == source and target.suffix == ".safetensors"
        if (
            (target == source and (is_lmdb or not is_folder))
            or (is_lmdb and source in target.parents)
            or weights
        ):
            raise UsageError(f"{output} would overwrite the input {path}; give another output")


def require_writable(target: Path) -> None:
    """Raise DataError when no file can be written beside `target`, or under its name because a
    folder has it.
    """
    if target.is_dir():
        raise DataError(f"cannot write {target}: it is a folder; give the name of a file")
    _temporary(target)


def temporaries_of(target: Path) -> list[Path]:
    """Return what writers of `target`, at work or killed, have beside it under temporary names. Not
    by a glob: a name may hold `[`, and `.lines.*.tmp` is what a writer of `lines.lmdb` has too.
    """
    named = re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}\.tmp.*", re.DOTALL)
    return (
        [path for path in target.parent.iterdir() if named.fullmatch(path.name)]
        if target.parent.is_dir()
        else []
    )


def require_utf8(path: Path) -> None:
    """Raise UsageError for a path that is not UTF-8, as names on old disks are (Latin-1): LMDB
    takes none such, and no JSON file can name it.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(
            f"the path {str(path)!r} is not UTF-8; rename it (convmv -f latin1 -t utf8 does so)"
        ) from None


def _temporary(target: Path) -> Path:
    """A name beside `target` that nothing has. Raises DataError when nothing can be written
    there.
    """
    require_utf8(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise DataError(
            f"cannot write {target}: {target.parent} takes no new file ({error.strerror or error});"
            " give an output elsewhere"
        ) from error
    return Path(name)


def _rename_all(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Give each temporary its final name; old folders go when all have theirs."""
    renamed: list[tuple[Path, Path]] = []
    try:
        for temporary, target in zip(temporaries, targets, strict=True):
            _rename(temporary, target)
            renamed.append((temporary, target))
    except OSError:
        for temporary, target in renamed:
            if temporary.is_dir():
                temporary.rmdir()  # its one file has the new name
            os.replace(target, temporary)
            if _aside(target).is_dir():
                os.replace(_aside(target), target)
        raise
    for target in targets:
        shutil.rmtree(_aside(target), ignore_errors=True)


def _rename(temporary: Path, target: Path) -> None:
    """Give `temporary` its final name. A folder cannot be renamed over another: its one file is, or
    the old folder steps aside, and comes back if the new one cannot take its place.
    """
    if not temporary.is_dir():
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        return
    aside = _aside(target)
    if target.is_dir():
        if (
            (names := os.listdir(target)) == os.listdir(temporary)
            and len(names) == 1
            and _link(target / names[0], aside)
        ):
            try:
                os.replace(temporary / names[0], target / names[0])
            except OSError:
                shutil.rmtree(aside)
                raise
            return
        os.replace(target, aside)
    try:
        os.replace(temporary, target)
    except OSError:
        if aside.is_dir():
            os.replace(aside, target)
        raise


def _link(file: Path, folder: Path) -> bool:
    """Keep `file` in the new `folder` too, should it be wanted back; False where the file system
    has no hard links.
    """
    folder.mkdir()
    try:
        os.link(file, folder / file.name)
    except OSError:
        folder.rmdir()
        return False
    return True


def _aside(target: Path) -> Path:
    """Where an old folder waits while the new one takes its name."""
    return target.with_name(f".{target.name}.old")


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target` atomically."""
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` atomically, UTF-8 with `\\n` line ends on every platform."""
    write_bytes(target, text.encode("utf-8"))


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. Raises ValueError on NaN and infinity: JSON
    has neither.
    """
    write_text(target, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises DataError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sweep(target: Path) -> None:
    """Remove what killed writers of `target` left; an old folder whose successor never came gets
    its name back.
    """
    if _aside(target).is_dir():
        if target.exists():
            shutil.rmtree(_aside(target))
        else:
            os.replace(_aside(target), target)
    for stale in temporaries_of(target):
        if time.time() - stale.stat().st_mtime > _STALE_AFTER_S:
            (
                shutil.rmtree(stale, ignore_errors=True)
                if stale.is_dir()
                else stale.unlink(missing_ok=True)
            )


def _fsync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open a folder for fsync.
    # Windows flushes only what is open for writing.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _fsync_tree(path: Path) -> None:
    if path.is_dir():
        for child in path.rglob("*"):
            if child.is_file():
                _fsync(child)
    _fsync(path)
