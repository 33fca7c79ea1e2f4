#!/usr/bin/env python3
"""A host of an exported recognizer in Python without nordocr: numpy, Pillow and onnxruntime.

    python host.py recognize_svtrv2_1024.onnx recognize_svtrv2_1024.golden

proves it on the golden lines of `nordocr export --golden N`: preprocessing against input.bin, the
network against logits.bin, decoding against the texts. docs/contract.md says what each step must
compute.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def line_width(height: int, width: int, geometry: dict) -> int:
    """Width at which a crop is read: rounded half up, down to a multiple, clamped."""
    rounded = (2 * width * geometry["height"] + height) // (2 * height)
    multiple = geometry["width_multiple"]
    return min(max(multiple, rounded // multiple * multiple), geometry["max_width"])


def positions(size: int, new_size: int, resampler: str):
    """Where target pixels lie in the source: lower pixel, upper pixel, share of the upper one."""
    scale = size / new_size
    if resampler == "corner-bilinear":
        at = np.arange(new_size) * scale
    else:  # linear: pixel centres
        at = (np.arange(new_size) + 0.5) * scale - 0.5
    at = np.clip(at, 0, size - 1)
    low = at.astype(int)
    return low, np.minimum(low + 1, size - 1), at - low


def resize(crop: np.ndarray, geometry: dict) -> np.ndarray:
    """Scale an RGB crop uint8 (h, w, 3) bilinearly to (32, line_width, 3)."""
    height, width = crop.shape[:2]
    new_size = geometry["height"], line_width(height, width, geometry)
    top, bottom, down = positions(height, new_size[0], geometry["resampler"])
    left, right, across = positions(width, new_size[1], geometry["resampler"])
    pixels = crop.astype(float)
    rows = pixels[top] + (pixels[bottom] - pixels[top]) * down[:, None, None]
    line = rows[:, left] + (rows[:, right] - rows[:, left]) * across[:, None]
    return np.floor(line + 0.5)


def network_input(crops: list, golden: dict):
    """Return normalized pixels float32 (N, 3, 32, W) of crops padded to the widest, and the widths
    of the lines in pixels.
    """
    geometry, norm = golden["geometry"], golden["normalize"]
    lines = [resize(crop, geometry) for crop in crops]
    widths = [line.shape[1] for line in lines]
    shape = (len(lines), geometry["height"], max(widths), 3)
    batch = np.full(shape, geometry["pad_value"], float)
    for row, line in zip(batch, lines, strict=True):
        row[:, : line.shape[1]] = line
    pixels = (batch - norm["mean"]) / norm["scale"]
    return pixels.transpose(0, 3, 1, 2).astype(np.float32), widths


def decode(logits: np.ndarray, frames: int, rules: dict):
    """Greedy CTC over a line's own frames of (T, C): text and confidence, the geometric mean of its
    characters', each the maximum softmax probability among the frames of its run.
    """
    own = logits[:frames].astype(float) / rules["temperature"]
    exponentials = np.exp(own - own.max(axis=1, keepdims=True))
    probabilities = (exponentials / exponentials.sum(axis=1, keepdims=True)).max(axis=1)
    text, confidences, before = "", [], rules["blank"]
    for cls, probability in zip(own.argmax(axis=1), probabilities, strict=True):
        if cls != rules["blank"] and cls != before:
            text += rules["characters"][cls - 1]
            confidences.append(probability)
        elif cls != rules["blank"]:
            confidences[-1] = max(confidences[-1], probability)
        before = cls
    mean = float(np.exp(np.mean(np.log(confidences)))) if confidences else 0.0
    return text, mean


def read_tensor(folder: Path, entry: dict) -> np.ndarray:
    """Return a raw tensor of the golden folder."""
    kind = {"float32": "<f4", "float16": "<f2", "uint8": "u1"}[entry["dtype"].split()[0]]
    return np.fromfile(folder / entry["file"], dtype=kind).reshape(entry["shape"])


def prove(model: str, folder: Path) -> int:
    """Compare every step with the golden lines; return the number of cases that are wrong."""
    golden = json.loads((folder / "golden.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    tolerance, wrong = golden["tolerance"], 0
    for case in golden["cases"]:
        crops = [np.asarray(Image.open(folder / line["crop"])) for line in case["lines"]]
        pixels, widths = network_input(crops, golden)
        expected_input = read_tensor(folder, case["input"])
        expected = read_tensor(folder, case["logits"])
        (logits,) = session.run(["output"], {"input": expected_input})
        problems = []
        # written so that NaN, which is never within a tolerance, is a problem
        if not np.abs(pixels - expected_input).max() <= tolerance["input"]:
            problems.append("preprocessing")
        largest = max(1, np.abs(logits).max())
        if not np.abs(logits - expected).max() <= tolerance["logits_fp32"] * largest:
            problems.append("network")
        stride = golden["geometry"]["stride"]
        for line, width, rows in zip(case["lines"], widths, logits, strict=True):
            text, confidence = decode(rows, -(-width // stride), golden["decode"])
            if text != line["text"] or abs(confidence - line["confidence"]) > 1e-3:
                problems.append(f"decoding of {line['id']}: {text!r}, not {line['text']!r}")
        wrong += bool(problems)
        print(
            f"{'ok' if not problems else 'WRONG'} {case['name']} {'; '.join(problems)}".rstrip()
        )
    print(f"{len(golden['cases'])} cases, {wrong} wrong")
    return wrong


if __name__ == "__main__":
    sys.exit(min(1, prove(sys.argv[1], Path(sys.argv[2]))))
