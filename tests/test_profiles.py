"""Profiles: the documents' numbers, strict keys, origins."""

import pytest

from nordocr_cli.errors import UsageError
from nordocr_cli.profile import (
    flatten,
    load_profile,
    parse_set,
    profile_from_json,
    profile_names,
)

# Every number that the users' documents state, by requirement.
DOCUMENTED = {
    "svtrv2-1024": {
        "geometry.max_width": 1024,
        "geometry.height": 32,
        "geometry.pad_value": 255,
        "charset": "nordic",
        "train.lr": 7e-4,
        "train.epochs": 20,
        "train.batch_by_arch.sm86": 768,
        "train.batch_by_arch.sm120": 1536,
        "export.opset": 17,
        "engine.sm86.min_batch": 1,
        "engine.sm86.min_width": 32,
        "engine.sm86.opt_batch": 32,
        "engine.sm86.opt_width": 768,
        "engine.sm86.max_batch": 64,
        "engine.sm86.max_width": 1792,
        "engine.sm86.precision": "fp16",
        "engine.sm120.opt_batch": 64,
        "engine.sm120.max_batch": 128,
        "engine.sm120.max_width": 1792,
        "engine.sm120.precision": "fp16",
        "model.name": "svtrv2",
        "model.size": "base",
    },
    "svtrv2-768": {
        "geometry.max_width": 768,
        "train.batch_by_arch.sm86": 1024,
        "train.batch_by_arch.sm120": 2048,
        "train.lr": 7e-4,
        "train.epochs": 20,
    },
    "svtr-32x128": {
        "geometry.height": 32,
        "geometry.max_width": 128,
        "geometry.pad_value": 0,
        "experiment": "svtr_pilot",
        "train.batch_size": 1024,
        "train.precision": "fp16",  # "16-mixed"
        "data.num_workers": 8,
        "model.name": "svtr",
        "model.local_window": [7, 7],
        "model.out_channels": 256,
    },
    "mamba-320": {
        "geometry.height": 32,
        "geometry.max_width": 320,
        "model.features": 512,
        "model.d_state": 16,
        "model.d_conv": 4,
        "model.expand": 2,
        "model.adapter_rank": 64,
        "model.use_lora": True,
        "train.batch_size": 16,
        "train.epochs": 5,
        "train.lr": 1e-4,
        "train.precision": "fp16",
    },
    "parseq-32x384": {
        "geometry.max_width": 384,
        "model.max_label_length": 128,
        "model.permutations": 6,
        "train.batch_size": 768,
        "train.grad_clip": 20.0,
        "train.precision": "fp16",
        "export.simplify": True,
    },
    "parseq-32x128": {
        "geometry.max_width": 128,
        "model.max_label_length": 25,
        "train.batch_size": 384,
        "train.epochs": 20,
    },
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_profile_holds_the_documents_numbers(name):
    resolved = flatten(load_profile(name).to_json())
    assert {key: resolved[key] for key in DOCUMENTED[name]} == DOCUMENTED[name]


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_opens_with_its_command_and_what_to_expect(name):
    text = load_profile(name).path.read_text(encoding="utf-8")
    first, second = text.splitlines()[:2]
    assert name == "base" or (
        first.startswith(("# nordocr ", "# make ")) and second.startswith("# Expect")
    )


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("trian.lr=1", "unknown key 'trian'; did you mean 'train'"),
        ("train.lrr=1", "unknown key 'train.lrr'; did you mean 'lr'"),
        ("geometry.hieght=32", "unknown key 'geometry.hieght'; did you mean 'height'"),
        ("model.siez='base'", "unknown key 'model.siez'; did you mean 'size'"),
        ("model.name='svtr2'", "did you mean 'svtrv2'"),
        ("engine.sm86.max_widht=1792", "did you mean 'max_width'"),
        ("engine.sm86.opt_width=4000", "does not hold"),
        ("engine.sm86.opt_width=770", "multiple of 4"),
        ("engine.a6000.opt_width=768", "named by GPU architecture"),
        ("train.lr=nan", "finite"),
        ("train.lr=-1", "greater than 0"),
        ("train.lr='fast'", "valid number"),
        ("geometry.max_width=32", "square"),
        ("charset=nordik", "did you mean 'nordic'"),
        ("train.precision='8'", "fp32"),
        ("noequals", "dotted.key=value"),
        ("train.lr={", "not a TOML value"),
        ("train.lr.x=1", "is a value, not a table"),
    ],
)
def test_every_wrong_value_is_named(assignment, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        load_profile("svtrv2-1024", [assignment])


def test_precedence_and_origins():
    found = load_profile(
        "svtrv2-1024",
        ["train.lr=1e-3", "train.seed=5"],
        {"train.seed": 9, "data.train": ["a.lmdb"], "train.epochs": None},
    )
    assert (
        found.profile.train.lr,
        found.profile.train.seed,
        found.profile.train.epochs,
    ) == (
        1e-3,
        9,
        20,
    )
    origins = {
        k: found.origins[k]
        for k in (
            "train.lr",
            "train.seed",
            "train.epochs",
            "geometry.pad_value",
            "train.grad_clip",
        )
    }
    assert origins == {
        "train.lr": "--set",
        "train.seed": "flag",
        "train.epochs": "svtrv2-1024.toml",
        "geometry.pad_value": "base.toml",
        "train.grad_clip": "default",
    }


def test_set_is_typed_as_toml():
    assert parse_set("a.b=[32, 128]") == ("a.b", [32, 128])
    assert parse_set("a=true") == ("a", True)
    assert parse_set("a=word") == ("a", "word")


def test_a_new_network_drops_the_options_of_the_old_one(tmp_path):
    (tmp_path / "mine.toml").write_text(
        'extends = "svtrv2-1024"\n[model]\nname = "svtrv2-nano"\n', encoding="utf-8"
    )
    assert load_profile(str(tmp_path / "mine.toml")).profile.model.name == "svtrv2-nano"


def test_a_circle_of_extends_is_refused(tmp_path):
    (tmp_path / "a.toml").write_text('extends = "b"\n', encoding="utf-8")
    (tmp_path / "b.toml").write_text('extends = "a"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="circle"):
        load_profile(str(tmp_path / "a.toml"))


def test_unknown_names_and_broken_files(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'svtrv2-1024'"):
        load_profile("svtrv2-1204")
    with pytest.raises(UsageError, match="no profile file"):
        load_profile(str(tmp_path / "absent.toml"))
    (tmp_path / "bad.toml").write_text("model = [", encoding="utf-8")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_profile(str(tmp_path / "bad.toml"))
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + b'extends = "svtrv2-768"\n')
    monkeypatch.setenv("NORDOCR_PROFILES", str(tmp_path))
    assert load_profile("bom").profile.geometry.max_width == 768


def test_an_embedded_profile_comes_back_equal():
    profile = load_profile("svtr-32x128").profile
    assert profile_from_json(load_profile("svtr-32x128").to_json(), "x") == profile


def test_an_artifact_of_an_older_version_may_hold_any_experiment():
    """The experiment had no effect then, so that many texts were no names of folders."""
    saved = load_profile("svtr-32x128").to_json() | {"experiment": "pilot 2: more data"}
    assert profile_from_json(saved, "x").experiment == "pilot 2: more data"


def test_an_error_names_the_flag_or_file_that_the_value_came_from(tmp_path):
    with pytest.raises(UsageError, match=r"^--set: unknown key 'train\.lrr'"):
        load_profile("svtrv2-1024", ["train.lrr=1"])
    with pytest.raises(UsageError, match=r"^flag: train\.seed"):
        load_profile("svtrv2-1024", flags={"train.seed": -1})
    (tmp_path / "mine.toml").write_text(
        'extends = "base"\n[train]\nlrr = 1\n', encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"mine\.toml: unknown key 'train\.lrr'"):
        load_profile(str(tmp_path / "mine.toml"))


def test_values_of_a_table_that_do_not_go_together_name_what_was_set():
    with pytest.raises(
        UsageError,
        match=r"--set geometry\.max_width: geometry: max_width 1030 must be a multiple of 4",
    ):
        load_profile("svtrv2-1024", ["geometry.max_width=1030"])


@pytest.mark.parametrize("name", ["svtr-32x128", "svtrv2-1024", "svtrv2-nano"])
def test_networks_of_the_svtr_family_have_the_pipelines_normalization(name):
    with pytest.raises(
        UsageError, match="--set: geometry.normalization is 'imagenet'.*symmetric"
    ):
        load_profile(name, ["geometry.normalization=imagenet"])
    assert load_profile("mamba-320").profile.geometry.normalization == "imagenet"


@pytest.mark.parametrize(
    ("assignment", "here"),
    [
        (
            "data.transforms.train.resize=[32, 128]",
            "geometry.height and geometry.max_width",
        ),
        ("model.architecture_name=svtr", "model.name"),
        ("experiment.name=svtr_pilot", "experiment"),
        ("trainer.precision=16-mixed", "train.precision"),
        ("batch_size=256", "train.batch_size"),
    ],
)
def test_keys_of_the_programs_that_this_one_replaces_name_their_counterpart(
    assignment, here
):
    with pytest.raises(UsageError, match=f"use {here}"):
        load_profile("svtr-32x128", [assignment])


@pytest.mark.parametrize("option", ["depths=[100000, 1, 1]", "dims=[24000, 48, 64]"])
def test_a_network_that_no_machine_builds_is_refused(option):
    with pytest.raises(UsageError, match=r"(depths|dims) \d+: at most"):
        load_profile("svtrv2-nano", [f"model.{option}"])


def test_thousands_of_loading_processes_are_refused():
    with pytest.raises(UsageError, match="data.num_workers"):
        load_profile("svtrv2-nano", ["data.num_workers=5000"])
