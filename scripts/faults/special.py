"""Special files for every option and argument that takes a path: pipes, devices, links, folders.

The list comes from the command tree: each command with good values, one of which is replaced by a
special file. The command must refuse it or do without, within 20 s and 300 MB more than it takes
otherwise, and the special file must stay what it is.
"""

import os
import random
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .commands import _preload, require_ended_well, run, start, wait
from .options import _FILES, _NEVER, _OUTPUTS, leaves, make_good_files
from .trials import Kind, Result, Trial, WrongResult

_LIMIT_S = 20.0  # processor time
_STOPPED_AFTER_S = 200.0  # by the clock, on a busy machine
_LIMIT_MB = 300
# Options that take a name or a path; what they get is a text for the command line.
_NAMES_OR_PATHS = {
    *("profile", "second", "engine", "guard", "charset", "to", "name", "names"),
    *("expect", "language_model", "restart_from", "new", "sets", "decoder"),
}
# What a command needs next to its required arguments, so that it opens what an option names. GOOD
# is the folder of good files.
_MODEL = ("--model", "GOOD/model.onnx")
_WEIGHTS = ("--model", "GOOD/best.safetensors")
_TINY = (
    *("--set", "model.dims=[24, 48, 64]", "--set", "model.depths=[1, 1, 1]"),
    *("--set", "model.attention_rows=2"),
)
_BASE = {
    "read": _MODEL,
    "predict": _MODEL,
    "serve": ("--dry-run", *_MODEL),
    "watch": ("--once", *_MODEL),
    "adapt": ("--dry-run", *_WEIGHTS),
    "finetune": ("--dry-run", *_WEIGHTS),
    "train": (
        *("-p", "svtrv2-nano", *_TINY, "--train", "GOOD/good.lmdb"),
        *("--val", "GOOD/lines.lmdb", "--max-steps", "1", "--device", "cpu"),
    ),
    "synth": ("--count", "2", "--fonts", "GOOD/fonts", "--workers", "1"),
    "build-engine": ("GOOD/model.onnx", "--dry-run"),
    "bench": ("GOOD/model.onnx", "--lines", "GOOD/good.lmdb", "--rounds", "1"),
    "compare3way": ("--svtrv2", "GOOD/model.onnx", "--tess", "GOOD/read.json"),
    "data fetch": ("--dry-run",),
    "promote": ("--gate", "cer<=99"),
    "eval": ("GOOD/good.lmdb",),
}
# What an option needs to be looked at.
_WITH = {
    "char_lm": ("--decoder", "language"),
    "lexicon": ("--decoder", "beam"),
    "calibration": ("--int8",),
    "oov_map": ("--oov", "map"),
}
# Good values where `_FILES` has none, or one of another kind.
_VALUES = {
    "profile": "svtrv2-nano",
    "name": "nordic",
    "to": "nordic-ext",
    "arch": "sm86",
    "shell": "bash",
    "file": "GOOD/config.json",
    "root": "GOOD",
    "watch source": "GOOD/fonts",
    "models show name": "nordocr-default",
    "data fetch name": "tapuscorpus",
    "profiles show name": "svtrv2-nano",
    "finetune data": "GOOD/good.lmdb",
    "finetune run_dir": "run",
    "promote run": "GOOD/run",
    "contract show file": "GOOD/model.onnx",
    "contract verify b": "GOOD/model.onnx",
    "contract attach model": "GOOD/model.onnx",
    "contract attach output": "new.onnx",
    "contract calibrate model": "GOOD/model.onnx",
    "contract calibrate output": "new.onnx",
    "consumer check model": "GOOD/model.onnx",
    "consumer config model": "GOOD/model.onnx",
    "charset check file": "GOOD/dictionary.txt",
    "charset lock output": "lock.json",
    "charset move output": "moved.safetensors",
    "import output": "imported.safetensors",
    "merge-lora output": "merged.safetensors",
    "export weights": "GOOD/best.safetensors",
    "recipe file": "GOOD/recipe.toml",
}
# Written as required although they are not, because the command asks for them.
_REQUIRED = {
    *("finetune data", "finetune run_dir", "export weights", "runs root", "clean root"),
    "charset lock output",
}


@dataclass(frozen=True)
class _Place:
    """One parameter of a command that takes a path."""

    words: tuple[str, ...]
    command: Any
    parameter: Any

    @property
    def is_output(self) -> bool:
        return self.parameter.name in _OUTPUTS


def _is_path(parameter: Any) -> bool:
    if parameter.name in _NEVER or getattr(parameter, "is_flag", False):
        return False
    kind = parameter.bare_type()
    if "Path" in kind:
        return True
    named = parameter.name in _FILES or parameter.name in _NAMES_OR_PATHS
    return named and "str" in kind


def _places(commands: Iterator[tuple[tuple[str, ...], Any]]) -> list[_Place]:
    return [
        _Place(words, command, parameter)
        for words, command in commands
        for parameter in command.params
        if _is_path(parameter)
    ]


# Special files
# ----------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _device(minor: int, name: str) -> Callable[[Path], None]:
    """A device of its own where this user may make one: what replaces it harms nobody."""

    def make(path: Path) -> None:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
            path.open("rb").close()  # some mounts forbid devices
        except OSError:
            path.unlink(missing_ok=True)
            path.symlink_to(f"/dev/{name}")

    return make


def _link_to_zero(path: Path) -> None:
    target = path.with_name("zeros")
    _device(5, "zero")(target)
    path.symlink_to(target)


def _socket(path: Path) -> None:
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(path.parent)  # the address of a socket has at most 107 bytes
    try:
        server.bind(path.name)
    finally:
        os.chdir(here)
        server.close()


def _unreadable(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


def _unreadable_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


def _below_a_file(path: Path) -> None:
    path.parent.write_bytes(b"")


_SPECIAL: dict[str, Callable[[Path], None]] = {
    "fifo": _fifo,
    "zero": _device(5, "zero"),
    "full": _device(7, "full"),
    "null": _device(3, "null"),
    "folder": Path.mkdir,
    "socket": _socket,
    "dangling link": lambda path: path.symlink_to(path.with_name("nothing")),
    "link loop": lambda path: path.symlink_to(path),
    "link to zero": _link_to_zero,
    "unreadable": _unreadable,
    "unreadable folder": _unreadable_folder,
    "empty": Path.touch,
    "not UTF-8": lambda path: path.write_bytes(b"\x00\xff"),
    "below a file": _below_a_file,
    "link to memory": lambda path: path.symlink_to("/proc/self/mem"),
}
_SUFFIXES = (".json", ".onnx", ".safetensors", ".png", ".toml", ".lmdb", ".txt", ".pdf")
_SUFFIXES += (".xml", ".npz", ".engine", ".rs", ".zip", "")


def _named(name: str, folder: Path, suffix: str) -> Path:
    if name == "not UTF-8":
        return Path(os.fsdecode(os.fsencode(folder) + b"/h\xe5r" + suffix.encode()))
    if name == "below a file":
        return folder / f"file{suffix}" / f"special{suffix}"
    return folder / f"special{suffix}"


# Command lines
# ----------------------------------------


def _good(command: str, parameter: Any, good: Path) -> str:
    """A good value of a parameter."""
    name = parameter.name
    if parameter.name in _OUTPUTS:
        found = _VALUES.get(f"{command} {name}", "output")
    elif name in _FILES:
        found = _VALUES.get(f"{command} {name}", f"GOOD/{_FILES[name][0]}")
    else:
        found = _VALUES.get(f"{command} {name}") or _VALUES.get(name, "GOOD/read.json")
    return found.replace("GOOD", str(good))


def _line(place: _Place, value: str | None, good: Path) -> list[str]:
    """The words of a command, with `value` for the parameter, or without it where it is optional
    (None).
    """
    command = " ".join(place.words)
    base = [*_BASE.get(command, ()), *_WITH.get(place.parameter.name, ())]
    base = [word.replace("GOOD", str(good)) for word in base]
    arguments = list[str]()
    options = list[str]()
    for parameter in place.command.params:
        is_special = parameter is place.parameter and value is not None
        is_required = parameter.required or f"{command} {parameter.name}" in _REQUIRED
        if not is_required and not is_special:
            continue
        given = str(value) if is_special else _good(command, parameter, good)
        if parameter.param_type_name == "argument":
            arguments += [given]
        elif parameter.opts[0] in base:
            base[base.index(parameter.opts[0]) + 1] = given
        else:
            options += [parameter.opts[0], *[given] * max(1, parameter.nargs)]
    return [*place.words, *arguments, *base, *options]


def _limit_of(place: _Place, folder: Path, good: Path, bases: dict[Any, float]) -> float:
    """The megabytes that a command may take: what it takes otherwise, and some more."""
    key = (place.words, place.parameter.name in _WITH)
    if key not in bases:
        os.chdir(_empty(folder / "base"))
        words = _line(place, None, good)
        bases[key] = wait(start(words, folder / "log"), folder / "log").megabytes
    return bases[key] + _LIMIT_MB


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _drain(path: Path) -> int:
    """Read what is written to a pipe, so that its writer need not wait. Returns what `os.close`
    takes: without it, opening the pipe for writing would wait for a reader.
    """
    descriptor = os.open(path, os.O_RDWR)

    def read() -> None:
        while os.read(descriptor, 1 << 16) != b"end":
            continue

    threading.Thread(target=read, daemon=True).start()
    return descriptor


def _make_good_files(good: Path, log: Path) -> None:
    """Good files of all kinds, with a short run of `train`, a recipe and a host's configuration."""
    make_good_files(good, log)
    train = [word.replace("GOOD", str(good)) for word in _BASE["train"]]
    run(["train", *train, "--run-dir", good / "run"], log)
    run(["consumer", "config", good / "model.onnx", "-o", good / "config.json"], log)
    run(["charset", "emit", "nordic", "-o", good / "dictionary.txt"], log)
    stage = '[[stage]]\nname = "show"\nrun = "charset show"\n'
    (good / "recipe.toml").write_text(f'output = "work"\n{stage}')


def special_files(folder: Path) -> Trial:
    """One special file in the place of one path of a command line."""
    import encodings.cp437  # noqa: F401 - another user may not read the library of Python

    from nordocr_cli.app import app
    from nordocr_cli.help_text import build_command_tree

    _preload()
    folder.chmod(0o755)
    good = folder / "good"
    log = folder / "log"
    _make_good_files(good, log)
    trials = [
        (place, name)
        for place in _places(leaves(build_command_tree(app)))
        for name in _SPECIAL
    ]
    # Mixed, so that a few trials see many commands.
    random.Random(1).shuffle(trials)
    bases: dict[Any, float] = {}

    def trial(number: int, rng: random.Random) -> Result:
        home = _empty(folder / "home")
        os.environ.update(HOME=str(home), XDG_CACHE_HOME=str(home), NORDOCR_CACHE=str(home))
        place, name = trials[number % len(trials)]
        limit_mb = _limit_of(place, folder, good, bases)
        outputs = _empty(folder / "outputs")
        os.chdir(outputs)
        path = _named(name, outputs, rng.choice(_SUFFIXES))
        _SPECIAL[name](path)
        before = path.lstat() if os.path.lexists(path) else None

        words = _line(place, str(path), good)
        shown = f"{name}: {' '.join(map(repr, words))}"
        drained = _drain(path) if name == "fifo" and place.is_output else None
        finished = wait(
            start(words, log, like_user="unreadable" in name), log, _STOPPED_AFTER_S
        )
        if drained is not None:
            os.write(drained, b"end")

        result = require_ended_well(finished, shown)
        if finished.megabytes > limit_mb:
            raise WrongResult(
                f"{shown}: {finished.megabytes:.0f} MB, at most {limit_mb:.0f}"
            )
        if finished.processor_s > _LIMIT_S:
            raise WrongResult(f"{shown}: {finished.processor_s:.0f} s")
        if before is not None:
            _require_same(path, before, shown)
        return result

    return trial


def _require_same(path: Path, before: os.stat_result, shown: str) -> None:
    """Raise WrongResult when a special file has become something else."""
    if not os.path.lexists(path):
        raise WrongResult(f"{shown}: removed {path}")
    after = path.lstat()
    kinds = [(stat.S_IFMT(found.st_mode), found.st_rdev) for found in (before, after)]
    if kinds[0] != kinds[1]:
        raise WrongResult(f"{shown}: replaced {path}")


KINDS = (
    Kind(
        "special",
        "special files for every path of every command",
        2715,
        special_files,
        limit_s=400.0,
    ),
)
