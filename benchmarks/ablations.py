#!/usr/bin/env python3
"""What does each part of the recipe buy? The same short training with one part left out at a time.

    python benchmarks/ablations.py --texts corpus --fonts fonts.tsv -o ablations --load early-run
        the saved result
    python benchmarks/ablations.py … --lines 2000 --only full,fonts
        a first look

Every variant renders its own lines and trains the same network on them for one epoch, from nothing
or from the weights of `--load` (an early run of the recipe: then the table says what is lost when
training goes on without the part), and reads the same lines: in font families that no variant
trained on here (every sixth), with all the damage, widths and resamplers. What is done is kept in
the folder; call it again after an interruption.
"""

import argparse
import csv
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli import atomic
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import NORDIC
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.metrics.significance import compare_pairs
from nordocr_cli.profile import load_profile
from nordocr_cli.runtime.stopwatch import measurement_environment
from nordocr_cli.settings import Augment

RESULTS = Path(__file__).parent / "results"
WIDEST = 640  # pixels: lines of this study; the recipe's own go to 1792
GEOMETRY = ("--profile", "svtrv2-nano", "--set", f"geometry.max_width={WIDEST}")
PADDING = 320
AUGMENTATIONS = tuple(name for name in Augment.model_fields if not name.startswith("max_"))


def _off(*names: str) -> tuple[str, ...]:
    return tuple(word for name in names for word in ("--set", f"augment.{name}=0"))


# name: (what is different, options of synth, options of train). `{fonts}` is the list without the
# held-out families.
VARIANTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "full": ("nothing: the recipe", (), ()),
    "texts": ("built-in texts alone, no corpus", ("--texts", ""), ()),
    "fonts": ("a twelfth of the font families", ("--fonts", "{few_fonts}"), ()),
    "damage": ("clean lines, no scan damage", ("--damage", "clean"), ()),
    "resamplers": ("one resampler", ("--no-mix-resamplers",), ()),
    "long": ("no line over 256 px", ("--set", "geometry.max_width=256"), ()),
    "augmentation": ("nothing changed on the fly", (), _off(*AUGMENTATIONS)),
    "crop": ("no crop jitter on the fly", (), _off("crop")),
    "padding": ("no visible padding in training", (), _off("pad_right")),
    "ema": (
        "the last weights instead of their average",
        (),
        ("--set", "train.ema_decay=0"),
    ),
}
# name: options of synth for the lines that every variant reads.
READ: dict[str, tuple[str, ...]] = {
    "all": (),
    "clean": ("--damage", "clean"),
    "one_bit": ("--damage", "bilevel", "--damage", "fax"),
}


def nordocr(*words: "str | Path", into: "Path | None" = None) -> None:
    """Run one command; its standard output goes to the file `into` where given."""
    command = [sys.executable, "-m", "nordocr_cli", *map(str, words)]
    print("$ nordocr", *command[3:], flush=True)
    done = subprocess.run(command, stdout=subprocess.PIPE if into else None, check=True)
    if into:
        into.write_bytes(done.stdout)


def split_fonts(source: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Write three lists: families to train on, a twelfth of them, and those held out (every sixth
    family of `source`).
    """
    with open(source, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    families = sorted({row["family"] for row in rows})
    held = set(families[::6])
    few = set([family for family in families if family not in held][::12])
    lists = {
        "train": [row for row in rows if row["family"] not in held],
        "few": [row for row in rows if row["family"] in few],
        "held": [row for row in rows if row["family"] in held],
    }
    for name, kept in lists.items():
        with open(folder / f"{name}.tsv", "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t")
            writer.writeheader()
            writer.writerows(kept)
    return folder / "train.tsv", folder / "few.tsv", folder / "held.tsv"


def overridden(base: dict[str, str], words: tuple[str, ...], few: Path) -> list[str]:
    """Options `base`, overridden by `words`; an option whose value is "" is left out."""
    flags, rest = dict(base), []
    for name, value in zip(words[::2], words[1::2], strict=False):
        if name in flags:
            flags[name] = value.format(few_fonts=few)
        else:
            rest += [name, value]
    rest += [words[-1]] if len(words) % 2 else []
    return [word for name, value in flags.items() if value for word in (name, value)] + rest


def write_padded(source: Path, target: Path) -> None:
    """Copy a line store with 320 px of white next to every line: what a host without masks shows
    the network in a batch.
    """
    with LineStore(source) as lines:
        geometry = replace(lines.header.geometry, max_width=WIDEST + PADDING)
        with LineStoreWriter(
            target, geometry, NORDIC, made={"command": "ablations: padded"}
        ) as writer:
            for index in range(len(lines)):
                line = lines.image(index)  # (height, w, 3)
                writer.add(
                    np.pad(
                        line,
                        ((0, 0), (0, PADDING), (0, 0)),
                        constant_values=geometry.pad_value,
                    ),
                    lines.row(index),
                )


def figures(path: Path, full: Path) -> dict[str, Any]:
    """Counts, CER and interval out of an eval result; and against `full`, the result of the
    complete recipe on the same lines.
    """
    report = json.loads(path.read_text(encoding="utf-8"))["report"]
    total = report["total"]
    return {
        "lines": total["lines"],
        "exact": total["lines"] - total["failures"],
        "cer": total["rates"]["cer"],
        "cer_interval": [total["intervals"]["cer"][end] for end in ("low", "high")],
        **({} if path == full else {"against_full": difference(full, path)}),
    }


def difference(full: Path, other: Path) -> dict[str, Any]:
    """What leaving the part out changed, line by line: CER difference (positive = worse without it)
    and lines gained and lost.
    """
    a, b = (
        [
            json.loads(line)
            for line in path.with_suffix(".lines.jsonl")
            .read_text(encoding="utf-8")
            .splitlines()
        ]
        for path in (full, other)
    )
    if [line["id"] for line in a] != [line["id"] for line in b]:
        raise SystemExit(f"{other} was not read on the lines of {full}")
    found = compare_pairs(
        *([line["edits"] for line in lines] for lines in (a, b)),
        [line["characters"] for line in a],
        *([line["class"] == "exact" for line in lines] for lines in (a, b)),
    )
    gap = found.cer_difference
    return {
        "cer": None
        if found.cer_a is None or found.cer_b is None
        else found.cer_b - found.cer_a,
        "cer_interval": None if gap is None else [gap.low, gap.high],
        "lost": found.only_a_exact,
        "gained": found.only_b_exact,
        "verdict": found.verdict,
    }


def main() -> None:
    """Run the variants that are not done and save the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", required=True)
    parser.add_argument("--fonts", required=True, type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--lines", type=int, default=24_000)
    parser.add_argument(
        "--read", type=int, default=800, help="lines of each kind that every variant reads"
    )
    parser.add_argument("--only", help="variants, comma-separated")
    parser.add_argument(
        "--load",
        help="weights to begin with; from nothing it takes 30,000 lines to learn to read",
    )
    parser.add_argument("--lr", default="1.5e-3")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    train_fonts, few, held = split_fonts(args.fonts, args.output)

    render_stores_to_read(args, held)
    rows = {}
    for name in args.only.split(",") if args.only else VARIANTS:
        what, synth, options = VARIANTS[name]
        store = render_training_store(
            args, name if synth else "full", synth, train_fonts, few
        )
        train(args, name, store, options)
        rows[name] = {"without": what} | results(args.output, name)
        print(name, json.dumps(rows[name]), flush=True)
    if not args.only:
        save_variants(args, rows)


def render_stores_to_read(args: argparse.Namespace, fonts: Path) -> None:
    """Render the lines that every variant reads, once."""
    out: Path = args.output
    for name, options in READ.items():
        store = out / f"read-{name}.lmdb"
        if store.exists():
            continue
        nordocr(
            *("synth", "-q", "-o", store, "--count", str(args.read), "--seed", "7000"),
            *GEOMETRY,
            *("--texts", args.texts, "--fonts", fonts, "--workers", "1"),
            *options,
        )
    if not (out / "read-padded.lmdb").exists():
        write_padded(out / "read-all.lmdb", out / "read-padded.lmdb")


def render_training_store(
    args: argparse.Namespace, name: str, synth: tuple[str, ...], fonts: Path, few: Path
) -> Path:
    """Render the training lines of a variant, once, and return their store."""
    store: Path = args.output / f"{name}.lmdb"
    if not store.exists():
        base = {"--texts": args.texts, "--fonts": str(fonts)}
        nordocr(
            *("synth", "-q", "-o", store, "--count", args.lines, "--seed", "1"),
            *GEOMETRY,
            *("--workers", "1"),
            *overridden(base, synth, few),
        )
    return store


def train(
    args: argparse.Namespace, name: str, store: Path, options: tuple[str, ...]
) -> None:
    """Train a variant, once."""
    out: Path = args.output
    run = out / name
    if (run / "best.safetensors").exists():
        return
    settings = (
        "train.batch_size=32",
        "train.ema_decay=0.995",
        f"train.lr={args.lr}",
        "train.eval_every=100000",
    )
    sets = [word for setting in settings for word in ("--set", setting)]
    nordocr(
        *("train", "-q", *GEOMETRY, "--threads", str(args.threads)),
        *("--train", store, "--val", out / "read-all.lmdb", "--run-dir", run),
        *sets,
        *options,
        *(("--load", args.load) if args.load else ()),
    )


def results(out: Path, name: str) -> dict[str, Any]:
    """Read the lines with a variant, once, and return its figures by kind of lines."""
    found = {}
    for kind in (*READ, "padded"):
        result = out / f"{name}-{kind}.json"
        if not result.exists():
            weights, store = out / name / "last.safetensors", out / f"read-{kind}.lmdb"
            nordocr("eval", "-q", weights, store, "-o", result, into=out / "shown.txt")
        found[kind] = figures(result, out / f"full-{kind}.json")
    return found


def save_variants(args: argparse.Namespace, rows: dict[str, Any]) -> None:
    """Write the saved result."""
    began_with = None
    if args.load:
        began_with = atomic.sha256_of(find_weights(Path(args.load)))
    saved = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": (
            f"python benchmarks/ablations.py --lines {args.lines} --read {args.read}"
        ),
        "network": dict(load_profile("svtrv2-nano").profile.model),
        "lines": args.lines,
        "began_with": began_with,
        "widest_px": WIDEST,
        "environment": measurement_environment(args.threads),
        "variants": rows,
    }
    text = json.dumps(saved, indent=1, ensure_ascii=False) + "\n"
    atomic.write_text(RESULTS / "ablations.json", text)


if __name__ == "__main__":
    main()
