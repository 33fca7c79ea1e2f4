#!/usr/bin/env python3
"""From texts, fonts and real lines to the recognizer that ships: render, prepare, train, calibrate,
cut the head to `nordic`, export.

python scripts/recipe.py --texts corpus --fonts fonts.tsv -o recipe
python scripts/recipe.py --texts corpus --fonts fonts.tsv --real typed/manifest.jsonl \
    --real printed/manifest.jsonl --load nordocr-default-ext -o recipe
python scripts/recipe.py --texts corpus --fonts fonts.tsv -o big --profile svtrv2-1024 \
    --lines 5000000 --epochs 4

Every step is the `nordocr` command that it prints. Call it again after an interruption: what is
done is kept, and training goes on where it stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

VAL_SEED = 1000
TRAIN_SEED = 1
BLANK_SHARE = 0.03  # of the rendered lines
REAL_VAL_SHARE = 0.06  # of the real lines, by document
REAL_SHARE = 0.5  # of the lines that training shows


def nordocr(*arguments: "str | Path") -> None:
    """Run one command, shown as typed; end with its exit code when it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ nordocr {' '.join(words)}", flush=True)
    code = subprocess.call([sys.executable, "-m", "nordocr_cli", *words])
    if code:
        sys.exit(code)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--texts",
        required=True,
        type=Path,
        help="folder of LANGUAGE.NAME.txt, a phrase a line",
    )
    add(
        "--fonts", required=True, type=Path, help="folder of fonts, or a list of them (TSV)"
    )
    add(
        "--real",
        action="append",
        default=[],
        metavar="MANIFEST",
        help="real lines; repeatable",
    )
    add("-o", "--output", required=True, type=Path, help="folder of stores, run and models")
    add("--profile", default="default")
    add("--lines", type=int, default=500_000, help="lines to render (default: %(default)s)")
    add(
        "--val-lines",
        type=int,
        default=1000,
        help="lines to render for validation (default: %(default)s)",
    )
    add(
        "--epochs",
        type=int,
        default=1,
        help="how often each is seen (default: %(default)s)",
    )
    add("--minutes", type=float, help="train so long instead of --epochs")
    add("--load", help="begin with these weights, e.g. nordocr-default-ext")
    add(
        "--workers",
        type=int,
        default=2,
        help="processes that render (default: %(default)s)",
    )
    return parser.parse_args()


def render(args: argparse.Namespace, profile: tuple[str, ...]) -> None:
    """Render the validation store and the training store."""
    sizes = (("val", args.val_lines, VAL_SEED), ("train", args.lines, TRAIN_SEED))
    for name, count, seed in sizes:
        store = args.output / f"{name}.lmdb"
        if store.exists():
            continue
        sources = ("--texts", args.texts, "--fonts", args.fonts)
        amount = ("--count", str(count), "--seed", str(seed), "--blank", str(BLANK_SHARE))
        nordocr(
            "synth",
            "-o",
            store,
            *amount,
            *sources,
            *profile,
            "--workers",
            str(args.workers),
        )


def prepare(args: argparse.Namespace, profile: tuple[str, ...]) -> Path:
    """Prepare the real lines, split by document; return the store that judges and calibrates."""
    out: Path = args.output
    if not args.real:
        return out / "val.lmdb"
    skip = ("--oov", "skip", "--on-bad", "skip")
    if not (out / "real.lmdb").exists():
        split = ("--val-split", str(REAL_VAL_SHARE))
        nordocr("prep", *args.real, "-o", out / "real.lmdb", *split, *skip, *profile)
    both = out / "val_all.lmdb"
    if not both.exists():
        parts = (f"real={out / 'real_val.lmdb'}", f"rendered={out / 'val.lmdb'}")
        nordocr("prep", *parts, "-o", both, "--keep-empty", *skip, *profile)
    return both


def train(args: argparse.Namespace, profile: tuple[str, ...], val: Path) -> Path:
    """Train, or go on with a training that stopped; return the run's folder."""
    out: Path = args.output
    run = out / "run"
    if (run / "state.pt").exists():
        nordocr("train", "--resume", run, "--save-fp16")
        return run
    load = ("--load", args.load, "--move-head") if args.load else ()
    stores: tuple[str | Path, ...] = ("--train", out / "train.lmdb")
    if args.real:
        rendered = out / f"train.lmdb={1 - REAL_SHARE}"
        real = out / f"real.lmdb={REAL_SHARE}"
        stores = ("--train", rendered, "--train", real)
    amount = ("--max-minutes", str(args.minutes)) if args.minutes else ()
    epochs = ("--set", f"train.epochs={args.epochs}")
    files = (*stores, "--val", val, "--run-dir", run, "--save-fp16")
    nordocr("train", *profile, *epochs, *amount, *load, *files)
    return run


def main() -> None:
    """Run the steps that are not done yet."""
    args = arguments()
    out: Path = args.output
    out.mkdir(parents=True, exist_ok=True)
    profile = ("--profile", args.profile, "--set", "charset=nordic-ext")
    render(args, profile)
    val = prepare(args, profile)
    run = train(args, profile, val)
    wide = out / "model-ext.safetensors"
    narrow = out / "model.safetensors"
    nordocr("contract", "calibrate", run / "best.fp16.safetensors", val, "-o", wide)
    nordocr("charset", "move", wide, "--to", "nordic", "-o", narrow)
    for weights in (wide, narrow):
        int8 = ("--int8", "--calibration", val)
        onnx = weights.with_suffix(".onnx")
        nordocr("export", weights, "--precision", "fp32", *int8, "-o", onnx)


if __name__ == "__main__":
    main()
