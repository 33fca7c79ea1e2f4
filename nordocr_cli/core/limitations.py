"""report limitations: what a recognizer reads badly, from saved results of `nordocr eval`.

The page is for people who decide whether to use a model: for each language, subset and width it
shows how many lines were read, how many were wrong, what the errors look like, and where there are
too few lines to tell. Every figure comes from the result files that the page names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import refuse_inputs, write_text
from nordocr_cli.core.eval.files import recorded_files
from nordocr_cli.errors import DataError
from nordocr_cli.limits import read_json

# With fewer lines an error rate is too uncertain for other lines of the kind.
FEW_LINES = 30
# A group is called weak when its character error rate is this many times that of all lines.
WEAK_FACTOR = 1.5
_GROUPINGS = (
    ("by_language", "language"),
    ("by_subset", "subset"),
    ("by_width", "width in px"),
)
_CORRECT = "exact"


@dataclass(frozen=True)
class GroupFinding:
    """How one language, subset or width band was read.

    `cer` and `exact` are shares, 0 to 1; `failures` counts the wrong lines by error class, most
    frequent first.
    """

    grouping: str
    name: str
    lines: int
    cer: float
    exact: float
    failures: tuple[tuple[str, int], ...]
    is_weak: bool
    is_small: bool

    def remark(self) -> str:
        """Return what a reader should take from the row, or nothing."""
        if self.is_small and self.is_weak:
            return f"weak, but fewer than {FEW_LINES} lines: too few to tell"
        if self.is_small:
            return f"fewer than {FEW_LINES} lines: too few to tell"
        if self.is_weak:
            return "weak"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain JSON values."""
        return {
            "grouping": self.grouping,
            "name": self.name,
            "lines": self.lines,
            "cer": self.cer,
            "exact": self.exact,
            "failures": dict(self.failures),
            "weak": self.is_weak,
            "small": self.is_small,
        }


@dataclass(frozen=True)
class Limitations:
    """The findings of one result. `definitions` explains each error class that occurs."""

    result: Path
    model: str
    model_sha256: str
    lines_of: str
    lines: int
    cer: float
    exact: float
    groups: tuple[GroupFinding, ...]
    pairs: tuple[tuple[str, int], ...]
    definitions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {
            "result": str(self.result),
            "model": self.model,
            "model_sha256": self.model_sha256,
            "store": self.lines_of,
            "lines": self.lines,
            "cer": self.cer,
            "exact": self.exact,
            "groups": [group.to_json() for group in self.groups],
            "confusions": dict(self.pairs),
        }


def read_limitations(path: Path) -> Limitations:
    """Read a result of `nordocr eval -o` (its JSON or its folder) and judge its groups.

    Raises UsageError when there is no such result, DataError when the file is something else.
    """
    file = next((file for file in recorded_files(path) if file.is_file()), path)
    value = read_json(file, "result of nordocr eval")
    try:
        return _judge(file, value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(
            f"{file} is not a result of `nordocr eval` ({type(error).__name__}: {error}); write"
            " one with: nordocr eval MODEL LINES -o FILE.json"
        ) from error


def _judge(file: Path, value: dict[str, Any]) -> Limitations:
    report = value["report"]
    total = report["total"]
    overall_cer = float(total["rates"]["cer"])
    groups = [
        _finding(title, name, group, overall_cer)
        for key, title in _GROUPINGS
        for name, group in report[key].items()
    ]

    seen = {name for group in groups for name, _ in group.failures}
    definitions = {
        name: f"{details['definition']}; {details['advice']}"
        for name, details in report["classes"].items()
        if name in seen
    }
    pairs = [(_pair_name(pair), int(pair["count"])) for pair in report["confusions"][:10]]
    return Limitations(
        result=file,
        model=str(value["model"].get("name", "")),
        model_sha256=str(value["model"].get("sha256") or ""),
        lines_of=str((value["store"] or {}).get("path", "")),
        lines=int(total["lines"]),
        cer=overall_cer,
        exact=float(total["rates"]["exact"]),
        groups=tuple(groups),
        pairs=tuple(pairs),
        definitions=definitions,
    )


def _finding(
    grouping: str, name: str, group: dict[str, Any], overall_cer: float
) -> GroupFinding:
    rates = group["rates"]
    cer = float(rates["cer"] or 0.0)
    failures = {
        error: count
        for error, count in group["classes"].items()
        if error != _CORRECT and count
    }
    most_frequent_first = sorted(failures.items(), key=lambda item: -item[1])
    return GroupFinding(
        grouping=grouping,
        name=name or "not given",
        lines=int(group["lines"]),
        cer=cer,
        exact=float(rates["exact"]),
        failures=tuple(most_frequent_first),
        is_weak=overall_cer > 0 and cer >= WEAK_FACTOR * overall_cer,
        is_small=int(group["lines"]) < FEW_LINES,
    )


def _pair_name(pair: dict[str, Any]) -> str:
    # Results written before the two sides were renamed say wanted and found.
    reference = pair["reference"] if "reference" in pair else pair["wanted"]
    if "hypothesis" in pair:
        hypothesis = pair["hypothesis"]
    else:
        hypothesis = pair["found"]
    return f"{_character_name(reference)} read as {_character_name(hypothesis)}"


def _character_name(side: dict[str, Any]) -> str:
    if side["code"] is None:
        return "nothing"
    if side["char"] == " ":
        return "a space"
    return f"`{side['char']}`"


def write_limitations(
    results: Sequence[Path], output: Path | None
) -> tuple[Limitations, ...]:
    """Read the results, and write the page to `output` (Markdown) when one is given.

    Raises what `read_limitations` does, and UsageError when the output is one of the results.
    """
    if output is not None:
        refuse_inputs(output, [file for path in results for file in recorded_files(path)])
    found = tuple(read_limitations(path) for path in results)
    if output is not None:
        write_text(output, to_markdown(found))
    return found


def to_markdown(found: Sequence[Limitations]) -> str:
    """Return the page: one section for each result."""
    parts = ["# Known limitations\n"]
    parts += [_section(result) for result in found]
    return "\n".join(parts)


def _section(found: Limitations) -> str:
    lines = [
        f"## {_cell(found.model or str(found.result))}",
        "",
        f"{found.lines} lines of `{_cell(found.lines_of or 'a recorded result')}`: CER"
        f" {found.cer:.2%}, {found.exact:.1%} exact. Result: `{_cell(str(found.result))}`"
        + (f", model sha256 `{found.model_sha256[:16]}`." if found.model_sha256 else "."),
        "",
        "| group | | lines | CER | exact | most frequent errors | |",
        "|---|---|---|---|---|---|---|",
    ]
    for group in found.groups:
        errors = ", ".join(f"{name} {count}" for name, count in group.failures[:3])
        lines.append(
            f"| {group.grouping} | {_cell(group.name)} | {group.lines} | {group.cer:.2%} |"
            f" {group.exact:.1%} | {errors} | {group.remark()} |"
        )

    if found.pairs:
        named = "; ".join(f"{_cell(pair)} {count} times" for pair, count in found.pairs)
        lines += ["", f"Most frequent confusions: {named}."]
    if found.definitions:
        lines += ["", "Error classes:", ""]
        lines += [f"- `{name}`: {text}" for name, text in found.definitions.items()]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text from a file, safe inside a Markdown table."""
    for character, replacement in (("|", "\\|"), ("<", "&lt;"), ("\n", " "), ("\r", " ")):
        text = text.replace(character, replacement)
    return text
