"""Which file was made from which: checkpoint → weights → ONNX → engine → result → report, by hashes
alone.

Names and folders prove nothing. Weights, ONNX files and engines carry the SHA-256 of the file that
they were made from; results and reports carry the hashes of what they read. A file is another's
parent when its bytes have that hash.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.probing import has_contract, read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.runtime.backends.tensorrt.engine_file import read_sidecar

_MODELS = (".safetensors", ".onnx", ".engine")
_CHECKPOINTS = (".pth", ".pt", ".ckpt")
_REPORTS = (".json", ".html")
# They repeat the content of the file next to them.
_SIDECARS = (".contract.json", ".engine.json")
_MAX_REPORT_BYTES = 64 << 20
_MAX_FILES = 10_000  # in the folders that are given
_STORE_SUFFIX = ".lmdb"
# A result names the files that it wrote under this key; it is their parent.
_WRITTEN = "written_sha256"
_META = re.compile(r'<meta name="nordocr\.([\w.]+)" content="([0-9a-f]{64})">')
_HASH = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True)
class Link:
    """A reference of a file to the bytes with this hash: it was made from them or mentions them.
    `role` is the kind of reference, e.g. `parent` or `model.sha256`.
    """

    role: str
    sha256: str


@dataclass(frozen=True)
class Node:
    """One file. `problem` describes what is wrong with it, else ""."""

    path: Path
    kind: str
    sha256: str
    links: tuple[Link, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class LineageStep:
    """One arrow: `child` was made from `parent`, or mentions it (`role`)."""

    parent: Node
    child: Node
    role: str


@dataclass(frozen=True)
class Lineage:
    """The files, their origins, and what is missing: parents whose bytes were not found."""

    nodes: tuple[Node, ...]
    steps: tuple[LineageStep, ...]
    missing: tuple[tuple[Node, Link], ...]

    @property
    def broken(self) -> list[str]:
        """Return one sentence for each broken file."""
        return [f"{node.path}: {node.problem}" for node in self.nodes if node.problem]

    def lines(self) -> list[str]:
        """Return the chains as an indented tree, roots first."""
        children = {node.path for node in (step.child for step in self.steps)}
        roots = [node for node in self.nodes if node.path not in children]
        return [line for root in roots for line in self._tree(root, 0, ())]

    def _tree(self, node: Node, depth: int, above: tuple[Path, ...]) -> Iterator[str]:
        mark = f"  BROKEN: {node.problem}" if node.problem else ""
        yield f"{'  ' * depth}{node.path} ({node.kind}, {node.sha256[:12]}){mark}"
        if node.path in above:
            return
        for step in self.steps:
            if step.parent.path == node.path:
                yield from self._tree(step.child, depth + 1, (*above, node.path))

    def missing_lines(self) -> list[str]:
        """Return one sentence for each parent that was not found."""
        return [
            f"{node.path}: its {link.role} {link.sha256[:12]}… is not among the given files"
            for node, link in self.missing
        ]

    def to_json(self) -> dict[str, Any]:
        """Return files, steps, and what is missing or broken as plain JSON values."""
        return {
            "files": [
                {
                    "path": str(node.path),
                    "kind": node.kind,
                    "sha256": node.sha256,
                    "problem": node.problem,
                }
                for node in self.nodes
            ],
            "steps": [
                {"parent": str(s.parent.path), "child": str(s.child.path), "role": s.role}
                for s in self.steps
            ],
            "missing": [
                {"path": str(node.path), "role": link.role, "sha256": link.sha256}
                for node, link in self.missing
            ],
            "broken": self.broken,
        }


def trace(paths: Sequence[Path], *, check_tensors: bool = True) -> Lineage:
    """Follow the files of `paths`, and those in the folders among them and below, from child to
    parent. Line stores are left out. Readings and foreign checkpoints in a folder are listed when
    another file names their hash. With `check_tensors` the weights are read completely, to find
    damage that their contract does not show. Raises UsageError when nothing is given, a path does
    not exist, or a folder holds too many files.
    """
    files = tuple(dict.fromkeys(_files(paths)))
    named = set(paths)
    nodes = [
        _node(path, check_tensors) for path in files if path in named or is_artifact(path)
    ]
    known = {node.path for node in nodes}
    nodes += _referenced([path for path in files if path not in known], nodes)
    if not nodes:
        raise UsageError("no weights, ONNX models, engines, results or reports there")
    by_hash: dict[str, Node] = {}
    for node in nodes:
        by_hash.setdefault(node.sha256, node)
    steps: list[LineageStep] = []
    missing: list[tuple[Node, Link]] = []
    for node in nodes:
        for link in node.links:
            parent = by_hash.get(link.sha256)
            if link.role.startswith(_WRITTEN):
                if parent is not None:
                    steps.append(LineageStep(node, parent, "written by"))
                continue
            if parent is not None and parent.path != node.path:
                steps.append(LineageStep(parent, node, link.role))
            elif parent is None and _is_required(node, link):
                missing.append((node, link))
    return Lineage(tuple(nodes), _without_detours(steps), tuple(missing))


def _is_required(node: Node, link: Link) -> bool:
    """Return whether a hash must belong to one of the files. A result also names charsets and line
    stores.
    """
    if node.kind == "report":
        return link.role in ("result.sha256", "model.sha256")
    return node.kind != "result" or link.role.endswith("model.sha256")


def _referenced(paths: Sequence[Path], nodes: Sequence[Node]) -> list[Node]:
    """Return readings and checkpoints whose hash one of the nodes names."""
    named = {link.sha256 for node in nodes for link in node.links}
    found = []
    for path in paths:
        if path.suffix not in (*_CHECKPOINTS, ".json"):
            continue
        sha256 = sha256_of(path)
        if sha256 in named:
            kind = "readings" if path.suffix == ".json" else "checkpoint"
            found.append(Node(path, kind, sha256))
    return found


def _without_detours(steps: Iterable[LineageStep]) -> tuple[LineageStep, ...]:
    """Remove repeated arrows: a result may name one file several times."""
    unique: dict[tuple[Path, Path], LineageStep] = {}
    for step in steps:
        unique.setdefault((step.parent.path, step.child.path), step)
    return tuple(unique.values())


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _files_below(path)
            continue
        yield find_weights(path)


def _files_below(folder: Path) -> list[Path]:
    """Return the regular files in a folder and its subfolders, sorted; line stores, hidden folders
    and links are left out.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".") and not name.endswith(_STORE_SUFFIX)
        ]
        paths = [Path(parent, name) for name in sorted(names)]
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
        if len(found) > _MAX_FILES:
            raise UsageError(
                f"{folder} holds more than {_MAX_FILES:,} files; name the folders of the artifacts"
            )
    return found


def is_model(path: Path) -> bool:
    """Return whether a file is weights, an ONNX model or an engine."""
    return path.is_file() and path.suffix in _MODELS


def is_artifact(path: Path) -> bool:
    """Return whether `trace` lists this file of a folder, even if nothing names it."""
    suffixes = (*_MODELS, *_REPORTS)
    if not path.is_file() or path.suffix not in suffixes or path.name.endswith(_SIDECARS):
        return False
    return path.suffix != ".json" or bool(_links_of_text(path))


def _node(path: Path, check_tensors: bool) -> Node:
    sha256 = sha256_of(path)
    kinds = {".safetensors": "weights", ".onnx": "ONNX", ".engine": "engine"}
    if path.suffix in _CHECKPOINTS:
        return Node(path, "checkpoint", sha256)
    if path.suffix in kinds:
        kind = kinds[path.suffix]
        try:
            return Node(path, kind, sha256, tuple(_links_of_model(path, check_tensors)))
        except DataError as error:
            return Node(path, kind, sha256, problem=str(error))
    if path.suffix in _REPORTS:
        kind = "result" if path.suffix == ".json" else "report"
        return Node(path, kind, sha256, _links_of_text(path))
    raise UsageError(
        f"{path}: expected weights, an ONNX model, an engine, a checkpoint, a result (.json) or a"
        " report (.html)"
    )


def _links_of_model(path: Path, check_tensors: bool) -> Iterator[Link]:
    """Return the parent of weights, an ONNX model or an engine after checking that the file is
    complete.
    """
    if path.suffix == ".engine":
        read_sidecar(path)  # checks that it belongs to these bytes
    if path.suffix == ".safetensors" and not has_contract(path):
        return
    contract = read_contract(path)
    if path.suffix == ".safetensors" and check_tensors:
        from nordocr_cli.models.weights import load_weights

        _, contract = load_weights(path)  # checks the digest over all tensors
    parent = contract.parent_sha256
    if parent is not None:
        yield Link("parent", parent)


def _links_of_text(path: Path) -> tuple[Link, ...]:
    """Return the hashes in a result or report, with their keys if it is JSON."""
    if path.stat().st_size > _MAX_REPORT_BYTES:
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        try:
            return tuple(_hashes(json.loads(text), ""))
        except (ValueError, RecursionError):
            return ()
    from_head = [Link(role, sha256) for role, sha256 in _META.findall(text)]
    if from_head:
        return tuple(from_head)
    return tuple(Link("named", found) for found in dict.fromkeys(_HASH.findall(text)))


def _hashes(value: Any, key: str) -> Iterator[Link]:
    """Yield every SHA-256 in a JSON value with its dotted key."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _hashes(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _hashes(inner, key)
    elif isinstance(value, str) and _HASH.fullmatch(value):
        yield Link(key, value)
