#!/usr/bin/env python3
"""From image files to text: lines a second of `predict` on each of its run times, of its stages,
and of others, in one run.

    python benchmarks/inference.py                                            # the samples, the
        network that ships
    python benchmarks/inference.py lines/manifest.jsonl --weights runs/mine -o inference.json
    python benchmarks/inference.py --peer openocr='python tools/infer_rec.py -c svtrv2.yml -o
        Global.infer_list={images}'

Every round visits every contestant, the first one goes last in the next; rates are medians of the
rounds. Opening a model is not counted, nor importing torch; a peer's command is timed as it stands,
start included.

| measured | what it is |
|---|---|
| paths | files → text: predict on torch (fp32, bf16), ONNX Runtime (fp32, in-graph argmax, int8),
    Tesseract (library, program; its best models where NORDOCR_TESSDATA_BEST names their
    folder), PP-OCR where `rapidocr` is installed |
| stages | what predict does, one thing after the other, on one thread; all but the network is asked
    to cost under 10 % of it |
| network | the same batches through a bare session, and through OpenVINO where it is installed |
| decode | CTC decoding of 64 lines of 256 frames, to texts and to more, next to a bare argmax of
    the same logits |
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, Literal
from unittest.mock import patch

import numpy as np

from nordocr_cli import atomic
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import DEFAULT_MODEL, SHIPPED
from nordocr_cli.core.adapt.engines import PpocrRecognizer
from nordocr_cli.core.export.plan import ExportOptions, plan_export
from nordocr_cli.core.export.run import export
from nordocr_cli.core.predict.run import predict
from nordocr_cli.data.resize import network_input, pad_batch, read_image, resize_line
from nordocr_cli.decode.ctc import Readings, decode_greedy
from nordocr_cli.runtime.backends.tesseract.engine import (
    find_best_tesseract,
    find_tesseract,
)
from nordocr_cli.runtime.recognizers import RunnerRecognizer
from nordocr_cli.runtime.runners import open_runner
from nordocr_cli.runtime.stopwatch import measurement_environment
from nordocr_cli.variables import TESSDATA_BEST

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples" / "lines" / "manifest.jsonl"
DECODED = (64, 256)  # lines, frames
DECODED_IN_A_ROW = 10
DEFAULT_ROUNDS = 5

Contestants = dict[str, Callable[[], object]]


def timed(contestants: Contestants, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by the clock and of the processor (child processes included), one value a round."""
    seconds: dict[str, dict[str, list[float]]] = {
        name: {"clock": [], "processor": []} for name in contestants
    }
    names = list(contestants)
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            began, spent = time.perf_counter(), sum(os.times()[:4])
            contestants[name]()
            seconds[name]["clock"].append(round(time.perf_counter() - began, 4))
            seconds[name]["processor"].append(round(sum(os.times()[:4]) - spent, 4))
            print(
                f"round {number + 1}: {name} {seconds[name]['clock'][-1]:.3f} s", flush=True
            )
    return seconds


def rates(seconds: dict[str, dict[str, list[float]]], lines: int) -> dict[str, Any]:
    """Lines a second from the medians, by the clock and per second of one core."""
    return {
        name: {
            "lines_per_s": round(lines / median(of["clock"]), 1),
            "lines_per_core_s": round(lines / max(median(of["processor"]), 1e-9), 1),
            "seconds": of,
        }
        for name, of in seconds.items()
    }


class Reading:
    """predict over the same files again and again; the model is opened once a call, outside the
    time, and as if the package `without` were not installed.
    """

    def __init__(
        self,
        model: str,
        groups: dict[str, list[Path]],
        threads: int,
        precision: Literal["fp32", "bf16"] = "fp32",
        without: str = "",
    ):
        self.model, self.groups, self.threads, self.precision, self.without = (
            model,
            groups,
            threads,
            precision,
            without,
        )
        self.texts: dict[Path, str] = {}
        self._opened = self._open()

    def _open(self) -> list[Any]:
        options: dict[str, Any] = {
            "threads": self.threads,
            "precision": self.precision,
            "layout": "line",
            "device": "cpu",
        }
        hidden = {self.without: None} if self.without else {}
        with patch.dict(sys.modules, hidden):  # None: importing it fails
            return [
                predict(files, self.model, language=language, **options)
                for language, files in self.groups.items()
            ]

    def __call__(self) -> None:
        """Read all files; see `reopen`."""
        for prediction in self._opened:
            for page in prediction.pages:
                self.texts[page.source] = page.lines[0].reading.text

    def reopen(self) -> None:
        """Open for the next round."""
        self._opened = self._open()


class PpocrReading:
    """The recognizer of the `rapidocr` wheel over the same files, as many of them at a time as
    there are threads; opened outside the time.
    """

    model, without = "ppocr", ""

    def __init__(self, files: Sequence[Path], threads: int):
        self.files, self.threads = files, threads
        self.texts: dict[Path, str] = {}
        self._recognizers = [PpocrRecognizer(threads=1) for _ in range(threads)]

    def __call__(self) -> None:
        """Read all files."""
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(self._read, range(self.threads)))

    def _read(self, thread: int) -> None:
        for file in self.files[thread :: self.threads]:
            (reading,) = self._recognizers[thread].recognize([read_image(file)])
            self.texts[file] = reading.text

    def reopen(self) -> None:
        """Nothing is kept between two rounds."""


def path_rates(
    readings: dict[str, Reading | PpocrReading],
    peers: Contestants,
    rounds: int,
    rows: Sequence[dict[str, Any]],
    files: Sequence[Path],
) -> dict[str, Any]:
    """Rates of the complete paths, and how many texts are those of the first reading and of the
    manifest.
    """
    seconds: dict[str, dict[str, list[float]]] = defaultdict(
        lambda: {"clock": [], "processor": []}
    )
    for _ in range(rounds):
        for name, of in timed({**readings, **peers}, 1).items():
            for kind, values in of.items():
                seconds[name][kind] += values
        for reading in readings.values():
            reading.reopen()
    result = rates(dict(seconds), len(files))
    first = next(iter(readings.values())).texts
    truth = {file: row["text"] for file, row in zip(files, rows, strict=True)}
    for name, reading in readings.items():
        result[name]["texts"] = len(reading.texts)
        result[name]["same_text_as_torch_fp32"] = sum(
            first[file] == text for file, text in reading.texts.items()
        )
        result[name]["exact"] = sum(
            truth[file] == text for file, text in reading.texts.items()
        )
    return result


def stages(model: Path, files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Milliseconds a line of each stage on one thread, and what all but the network cost next to
    it.
    """
    runner = open_runner(model, device="cpu", threads=1)
    contract, session, name = runner.contract, *bare_session(model, 1)
    recognizer = RunnerRecognizer(runner)
    state: dict[str, Any] = {}

    def read() -> None:
        state["crops"] = [read_image(file) for file in files]

    def resize() -> None:
        state["lines"] = [resize_line(crop, contract.geometry) for crop in state["crops"]]

    def batch() -> None:
        lines = state["lines"]
        state["inputs"] = []
        for width, members in recognizer.batches([line.shape[1] for line in lines]):
            images, widths = pad_batch(
                [lines[i] for i in members], contract.geometry, width
            )
            frames = np.array([contract.geometry.out_length(int(w)) for w in widths])
            state["inputs"].append(
                (network_input(images, contract.geometry, contract.input_type), frames)
            )

    def network() -> None:
        state["outputs"] = [
            session.run(None, {name: pixels})[0] for pixels, _ in state["inputs"]
        ]

    def decode() -> None:
        for (_, frames), output in zip(state["inputs"], state["outputs"], strict=True):
            list(
                decode_greedy(output, frames, contract.charset, contract.output_activation)
            )

    steps: Contestants = {
        "read": read,
        "resize": resize,
        "batch": batch,
        "network": network,
        "decode": decode,
    }
    seconds: dict[str, list[float]] = {step: [] for step in steps}
    for _ in range(rounds):
        for step, function in steps.items():
            began = time.process_time()
            function()
            seconds[step].append(time.process_time() - began)
    per_line = {
        step: 1000 * median(values) / len(files) for step, values in seconds.items()
    }
    around = sum(value for step, value in per_line.items() if step != "network")
    return {
        "model": model.name,
        "ms_per_line": {step: round(value, 4) for step, value in per_line.items()},
        "around_the_network": round(around / per_line["network"], 4),
    }


def bare_session(model: Path, threads: int) -> tuple[Any, str]:
    """An ONNX Runtime session on the CPU and the name of its input."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(
        str(model), options, providers=["CPUExecutionProvider"]
    )
    return session, session.get_inputs()[0].name


def networks(
    models: dict[str, Path], files: Sequence[Path], threads: int, rounds: int
) -> dict[str, Any]:
    """The network alone, each line by itself, `threads` at a time: what predict can at best be."""
    contract = read_contract(next(iter(models.values())))
    lines = [resize_line(read_image(file), contract.geometry) for file in files]
    inputs = [
        network_input(pad_batch([line], contract.geometry)[0], contract.geometry, "float32")
        for line in lines
    ]
    inputs.sort(key=lambda pixels: -pixels.shape[3])
    contestants: Contestants = {}

    def side_by_side(run: Callable[[Any], object]) -> Callable[[], object]:
        def all_lines() -> None:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, inputs))

        return all_lines

    for name, path in models.items():
        session, input_name = bare_session(path, 1)
        contestants[f"onnxruntime {name}"] = side_by_side(
            lambda pixels, s=session, n=input_name: s.run(None, {n: pixels})
        )
    try:
        import openvino
    except ImportError:
        print("OpenVINO is not installed (pip install openvino): left out")
    else:
        core = openvino.Core()
        for precision in ("f32", "bf16"):
            hints = {
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": str(threads),
                "INFERENCE_NUM_THREADS": str(threads),
            }
            queue = openvino.AsyncInferQueue(
                core.compile_model(core.read_model(models["fp32"]), "CPU", hints), threads
            )

            def run_all(queue: Any = queue) -> None:
                for pixels in inputs:
                    queue.start_async({0: pixels})
                queue.wait_all()

            contestants[f"openvino {precision}"] = run_all
    for run in contestants.values():  # kernels are compiled for the shapes
        run()
    return rates(timed(contestants, rounds), len(files))


def decoding(contract: Any, rounds: int) -> dict[str, Any]:
    """Lines a second of CTC decoding next to a bare argmax of the same logits, on lines that look
    like text.
    """
    rng = np.random.default_rng(0)
    lines, frames = DECODED
    classes = contract.charset.num_classes
    spoken = rng.integers(0, classes, (lines, frames)) * (
        rng.random((lines, frames)) < 0.25
    )
    logits = rng.normal(0, 1, (lines, frames, classes)).astype(np.float32)
    np.put_along_axis(logits, spoken[:, :, None], 12, axis=2)
    two = np.stack([spoken, np.full((lines, frames), 0.9)], axis=2).astype(np.float32)
    lengths = np.full(lines, frames)
    decoders: dict[str, Callable[[], Readings]] = {
        "full logits": lambda: decode_greedy(logits, lengths, contract.charset),
        "in-graph argmax": lambda: decode_greedy(
            two, lengths, contract.charset, "argmax+confidence"
        ),
    }
    contestants: Contestants = {"bare argmax": lambda: logits.argmax(axis=2)}
    contestants |= {
        f"{name}: texts": lambda decode=decode: decode().texts
        for name, decode in decoders.items()
    }
    contestants |= {
        f"{name}: and confidences": lambda decode=decode: decode().confidences
        for name, decode in decoders.items()
    }
    contestants |= {
        f"{name}: and spans": lambda decode=decode: list(decode())
        for name, decode in decoders.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(4 * rounds):
        for name, run in contestants.items():
            began = time.process_time()
            for _ in range(DECODED_IN_A_ROW):  # a service decodes in one way only
                run()
            seconds[name].append((time.process_time() - began) / DECODED_IN_A_ROW)
    rate = {name: lines / median(values) for name, values in seconds.items()}
    return {
        "lines_per_s": {name: round(value) for name, value in rate.items()},
        "full_logits_of_bare_argmax": round(
            rate["full logits: texts"] / rate["bare argmax"], 3
        ),
        "in_graph_times_full_logits": round(
            rate["in-graph argmax: texts"] / rate["full logits: texts"], 2
        ),
    }


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "manifest",
        type=Path,
        nargs="?",
        default=SAMPLES,
        help="lines as JSONL; default: the samples",
    )
    add(
        "--weights", type=Path, default=Path(DEFAULT_MODEL), help="default: those that ship"
    )
    add(
        "--calibration",
        type=Path,
        help="for the int8 form of other weights: lines that its convolutions need",
    )
    add(
        "--peer",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="{images} is a file of paths",
    )
    add("--lines", type=int, help="so many lines, evenly spread; default: all")
    add("--rounds", type=int, default=DEFAULT_ROUNDS)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add(
        "-o",
        "--output",
        type=Path,
        help="default: results/inference.json for a full run, else nothing",
    )
    return parser.parse_args()


def exported_models(
    weights: Path, calibration: Path | None, folder: Path
) -> dict[str, Path]:
    """Export the network in each of its forms for ONNX Runtime."""
    options = ExportOptions(precision="fp32", int8=True, calibration=calibration)
    fp32, int8 = export(plan_export(weights, folder / "fp32.onnx", options)).files
    in_graph = ExportOptions(precision="fp32", output_activation="argmax+confidence")
    (argmax,) = export(plan_export(weights, folder / "argmax.onnx", in_graph)).files
    models = {"fp32": fp32.file.path, "argmax": argmax.file.path, "int8": int8.file.path}
    if str(weights) == DEFAULT_MODEL and not calibration:
        models["int8"] = SHIPPED / f"{DEFAULT_MODEL}.int8.onnx"
    return models


def all_readings(
    weights: Path,
    models: dict[str, Path],
    files: Sequence[Path],
    by_language: dict[str, list[Path]],
    threads: int,
) -> dict[str, "Reading | PpocrReading"]:
    """Return what reads the files: our run times, and the peers that are installed."""
    together = {"": list(files)}
    readings: dict[str, Reading | PpocrReading] = {
        "torch fp32": Reading(str(weights), together, threads),
        "torch bf16": Reading(str(weights), together, threads, "bf16"),
    }
    for kind, path in models.items():
        readings[f"onnxruntime {kind}"] = Reading(str(path), together, threads)

    if shutil.which("tesseract"):
        readings["tesseract"] = Reading("tesseract", by_language, threads)
        if find_tesseract().has_library:
            readings["tesseract's program"] = Reading(
                "tesseract", by_language, threads, without="tesserocr"
            )
    if TESSDATA_BEST.get():
        readings["tesseract's best models"] = Reading(
            "tesseract-best", by_language, threads
        )
    if find_spec("rapidocr"):
        readings["PP-OCRv6 small"] = PpocrReading(files, threads)
    return readings


def peer_commands(named: Sequence[str], files: Sequence[Path], folder: Path) -> Contestants:
    """Return the commands of `--peer`, which find the paths of the lines in a file."""
    paths = folder / "images.txt"
    listed = "".join(f"{file.resolve()}\n" for file in files)
    paths.write_text(listed, encoding="utf-8")
    commands: Contestants = {}
    for peer in named:
        title, _, command = peer.partition("=")
        words = [word.replace("{images}", str(paths)) for word in shlex.split(command)]
        commands[title] = lambda words=words: subprocess.run(
            words, check=True, stdout=subprocess.DEVNULL
        )
    return commands


def versions_of_tesseract(
    readings: dict[str, "Reading | PpocrReading"],
) -> dict[str, str]:
    """Return the version of each form of Tesseract that was timed."""
    versions = {}
    for title, reading in readings.items():
        if reading.model == "tesseract":
            versions[title] = find_tesseract(library=not reading.without).version
        elif reading.model == "tesseract-best":
            versions[title] = find_best_tesseract().version
    return versions


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run every contestant; return what is saved."""
    text = arguments.manifest.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    if arguments.lines and arguments.lines < len(rows):
        rows = [rows[i * len(rows) // arguments.lines] for i in range(arguments.lines)]
    files = [arguments.manifest.parent / row["image"] for row in rows]
    by_language: dict[str, list[Path]] = defaultdict(list)
    for row, file in zip(rows, files, strict=True):
        by_language[row.get("language", "")].append(file)

    threads, rounds = arguments.threads, arguments.rounds
    models = exported_models(arguments.weights, arguments.calibration, folder)
    contract = read_contract(models["fp32"])
    readings = all_readings(arguments.weights, models, files, dict(by_language), threads)
    peers = peer_commands(arguments.peer, files, folder)

    paths = path_rates(readings, peers, rounds, rows, files)
    rate = {title: row["lines_per_s"] for title, row in paths.items()}
    own = [title for title in rate if title.startswith(("torch", "onnx"))]
    others = [title for title in rate if title not in own]
    best = max(own, key=lambda title: rate[title])
    return {
        "what": (
            f"files → text, {len(files)} lines of {arguments.manifest.name}, {threads} threads"
        ),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(threads),
        "tesseract": versions_of_tesseract(readings),
        "rounds": rounds,
        "paths": paths,
        "onnxruntime_fp32_times_torch_fp32": round(
            rate["onnxruntime fp32"] / rate["torch fp32"], 2
        ),
        "best": best,
        "best_times_peers": {title: round(rate[best] / rate[title], 2) for title in others},
        "network": networks(models, files, threads, rounds),
        "stages": [stages(path, files, rounds) for path in models.values()],
        "decode": decoding(contract, rounds),
    }


def main() -> None:
    """Measure, print, save."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        result = measure(arguments, Path(name))
    load = measurement_environment(arguments.threads)["load_average"]
    result["environment"]["load_average_after"] = load
    shown = {key: value for key, value in result.items() if key != "environment"}
    print(json.dumps(shown, indent=1, ensure_ascii=False))

    target = arguments.output
    given = (arguments.manifest, arguments.lines, arguments.rounds)
    if target is None and given == (SAMPLES, None, DEFAULT_ROUNDS):
        target = ROOT / "benchmarks" / "results" / "inference.json"
    if target:
        atomic.write_json(target, result)
        print(f"saved {target}")


if __name__ == "__main__":
    main()
