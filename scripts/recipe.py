#!/usr/bin/env python3
"""From texts and fonts to the recognizer that ships: render lines, train, calibrate, cut the head
to `nordic`, export.

python scripts/recipe.py --texts corpus --fonts fonts.tsv -o recipe python scripts/recipe.py --texts
corpus --fonts fonts.tsv -o big --profile svtrv2-1024 --lines 5000000 --epochs 4

Every step is the `nordocr` command that it prints. Call it again after an interruption: what is
done is kept, and training goes on where it stopped.
"""

import argparse
import subprocess
import sys
from pathlib import Path

VAL_SEED, TRAIN_SEED = 1000, 1


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
    parser.add_argument(
        "--texts", required=True, type=Path, help="folder of LANGUAGE.NAME.txt, one phrase a line"
    )
    parser.add_argument(
        "--fonts", required=True, type=Path, help="folder of fonts, or a list of them (TSV)"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, help="folder of stores, run and models"
    )
    parser.add_argument("--profile", default="default")
    parser.add_argument(
        "--lines",
        type=int,
        default=500_000,
        help="lines rendered for training (default: %(default)s)",
    )
    parser.add_argument(
        "--epochs", type=int, default=1, help="how often each is seen (default: %(default)s)"
    )
    parser.add_argument("--load", help="begin with these weights, e.g. nordocr-default-ext")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that render (default: %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the steps that are not done yet."""
    wanted = arguments()
    out: Path = wanted.output
    out.mkdir(parents=True, exist_ok=True)
    profile = ("--profile", wanted.profile, "--set", "charset=nordic-ext")
    for name, count, seed in (("val", 1000, VAL_SEED), ("train", wanted.lines, TRAIN_SEED)):
        if not (out / f"{name}.lmdb").exists():
            nordocr(
                *(
                    "synth",
                    "-o",
                    out / f"{name}.lmdb",
                    "--count",
                    str(count),
                    "--seed",
                    str(seed),
                    *profile,
                ),
                *(
                    "--texts",
                    wanted.texts,
                    "--fonts",
                    wanted.fonts,
                    "--workers",
                    str(wanted.workers),
                ),
            )
    run = out / "run"
    if (run / "state.pt").exists():
        nordocr("train", "--resume", run, "--save-fp16")
    else:
        load = ("--load", wanted.load, "--move-head") if wanted.load else ()
        nordocr(
            *("train", *profile, "--set", f"train.epochs={wanted.epochs}", *load, "--save-fp16"),
            *("--train", out / "train.lmdb", "--val", out / "val.lmdb", "--run-dir", run),
        )
    wide, narrow = out / "model-ext.safetensors", out / "model.safetensors"
    nordocr("contract", "calibrate", run / "best.fp16.safetensors", out / "val.lmdb", "-o", wide)
    nordocr("charset", "move", wide, "--to", "nordic", "-o", narrow)
    for weights in (wide, narrow):
        int8 = ("--int8", "--calibration", out / "val.lmdb")
        nordocr("export", weights, "--precision", "fp32", *int8, "-o", weights.with_suffix(".onnx"))


if __name__ == "__main__":
    main()
