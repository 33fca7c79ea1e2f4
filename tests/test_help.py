"""What `-h` shows, what `--json` writes when a command fails, and completion in the shell."""

import json
import os
import re
import subprocess
import sys

import pytest

from nordocr_cli.app import app, main
from nordocr_cli.command_table import COMMANDS
from nordocr_cli.commands.completions import completion_path
from nordocr_cli.help_text import build_command_tree, summary
from nordocr_cli.options import complete_charset, complete_model, complete_store

NORDOCR = [sys.executable, "-m", "nordocr_cli"]


def run(*arguments, **environment):
    return subprocess.run(
        [*NORDOCR, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def commands(command, path=""):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}".strip())


def test_every_command_belongs_to_a_group_of_the_help():
    root = build_command_tree(app)
    topics = {name: command.rich_help_panel for name, command in root.commands.items()}
    assert {name: topic for name, topic in topics.items() if topic not in COMMANDS} == {}
    headings = re.findall(r"^(\w+):$", run("--help").stdout, flags=re.MULTILINE)
    assert headings == ["Options", *COMMANDS]


def test_summaries_are_complete_sentences():
    shown = re.sub(r"\s+", " ", run("--help", COLUMNS="70").stdout)
    for name, command in build_command_tree(app).commands.items():
        assert summary(command).endswith("."), name
        assert summary(command) in shown, name


def test_the_table_of_commands_says_what_the_docstrings_say():
    root = build_command_tree(app)
    for entry in (entry for entries in COMMANDS.values() for entry in entries):
        command = root.commands[entry.name]
        command.short_help = None
        if entry.name != "predict":  # another name of read
            assert summary(command) == entry.summary, entry.name


def test_no_option_shows_the_name_of_a_python_type():
    shown = [
        (path, parameter.name, parameter.metavar)
        for path, command in commands(build_command_tree(app))
        for parameter in command.params
        if parameter.param_type_name == "option" and "<" in str(parameter.metavar)
    ]
    assert shown == []
    assert "--rounds N" in run("bench", "-h").stdout


def test_an_option_has_the_same_short_form_and_names_in_every_command():
    names = {}
    for _, command in commands(build_command_tree(app)):
        for parameter in command.params:
            if parameter.param_type_name == "option":
                for name in (name for name in parameter.opts if name.startswith("--")):
                    names.setdefault(name, set()).add(tuple(sorted(parameter.opts)))

    unlike = {name: found for name, found in names.items() if len(found) > 1}
    # `--limit` counts lines of a result with -n, and lines that bench times without. compare3way's
    # sides keep the names of its recordings, and doctor's minutes bound a proof, not a training.
    allowed = {"--limit", "--profile", "--model", "--first", "--second", "--minutes"}
    assert set(unlike) <= allowed


def test_help_follows_columns_when_it_is_piped():
    assert max(map(len, run("bench", "-h", COLUMNS="60").stdout.splitlines())) <= 60
    assert max(map(len, run("profiles", "list", COLUMNS="72").stdout.splitlines())) <= 72


@pytest.mark.parametrize(
    ("arguments", "exit_code", "kind"),
    [
        (("profiles", "show", "no-such-profile", "--json"), 2, "usage"),
        (("bench", "--no-such-option", "--json"), 2, "usage"),
        (("charset", "check", "no-such-file.txt", "--json"), 2, "usage"),
    ],
)
def test_a_failure_is_json_on_stdout_and_a_sentence_on_stderr(arguments, exit_code, kind):
    done = run(*arguments)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (exit_code, kind)
    assert set(error) == {"code", "message", "hint"}
    assert error["message"] in done.stderr


def test_every_command_fails_with_one_json_document(tmp_path, monkeypatch, capsys):
    """An unknown option and a file that is not there, with --json, for every command."""
    monkeypatch.chdir(tmp_path)
    unlike = {}
    for path, command in leaf_commands(build_command_tree(app)):
        if not any("--json" in parameter.opts for parameter in command.params):
            continue
        required = [
            p for p in command.params if p.param_type_name == "argument" and p.required
        ]
        for wrong in (["--no-such-option"], ["no-such-file"] * max(1, len(required))):
            monkeypatch.setattr(sys, "argv", ["nordocr", *path, *wrong, "--json"])
            with pytest.raises(SystemExit) as ended:
                main()
            document = json.loads(capsys.readouterr().out)
            keys = set(document.get("error", {}))
            if ended.value.code not in (2, 3, 5) or keys != {"code", "message", "hint"}:
                unlike[" ".join((*path, *wrong))] = (ended.value.code, document)
    assert unlike == {}


def leaf_commands(command, path=()):
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
        return
    for name, child in children.items():
        yield from leaf_commands(child, (*path, name))


def test_a_failure_without_json_leaves_stdout_empty():
    done = run("profiles", "show", "no-such-profile")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_result_and_the_error_after_it_are_one_json_document(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("a\nb\n", encoding="utf-8")
    done = run("charset", "check", str(other), "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 3
    assert document["same"] is False
    assert document["error"]["code"] == "data"


def test_an_unexpected_error_is_json_too_and_keeps_its_traceback():
    program = """
import sys
import nordocr_cli.core.doctor as doctor
doctor.diagnose = lambda *_, **__: 1 / 0
sys.argv = ["nordocr", "doctor", "--json"]
from nordocr_cli.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (1, "bug")
    assert "ZeroDivisionError" in done.stderr


def test_threads_come_from_the_environment_where_the_option_is_not_given():
    assert "NORDOCR_THREADS" in run("bench", "-h").stdout
    done = run("bench", "tesseract", "--threads", "x")
    assert done.returncode == 2
    done = run("bench", "tesseract", NORDOCR_THREADS="many")
    assert (done.returncode, "NORDOCR_THREADS" in done.stderr) == (2, True)


# Completion
# ----------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_install_writes_the_script_that_show_prints(shell, tmp_path, monkeypatch):
    folders = {
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    for name, folder in folders.items():
        monkeypatch.setenv(name, folder)
    done = run("completions", "install", shell, **folders)
    assert done.returncode == 0
    path = completion_path(shell)
    assert done.stdout.strip() == str(path)
    assert path.read_text(encoding="utf-8") == run("completions", "show", shell).stdout


def test_the_shell_of_the_user_is_the_default_and_an_unknown_one_is_refused(tmp_path):
    done = run("completions", "install", SHELL="/bin/bash", XDG_DATA_HOME=str(tmp_path))
    assert (done.returncode, "bash-completion" in done.stdout) == (0, True)
    assert run("completions", "install", SHELL="/bin/oddsh").returncode == 2
    assert run("completions", "install", "powershell").returncode == 2


def completed(words, incomplete):
    line = " ".join(["nordocr", *words, incomplete])
    environment = {
        "_NORDOCR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) + 1),
    }
    return run(**environment).stdout.split()


def test_bash_completes_commands_profiles_and_choices():
    assert "build-engine" in completed([], "b")
    assert "svtrv2-nano" in completed(["train", "-p"], "svtrv2-n")
    assert completed(["completions", "show"], "z") == ["zsh"]


def test_models_stores_and_charsets_complete_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "model.onnx").touch()
    (tmp_path / "lines.lmdb").mkdir()
    (tmp_path / "notes.md").touch()
    assert complete_model("nordocr-default-") == ["nordocr-default-ext"]
    assert complete_model("m") == ["model.onnx"]
    assert "runs/" in complete_model("")
    assert complete_store("l") == ["lines.lmdb"]
    assert complete_charset("nordic-") == ["nordic-ext"]
    assert completed(["train", "--val"], "l") == ["lines.lmdb"]
    assert completed(["import", "--charset"], "nordic-") == ["nordic-ext"]
