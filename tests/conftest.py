"""Artifacts that several tests need: made once a run, by the real code."""

import json
from contextlib import contextmanager

import pytest

from nordocr_cli.artifact import Contract
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.progress import Silent


class Heard(Silent):
    """A Progress that remembers what it was told."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, message):
        self.notes.append(message)

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def small_files():
    """A context in which no file can grow beyond 100 kB, which to a writer is like a full disk. POSIX only."""
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
    """A function that loads an ONNX file without the hash of its bytes, so that a test may change it."""
    import onnx

    from nordocr_cli.artifact import DIGEST_KEY

    def load(path):
        model = onnx.load(path)
        kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key != DIGEST_KEY]
        assert len(kept) < len(model.metadata_props)
        onnx.helper.set_model_props(model, dict(kept))
        return model

    return load


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Untrained weights of a network small enough to export in a second, with its contract."""
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.models.weights import save_weights

    profile = load_profile("svtrv2-nano", ["model.dims=[24, 48, 64]", "model.depths=[1, 1, 1]"]).profile
    charset, table = profile.load_charset(), profile_to_json(profile)
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("tiny") / "best.safetensors"
    contract = Contract(charset, profile.geometry, table["model"], json.loads(json.dumps(table)), trained_widths=(8, 1792))
    save_weights(path, build_model(profile.model, charset.num_classes).state_dict(), contract)
    return path


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint):
    """The fp32 ONNX of `tiny_checkpoint`; its fp16 form stands beside it."""
    from nordocr_cli.core.export import export, plan_export

    plan = plan_export(tiny_checkpoint, tiny_checkpoint.parent / "model.onnx")
    return export(plan).files[0].file.path
