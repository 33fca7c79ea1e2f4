#!/usr/bin/env python3
"""Measure how densely the package is written, and fail when it is denser than the thresholds.

python3 scripts/readability.py              print the figures of nordocr_cli
python3 scripts/readability.py --check      exit 1 when a threshold is exceeded
python3 scripts/readability.py --worst 20   print the longest and the densest functions too
python3 scripts/readability.py FOLDER ...   measure other code in the same way

A line of code is a physical line that holds a token other than a comment or a part of a docstring.

A public name is a class, a function, a constant or a type at the top level of a module. Two modules
never share one, so that a reader who meets a name knows what it is. Two kinds may be repeated: what
commands define (callbacks and options, which are named as the command line names them), and the
names of PROTOCOL, which each module of a family has by agreement.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MAXIMUM_WIDTH = 100
MAXIMUM_FUNCTION_LINES = 60

# Upper bounds, from the projects named in CONTRIBUTING.md whose code is pleasant to read.
THRESHOLDS = {
    "tokens_per_line": 8.0,
    "long_lines_percent": 3.0,
    "inline_else_per_1000_lines": 15.0,
    "long_functions": 0,
    "repeated_public_names": 0,
}

# `plan` and `run` of a job, `sniff` and `read` of a file format, and entry points of programs.
PROTOCOL = {"plan", "run", "sniff", "read", "main", "app"}
COMMAND_LINE = ("commands/", "options.py")

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


@dataclass(frozen=True)
class Function:
    """One function: where it starts, and its lines of code without its docstring."""

    path: Path
    line: int
    name: str
    lines: int


@dataclass
class Figures:
    """What was counted over all files."""

    files: int = 0
    lines: int = 0
    code_lines: int = 0
    tokens: int = 0
    long_lines: int = 0
    inline_else: int = 0
    functions: list[Function] = field(default_factory=list)
    public_names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def repeated_names(self) -> dict[str, list[str]]:
        """Return the public names that two places define, each with its `file:line`."""
        return {name: where for name, where in self.public_names.items() if len(where) > 1}

    def summary(self) -> dict[str, float]:
        """Return the figures that THRESHOLDS bound, by name."""
        long_functions = [f for f in self.functions if f.lines > MAXIMUM_FUNCTION_LINES]
        code_lines = max(1, self.code_lines)
        return {
            "tokens_per_line": round(self.tokens / code_lines, 2),
            "long_lines_percent": round(100 * self.long_lines / max(1, self.lines), 2),
            "inline_else_per_1000_lines": round(
                1000 * self.inline_else / max(1, self.code_lines), 1
            ),
            "long_functions": len(long_functions),
            "repeated_public_names": len(self.repeated_names()),
        }


def docstring_lines(tree: ast.Module) -> set[int]:
    """Return the numbers of the lines that docstrings take."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ):
            continue

        first = node.body[0] if node.body else None
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_text and isinstance(first.value.value, str):
            lines.update(range(first.lineno, first.end_lineno + 1))
    return lines


def public_names(tree: ast.Module, path: Path) -> dict[str, int]:
    """Return the public names of a module that no other module may repeat, each with its line."""
    if any(place in path.as_posix() for place in COMMAND_LINE):
        return {}

    found: dict[str, int] = {}
    for node in tree.body:
        for name in defined_names(node):
            if not name.startswith("_") and name not in PROTOCOL:
                found[name] = node.lineno
    return found


def defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a statement at the top level of a module defines."""
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Assign):
        targets = node.targets
    else:
        return []

    assigned: list[ast.expr] = []
    for target in targets:
        assigned += target.elts if isinstance(target, ast.Tuple) else [target]
    return [each.id for each in assigned if isinstance(each, ast.Name)]


def measure(path: Path, figures: Figures) -> None:
    """Add one file's figures."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    documentation = docstring_lines(tree)
    lines_with_code: set[int] = set()

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in NO_CODE or token.start[0] in documentation:
            continue
        figures.tokens += 1
        lines_with_code.update(range(token.start[0], token.end[0] + 1))

    for name, line in public_names(tree, path).items():
        figures.public_names[name].append(f"{path}:{line}")

    lines = text.splitlines()
    figures.files += 1
    figures.lines += len(lines)
    figures.code_lines += len(lines_with_code)
    figures.long_lines += sum(len(line) > MAXIMUM_WIDTH for line in lines)
    figures.inline_else += sum(isinstance(node, ast.IfExp) for node in ast.walk(tree))

    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            # The signature and the decorators of a command are its options: they are not counted.
            body = range(node.body[0].lineno, node.end_lineno + 1)
            count = len(lines_with_code.intersection(body))
            figures.functions.append(Function(path, node.lineno, node.name, count))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[ROOT / "nordocr_cli"])
    parser.add_argument("--check", action="store_true", help="exit 1 above a threshold")
    parser.add_argument(
        "--worst", type=int, default=0, help="functions to list, longest first"
    )
    return parser.parse_args()


def main() -> int:
    """Measure, print, and compare with the thresholds."""
    arguments = parse_arguments()
    figures = Figures()
    for folder in arguments.folders:
        for path in sorted(folder.rglob("*.py")):
            measure(path, figures)

    summary = figures.summary()
    print(
        f"{figures.files} files, {figures.lines} lines, {figures.code_lines} lines of code"
    )
    for name, value in summary.items():
        print(f"{name:28} {value:8}   at most {THRESHOLDS[name]}")

    longest = sorted(figures.functions, key=lambda function: -function.lines)
    for function in longest[: arguments.worst]:
        print(f"{function.lines:4} lines  {function.path}:{function.line} {function.name}")

    for name, where in figures.repeated_names().items():
        print(f"repeated name {name}: {', '.join(where)}")

    exceeded = [name for name, value in summary.items() if value > THRESHOLDS[name]]
    if arguments.check and exceeded:
        print(f"above the threshold: {', '.join(exceeded)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
