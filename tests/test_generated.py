"""The generated files are those that the code makes now, byte for byte."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("generate", ROOT / "scripts" / "generate.py")
generate = importlib.util.module_from_spec(spec)


@pytest.fixture(scope="module")
def files():
    spec.loader.exec_module(generate)
    return generate.generated()


def test_generated_files_are_fresh(files):
    stale = [
        name
        for name, text in files.items()
        if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != text.encode()
    ]
    assert not stale, "run: python3 scripts/dev.py docs"


def test_zsh_completion_starts_with_compdef_and_completes_at_the_first_tab(files):
    script = files["completions/_nordocr"]
    assert script.startswith("#compdef nordocr\n")
    assert script.rstrip().endswith('_nordocr_completion "$@"; fi')


def test_powershell_leaves_the_execution_policy_alone(files):
    assert "ExecutionPolicy" not in files["completions/nordocr.ps1"]


def test_every_command_shows_an_example(files):
    sections = files["docs/cli.md"].split("\n## nordocr ")[1:]
    leaves = [s for s in sections if "COMMAND [ARGS]" not in s]
    assert leaves
    assert [s.split("\n")[0] for s in leaves if "Example:" not in s] == []
