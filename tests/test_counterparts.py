"""Keys and options of other programs and guides name what says the same here."""

import re

import pytest

from nordocr_cli.app import app
from nordocr_cli.counterparts import COUNTERPARTS, OPTIONS, key_here
from nordocr_cli.errors import UsageError
from nordocr_cli.help_text import build_command_tree
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import MODEL_KINDS


def keys_here():
    settings = load_profile("svtrv2-1024").profile.model_dump()
    tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
    known = {f"{table}.{key}" for table, values in tables.items() for key in values}
    of_models = {key for kind in MODEL_KINDS.values() for key in kind.model_fields}
    return known | set(settings) | {f"model.{key}" for key in of_models}


@pytest.mark.parametrize(
    ("given", "here"),
    [
        ("data.transforms.train.resize=[32,128]", "geometry.height and geometry.max_width"),
        ("model.architecture_name='svtr'", "model.name"),
        ("trainer.precision='16-mixed'", "train.precision"),
        ("batch_size=768", "train.batch_size"),
        ("experiment.name='pilot'", "experiment"),
        ("max_width=1024", "geometry.max_width"),
        ("max_seq_len=256", "geometry.max_width"),
        ("input_height=32", "geometry.height"),
        ("num_classes=126", "charset"),
        ("epochs=20", "train.epochs"),
        ("lr=7e-4", "train.lr"),
    ],
)
def test_a_key_of_a_guide_names_the_key_here(given, here):
    name = given.partition("=")[0]
    with pytest.raises(UsageError, match=rf"unknown key '{name}'; use {re.escape(here)}"):
        load_profile("svtrv2-1024", sets=[given])


def test_the_keys_that_are_named_exist():
    named = {
        word for here in COUNTERPARTS.values() for word in re.findall(r"[a-z]+\.\w+", here)
    }
    assert named
    assert named <= keys_here()
    assert key_here("data.transforms.val.pad") == COUNTERPARTS["data.transforms"]
    assert key_here("geometry.height") == ""


def test_the_options_that_are_named_exist():
    train = build_command_tree(app).commands["train"]
    known = {option for parameter in train.params for option in parameter.opts}
    for here in OPTIONS.values():
        assert set(re.findall(r"--[a-z-]+", here)) <= known
        keys = re.findall(r"--set ([a-z]+\.\w+)", here)
        assert set(keys) <= keys_here()


def test_no_option_of_another_program_is_one_of_ours():
    train = build_command_tree(app).commands["train"]
    assert not set(OPTIONS) & {option for each in train.params for option in each.opts}
