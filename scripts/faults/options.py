"""Every command with generated arguments and options: never a traceback, a signal or a hang.

The command lines come from the command tree itself, so that a new command or option is tried
without a change here. They run in one process after the other, without a new interpreter or fork
for each: a few hundredths of a second instead of seconds. Nothing is done over a network, and the
home folder is a temporary one.
"""

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np

from .artifacts import line_store, tiny_onnx
from .commands import _TEXTS, _preload, _tiff_pages, hostile_files, run
from .trials import Kind, Result, Trial
from .warm import call, isolate, make_device, require_device

# Of the values of a command line: some are all good, so that they get far; some nearly so.
_BAD_SHARES = (0.0, 0.15, 0.15, 0.5)
_OUTPUTS = (
    *(
        "output",
        "run_dir",
        "report",
        "plot",
        "sheet",
        "target",
        "lr_range",
        "preview_batch",
    ),
    *(
        "corrections",
        "cache_dir",
        "timing_cache",
        "consumer_config",
        "vlm_cache",
        "answers",
    ),
    "adjudicate",
)
_OUTPUT_NAMES = (
    "out",
    "out.lmdb",
    "out.onnx",
    "out.json",
    "device",
    "folder.json",
    "loop",
)
_OUTPUT_NAMES += ("", "n" * 300, "a/b/out", "\x1b[2J")
# Values that ask for much work are valid: a campaign does not wait for them.
_WORK = ("count", "rounds", "minutes", "max_minutes", "max_steps", "check", "overfit")
_WORK += (
    "interval_s",
    "golden",
    "check_lines",
    "single_lines",
    "lines",
    "ask",
    "worst",
    "crops",
)
_SMALL = ("-1", "0", "1", "2", "x", "")
_NUMBERS = (
    "7",
    "1.5",
    "nan",
    "inf",
    "-0",
    "1e400",
    "1" + "0" * 22,
    str(2**63),
    "1_000",
    "٣",
)
# Such a command would not end by itself, or would reach out.
_ALWAYS = {
    "serve": ("--dry-run",),
    "watch": ("--once",),
    "data fetch": ("--dry-run",),
    "train": ("--max-steps", "1"),
    "finetune": ("--max-steps", "1", "--minutes", "0.1"),
    "adapt": ("--max-steps", "1", "--minutes", "0.1", "--rounds", "1"),
    # With fonts of its own: the first search of a home folder looks at all of the machine.
    "synth": ("--count", "2", "--fonts", "GOOD/fonts"),
    "bench": ("--rounds", "1"),
}
_NEVER = ("engine_code", "gpus", "wandb", "vlm_url", "train", "on_train")
_NEVER += ("compiled",)  # a compiler works for a minute; nothing of it comes from a user
# Good values of options that are texts, so that what comes after them is reached.
_WORDS = {
    "profile": ("svtrv2-nano", "mamba-320", "trocr-lora", "svtr-32x128"),
    "device": ("cpu", "cuda", "cpu:0", "auto"),
    "layout": ("line", "page", "auto"),
    "decoder": ("auto", "greedy", "language", "beam", "as-served"),
    "precision": ("fp32", "int8", "fp16"),
    "language": ("sv", "is", "deu"),
    "languages": ("sv", "is"),
    "by": ("language", "subset", "width", "corpus", "language,subset"),
    "fail_if": ("cer>0.5", "exact<0.1"),
    "gate": ("cer<=0.5", "exact>=0.1"),
    "charset": ("nordic", "nordic-ext"),
    "name": ("nordic", "svtrv2-nano", "nordocr-default", "tapuscorpus"),
    "to": ("nordic-ext",),
    "sets": ("train.lr=3e-4", "geometry.max_width=320", "model.dims=[24, 48, 64]"),
    "arch": ("sm86", "sm120"),
    "kind": ("scan", "print"),
    "wide": ("tiles", "squash", "auto"),
    "batch_size": ("auto", "4"),
    "image_key": ("image", "bild"),
    "text_key": ("text", "rad"),
}
# Good files of parameters, by what they are called; others get any file.
_MODELS = ("best.safetensors", "model.onnx")
_STORES = ("lines.lmdb", "good.lmdb")
_PICTURES = ("line.png", "page.png", "pages.tif")
_LINES = ("labels.tsv", "good.lmdb", "result.jsonl", "read.json", "read.xml")
_FILES = {
    **dict.fromkeys(
        ("model", "weights", "checkpoint", "load", "models", "champion"), _MODELS
    ),
    **dict.fromkeys(("a", "b", "artifacts", "run"), _MODELS),
    **dict.fromkeys(
        ("store", "stores", "train_stores", "val_stores", "lines", "on"), _STORES
    ),
    **dict.fromkeys(("calibration", "check_store", "golden_lines", "against"), _STORES),
    **dict.fromkeys(("inputs", "document", "doc", "scans", "source"), _PICTURES),
    **dict.fromkeys(("sources", "data", "val", "labelled"), _LINES),
    **dict.fromkeys(
        ("regions", "svtrv2", "tess", "third", "truth"), ("read.json", "read.xml")
    ),
    **dict.fromkeys(("results", "baseline"), ("eval/eval.json", "read.json")),
    **dict.fromkeys(("texts", "text", "lexicon", "char_lm"), ("texts.txt",)),
    "contract": ("model.contract.json",),
    "fonts": ("fonts",),
}


def leaves(
    command: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) for every command below `command`."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


class Generator:
    """Makes command lines from the command tree, with files of `good` and `hostile`."""

    def __init__(
        self, good: Sequence[Path], hostile: Sequence[Path], outputs: Path
    ) -> None:
        from nordocr_cli.app import app
        from nordocr_cli.help_text import build_command_tree

        self.commands = list(leaves(build_command_tree(app)))
        self.folder = good
        self.good = sorted(good.iterdir())
        self.hostile = list(hostile)
        self.outputs = outputs
        self.bad_share = 0.0

    def line(self, number: int, rng: random.Random) -> list[str]:
        """Return the words of one command line."""
        path, command = self.commands[number % len(self.commands)]
        self.bad_share = rng.choice(_BAD_SHARES)
        always = _ALWAYS.get(" ".join(path), ())
        words = [*path, *(word.replace("GOOD", str(self.folder)) for word in always)]
        options = []
        for parameter in command.params:
            if parameter.name in _NEVER:
                continue
            if parameter.param_type_name == "argument":
                words += self._argument(parameter, rng)
            elif parameter.required or rng.random() < 2.5 / len(command.params):
                options += self._option(parameter, rng)
        if rng.random() < 0.1:
            options.append("--json")
        return words + options

    def _argument(self, parameter: Any, rng: random.Random) -> list[str]:
        if not parameter.required and rng.random() < 0.5:
            return []
        count = 1 if parameter.nargs == 1 else rng.choice((1, 1, 2))
        return [self._value(parameter, rng) for _ in range(count)]

    def _option(self, parameter: Any, rng: random.Random) -> list[str]:
        name = rng.choice(parameter.opts + parameter.secondary_opts)
        if parameter.is_flag or parameter.count:
            return [name]
        return [
            name,
            *(self._value(parameter, rng) for _ in range(max(1, parameter.nargs))),
        ]

    def _value(self, parameter: Any, rng: random.Random) -> str:
        good = rng.random() >= self.bad_share
        described = parameter.type_descriptor
        if described.is_choice:
            return str(rng.choice(described.choices)) if good else rng.choice(_TEXTS)

        kind = parameter.bare_type()
        if parameter.name in _OUTPUTS:
            return str(self.outputs / rng.choice(_OUTPUT_NAMES))
        if good and parameter.name in _FILES:
            return str(self.folder / rng.choice(_FILES[parameter.name]))
        if "Path" in kind:
            return self._file(good, rng)
        if kind in ("int", "float"):
            return rng.choice(_SMALL if parameter.name in _WORK else _SMALL + _NUMBERS)
        if good and parameter.name in _WORDS:
            return rng.choice(_WORDS[parameter.name])
        if good:
            return self._file(good, rng)
        return rng.choice((*_TEXTS, f"name={self._file(good, rng)}", self._file(good, rng)))

    def _file(self, good: bool, rng: random.Random) -> str:
        return os.fsdecode(rng.choice(self.good if good else self.hostile))


def make_good_files(folder: Path, log: Path) -> None:
    """Make files that the commands read: models, stores, lines, a page, results."""
    folder.mkdir()
    model = tiny_onnx(folder)
    line_store(folder / "lines.lmdb", 4)
    line_store(folder / "good.lmdb", 3)
    (folder / "result.jsonl").write_text(
        '{"id": "line-0", "ref": "Rad 0", "hyp": "Rad 0"}\n'
    )
    (folder / "texts.txt").write_text("Summa kassaflöde 1 234,50\n")
    (folder / "labels.tsv").write_text("line.png\tRad 12\n")
    (folder / "pages.tif").write_bytes(_tiff_pages(3))
    (folder / "fonts").mkdir()
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    shutil.copy(font, folder / "fonts")
    page = np.full((500, 400, 3), 255, np.uint8)
    for top in (60, 120):
        where = (20, top)
        cv2.putText(page, "Rad 12", where, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2)
    cv2.imwrite(str(folder / "page.png"), page)
    cv2.imwrite(str(folder / "line.png"), page[25:70, 10:200])
    for form, name in (("json", "read.json"), ("page", "read.xml")):
        words = ["read", folder / "page.png", "--layout", "page", "--model", model]
        run([*words, "--format", form, "-o", folder / name], log)
    run(["eval", model, folder / "lines.lmdb", "-o", folder / "eval"], log)


def generated(folder: Path) -> Trial:
    """One generated command line after the other, in this process."""
    _preload()
    pool = folder / "pool"
    outputs = folder / "outputs"
    log = folder / "log"
    make_good_files(folder / "good", log)
    generator = Generator(folder / "good", hostile_files(pool), outputs)
    ready: list[bool] = []

    def trial(number: int, rng: random.Random) -> Result:
        if not ready:
            isolate(folder / "home", log)
            ready.append(True)
        shutil.rmtree(outputs, ignore_errors=True)
        (outputs / "folder.json").mkdir(parents=True)
        (outputs / "loop").symlink_to(outputs / "loop")
        has_device = make_device(outputs / "device")
        os.chdir(outputs)
        words = generator.line(number, rng)
        result = call(words, log)
        if has_device:
            require_device(outputs / "device", words)
        return result

    return trial


KINDS = (
    Kind(
        "options",
        "generated command lines of every command",
        5000,
        generated,
        limit_s=240.0,
    ),
)
