"""Imports run one way: app → commands → core → parts → contracts → errors; torch, typer and rich
stay where they may be.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import nordocr_cli

ROOT = Path(nordocr_cli.__file__).parent
PARTS = {
    "pages",
    "writers",
    "data",
    "models",
    "training",
    "decode",
    "metrics",
    "deploy",
    "runtime",
    "compare",
}
CONTRACTS = {
    "profile",
    "settings",
    "charset",
    "geometry",
    "records",
    "artifact",
    "rust_source",
    "addresses",
    "atomic",
    "cores",
    "current_file",
    "limits",
    "pixels",
    "printable",
    "progress",
    "counterparts",
    "extras",
    "variables",
}
LEVEL = (
    {"errors": 0}
    | dict.fromkeys(CONTRACTS, 1)
    | dict.fromkeys(PARTS, 2)
    | {"core": 3, "console": 3, "command_table": 3, "help_text": 4, "options": 4}
)
LEVEL |= {"commands": 5, "app": 6, "__main__": 7, "__init__": 0}
# The only places where torch may be imported at module level.
TORCH_AT_TOP = (
    "models/",
    "training/",
    "data/batches.py",
    "data/gather.py",
    "runtime/backends/torch/",
    "deploy/onnx_export.py",
)
CONSOLE_ONLY = (
    "app.py",
    "options.py",
    "console.py",
    "help_text.py",
    "commands/",
    "__main__.py",
)


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def imported(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        return (
            [f"{base}.{alias.name}" for alias in node.names]
            if base == "nordocr_cli"
            else [base]
        )
    return []


def room(relative):
    return relative.split("/")[0].removesuffix(".py")


def test_no_import_goes_up():
    wrong = []
    for relative, tree in modules():
        for node in ast.walk(tree):
            for name in imported(node):
                if name.startswith("nordocr_cli.") and name.split(".")[1] in LEVEL:
                    there = name.split(".")[1]
                    if LEVEL[there] > LEVEL[room(relative)]:
                        wrong.append(f"{relative}:{node.lineno} imports {name}")
    assert not wrong


def test_parts_do_not_import_each_other_in_a_circle():
    """Imports inside functions and for types count too: a part can be read, and moved, without the
    ones above it.
    """
    needs = {part: set() for part in PARTS}
    for relative, tree in modules():
        for node in ast.walk(tree):
            for name in imported(node):
                here, there = (
                    room(relative),
                    name.split(".")[1] if name.startswith("nordocr_cli.") else "",
                )
                if here in PARTS and there in PARTS - {here}:
                    needs[here].add(there)
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail("each of these imports the one before it: " + ", ".join(error.args[1]))


def test_no_two_files_import_each_other_in_a_circle():
    """Imports inside functions count; those for type checkers alone do not."""
    files = dict(modules())
    names = {dotted_name(relative): relative for relative in files}
    needs = {relative: set() for relative in files}
    for relative, tree in files.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        for node in ast.walk(tree):
            for name in imported_modules(node, names):
                needs[relative].add(names[name])
        needs[relative].discard(relative)

    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail("each of these imports the one before it: " + ", ".join(error.args[1]))


def dotted_name(relative):
    return "nordocr_cli." + relative.removesuffix(".py").removesuffix("/__init__").replace(
        "/", "."
    )


def imported_modules(node, names):
    """The modules of the package that an import statement loads."""
    if isinstance(node, ast.Import):
        found = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        members = [f"{node.module}.{alias.name}" for alias in node.names]
        found = [member if member in names else node.module for member in members]
    else:
        found = []
    return [name for name in found if name in names]


def test_every_room_has_a_level():
    assert {room(relative) for relative, _ in modules()} <= set(LEVEL)


def test_torch_at_module_level_only_where_it_may_be():
    wrong = [
        f"{relative}:{node.lineno}"
        for relative, tree in modules()
        for node in tree.body
        for name in imported(node)
        if name.split(".")[0] == "torch" and not relative.startswith(TORCH_AT_TOP)
    ]
    assert not wrong


def test_typer_and_rich_stay_in_the_console():
    wrong = [
        f"{relative}:{node.lineno} {name}"
        for relative, tree in modules()
        for node in ast.walk(tree)
        for name in imported(node)
        if name.split(".")[0] in ("typer", "rich", "click")
        and not relative.startswith(CONSOLE_ONLY)
    ]
    assert not wrong


def test_nobody_imports_click():
    # Typer vendors it; `import click` would be another copy, or none.
    assert not [
        r
        for r, tree in modules()
        for node in ast.walk(tree)
        if "click" in [n.split(".")[0] for n in imported(node)]
    ]


def test_no_room_without_a_name():
    assert not {path.stem for path in ROOT.rglob("*.py")} & {
        "utils",
        "common",
        "helpers",
        "misc",
        "types",
    }
