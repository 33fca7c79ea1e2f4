"""Damaged artifacts: each one must be refused, or give exactly what the undamaged one gives."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli.artifact.contract import METADATA_KEY, Contract
from nordocr_cli.artifact.probing import SIDECAR_SCHEMA, read_contract
from nordocr_cli.artifact.sealing import write_sealed_json
from nordocr_cli.atomic import sha256_of
from nordocr_cli.charset import NORDIC
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.records import LineRow

from .trials import Kind, Result, Trial, WrongResult, damaged, flipped

_TINY = ["model.dims=[24, 48, 64]", "model.depths=[1, 1, 1]", "model.attention_rows=2"]
_STORE_LINES = 12


def tiny_weights(folder: Path) -> Path:
    """Write the weights of a small untrained network."""
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.models.weights import save_weights

    profile = load_profile("svtrv2-nano", _TINY).profile
    table = json.loads(json.dumps(profile_to_json(profile)))
    torch.manual_seed(1)
    network = build_model(profile.model, NORDIC.num_classes)
    contract = Contract(
        NORDIC, profile.geometry, table["model"], table, trained_widths=(8, 640)
    )
    save_weights(folder / "best.safetensors", network.state_dict(), contract)
    return folder / "best.safetensors"


def tiny_onnx(folder: Path) -> Path:
    """Export the small network."""
    from nordocr_cli.core.export.plan import ExportOptions, plan_export
    from nordocr_cli.core.export.run import export

    options = ExportOptions(precision="fp32", max_width=128)
    plan = plan_export(tiny_weights(folder), folder / "model.onnx", options)
    return export(plan).files[0].file.path


def line_store(path: Path, lines: int = _STORE_LINES) -> Path:
    """Write a store of random lines, gray and coloured."""
    from nordocr_cli.data.store import LineStoreWriter

    rng = np.random.default_rng(1)
    with LineStoreWriter(path, Geometry(max_width=320), NORDIC) as writer:
        for number in range(lines):
            width = 4 * int(rng.integers(5, 80))
            shape = (32, width) if number % 2 else (32, width, 3)
            image = rng.integers(0, 256, shape, dtype=np.uint8)
            writer.add(image, LineRow(f"line-{number}", f"{number}.png", f"Rad {number}"))
    return path


def checkpoints(folder: Path) -> Trial:
    """Damage anywhere in a weights file, half of it in the header, which holds the contract."""
    import torch

    from nordocr_cli.models.weights import load_weights

    original = tiny_weights(folder)
    content = original.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    state, contract = load_weights(original)

    def trial(number: int, rng: random.Random) -> Result:
        path = folder / f"damaged-{number % 4}.safetensors"
        if number % 2:
            path.write_bytes(flipped(content[:header], rng) + content[header:])
        else:
            path.write_bytes(damaged(content, rng))
        found, found_contract = load_weights(path)
        same = found.keys() == state.keys() and found_contract == contract
        if not same or not all(torch.equal(found[name], state[name]) for name in state):
            raise WrongResult("other tensors or another contract were loaded")
        return "accepted"

    return trial


def contracts(folder: Path) -> Trial:
    """One value of the contract in a weights file changed, as text, by a plausible other one."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    from nordocr_cli.models.weights import load_weights

    original = tiny_weights(folder)
    with safe_open(original, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    expected = read_contract(original)

    def trial(number: int, rng: random.Random) -> Result:
        value = json.loads(metadata[METADATA_KEY])
        _change_one(value, rng)
        path = folder / f"damaged-{number % 4}.safetensors"
        save_file(tensors, path, metadata={**metadata, METADATA_KEY: json.dumps(value)})
        _, found = load_weights(path)
        if found != expected:
            raise WrongResult("another contract was loaded")
        return "accepted"

    return trial


def _change_one(value: Any, rng: random.Random) -> None:
    """Change, remove or add one value somewhere in nested JSON."""
    places = list(_places(value))
    parent, key = rng.choice(places)
    old = parent[key]
    if isinstance(old, bool):
        parent[key] = not old
    elif isinstance(old, int | float):
        parent[key] = rng.choice([old + 1, old - 1, -old - 1, old * 2 + 1, 10**30])
    elif isinstance(old, str) and old:
        parent[key] = flipped(old.encode(), rng).decode("utf-8", "replace")
    else:
        parent[key] = rng.choice([None, [], 1, "x"])
    if rng.random() < 0.15 and isinstance(parent, dict):
        del parent[key]


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in list(items):
        if isinstance(item, dict | list) and item:
            yield from _places(item)
        else:
            yield value, key


def onnx_models(folder: Path) -> Trial:
    """Damage anywhere in an ONNX model, loaded by ONNX Runtime."""
    from nordocr_cli.runtime.backends.onnxruntime.runner import OnnxRuntimeRunner

    original = tiny_onnx(folder)
    content = original.read_bytes()
    images = np.full((1, 3, 32, 64), 200, np.uint8)
    widths = np.array([64])
    expected: list[Any] = []

    def trial(number: int, rng: random.Random) -> Result:
        if not expected:  # in the child: a session does not survive a fork
            runner = OnnxRuntimeRunner(original, "cpu", threads=1)
            expected.extend((runner.run(images, widths), runner.contract))
        path = folder / f"damaged-{number % 4}.onnx"
        path.write_bytes(damaged(content, rng))
        runner = OnnxRuntimeRunner(path, "cpu", threads=1)
        if runner.contract != expected[1]:
            raise WrongResult("another contract was loaded")
        if not np.array_equal(runner.run(images, widths), expected[0]):
            raise WrongResult("other logits")
        return "accepted"

    return trial


def _engine(folder: Path) -> tuple[Path, Path]:
    """An engine file and its sidecar; the bytes of the engine are never run."""
    onnx = tiny_onnx(folder)
    engine = folder / "model_sm120.rtx.engine"
    engine.write_bytes(b"vtrt" + random.Random(1).randbytes(100_000))
    sidecar = engine.with_name(engine.name + ".json")
    ends = {"batch": 8, "height": 32, "width": 640}
    value = {
        "schema": SIDECAR_SCHEMA,
        "engine": {"name": engine.name, "sha256": sha256_of(engine)},
        "onnx": {"name": onnx.name, "sha256": sha256_of(onnx)},
        "arch": "sm120",
        "backend": "tensorrt-rtx",
        "version": "1.7.1.116",
        "precision": "fp32",
        "ranges": {"min": ends, "opt": ends, "max": ends},
        "contract": read_contract(onnx).to_json(),
    }
    write_sealed_json(sidecar, value)
    return engine, sidecar


def engines(folder: Path) -> Trial:
    """Damage in the bytes of an engine: it must never be used."""
    from nordocr_cli.runtime.backends.tensorrt.runner import verify_engine

    engine, _ = _engine(folder)
    content = engine.read_bytes()

    def trial(_: int, rng: random.Random) -> Result:
        changed = damaged(content, rng)
        engine.write_bytes(changed)
        found = verify_engine(engine)
        if found.content != content:
            raise WrongResult("another engine was taken")
        return "accepted"

    return trial


def sidecars(folder: Path) -> Trial:
    """Damage in the JSON next to an engine or an ONNX model."""
    from nordocr_cli.core.contract import read_side
    from nordocr_cli.runtime.backends.tensorrt.runner import verify_engine

    engine, sidecar = _engine(folder)
    described = folder / "model.contract.json"
    originals = {path: path.read_bytes() for path in (sidecar, described)}
    expected = {path: json.loads(content) for path, content in originals.items()}

    def trial(number: int, rng: random.Random) -> Result:
        path = (sidecar, described)[number % 2]
        for original, content in originals.items():
            original.write_bytes(content)
        changed = flipped if rng.random() < 0.5 else damaged
        path.write_bytes(changed(originals[path], rng))
        if path == sidecar:
            verify_engine(engine)
        else:
            read_side(described)
        if json.loads(path.read_bytes()) != expected[path]:
            raise WrongResult(f"other values of {path.name} were taken")
        return "accepted"

    return trial


def stores(folder: Path) -> Trial:
    """Damage in a line store, read line by line and through the loader of training."""
    from nordocr_cli.data.store import LineStore

    original = line_store(folder / "original.lmdb")
    content = (original / "data.mdb").read_bytes()
    with LineStore(original) as store:
        header = store.header
        rows = [store.row(index) for index in range(len(store))]
        images = [store.image(index) for index in range(len(store))]

    def trial(number: int, rng: random.Random) -> Result:
        path = folder / f"damaged-{number}.lmdb"
        path.mkdir()
        (path / "data.mdb").write_bytes(damaged(content, rng))
        try:
            with LineStore(path) as store:
                if (
                    store.header != header
                    or [store.row(i) for i in range(len(store))] != rows
                ):
                    raise WrongResult("other rows were read")
                batch = store.images(range(len(store)))
                for index, image in enumerate(images):
                    width = image.shape[1]
                    found = np.broadcast_to(batch[index][:, :width], image.shape)
                    if not np.array_equal(store.image(index), image):
                        raise WrongResult("other pixels were read")
                    if not np.array_equal(found, image):
                        raise WrongResult("the loader read other pixels")
        finally:
            shutil.rmtree(path)
        return "accepted"

    return trial


def nan_weights(folder: Path) -> Trial:
    """NaN or infinity in one weight, with a right digest: it must be neither written nor read."""
    import torch

    from nordocr_cli.models import weights as module

    state, contract = module.load_weights(tiny_weights(folder))
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    require_finite = module._require_finite

    def trial(number: int, rng: random.Random) -> Result:
        name = rng.choice(names)
        tensor = state[name].clone()
        place = rng.randrange(tensor.numel())
        tensor.view(-1)[place] = rng.choice([torch.nan, torch.inf, -torch.inf])
        path = folder / f"nan-{number % 4}.safetensors"
        if number % 2:
            module.save_weights(path, {**state, name: tensor}, contract)
            raise WrongResult("NaN was written")
        try:
            module._require_finite = lambda *_: None  # as a faulty writer would
            module.save_weights(path, {**state, name: tensor}, contract)
        finally:
            module._require_finite = require_finite
        module.load_weights(path)
        raise WrongResult("NaN was read")

    return trial


KINDS = (
    Kind("checkpoints", "damaged checkpoints", 1500, checkpoints),
    Kind("contracts", "changed values in the contract of a checkpoint", 500, contracts),
    Kind("onnx", "damaged ONNX models", 500, onnx_models),
    Kind("engines", "altered engines", 300, engines),
    Kind("sidecars", "damaged sidecars of engines and ONNX models", 300, sidecars),
    Kind("stores", "damaged line stores, through reader and loader", 200, stores),
    Kind("nan", "NaN and infinity in weights", 200, nan_weights),
)
