"""Every command of README and the documentation is run by a shell: the `sh` blocks and the lines
beginning with `$` of a page, in order, in a folder that holds `samples/` and nothing else.

HTML comments directly above a block, which readers do not see, say what is different here:

    <!-- before: COMMANDS -->            what the page supposes to be there
    <!-- run as (REASON): COMMANDS -->   a shorter form of the same commands is run instead
    <!-- not run (REASON) -->            nothing is run; the commands and options still exist
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from transcript import read_steps

from nordocr_cli.app import app
from nordocr_cli.help_text import build_command_tree

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Generated from the help, or no instructions.
NOT_INSTRUCTIONS = {"cli.md", "requirements.md"}
_BLOCK = re.compile(
    r"(?P<comments>(?:^<!-- .*?-->\n)*)"
    r"(?:^```sh\n(?P<fenced>.*?)^```$|^    \$ (?P<prompt>[^\n]*)$)",
    flags=re.DOTALL | re.MULTILINE,
)
_COMMENT = re.compile(
    r"<!-- (?P<kind>before|run as|not run)(?: \((?P<reason>[^)]+)\))?:?\s*(?P<text>.*?)\s*-->",
    flags=re.DOTALL,
)
_TIME_LIMIT_S = 1800


@dataclass(frozen=True)
class Block:
    """Commands that a page shows, what is run for them ("" for nothing), and before them."""

    shown: str
    run: str
    before: str
    reason: str


def blocks_of(page):
    for found in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        shown = found["fenced"] or found["prompt"]
        comments = [
            match.groupdict() for match in _COMMENT.finditer(found["comments"] or "")
        ]
        run, before, reason = shown, "", ""
        for comment in comments:
            reason = comment["reason"] or reason
            if comment["kind"] == "before":
                before = comment["text"]
            elif comment["kind"] == "run as":
                run = comment["text"]
            else:
                run = ""
        yield Block(shown, run, before, reason)


def pages_with_commands():
    pages = [page for page in PAGES if page.name not in NOT_INSTRUCTIONS]
    return [pytest.param(page, id=page.stem) for page in pages if list(blocks_of(page))]


def nordocr_commands(text):
    """The words of each nordocr command, without variables before it and a `&` behind it."""
    joined = text.replace("\\\n", " ")
    for line in re.split(r"[\n;]|&&|&", joined):
        if not re.match(r"\s*(?:[A-Z_]+=\S*\s+)*nordocr\b", line):
            continue
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words = words[1:]
        if words[:1] == ["nordocr"]:
            yield words[1:]


@pytest.mark.parametrize("page", pages_with_commands())
def test_commands_and_options_exist(page):
    for block in blocks_of(page):
        for words in nordocr_commands(block.shown):
            require_known(words)


@pytest.mark.parametrize(
    "use", sorted((ROOT / "scripts" / "uses").glob("*.sh")), ids=lambda path: path.stem
)
def test_the_commands_of_a_transcribed_use_exist(use):
    """A command that is to end with exit code 2 may be a mistake on purpose."""
    title, steps = read_steps(use)
    assert title
    for step in steps:
        if step.exit_code != 2:
            for words in nordocr_commands(step.command.replace("|", ";")):
                require_known(words)


def require_known(words):
    command = build_command_tree(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        name, *words = words
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    known |= {option for parameter in command.params for option in parameter.secondary_opts}
    used = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert used - known - {"-h", "--help"} == set()


# A line of code that a reader would type, whatever kind of block it is in.
_TYPED = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S* )*"
    r"(?:nordocr|pipx?|uv|python3?|\./\w+|make|docker|cargo|rustc|trtexec|curl|git|sudo)(?: |$)"
)


def typed_lines(text):
    """The lines of all blocks of code, fenced or indented, that are commands, with their number."""
    is_fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_fenced = not is_fenced
        elif (is_fenced or line.startswith("    ")) and _TYPED.match(line.strip()):
            yield number, line.strip().removeprefix("$ ")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem)
        for page in PAGES
        if page.name not in NOT_INSTRUCTIONS
    ],
)
def test_no_command_is_in_a_block_that_is_not_run(page):
    """Blocks of another form would be skipped silently."""
    text = page.read_text(encoding="utf-8")
    known = {line.strip() for block in blocks_of(page) for line in block.shown.splitlines()}
    results = "nordocr reads with "  # what `serve` prints
    skipped = [
        f"{page.name}:{number}: {line}"
        for number, line in typed_lines(text)
        if line not in known and not line.startswith(results)
    ]
    assert skipped == []


def test_a_command_in_any_block_is_found():
    text = "a\n\n    nordocr doctor\n\n```\nA=1 pip install x\n```\n\n    $ make\n\n    nordocr-default\n"
    assert [line for _, line in typed_lines(text)] == [
        "nordocr doctor",
        "A=1 pip install x",
        "make",
    ]


@pytest.mark.parametrize("page", pages_with_commands())
def test_what_is_run_otherwise_says_why_and_is_the_same_command(page):
    for block in blocks_of(page):
        if block.run == block.shown:
            continue
        assert block.reason, f"no reason why this is not run as it stands: {block.shown}"
        if block.run:
            shown = [words[0] for words in nordocr_commands(block.shown)]
            run = [words[0] for words in nordocr_commands(block.run)]
            assert [name for name in run if name in shown] == shown, block.shown


@pytest.fixture
def shell(tmp_path):
    """A function that runs commands in a folder with the samples, `nordocr` being this one."""
    folder, programs = tmp_path / "empty", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    shutil.copytree(ROOT / "samples", folder / "samples")
    for name in ("scripts", "examples"):  # a page may run the programs of a clone
        (folder / name).symlink_to(ROOT / name)
    nordocr = programs / "nordocr"
    nordocr.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nordocr_cli "$@"\n')
    nordocr.chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **{
            key: value
            for key, value in os.environ.items()
            if not key.startswith("NORDOCR_")
        },
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "NORDOCR_THREADS": "1",
    }

    def run(commands):
        return subprocess.run(
            ["sh", "-e", "-c", commands],
            cwd=folder,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=_TIME_LIMIT_S,
        )

    return run


@pytest.mark.skipif(sys.platform == "win32", reason="the documents show a POSIX shell")
@pytest.mark.tesseract
@pytest.mark.parametrize("page", pages_with_commands())
def test_the_commands_of_a_page_run(page, shell):
    for block in blocks_of(page):
        for commands in (block.before, block.run):
            done = shell(commands)
            assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
