"""Golden lines: crops, network inputs, logits and texts with which a host in any language proves
its own code.

    crop.png ──its preprocessing──▶ input.bin ──its engine──▶ logits.bin ──its decoding──▶ text

Each step can be checked alone, because the folder holds its correct result. Tensors are raw, little
endian, in C order; golden.json holds their types, shapes and everything else. For a host without
libraries for PNG and JSON the folder also holds the crops as raw RGB and the lines in golden.tsv.
Every case but the last is one line. The last, `batch`, holds several of them, padded to the widest:
with it a host proves its padding, and that it decodes every line over its own frames.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

import nordocr_cli
from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.atomic import replacing, sha256_of, write_json
from nordocr_cli.charset import BLANK
from nordocr_cli.data.documents import IMAGE_SUFFIXES
from nordocr_cli.data.resize import network_input, pad_batch, read_image, resize_line
from nordocr_cli.data.store import LineStore
from nordocr_cli.decode.autoregressive import END, greedy_decoder
from nordocr_cli.deploy.onnx_bounds import bounded_session
from nordocr_cli.deploy.onnx_file import GOLDEN_INDEX as INDEX
from nordocr_cli.deploy.onnx_file import golden_path, require_golden_name
from nordocr_cli.deploy.parity import FP32_TOLERANCE, sixteen_bit_share
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import NORMALIZATIONS
from nordocr_cli.limits import read_json
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Recognition

# a Runner's run, see runtime/protocols.py
_Run = Callable[[NDArray[np.uint8], NDArray[np.int64]], NDArray[np.float32]]

GOLDEN_SCHEMA = 1
_BATCH_LINES = 4  # narrow and wide lines
_AGAIN = "export with --golden again"
_OPTION = "--golden-lines"
_SAME_MACHINE = 1e-5  # two sessions of one ONNX Runtime differ by less
# Heights in pixels of the drawn crops: to enlarge, to keep, and to shrink by integer and fractional
# factors.
_DRAWN_HEIGHTS = (40, 32, 57, 24, 64, 81)
_DRAWN_TEXTS = (
    "7 811 518,00",
    "2024-12-31",
    "Org.nr 556016-0680",
    "(12 345)",
    "Summa tillgangar",
    "Note 4",
)


@dataclass(frozen=True)
class Golden:
    """A folder that was written and checked, with its number of lines and of recognized
    characters.
    """

    folder: Path
    lines: int
    characters: int

    def to_json(self) -> dict[str, Any]:
        """Return the folder and its counts as plain JSON values."""
        return {
            "folder": str(self.folder),
            "lines": self.lines,
            "characters": self.characters,
        }


def golden_crops(
    count: int, source: Path | None = None, option: str = _OPTION
) -> list[tuple[str, Pixels]]:
    """Return `count` crops uint8 (h, w, 3) with their names. They come from a line store (spread
    over its widths), from a folder of images (spread over their names), or are drawn here in many
    sizes, the first one three pixels wide and the second far too wide. A store's lines already have
    the network's height and do not test resampling; original images do. Raises UsageError naming
    `option` when there are no lines, DataError when one cannot be read.
    """
    if source is None:
        return [_drawn(index) for index in range(count)]
    if (source / "data.mdb").is_file():
        with LineStore(source) as store:
            by_width = np.argsort(store.widths, kind="stable")
            return [
                (store.row(int(i)).id, store.image(int(i)))
                for i in _spread(by_width, count, option)
            ]
    if not source.is_dir():
        raise UsageError(f"{option} {source}: no line store and no folder of images")
    files = sorted(
        path for path in source.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES
    )
    if not files:
        raise UsageError(f"{option} {source} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return [
        (files[int(i)].stem, read_image(files[int(i)]))
        for i in _spread(np.arange(len(files)), count, option)
    ]


def _spread(items: NDArray[np.integer], count: int, option: str) -> NDArray[np.integer]:
    if not len(items):
        raise UsageError(f"{option}: an empty store")
    return items[np.unique(np.linspace(0, len(items) - 1, count).round().astype(int))]


def _drawn(index: int) -> tuple[str, Pixels]:
    """Draw a line of text with OpenCV's built-in strokes: no font file, the same pixels on every
    machine.
    """
    height = _DRAWN_HEIGHTS[index % len(_DRAWN_HEIGHTS)]
    text = f"{_DRAWN_TEXTS[index % len(_DRAWN_TEXTS)]} {index}" * (24 if index == 1 else 1)
    scale = height / 40
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    paper = (250 - index % 20, 255, 245)
    ink = (20, 20, 60)
    crop = np.full((height, 3 if index == 0 else width + 9, 3), paper, dtype=np.uint8)
    cv2.putText(
        crop,
        text,
        (4, round(height * 0.72)),
        cv2.FONT_HERSHEY_SIMPLEX,
        scale,
        ink,
        1,
        cv2.LINE_AA,
    )
    return f"drawn-{index:03d}", crop


def write_golden(
    onnx: Path, run: _Run, crops: Sequence[tuple[str, Pixels]], folder: Path | None = None
) -> Golden:
    """Run `crops` through preprocessing, `run` (which runs the ONNX model) and decoding, write
    every step, read everything back and check it. The folder gets its name only when the check
    passes. An older golden folder of that name is replaced. Raises UsageError when the name is
    taken by something else, ArtifactError when the check fails.
    """
    folder = folder or golden_path(onnx)
    require_golden_name(folder)
    contract = read_contract(onnx)
    geometry = contract.geometry
    line_widths = [geometry.line_width(*crop.shape[:2]) for _, crop in crops]
    by_width = np.argsort(line_widths, kind="stable")
    batch = _spread(by_width, min(_BATCH_LINES, len(crops)), _OPTION)
    cases = {f"{number:03d}": [number] for number in range(len(crops))}
    cases["batch"] = [int(number) for number in batch]
    with replacing(folder) as temporary:
        temporary.mkdir()
        for number, (_, crop) in enumerate(crops):
            Image.fromarray(crop).save(temporary / f"{number:03d}.png")
            raw = np.ascontiguousarray(crop).tobytes()
            (temporary / f"{number:03d}.rgb").write_bytes(raw)

        written = []
        max_logit = 0.0
        for name, members in cases.items():
            lines = [resize_line(crops[number][1], geometry) for number in members]
            images, widths = pad_batch(lines, geometry)
            logits = run(images, widths)  # (N, T, C)
            max_logit = max(max_logit, float(np.abs(logits).max()))
            pixels = network_input(images, geometry, contract.input_type)
            readings = zip(members, widths, _decode(logits, widths, contract), strict=True)
            written.append(
                {
                    "name": name,
                    "lines": [
                        _line_to_json(number, crops[number], int(width), contract, reading)
                        for number, width, reading in readings
                    ],
                    "input": _write_tensor(temporary / f"{name}.input.bin", pixels),
                    "logits": _write_tensor(temporary / f"{name}.logits.bin", logits),
                }
            )
        head = _head(onnx, contract, max_logit)
        write_json(temporary / INDEX, {**head, "cases": written})
        _write_plain(temporary, contract, written)
        characters = check_golden(temporary, onnx, name=folder.name)
    return Golden(folder, len(crops), characters)


def _line_to_json(
    number: int,
    named_crop: tuple[str, Pixels],
    width: int,
    contract: Contract,
    reading: Recognition,
) -> dict[str, Any]:
    """Return what the index says of one line."""
    name, crop = named_crop
    return {
        "id": name,
        "crop": f"{number:03d}.png",
        "crop_height": crop.shape[0],
        "crop_width": crop.shape[1],
        "line_width": width,
        "frames": contract.out_length(width),
        **asdict(reading),
    }


def check_golden(folder: Path, onnx: Path, *, name: str | None = None) -> int:
    """Read a golden folder back and repeat every step with a plain ONNX Runtime session. Return the
    number of recognized characters. Messages show `name` for `folder`. Raises ArtifactError naming
    the case and the step whose result differs from the file, or the file that is missing.
    """
    what = name or str(folder)
    try:
        index = read_json(folder / INDEX, "index of golden lines")
        if index["schema"] != GOLDEN_SCHEMA or index["model"]["sha256"] != sha256_of(onnx):
            raise ArtifactError(
                f"{what} was made with another {onnx.name} (another sha256); {_AGAIN}"
            )
        contract = read_contract(onnx)
        session = bounded_session(str(onnx), onnxruntime.SessionOptions())
        for case in index["cases"]:
            _check_case(folder, case, contract, session, f"{what}, case {case['name']}")
    except ArtifactError:
        raise
    except (DataError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{what} is damaged ({type(error).__name__}: {error}); {_AGAIN}"
        ) from error
    return sum(len(case["lines"][0]["text"]) for case in index["cases"][:-1])


def _check_case(
    folder: Path, case: Mapping[str, Any], contract: Contract, session: Any, where: str
) -> None:
    geometry = contract.geometry
    pixels = _read_tensor(folder, case["input"])
    logits = _read_tensor(folder, case["logits"])
    crops = [read_image(folder / line["crop"]) for line in case["lines"]]
    images, widths = pad_batch([resize_line(crop, geometry) for crop in crops], geometry)
    if not np.array_equal(network_input(images, geometry, contract.input_type), pixels):
        raise ArtifactError(
            f"{where}: preprocessing the crops does not give the input in the file;"
            f" {_AGAIN}"
        )
    (got,) = session.run(None, {session.get_inputs()[0].name: pixels})  # (N, T, C)
    got = got.astype(np.float32)
    if got.shape != logits.shape or not np.abs(got - logits).max() <= _SAME_MACHINE * max(
        1.0, float(np.abs(logits).max())
    ):
        raise ArtifactError(
            f"{where}: the model does not give the logits in the file; {_AGAIN}"
        )
    texts = [reading.text for reading in _decode(logits, widths, contract)]
    if texts != [line["text"] for line in case["lines"]]:
        raise ArtifactError(
            f"{where}: decoding the logits does not give the text in the file; {_AGAIN}"
        )


def _write_plain(
    folder: Path, contract: Contract, cases: Sequence[Mapping[str, Any]]
) -> None:
    """Write the index for a host without a JSON or PNG library: golden.tsv, with one row per line
    of each case, and charset.txt, with one character per line. The crops are written as raw RGB as
    well.
    """
    geometry = contract.geometry
    head = ("model", geometry.resampler, geometry.max_width, contract.temperature)
    rows = ["\t".join(map(str, head)), "\t".join(_COLUMNS)]
    for case in cases:
        for line in case["lines"]:
            crop = line["crop"].replace(".png", ".rgb")
            size = (line["crop_height"], line["crop_width"])
            confidence = f"{line['confidence']:.6f}"
            rows.append(
                "\t".join(map(str, (case["name"], crop, *size, confidence, line["text"])))
            )
    (folder / "golden.tsv").write_text(
        "\n".join(rows) + "\n", encoding="utf-8", newline="\n"
    )
    dictionary = contract.charset.to_dict_text()
    (folder / "charset.txt").write_text(dictionary, encoding="utf-8", newline="\n")


_COLUMNS = ("case", "crop", "crop_height", "crop_width", "confidence", "text")
_SPANS = "[first, last + 1) frames of each character"


def _head(onnx: Path, contract: Contract, max_logit: float) -> dict[str, Any]:
    """Return the index without its cases. A host's result is correct within the tolerances."""
    mean, scale = NORMALIZATIONS[contract.geometry.normalization]
    marks: dict[str, Any] = {"blank": BLANK, "spans": _SPANS}
    if contract.decoding == "autoregressive":
        marks = {"end": END}
    return {
        "schema": GOLDEN_SCHEMA,
        "model": {"name": onnx.name, "sha256": sha256_of(onnx)},
        "made_with": (
            f"nordocr {nordocr_cli.__version__}, ONNX Runtime {onnxruntime.__version__} on a CPU"
        ),
        "geometry": contract.geometry.to_json(),
        "normalize": {
            "formula": "(value - mean) / scale",
            "mean": mean,
            "scale": scale,
            "channels": "RGB",
            "layout": "NCHW",
        },
        "decode": {
            "activation": contract.output_activation,
            "decoding": contract.decoding,
            **marks,
            "characters": contract.charset.characters,
            "charset_sha256": contract.charset.sha256,
            "temperature": contract.temperature,
        },
        "tolerance": {
            # One gray level, for a host that rounds differently.
            "input": 1 if contract.input_type == "uint8" else round(1.01 / min(scale), 5),
            "logits_fp32": FP32_TOLERANCE,
            "logits_fp16": sixteen_bit_share(contract, "fp16") * max(1.0, max_logit),
        },
    }


_LITTLE_ENDIAN = {"float32": "<f4", "float16": "<f2", "uint8": "u1"}


def _write_tensor(path: Path, values: NDArray[Any]) -> dict[str, Any]:
    path.write_bytes(
        np.ascontiguousarray(values, dtype=_LITTLE_ENDIAN[values.dtype.name]).tobytes()
    )
    return {
        "file": path.name,
        "shape": list(values.shape),
        "dtype": f"{values.dtype.name} little endian",
    }


def _read_tensor(folder: Path, entry: Mapping[str, Any]) -> NDArray[Any]:
    kind = _LITTLE_ENDIAN[entry["dtype"].removesuffix(" little endian")]
    return np.fromfile(folder / entry["file"], dtype=kind).reshape(entry["shape"])


def _decode(
    logits: NDArray[np.float32], widths: NDArray[np.int64], contract: Contract
) -> Sequence[Recognition]:
    frames = np.array([contract.out_length(int(width)) for width in widths])
    return greedy_decoder(contract.decoding)(
        logits, frames, contract.charset, contract.output_activation, contract.temperature
    )
