"""The documentation is complete: a site without dead links, a licence for every dependency,
pipelines and containers whose commands exist.
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from nordocr_cli.app import app
from nordocr_cli.help_text import build_command_tree

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_dead_links_and_asks_no_other_host(tmp_path):
    pytest.importorskip("material")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "-d",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', front)
    assert [url for url in loaded if 'rel="canonical"' not in url] == []


def test_readme_is_short_and_its_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 120
    targets = re.findall(r"\]\(([^)#]+)", text)
    assert [
        t for t in targets if not t.startswith("http") and not (ROOT / t).exists()
    ] == []


def test_every_decision_has_a_number_of_its_own():
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert numbers == [f"{number:04d}" for number in range(1, len(records) + 1)]
    for record in records:
        title = record.read_text(encoding="utf-8").splitlines()[0]
        assert title.startswith(f"# {record.name[:4]} - "), record.name


def test_every_direct_dependency_has_a_licence_in_the_list():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    names = {re.findall(r"^[A-Za-z0-9_.-]+", text)[0] for text in project["dependencies"]}
    listed = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    assert {name for name in names if f"| {name} |" not in listed} == set()


# Pipelines and containers
# ----------------------------------------


def steps_of(name):
    document = yaml.safe_load((ROOT / "examples" / "ci" / name).read_text(encoding="utf-8"))
    if "jobs" in document:
        steps = [step for job in document["jobs"].values() for step in job["steps"]]
        return [step["run"] for step in steps if "run" in step]
    return document["model"]["script"]


def require_known(words):
    command = build_command_tree(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known | {"-h", "--help"}


@pytest.mark.parametrize("name", ["github-actions.yml", "gitlab-ci.yml"])
def test_the_commands_of_a_pipeline_exist(name):
    commands = [shlex.split(step) for step in steps_of(name)]
    ours = [words[1:] for words in commands if words[0] == "nordocr"]
    assert len(ours) >= 8
    for words in ours:
        require_known(words)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docker").glob("*.Dockerfile")), ids=lambda p: p.name
)
def test_a_container_is_lean_and_runs_as_an_ordinary_user(path):
    text = path.read_text(encoding="utf-8")
    joined = text.replace("\\\n", " ")
    instructions = [
        line.split(maxsplit=1) for line in joined.splitlines() if line[:1].isupper()
    ]
    kinds = [kind for kind, _ in instructions]
    assert kinds[0] == "FROM"
    assert ":" in instructions[0][1]  # a fixed version
    assert not instructions[0][1].endswith(":latest")
    assert "USER" in kinds
    assert kinds.index("USER") < kinds.index("ENTRYPOINT")
    for kind, rest in instructions:
        if kind == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest
        if kind == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists" in rest
        if kind == "RUN" and rest.startswith("nordocr "):
            require_known(rest.split()[1:])
