"""Writing files completely or not at all, and hashing them.

Every artifact goes through `replacing` (or `replacing_all`): a temporary file next to the target,
fsync, rename, fsync of the folder. A reader sees the old file or the new one. A folder with one
file (a line store) is replaced by renaming that file. Other folders need two renames: when a
process is killed between them, the old folder is `.name.old`, and the next writer puts it back
first.

    .name.xxxxxxxx.tmp         what is being written; no reader takes it for a result
    .name.xxxxxxxx.tmp.lock    locked by the writer as long as it lives
    .name.old                  a folder that is being replaced

What a killed writer left is removed when the next writer of the same name starts: its lock is free.

A target that is a symbolic link keeps the link: the file that it points to is replaced. A terminal,
a device such as /dev/null and a named pipe are written to, not replaced.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import kind_of_file, require_regular_or_folder
from nordocr_cli.printable import shown_path

# A temporary of an older nordocr has no lock file: its writer counts as dead when it is this old.
_STALE_AFTER_S = 3600.0
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_LOCK_SUFFIX = ".lock"
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp", re.DOTALL)
_RENAME = "rename it (convmv -f latin1 -t utf8 does so)"
# A folder that holds this file can be continued by its command's `--resume`, which removes it when
# it is done; it is not swept away before.
RESUMABLE = "journal.jsonl"
# A folder that belongs to a resumable one holds a file with its name.
RESUMABLE_PART = "journal.part"


@dataclass
class _Output:
    """One target: `path` is the file or folder that gets the content, which the user calls `name`,
    and `temporary` what is written first. A stream (a device or a pipe) is written to; anything
    else is replaced.
    """

    name: Path
    path: Path
    temporary: Path
    is_stream: bool
    lock: int | None


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it becomes `target`, else it is removed.

    The body may write a file or make a folder at the yielded path (a folder needs a `target` that
    does not exist yet or is a folder: the old one is replaced). Raises UsageError for a target that
    is a socket or a block device, DataError when the disk is full or the folder cannot be written.
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
    does, for a command that resumes from them.
    """
    outputs: list[_Output] = []
    kept = False
    try:
        for target in targets:
            outputs.append(_open_output(Path(target)))
        try:
            yield [output.temporary for output in outputs]
        except KeyboardInterrupt:
            kept = keep_interrupted
            raise
        except OSError as error:
            if error.errno not in _DISK_ERRORS:
                raise  # the body's own trouble with another file
            raise DataError(_failure(outputs, error)) from error
        try:
            _finish(outputs)
        except OSError as error:
            raise DataError(_failure(outputs, error, is_finishing=True)) from error
    finally:
        for output in outputs:
            _release(output, keep=kept)


def refuse_inputs(output: Path, inputs: Iterable[Path]) -> None:
    """Raise UsageError when writing the file or folder `output` would destroy one of `inputs`.

    Refused are the file itself, whatever lies inside an LMDB, and the weights of a run folder,
    which may well hold results next to them.
    """
    target = resolved_path(output)
    for path in inputs:
        source = resolved_path(path)
        is_lmdb = (source / "data.mdb").is_file()
        is_folder = source.is_dir()

        is_same = target == source and (is_lmdb or not is_folder)
        is_inside = is_lmdb and source in target.parents
        is_weights = (
            is_folder and target.parent == source and target.suffix == ".safetensors"
        )
        if is_same or is_inside or is_weights:
            raise UsageError(
                f"{output} would overwrite the input {path}; give another output"
            )


def resolved_path(path: Path) -> Path:
    """Return the path without links. Raises UsageError for links that lead to each other."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # Python 3.11 raises RuntimeError for a circle
        raise UsageError(
            f"{path}: its link leads nowhere ({error}); give another path"
        ) from None


def is_stream(target: Path) -> bool:
    """Whether an output is a device or a pipe, which is written to and never replaced."""
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def without_link(target: Path) -> Path:
    """Return the file that an output names: the target of a symbolic link, else the path itself.
    Raises UsageError for links that lead to each other.
    """
    return resolved_path(target) if target.is_symlink() else target


def require_writable(target: Path) -> None:
    """Raise DataError when no file can be written next to `target`, or under its name because a
    folder has it, UsageError when it is a socket or a block device.
    """
    if target.is_dir():
        raise DataError(f"cannot write {target}: it is a folder; give the name of a file")
    _release(_open_output(target), keep=False)


def temporaries_of(target: Path) -> list[Path]:
    """Return what writers of `target`, at work or killed, have next to it under temporary names.

    Not by a glob: a name may hold `[`, and `.lines.*.tmp` also fits what a writer of `lines.lmdb`
    has.
    """
    named = re.compile(re.escape(f".{target.name}.") + r"[a-z0-9_]{8}\.tmp.*", re.DOTALL)
    if not target.parent.is_dir():
        return []
    return [
        path
        for path in target.parent.iterdir()
        if named.fullmatch(path.name) and not path.name.endswith(_LOCK_SUFFIX)
    ]


def is_temporary(path: Path) -> bool:
    """Whether a path has the name of a temporary, `.name.xxxxxxxx.tmp`."""
    return bool(_TEMPORARY.fullmatch(path.name))


def is_abandoned(temporary: Path) -> bool:
    """Whether the writer of a temporary is dead: its lock is free, or without a lock file, it was
    changed more than an hour ago.
    """
    descriptor = _try_lock(_lock_of(temporary), create=False)
    if descriptor is not None:
        os.close(descriptor)
        return True
    if _lock_of(temporary).exists():
        return False
    try:
        return time.time() - temporary.lstat().st_mtime > _STALE_AFTER_S
    except OSError:
        return False  # gone meanwhile


def hold(temporary: Path) -> int | None:
    """Lock an abandoned temporary, so that no other process removes it while this one reads it.
    Returns what `release` takes; None when another process has it.
    """
    return _try_lock(_lock_of(temporary), create=True)


def release(held: int | None) -> None:
    """Give back what `hold` returned."""
    if held is not None:
        os.close(held)


def remove_temporary(temporary: Path) -> None:
    """Delete a temporary file or folder and its lock file."""
    _remove(temporary)
    with suppress(OSError):
        _lock_of(temporary).unlink(missing_ok=True)


class OutputLock:
    """The right to write `target` as the only process, held until `release` or the end of the
    process.

    Raises UsageError when another process has it. Without file locks (Windows) nobody is kept out.
    """

    def __init__(self, target: Path) -> None:
        self._path = target.with_name(f".{target.name}{_LOCK_SUFFIX}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _try_lock(self._path, create=True)
        except OSError as error:
            raise DataError(_no_room_for(target, error)) from error
        if self._descriptor is None:
            raise UsageError(
                f"another process is writing {target}; wait until it ends, or give another output"
            )

    def release(self) -> None:
        """Let others write. May be called twice."""
        if self._descriptor is None:
            return
        # Removed before the lock is given back: whoever gets it sees that the name is gone and
        # makes a lock file of its own.
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None


def require_utf8(path: Path) -> None:
    """Raise UsageError for a path that is not UTF-8, as names on old disks are (Latin-1): LMDB
    takes no such path, and no JSON file can name it.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the path {str(path)!r} is not UTF-8; {_RENAME}") from None


def make_folder(folder: Path) -> Path:
    """Make an output folder and those above it, unless it is there, and return it.

    Raises UsageError for a name that is not UTF-8, DataError when something else has the name or
    the folder cannot be made.
    """
    require_utf8(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot make the folder {shown_path(folder)}: {reason}; give another path"
        ) from error
    return folder


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target` atomically."""
    with replacing(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` atomically, UTF-8 with LF line ends on every platform. Raises
    UsageError when it holds a name that is not UTF-8.
    """
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text[: error.end].rpartition("\n")[2].strip()
        raise UsageError(
            f"cannot write {target}: it would hold a name that is not UTF-8"
            f" ({shown_path(line[-60:])}…); {_RENAME}"
        ) from None
    write_bytes(target, content)


def write_json(target: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically. Raises ValueError on NaN and infinity: JSON
    has neither.
    """
    write_text(
        target, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    )


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex.

    Raises DataError when it cannot be read, UsageError when it is a pipe or a device, which may
    never end.
    """
    require_regular_or_folder(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


# Opening an output
# ----------------------------------------


def _open_output(target: Path) -> _Output:
    """Find out what `target` is and reserve a temporary name for it."""
    require_utf8(target)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise DataError(_no_room_for(target, error)) from error

    if mode is not None and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        folder = Path(tempfile.mkdtemp(prefix="nordocr-"))
        return _Output(target, target, folder / "output", is_stream=True, lock=None)
    if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UsageError(
            f"{target} is {kind_of_file(mode)}; give a file, a pipe or a device"
        )

    path = target
    if target.is_symlink():
        try:
            path = target.resolve()
        except (OSError, RuntimeError) as error:  # a link that leads to itself
            raise DataError(
                f"cannot write {target}: its link leads nowhere ({error})"
            ) from error
    temporary, lock = _reserve(path)
    return _Output(target, path, temporary, is_stream=False, lock=lock)


def _reserve(target: Path) -> tuple[Path, int | None]:
    """Return a free name next to `target` and its lock. Raises DataError when nothing can be
    written there.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.name}.", suffix=".tmp", dir=target.parent
        )
        os.close(handle)
        lock = _try_lock(_lock_of(Path(name)), create=True)
        os.unlink(name)
    except OSError as error:
        raise DataError(_no_room_for(target, error)) from error
    return Path(name), lock


def _sweep(target: Path) -> None:
    """Remove what killed writers of `target` left; an old folder whose successor never came gets
    its name back.
    """
    if _aside(target).is_dir():
        if target.exists():
            shutil.rmtree(_aside(target))
        else:
            os.replace(_aside(target), target)
    for temporary in temporaries_of(target):
        if is_abandoned(temporary) and not _is_resumable(temporary):
            remove_temporary(temporary)
    for lock in target.parent.glob(f".*{_LOCK_SUFFIX}"):
        if lock.name.startswith(f".{target.name}.") and not _locked_one(lock).exists():
            _remove_free_lock(lock)


def _is_resumable(temporary: Path) -> bool:
    if (temporary / RESUMABLE).is_file():
        return True
    try:
        first = (temporary / RESUMABLE_PART).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return (temporary.parent / Path(first).name / RESUMABLE).is_file()


def _remove_free_lock(lock: Path) -> None:
    """Remove a lock file that a killed writer left before it wrote anything."""
    descriptor = _try_lock(lock, create=False)
    if descriptor is not None:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


# Locks
# ----------------------------------------


def _lock_of(temporary: Path) -> Path:
    return temporary.with_name(temporary.name + _LOCK_SUFFIX)


def _locked_one(lock: Path) -> Path:
    return lock.with_name(lock.name.removesuffix(_LOCK_SUFFIX))


def _try_lock(lock: Path, *, create: bool) -> int | None:
    """Lock a file; return its descriptor, or None when another process has it or (without `create`)
    it does not exist. The lock ends with the process, however it ends.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(lock, flags, 0o666)
    except FileNotFoundError:
        return None
    if not _flock(descriptor):
        os.close(descriptor)
        return None
    if not _is_same_file(descriptor, lock):  # its owner removed it meanwhile
        os.close(descriptor)
        return _try_lock(lock, create=create)
    return descriptor


def _flock(descriptor: int) -> bool:
    """Lock an open file; False when another process has it locked.

    Windows has no flock, but refuses to delete a file that is open: there nobody seems to be at
    work, and removing what is in use fails.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks (some network mounts) locks nobody out.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


# Finishing
# ----------------------------------------


def _finish(outputs: Sequence[_Output]) -> None:
    """Give every output its content: write to streams, rename the others."""
    files = [output for output in outputs if not output.is_stream]
    for output in files:
        _fsync_tree(output.temporary)
    _rename_all(files)
    folders = {output.path.parent for output in files}
    folders |= {output.path for output in files if output.path.is_dir()}
    for folder in folders:
        _fsync(folder)

    for output in outputs:
        if output.is_stream:
            with output.temporary.open("rb") as source, output.path.open("wb") as stream:
                shutil.copyfileobj(source, stream)


def _release(output: _Output, *, keep: bool) -> None:
    """Remove what is left of an output under its temporary name, unless it is to be kept."""
    if not keep:
        _remove(output.temporary)
    if output.is_stream:
        shutil.rmtree(output.temporary.parent, ignore_errors=True)
        return
    if output.lock is not None:
        if not keep:
            with suppress(OSError):
                _lock_of(output.temporary).unlink(missing_ok=True)
        os.close(output.lock)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _rename_all(outputs: Sequence[_Output]) -> None:
    """Give each temporary its final name; old folders are removed when all have theirs."""
    renamed: list[_Output] = []
    try:
        for output in outputs:
            _rename(output.temporary, output.path)
            renamed.append(output)
    except OSError:
        for output in renamed:
            _undo_rename(output)
        raise
    for output in outputs:
        shutil.rmtree(_aside(output.path), ignore_errors=True)


def _undo_rename(output: _Output) -> None:
    if output.temporary.is_dir():
        output.temporary.rmdir()  # its one file has the new name
    os.replace(output.path, output.temporary)
    if _aside(output.path).is_dir():
        os.replace(_aside(output.path), output.path)


def _rename(temporary: Path, target: Path) -> None:
    """Give `temporary` its final name.

    A folder cannot be renamed over another: its one file is, or the old folder steps aside and
    comes back if the new one cannot take its place.
    """
    if not temporary.is_dir():
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        return

    aside = _aside(target)
    if target.is_dir():
        files = os.listdir(target)
        is_one_file = len(files) == 1 and files == os.listdir(temporary)
        if is_one_file and _link(target / files[0], aside):
            try:
                os.replace(temporary / files[0], target / files[0])
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
    """Keep `file` in the new `folder` too, in case it must come back; False where the file system
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


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


def _failure(
    outputs: Sequence[_Output], error: OSError, *, is_finishing: bool = False
) -> str:
    """Say why outputs cannot be written, and what became of them. A stream gets nothing before the
    result `is_finishing`: until then it is a file in the folder for temporary files.
    """
    names = ", ".join(shown_path(output.name) for output in outputs)
    what = f"cannot write {names}: {error.strerror or error}"
    streams = [output for output in outputs if output.is_stream]
    if streams and is_finishing:
        return f"{what}; it may have got a part of the result"
    if streams:
        return f"{what} in {tempfile.gettempdir()}; set TMPDIR to a folder with more space"

    remedy = "give an output elsewhere"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "free space on its disk, or give an output elsewhere"
    # After a failed rename the old ones have their names again.
    kept = [output.path for output in outputs if output.path.exists()]
    if any(path.is_dir() for path in kept):
        return f"{what}; the previous folder is untouched: {remedy}"
    if kept:
        return f"{what}; the previous file is untouched: {remedy}"
    return f"{what}; nothing was written: {remedy}"


def _no_room_for(target: Path, error: OSError) -> str:
    return (
        f"cannot write {target}: {target.parent} takes no new file ({error.strerror or error});"
        " give an output elsewhere"
    )
