"""Every command's --json output is what docs/output.schema.json says: one chain of commands, from
lines to a model on a shelf, each judged by a validator that is not ours. The heavy commands
(finetune, adapt, promote, compare3way, build-engine) judge theirs in tests of their own.
"""

import json
import shutil
from pathlib import Path

import pytest
from json_schemas import OUTPUTS
from typer.testing import CliRunner

from nordocr_cli.app import app
from nordocr_cli.help_text import build_command_tree

ROOT = Path(__file__).parents[1]
DOC = ROOT / "samples" / "doc"
# In other tests: the function `valid_output` judges what the command's core returns.
ELSEWHERE = {"finetune", "adapt", "promote", "merge-lora", "build-engine", "compare3way"}
ELSEWHERE |= {"contract attach", "contract calibrate", "data fetch", "import"}
ELSEWHERE |= {"recipe", "charset move"}


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny_run, tiny_onnx):
    """A folder with what the commands read."""
    folder = tmp_path_factory.mktemp("json")
    shutil.copytree(tiny_run, folder / "run")
    shutil.copy(tiny_onnx, folder / "model.onnx")
    shutil.copytree(tiny_run.parent / "digits.lmdb", folder / "digits.lmdb")
    for name in ("one", "other"):
        rows = [
            {
                "id": str(n),
                "ref": f"Rad {n}",
                "hyp": f"Rad {n if n else name}",
                "source": f"d{n}",
            }
            for n in range(4)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    image = next((ROOT / "samples" / "lines" / "images").glob("*.png"))
    shutil.copy(image, folder / "line.png")
    (folder / "inbox").mkdir()
    shutil.copy(image, folder / "inbox")
    (folder / "lines").mkdir()
    shutil.copy(image, folder / "lines" / "a.png")
    (folder / "lines" / "a.gt.txt").write_text("Summa 12\n", encoding="utf-8")
    (folder / "texts.txt").write_text("Summa 12 kronor\nÅr 2026\n", encoding="utf-8")
    return folder


# In order: later commands read what earlier ones wrote.
CHAIN = [
    "read line.png",
    f"predict {DOC}/dev_doc.tif --regions {DOC}/dev_doc.json",
    "watch inbox out --once",
    "models list",
    "models show nordocr-default",
    "models get model.onnx",
    "charset show nordic",
    "charset emit nordic -o nordic.txt",
    "charset emit nordic",
    "charset check nordic.txt",
    "charset coverage nordic --text texts.txt",
    "charset lock nordic -o lock.json",
    "charset lock --check lock.json --file nordic.txt",
    "profiles list",
    "profiles show svtrv2-nano",
    "profiles check svtrv2-nano",
    "prep lines -o lines.lmdb -p svtrv2-nano",
    "synth -o texts.jsonl --texts-only -n 5 -p svtrv2-nano",
    "synth -o sheet.png --preview -n 4 -p svtrv2-nano",
    "synth -o rendered.lmdb -n 4 -p svtrv2-nano",
    "data stats digits.lmdb",
    "data view digits.lmdb",
    "data verify digits.lmdb",
    "data merge digits.lmdb digits.lmdb -o both.lmdb",
    "data export digits.lmdb -o exported",
    "data sets",
    "data suspects digits.lmdb -m run",
    "runs .",
    "runs --diff run run",
    "clean . --yes",
    "export run -o exported.onnx",
    "advise digits.lmdb --arch sm86",
    "consumer config model.onnx -o config.json",
    "consumer check config.json model.onnx",
    "contract show model.onnx",
    "contract verify run exported.onnx",
    "contract seal exported.onnx",
    "lineage run exported.onnx",
    "eval one.jsonl -o one",
    "eval other.jsonl -o other --against one",
    "bench exported.onnx --lines digits.lmdb --rounds 1 --single-lines 2",
    "leaderboard one other",
    "report limitations one -o limits.md",
    "doctor",
]


@pytest.mark.parametrize("command", CHAIN)
def test_the_output_of_a_command_is_what_the_schema_says(
    command, files, valid_output, monkeypatch
):
    monkeypatch.chdir(files)
    monkeypatch.setenv("NORDOCR_CACHE", str(files / "cache"))
    words = command.split()

    done = CliRunner().invoke(app, [*words, "--json"])

    assert done.exit_code == 0, f"{done.output}\n{done.exception!r}"
    valid_output(name_of(words), json.loads(done.stdout))


def name_of(words):
    """The command among the words: one word, or two for a command of a group."""
    groups = {name.partition(" ")[0] for name in OUTPUTS if " " in name}
    return " ".join(words[:2]) if words[0] in groups else words[0]


def commands_with_json(command, path=()):
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            yield from commands_with_json(child, (*path, name))
    elif any("--json" in parameter.opts for parameter in command.params):
        yield " ".join(path)


def test_every_command_with_json_has_a_schema_and_a_test():
    found = set(commands_with_json(build_command_tree(app)))
    assert found - {"serve"} == set(OUTPUTS) | {"train"}
    tested = {name_of(command.split()) for command in CHAIN}
    assert set(OUTPUTS) - tested == ELSEWHERE | {"train"}


def test_commands_without_json_print_no_result():
    """`completions` prints a script; every other command has --json."""
    leaves = {" ".join(path) for path, _ in leaves_of(build_command_tree(app))}
    without = leaves - set(commands_with_json(build_command_tree(app)))
    assert without == {"completions show", "completions install"}


def leaves_of(command, path=()):
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in children.items():
        yield from leaves_of(child, (*path, name))
