"""The command line under bad conditions: hostile files and options, kills, full disks, two
processes with one output.

A command whose end by a signal, memory or time counts runs in a fork of this process, which has its
libraries loaded: a twentieth of a second instead of two. Others run in this process (`warm.py`).
"""

import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from .artifacts import line_store, tiny_onnx, tiny_weights
from .trials import Kind, Result, Trial, WrongResult
from .warm import ADDRESS_SPACE, ALLOWED, call, isolate, make_device, require_device

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 900.0  # by the clock: a busy machine is no fault
_BOMB_LIMIT_S = 20.0
_BOMB_STOPPED_AFTER_S = 350.0  # by the clock, on a busy machine
_BOMB_LIMIT_MB = 300
_TINY = (
    *("--set", "model.dims=[24, 48, 64]"),
    *("--set", "model.depths=[1, 1, 1]"),
    *("--set", "model.attention_rows=2"),
)


@dataclass(frozen=True)
class Finished:
    """How a command ended: exit code (negative: the signal; None: it was stopped after the limit),
    its stderr, the most memory that it had, and how long it took: by the clock, and processor time,
    which a busy machine does not change.
    """

    code: int | None
    stderr: str
    megabytes: float
    seconds: float
    processor_s: float


def start(arguments: Sequence[object], log: Path, *, like_user: bool = False) -> int:
    """Start a command in a fork; return its process id. With `like_user` root may not read and
    write what its mode forbids, as other users may not.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        _redirect(log)
        if like_user:
            _obey_modes()
        sys.argv = ["nordocr", *(os.fsdecode(os.fsencode(str(word))) for word in arguments)]
        from nordocr_cli.app import main

        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - a traceback is what the parent looks for
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0


def _obey_modes() -> None:
    """Give up the right of root to open every file, and keep its others: another user could not
    read the libraries of a Python in root's home folder.
    """
    # Effective, permitted and inheritable rights, twice 32 of each.
    words = ctypes.c_uint32 * 6
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3 of the call, this process
    rights = words()
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.capget(header, rights)
    for index in range(3):
        rights[index] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    failed |= libc.capset(header, rights)
    if failed:
        raise OSError(ctypes.get_errno(), "capset")


def _redirect(log: Path) -> None:
    empty = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(empty, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def wait(child: int, log: Path, limit_s: float = _LIMIT_S) -> Finished:
    """Wait for a command, and stop it after the limit."""
    began = time.monotonic()
    code: int | None = None
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        if time.monotonic() - began > limit_s:
            os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            break
        time.sleep(0.01)
    stderr = log.read_bytes()[-3000:].decode("utf-8", "replace") if log.exists() else ""
    return Finished(
        code,
        stderr,
        megabytes=usage.ru_maxrss / 1024,
        seconds=time.monotonic() - began,
        processor_s=usage.ru_utime + usage.ru_stime,
    )


def run(arguments: Sequence[object], log: Path, limit_s: float = _LIMIT_S) -> Finished:
    """Run a command to its end."""
    return wait(start(arguments, log), log, limit_s)


def require_ended_well(
    finished: Finished, shown: str, allowed: Sequence[int] = ALLOWED
) -> Result:
    """Turn the end of a command into the result of a trial. Raises for every bad end."""
    if finished.code is None:
        raise WrongResult(f"{shown}: no end after the time limit")
    if finished.code < 0:
        raise WrongResult(f"{shown}: ended by signal {-finished.code}")
    if finished.code not in allowed:
        raise WrongResult(f"{shown}: exit code {finished.code}: {finished.stderr[-400:]}")
    return "accepted" if finished.code == 0 else "refused"


def _preload() -> None:
    """Import what commands import, so that their forks need not."""
    # It reads all fonts of the machine when it is first imported for a home folder.
    import matplotlib.font_manager  # noqa: F401
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch

    import nordocr_cli

    optional = re.compile(r"\.(__main__|tensorrt|wandb_board|worker)")
    for module in pkgutil.walk_packages(nordocr_cli.__path__, "nordocr_cli."):
        if not optional.search(module.name):
            importlib.import_module(module.name)
    torch.set_num_threads(1)
    gc.freeze()


# Hostile files and options
# ----------------------------------------


def _png(height: int, width: int, bits: int = 8) -> bytes:
    """A valid PNG of one gray value, whatever its size: a few bytes for each megapixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return (
            len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")
        )

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + width * bits // 8)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


def _pdf(page_count: int, box: str) -> bytes:
    """A PDF of one page object that claims `page_count` pages."""
    return (
        "%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        f"2 0 obj<</Type/Pages/Kids[3 0 R]/Count {page_count}>>endobj\n"
        f"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[{box}]>>endobj\n"
        "trailer<</Root 1 0 R>>\n"
    ).encode()


def _tiff_pages(count: int) -> bytes:
    """A TIFF of `count` pages of one pixel."""
    header = b"II*\0\x08\0\0\0"
    entries = [(256, 1), (257, 1), (258, 8), (262, 1), (273, 8), (278, 1)]
    size = 2 + 12 * len(entries) + 4
    content = bytearray(header)
    for number in range(count):
        content += len(entries).to_bytes(2, "little")
        for tag, value in entries:
            content += tag.to_bytes(2, "little") + (4).to_bytes(2, "little")
            content += (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        following = len(header) + (number + 1) * size if number + 1 < count else 0
        content += following.to_bytes(4, "little")
    return bytes(content)


def _pdf_of(page: bytes, *objects: bytes) -> bytes:
    """A PDF of one page with the entries `page`; `objects` have the numbers from 4 on."""
    first = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 100]%s>>" % page,
    )
    numbered = enumerate((*first, *objects), 1)
    written = b"".join(b"%d 0 obj%s endobj\n" % (n, found) for n, found in numbered)
    return b"%PDF-1.4\n" + written + b"trailer<</Root 1 0 R>>"


def _pdf_stream(head: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (head, len(content), content)


def _pdf_of_forms(levels: int) -> bytes:
    """A PDF of a page with drawings that each show the next one ten times."""
    objects = [_pdf_stream(b"", b"/F0 Do")]
    for level in range(levels):
        shown = b"/F%d Do " % (level + 1) * 10 if level < levels - 1 else b"0 0 9 9 re f"
        resources = b"/Resources<</XObject<</F%d %d 0 R>>>>" % (level + 1, 6 + level)
        head = b"/Subtype/Form/BBox[0 0 200 100]" + resources
        objects.append(_pdf_stream(head, shown))
    page = b"/Contents 4 0 R/Resources<</XObject<</F0 5 0 R>>>>"
    return _pdf_of(page, *objects)


def _pdf_of_one_stream(times: int) -> bytes:
    """A PDF of a page that names a stream of 31 MB many times."""
    blank = zlib.compress(b" " * (31 << 20), 9)
    page = b"/Contents[%s]" % (b"4 0 R " * times)
    return _pdf_of(page, _pdf_stream(b"/Filter/FlateDecode", blank))


def _pdf_of_run_lengths(megabytes: int) -> bytes:
    """A PDF whose drawing is compressed, and written in run lengths without runs."""
    packed = zlib.compress(b" " * (megabytes << 20), 9)
    pieces = [packed[start : start + 128] for start in range(0, len(packed), 128)]
    lengths = b"".join(bytes([len(piece) - 1]) + piece for piece in pieces) + b"\x80"
    filters = b"/Filter[/RunLengthDecode/FlateDecode]"
    return _pdf_of(b"/Contents 4 0 R", _pdf_stream(filters, lengths))


def _pdf_of_images(count: int) -> bytes:
    """A PDF of a page with many images of 36 megapixels."""
    names = range(5, 5 + count)
    shown = b"".join(b"q 200 0 0 100 0 0 cm /I%d Do Q " % name for name in names)
    resources = b"".join(b"/I%d %d 0 R" % (name, name) for name in names)
    head = b"/Subtype/Image/Width 6000/Height 6000/BitsPerComponent 8/ColorSpace/DeviceGray"
    image = _pdf_stream(head + b"/Filter/FlateDecode", zlib.compress(bytes(36_000_000), 9))
    page = b"/Contents 4 0 R/Resources<</XObject<<%s>>>>" % resources
    return _pdf_of(page, _pdf_stream(b"", shown), *[image] * count)


def _alto_of_one_line(text: str) -> bytes:
    place = 'HPOS="1" VPOS="1" WIDTH="90" HEIGHT="20"'
    return (
        '<alto><Layout><Page WIDTH="200" HEIGHT="100"><PrintSpace>'
        f'<TextLine {place}><String CONTENT="{text}"/></TextLine>'
        "</PrintSpace></Page></Layout></alto>"
    ).encode()


def _jpeg_of_scans(times: int) -> bytes:
    """A progressive JPEG whose last scan comes many times."""
    white = np.full((2000, 2000), 255, np.uint8)
    content = cv2.imencode(".jpg", white, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * times + content[-2:]


def _blank_webp(side: int) -> bytes:
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101]
    return cv2.imencode(".webp", np.zeros((side, side), np.uint8), lossless)[1].tobytes()


def _zip_of_zeros(megabytes: int) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("labels.tsv", bytes(megabytes << 20))
    return written.getvalue()


def _npz_of_zeros(megabytes: int) -> bytes:
    written = io.BytesIO()
    np.savez_compressed(written, last_1=np.zeros(megabytes << 20, np.uint8))
    return written.getvalue()


def hostile_files(folder: Path) -> list[Path]:
    """Make the files that commands are given, some of them good ones."""
    folder.mkdir(parents=True, exist_ok=True)
    deep = "[" * 100_000 + "]" * 100_000
    contents: dict[str, bytes] = {
        "deep.json": deep.encode(),
        "deep.jsonl": b'{"image": "a.png", "text": ' + deep.encode() + b"}\n",
        "deep.toml": b"a = " + b"[" * 20_000 + b"]" * 20_000,
        "dotted.toml": b"[" + b"a." * 5000 + b"a]\nb = 1\n",
        "long.json": b'{"schema": 1' + b"0" * 5000 + b', "lines": [], "pages": []}',
        "long.jsonl": b'{"id": 1' + b"0" * 5000 + b', "hyp": "x"}\n',
        "infinite.json": b'{"pages": [{"page": 1e999, "regions": [{"bbox": [NaN, 1, 2, 3]}]}]}',
        "surrogate.jsonl": b'{"id": "\\ud800", "image": "a.png", "text": "\\udfff", "hyp": "x"}\n',
        "breaks.jsonl": b'{"image": "line.png", "text": "a\\nb\\u001b[2J", "id": "x\\ny"}\n',
        "list.json": b"[]",
        "null.json": b"null",
        "empty.json": b"",
        "utf16.txt": "bild.png\tAar".encode("utf-16"),
        "latin1.txt": b"line.png\tH\xe5r\n",
        "nul.tsv": b"line.png\t\0\0\n",
        "one-line.txt": b"x" * 3_000_000,
        "dtd.xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><alto>&b;</alto>',
        "deep.xml": b"<alto>" + b"<a>" * 50_000,
        "bad.safetensors": (200_000).to_bytes(8, "little") + deep.encode(),
        "bad.onnx": b"\x08\x07" + b"\xff" * 1000,
        "bad.engine": b"vtrt" + bytes(100),
        "bad.engine.json": deep.encode(),
        "bad.rs": b"pub static CTC_CHARSET: [char; 3] = ['a', /* " * 200,
        "tall.png": _png(65_000, 1),
        "wide.png": _png(1, 65_000),
        "wider.png": _png(1, 300_000),
        "cut.png": _png(32, 300)[:60],
        "pages.tif": _tiff_pages(12_000),
        "million.pdf": _pdf(1_000_000, "0 0 200 100"),
        "huge.pdf": _pdf(1, "0 0 9000000 9000000"),
        "\x1b]0;title\x07.png": _png(32, 100),
        "line\nbreak.png": _png(32, 100),
        "-o.json": b"{}",
        "å" * 120 + ".png": _png(32, 100),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    line = np.full((32, 200, 3), 255, np.uint8)
    cv2.putText(line, "Rad 12", (5, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
    cv2.imwrite(str(folder / "line.png"), line)
    (folder / "line.gt.txt").write_text("Rad 12\n")
    (folder / "labels.tsv").write_text("line.png\tRad 12\n")
    shutil.copy(folder / "line.png", os.path.join(os.fsencode(folder), b"h\xe5r.png"))
    with open(folder / "sparse.json", "wb") as file:
        file.truncate(50 << 30)
    for suffix in ("json", "safetensors", "png", "xml", "txt", "onnx"):
        os.mkfifo(folder / f"fifo.{suffix}")
    for suffix in ("json", "png", "engine"):
        (folder / f"zero.{suffix}").symlink_to("/dev/zero")
    (folder / "fifo.lmdb").mkdir()
    os.mkfifo(folder / "fifo.lmdb" / "data.mdb")
    (folder / "fifos").mkdir()
    for suffix in ("png", "xml", "json", "tsv"):
        os.mkfifo(folder / "fifos" / f"page.{suffix}")
    (folder / "dangling.png").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "folder.json").mkdir()
    line_store(folder / "good.lmdb", 3)
    zeroed = line_store(folder / "zeroed.lmdb", 3) / "data.mdb"
    zeroed.write_bytes(zeroed.read_bytes()[:8192] + bytes(20_000))
    return sorted(folder.iterdir())


# F: a hostile file. O: an output. T: a text of an option.
_COMMANDS = (
    "predict F",
    "predict F --layout line --json",
    "predict F F --layout line --jsonl -o O",
    "predict line.png --layout line --format hocr -o O",
    "predict line.png --regions F",
    "predict line.png --layout line --model F",
    "predict line.png --layout line --decoder beam --char-lm F",
    "predict line.png --layout line --decoder beam --lexicon F",
    "eval F good.lmdb",
    "eval F",
    "eval F F -o O",
    "leaderboard F F",
    "profiles check F",
    "profiles show F --resolved",
    "prep F -o O -p svtrv2-nano",
    "prep F -o O -p F",
    "prep labels.tsv -o O -p svtrv2-nano --seed T",
    "prep labels.tsv -o O -p svtrv2-nano --set T",
    "prep labels.tsv -o O -p svtrv2-nano --val-split T",
    "synth -o O --count 2 --seed T",
    "synth -o O --count 1 --texts F",
    "synth -o O --count 1 --fonts F",
    "train --train F -p svtrv2-nano --check 1",
    "train --train good.lmdb -p F --check 1",
    "train --train good.lmdb -p svtrv2-nano --check 1 --seed T",
    "train --resume F",
    "contract show F",
    "contract verify F F",
    "contract attach F --contract F -o O.onnx",
    "contract seal F --dry-run",
    "consumer check F line.png",
    "consumer check F F",
    "charset check F",
    "charset show F",
    "charset text F",
    "data view F",
    "data stats F",
    "data verify F",
    "data merge F good.lmdb -o O",
    "export F -o O.onnx",
    "build-engine F --dry-run",
    "bench F --lines good.lmdb --rounds 1",
    "compare3way F --svtrv2 F --tess F",
    "promote F --gate T",
    "import F -o O.safetensors",
    "merge-lora F -o O",
    "runs F",
    "runs F F",
    "clean F --yes",
    "advise F",
)
_TEXTS = (
    "1" + "0" * 22,
    "-1",
    "nan",
    "1e400",
    "0",
    "",
    "train.lr=1e999",
    "train.seed=1" + "0" * 30,
    "model.dims=" + "[" * 500 + "]" * 500,
    "a.b.c=1",
    "\x1b[2J",
    "cer<",
    "exact>0.5",
    os.fsdecode(b"\xff\xfe"),
    "x" * 5000,
)


def command_line(folder: Path) -> Trial:
    """Every command with hostile files and option values: never a traceback, a signal or a hang."""
    _preload()
    pool = hostile_files(folder / "pool")
    log = folder / "log"
    device = folder / "pool" / "device"
    has_device = make_device(device)
    ready: list[bool] = []

    def word_of(word: str, rng: random.Random) -> object:
        if word == "F":
            return rng.choice(pool)
        if word == "T":
            return rng.choice(_TEXTS)
        if word.startswith("O"):
            names = (
                "out",
                "device",
                "folder.json",
                "loop",
                "folder.json/",
                "",
                "n" * 300,
                "a/b/out",
            )
            return folder / "pool" / (rng.choice(names) + word[1:])
        return folder / "pool" / word if "." in word and not word.startswith("-") else word

    def trial(number: int, rng: random.Random) -> Result:
        if not ready:
            isolate(folder / "home", log)
            ready.append(True)
        words = [word_of(word, rng) for word in _COMMANDS[number % len(_COMMANDS)].split()]
        if rng.random() < 0.2:
            words.append("--json")
        result = call([os.fsdecode(os.fsencode(str(word))) for word in words], log)
        if has_device:
            require_device(device, words)
        return result

    return trial


def bombs(folder: Path) -> Trial:
    """Small files that stand for gigabytes, and files that are none: refused or read in 20 s and
    within 300 MB more than a small page takes.
    """
    _preload()
    pool = folder / "bombs"
    pool.mkdir()
    small = pool / "small.png"
    log = folder / "log"
    small.write_bytes(_png(32, 200))
    for name, content in (
        ("square.png", _png(13_000, 13_000)),
        ("deep.png", _png(8000, 8000, bits=16)),
        ("wide.png", _png(32, 1_000_000)),
        ("tall.png", _png(1_000_000, 32)),
        ("large.png", _png(6000, 6000)),
        ("pages.pdf", _pdf(1_000_000, "0 0 612 792")),
        ("square.pdf", _pdf(1, "0 0 14400 14400")),
        ("pages.tif", _tiff_pages(12_000)),
        ("deep.json", b"[" * 2_000_000),
        ("wide.json", b"[" + b"[]," * 2_000_000 + b"[]]"),
        ("wide.xml", b"<alto>" + b"<a/>" * 2_000_000 + b"</alto>"),
        ("long.xml", _alto_of_one_line("x" * 3_000_000)),
        ("forms.pdf", _pdf_of_forms(12)),
        ("scans.jpg", _jpeg_of_scans(3000)),
        ("blank.webp", _blank_webp(6300)),
        ("zeros.zip", _zip_of_zeros(1500)),
        ("zeros.npz", _npz_of_zeros(500)),
    ):
        (pool / name).write_bytes(content)
    with open(pool / "sparse.png", "wb") as file:
        file.truncate(60 << 30)
    os.mkfifo(pool / "fifo")
    (pool / "zero").symlink_to("/dev/zero")
    inputs = [path for path in sorted(pool.iterdir()) if path != small]
    # What is added later comes last, so that the numbers of the other trials stay.
    for name, content in (
        ("repeated.pdf", _pdf_of_one_stream(200)),
        ("lengths.pdf", _pdf_of_run_lengths(400)),
        ("images.pdf", _pdf_of_images(40)),
    ):
        (pool / name).write_bytes(content)
        inputs.append(pool / name)
    ways: tuple[Callable[[Path], list[object]], ...] = (
        lambda path: ["predict", path, "--layout", "line"],
        lambda path: ["predict", path, "--layout", "page"],
        lambda path: ["predict", small, "--regions", path],
        lambda path: ["predict", small, "--layout", "line", "--model", path],
        lambda path: ["prep", path, "-o", folder / "out.lmdb", "-p", "svtrv2-nano"],
        lambda path: ["eval", path, path],
        lambda path: [
            *("predict", small, "--layout", "line", "--decoder", "language"),
            *("--char-lm", path),
        ],
    )
    base = run(["predict", small, "--layout", "page"], log).megabytes

    def trial(number: int, _: random.Random) -> Result:
        arguments = ways[number % len(ways)](inputs[number // len(ways) % len(inputs)])
        finished = run(arguments, log, _BOMB_STOPPED_AFTER_S)
        shown = " ".join(map(str, arguments))
        result = require_ended_well(finished, shown)
        if finished.megabytes > base + _BOMB_LIMIT_MB:
            raise WrongResult(f"{shown}: {finished.megabytes - base:.0f} MB over the base")
        if finished.processor_s > _BOMB_LIMIT_S:
            raise WrongResult(f"{shown}: {finished.processor_s:.0f} s")
        return result

    return trial


# Kills, full disks, two at once
# ----------------------------------------


@dataclass(frozen=True)
class _Job:
    """A command that writes `output`."""

    name: str
    arguments: tuple[object, ...]
    output: Path


def _jobs(folder: Path, target: Path) -> list[_Job]:
    """The commands that write something, each with its inputs made in `folder`."""
    lines = folder / "lines"
    # One family: the fonts of a machine take long to look at.
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    hostile = [folder / "best.safetensors", folder / "model.onnx"]
    if not lines.exists():
        lines.mkdir()
        rows = []
        for number in range(40):
            picture = np.random.default_rng(number).integers(
                0, 255, (32, 200, 3), dtype=np.uint8
            )
            cv2.imwrite(str(lines / f"{number}.png"), picture)
            rows.append(json.dumps({"image": f"{number}.png", "text": f"Rad {number}"}))
        (lines / "manifest.jsonl").write_text("\n".join(rows))
        tiny_weights(folder)
        tiny_onnx(folder)
        line_store(folder / "good.lmdb", 20)
        _page_of_lines(folder)
    weights, model = hostile
    store = folder / "good.lmdb"
    train = (
        "train",
        "-p",
        "svtrv2-nano",
        *_TINY,
        "--train",
        store,
        "--val",
        store,
        "--max-steps",
        "6",
    )
    return [
        _Job(
            "prep",
            ("prep", lines, "-o", target / "o.lmdb", "-p", "svtrv2-nano"),
            target / "o.lmdb",
        ),
        _Job(
            "synth",
            (
                *("synth", "-o", target / "s.lmdb", "--count", "12", "-p", "svtrv2-nano"),
                *("--fonts", fonts, "--workers", "1"),
            ),
            target / "s.lmdb",
        ),
        _Job(
            "train",
            (*train, "--run-dir", target / "run", "--device", "cpu"),
            target / "run",
        ),
        _Job(
            "export",
            ("export", weights, "--precision", "fp32", "-o", target / "m.onnx"),
            target / "m.onnx",
        ),
        _Job(
            "predict",
            (
                "predict",
                lines,
                "--model",
                model,
                "--layout",
                "line",
                "--json",
                "-o",
                target / "p.json",
            ),
            target / "p.json",
        ),
        _Job("eval", ("eval", model, store, "-o", target / "eval"), target / "eval"),
        _Job("merge", ("data", "merge", store, "-o", target / "d.lmdb"), target / "d.lmdb"),
        _Job(
            "compare3way",
            (
                *("compare3way", folder / "page.png", "--regions", folder / "page.json"),
                *("--svtrv2", folder / "page.json", "--tess", folder / "page.json"),
                *("-o", target / "compared.json"),
            ),
            target / "compared.json",
        ),
    ]


def _page_of_lines(folder: Path) -> None:
    """Write a page and a result of reading it."""
    page = np.full((400, 500, 3), 255, np.uint8)
    regions = []
    for number in range(6):
        top = 20 + 60 * number
        where = (20, top + 30)
        cv2.putText(page, f"Rad {number}", where, cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
        box = {"x": 10, "y": top, "width": 200, "height": 45}
        regions.append({"bbox": box, "text": f"Rad {number}", "confidence": 0.9})
    cv2.imwrite(str(folder / "page.png"), page)
    pages = [{"page_index": 0, "regions": regions}]
    (folder / "page.json").write_text(json.dumps({"pages": pages}))


def _require_complete(output: Path) -> None:
    """Raise WrongResult when something has the final name and is not complete."""
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.deploy.onnx_file import inspect_onnx
    from nordocr_cli.errors import NordocrError
    from nordocr_cli.models.weights import load_weights

    try:
        if output.suffix == ".lmdb" and output.exists():
            with LineStore(output) as store:
                store.images(range(len(store)))
        elif output.suffix == ".onnx" and output.exists():
            inspect_onnx(output)
        elif output.suffix == ".json" and output.exists():
            json.loads(output.read_text(encoding="utf-8"))
        elif output.is_dir():
            for path in output.rglob("*.safetensors"):
                if not path.name.startswith("."):
                    load_weights(path)
            for path in output.rglob("*.json"):
                if not path.name.startswith("."):
                    json.loads(path.read_text(encoding="utf-8"))
    except (NordocrError, ValueError) as error:
        raise WrongResult(f"{output} is not complete: {error}") from error


def kills(folder: Path) -> Trial:
    """SIGKILL at any moment: what has its final name is complete, and the next run of the same
    command removes what the killed one left.
    """
    _preload()
    target = folder / "target"
    target.mkdir()
    jobs = _jobs(folder, target)
    log = folder / "log"
    seconds: dict[str, float] = {}

    def clear() -> None:
        # A killed command may have left processes that still write.
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(exist_ok=True)

    def trial(number: int, rng: random.Random) -> Result:
        job = jobs[number % len(jobs)]
        if job.name not in seconds:
            clear()
            finished = run(job.arguments, log)
            require_ended_well(finished, job.name, allowed=(0,))
            seconds[job.name] = finished.seconds
        clear()
        child = start(job.arguments, log)
        time.sleep(rng.uniform(0, seconds[job.name]))
        os.killpg(child, signal.SIGKILL) if _in_own_group(child) else os.kill(
            child, signal.SIGKILL
        )
        os.waitpid(child, 0)
        _require_complete(job.output)
        if job.name == "train":
            return "accepted"  # a run folder is resumed, not written again

        require_ended_well(
            run(job.arguments, log), f"{job.name} after a kill", allowed=(0,)
        )
        _require_complete(job.output)
        left = [path.name for path in target.iterdir() if path.name.startswith(".")]
        if left:
            raise WrongResult(f"{job.name}: the next run left {left}")
        return "accepted"

    return trial


def _in_own_group(child: int) -> bool:
    try:
        return os.getpgid(child) == child
    except ProcessLookupError:
        return False


def full_disk(folder: Path) -> Trial:
    """A disk with few bytes free (a small tmpfs): exit 0 or 3, and nothing incomplete under the
    final name. Without the right to mount, a limit on the size of files stands for the disk.
    """
    _preload()
    target = Path(tempfile.mkdtemp(prefix="nordocr-disk-"))
    mounted = _mount(target)
    jobs = _jobs(folder, target)
    log = folder / "log"

    def trial(number: int, rng: random.Random) -> Result:
        if not mounted:
            raise WrongResult(
                "no tmpfs could be mounted: run the campaign as root in a container"
            )
        for path in target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        status = os.statvfs(target)
        room = status.f_bavail * status.f_bsize
        free = rng.choice([0, 1, 4096, rng.randrange(100_000), rng.randrange(2_000_000)])
        with open(target / "filler", "wb") as filler:
            filler.write(bytes(max(0, room - free)))
        job = jobs[number % len(jobs)]
        result = require_ended_well(
            run(job.arguments, log), f"{job.name} with {free} bytes free", allowed=(0, 3)
        )
        if result == "accepted":
            _require_complete(job.output)
        return result

    return trial


def _mount(target: Path) -> bool:
    """Mount a tmpfs of 4 MB, which is unmounted when this process ends."""
    import atexit

    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(target)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    if done.returncode:
        return False
    owner = os.getpid()

    def unmount() -> None:
        if os.getpid() == owner:
            subprocess.run(["umount", "-l", str(target)], capture_output=True, check=False)
            target.rmdir()

    atexit.register(unmount)
    return True


def two_at_once(folder: Path) -> Trial:
    """Two processes with one output: no line is mixed or lost without an error."""
    _preload()
    target = folder / "target"
    target.mkdir()
    predict = next(job for job in _jobs(folder, target) if job.name == "predict").arguments
    output = target / "out.jsonl"
    words = ["--jsonl" if word == "--json" else word for word in predict[:-1]]
    lines = len(list((folder / "lines").glob("*.png")))

    def trial(_: int, rng: random.Random) -> Result:
        shutil.rmtree(target)
        target.mkdir()
        logs = [folder / "log-a", folder / "log-b"]
        children = []
        for log in logs:
            children.append(start([*words, output], log))
            time.sleep(rng.uniform(0, 0.5))
        ends = [wait(child, log) for child, log in zip(children, logs, strict=True)]
        for finished in ends:
            require_ended_well(finished, "predict --jsonl twice", allowed=(0, 2))
        if not any(finished.code == 0 for finished in ends):
            raise WrongResult("neither of two processes wrote its output")
        rows = [json.loads(row) for row in output.read_text(encoding="utf-8").splitlines()]
        if len({row["image"] for row in rows}) != lines or len(rows) != lines:
            raise WrongResult(f"{len(rows)} rows of {lines} images")
        return "accepted"

    return trial


KINDS = (
    Kind("commands", "commands with hostile files and options", 5000, command_line, 240),
    Kind("bombs", "bombs and special files, within 300 MB and 20 s", 161, bombs, 400),
    Kind("kills", "commands killed at any moment, then run again", 800, kills, 3000),
    Kind("disk", "commands on a full disk", 300, full_disk, 1000),
    Kind("two", "two processes with one output", 50, two_at_once, 2000),
)
