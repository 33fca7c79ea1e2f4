"""Artifacts that several tests need: made once a run, by the real code."""

import json
import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# read when huggingface_hub is imported: no test fetches anything
os.environ["HF_HUB_OFFLINE"] = "1"

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.progress import Silent

# The same examples in every run: a commit either passes or fails. To look for new examples:
# pytest --hypothesis-profile=default. A busy machine is slow, so no example has a deadline.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

DOCS = Path(__file__).parents[1] / "docs"


def pytest_runtest_setup(item):
    """Skip what needs Tesseract, saying what is missing."""
    if item.get_closest_marker("tesseract"):
        from nordocr_cli.errors import MissingBackendError
        from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract
        from nordocr_cli.runtime.backends.tesseract.recognizer import (
            DEFAULT_LANGUAGES,
            require_languages,
        )

        try:
            require_languages(DEFAULT_LANGUAGES, find_tesseract().languages)
        except MissingBackendError as error:
            pytest.skip(str(error))


class Heard(Silent):
    """A Progress that records its notes and warnings."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, message):
        self.notes.append(message)

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="session")
def valid_output():
    """A function (command, value): hold what a command prints with --json against its schema."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((DOCS / "output.schema.json").read_text(encoding="utf-8"))

    def check(command, value):
        part = {"$ref": f"#/$defs/commands/{command}", "$defs": schema["$defs"]}
        plain = json.loads(json.dumps(value))
        errors = jsonschema.Draft202012Validator(part).iter_errors(plain)
        assert [f"{error.json_path}: {error.message}"[:400] for error in errors] == []

    return check


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def small_files():
    """A context in which no file can grow beyond 100 kB, which to a writer is like a full disk.
    POSIX only.
    """
    import resource

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def unsealed():
    """A function that loads an ONNX file as an older nordocr wrote it: contract schema 1, without
    any digest, so that a test may change it.
    """
    import onnx

    from nordocr_cli.artifact.contract import METADATA_KEY
    from nordocr_cli.artifact.sealing import JSON_DIGEST, ONNX_DIGEST

    def load(path):
        model = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        del metadata[ONNX_DIGEST]
        contract = json.loads(metadata[METADATA_KEY]) | {"schema": 1}
        del contract[JSON_DIGEST]
        metadata[METADATA_KEY] = json.dumps(contract)
        onnx.helper.set_model_props(model, metadata)
        return model

    return load


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Untrained weights of a network small enough to export in a second, with its contract."""
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.models.weights import save_weights

    profile = load_profile(
        "svtrv2-nano",
        ["model.dims=[24, 48, 64]", "model.depths=[1, 1, 1]", "model.attention_rows=2"],
    ).profile
    charset, table = profile.load_charset(), profile_to_json(profile)
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("tiny") / "best.safetensors"
    contract = Contract(
        charset,
        profile.geometry,
        table["model"],
        json.loads(json.dumps(table)),
        trained_widths=(8, 1792),
    )
    save_weights(
        path, build_model(profile.model, charset.num_classes).state_dict(), contract
    )
    return path


TINY = [
    "model.dims=[24, 48, 64]",
    "model.depths=[1, 1, 1]",
    "geometry.max_width=160",
    "train.precision=fp32",
]


@pytest.fixture(scope="session")
def tiny_sets():
    """`--set` values that make of svtrv2-nano the network of `tiny_run`."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """A finished run of 4 steps on 12 lines of digits: the folder `a`, beside it the line store
    `digits.lmdb`.
    """
    import cv2
    import numpy as np

    from nordocr_cli.charset import NORDIC
    from nordocr_cli.core.train.request import TrainRequest
    from nordocr_cli.core.train.run import train
    from nordocr_cli.data.store import LineStoreWriter
    from nordocr_cli.geometry import Geometry
    from nordocr_cli.records import LineRow

    folder = tmp_path_factory.mktemp("tiny-run")
    with LineStoreWriter(folder / "digits.lmdb", Geometry(max_width=160), NORDIC) as writer:
        for number in range(12):
            image = np.full((32, 80, 3), 255, np.uint8)
            cv2.putText(
                image, str(100 + number), (4, 26), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2
            )
            writer.add(
                image,
                LineRow(
                    id=f"line-{number}",
                    image=f"{number}.png",
                    text=str(100 + number),
                    language="sv",
                ),
            )
    stores = (folder / "digits.lmdb",)
    profile = load_profile(
        "svtrv2-nano", [*TINY, "train.log_every=1", "train.batch_size=4", "train.lr=1e-3"]
    )
    return train(
        profile,
        TrainRequest(stores, stores, folder / "a", max_steps=4, threads=1, device="cpu"),
    ).run_dir


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint):
    """The fp32 ONNX of `tiny_checkpoint`; its fp16 form stands beside it."""
    from nordocr_cli.core.export.plan import plan_export
    from nordocr_cli.core.export.run import export

    plan = plan_export(tiny_checkpoint, tiny_checkpoint.parent / "model.onnx")
    return export(plan).files[0].file.path


@pytest.fixture(scope="session")
def tiny_trocr(tmp_path_factory):
    """The folder of a random TrOCR, as transformers saves it: 32x32 px, 64 positions, a tokenizer
    of bytes and a few merges.

    Not to be changed; tests that damage it take a copy.
    """
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("peft")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("trocr")
    transformers.utils.logging.disable_progress_bar()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    special = {
        "bos_token": "<s>",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=list(special.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Årsredovisning för räkenskapsåret"] * 4, trainer)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **special
    ).save_pretrained(folder)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    encoder = transformers.ViTConfig(
        hidden_size=32, image_size=32, patch_size=8, initializer_range=0.1, **sizes
    )
    decoder = transformers.TrOCRConfig(
        vocab_size=280,
        d_model=32,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=64,
        max_position_embeddings=64,
        dropout=0.0,
        init_std=0.1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder, decoder
    )
    config.decoder.cross_attention_hidden_size = 32
    torch.manual_seed(1)
    transformers.VisionEncoderDecoderModel(config=config).save_pretrained(folder)
    settings = {
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": 32, "width": 32},
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder
