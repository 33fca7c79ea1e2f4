"""Which store a line goes to: complete documents, and a picture never into two stores, so that
nothing is measured on what was trained on.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import LineRow

# Each fold is a store; a model is trained for each of them.
_MAXIMUM_FOLDS = 1000
NO_GROUPS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Split:
    """How the lines are divided into stores: a share for validation, or k folds, or neither (both
    are 0).
    """

    val_share: float = 0.0
    folds: int = 0
    seed: int = 1

    def stores(self, output: Path) -> list[Path]:
        """Paths of the stores to be written: `lines.lmdb`, with `lines_val.lmdb`; or
        `lines_fold1.lmdb` and so on.
        """
        if not 0 <= self.val_share < 1:
            raise UsageError(
                f"--val-split {self.val_share} is not a share from 0 to below 1"
            )
        if self.folds and not 2 <= self.folds <= _MAXIMUM_FOLDS:
            raise UsageError(
                f"--folds {self.folds}: give a number from 2 to {_MAXIMUM_FOLDS}"
            )
        if self.folds and self.val_share:
            raise UsageError("give only one of --val-split and --folds")
        if self.folds:
            return [
                output.with_name(f"{output.stem}_fold{k}{output.suffix}")
                for k in range(1, self.folds + 1)
            ]
        if self.val_share:
            return [output, output.with_name(f"{output.stem}_val{output.suffix}")]
        return [output]

    def parts(
        self, lines_of: Mapping[str, int], groups: Mapping[str, str] = NO_GROUPS
    ) -> dict[str, int]:
        """Return the part of each document that is not in the first.

        `lines_of` counts the lines of each document; `groups` names its language and subset, which
        are represented in both stores where they have more than one document.
        """
        if self.folds:
            return choose_folds(lines_of, self.folds, self.seed)
        if not self.val_share:
            return {}
        chosen = choose_documents(lines_of, self.val_share, self.seed, groups)
        return dict.fromkeys(chosen, 1)

    def to_json(self) -> dict[str, Any]:
        """Return what a store records about it."""
        if self.folds:
            return {"folds": self.folds, "seed": self.seed}
        if self.val_share:
            return {"val_split": self.val_share, "seed": self.seed}
        return {}


def document_of_row(row: LineRow) -> str:
    """Document that a line was cut from: `source` up to a colon (`d000:p1:r4`), else what the row
    has under `document`, else the line itself.
    """
    if row.source:
        return row.source.split(":")[0]
    return str(row.extra.get("document") or row.id)


def group_of(row: LineRow) -> str:
    """What a validation store should hold some of: the row's language and subset."""
    return " ".join(part for part in (row.language, row.subset) if part)


def choose_documents(
    lines_of: Mapping[str, int],
    share: float,
    seed: int,
    groups: Mapping[str, str] = NO_GROUPS,
) -> set[str]:
    """Choose documents that hold about `share` of the lines of each group, at least one and never
    all; the same for the same seed.

    `lines_of` counts the lines of each document, `groups` names its group. Raises DataError when
    there is only one document.
    """
    if len(lines_of) < 2:
        raise DataError(
            "all lines come from one document, so none can be set aside for validation; leave"
            " --val-split out"
        )
    members: dict[str, dict[str, int]] = {}
    for document, lines in lines_of.items():
        members.setdefault(groups.get(document, ""), {})[document] = lines
    if len(members) == 1:
        return _choose(lines_of, share, seed, at_least_one=True)
    chosen: set[str] = set()
    for of_group in members.values():
        if len(of_group) > 1:
            chosen |= _choose(of_group, share, seed, at_least_one=False)
    return chosen or _choose(lines_of, share, seed, at_least_one=True)


def _choose(
    lines_of: Mapping[str, int], share: float, seed: int, *, at_least_one: bool
) -> set[str]:
    """Choose documents with about `share` of the lines, never all of them."""
    order = _shuffled(lines_of, seed)
    missing = share * sum(lines_of.values())
    chosen: set[str] = set()
    for document in order[:-1]:
        if lines_of[document] < 2 * missing:  # brings the total nearer to the share
            chosen.add(document)
            missing -= lines_of[document]
    if not chosen and at_least_one:
        chosen = {min(order, key=lambda document: lines_of[document])}
    return chosen


def groups_missing(groups: Mapping[str, str], chosen: Collection[str]) -> list[str]:
    """Return the groups of which no document is among the chosen ones."""
    present = {groups[document] for document in chosen if document in groups}
    return sorted(set(groups.values()) - present)


def choose_folds(lines_of: Mapping[str, int], folds: int, seed: int) -> dict[str, int]:
    """Deal documents into `folds` parts of about as many lines; the same for the same seed. Returns
    document → 0…folds-1.

    Raises DataError when there are fewer documents than folds.
    """
    if len(lines_of) < folds:
        raise DataError(
            f"the lines come from {len(lines_of)} documents, which cannot be dealt into {folds}"
            " folds"
        )
    filled = [0] * folds
    part_of = {}
    # The large ones first: a small one can still even out what they left uneven.
    for document in sorted(
        _shuffled(lines_of, seed), key=lambda document: -lines_of[document]
    ):
        part = min(range(folds), key=lambda part: filled[part])
        part_of[document] = part
        filled[part] += lines_of[document]
    return part_of


def _shuffled(documents: Mapping[str, int], seed: int) -> list[str]:
    return sorted(
        documents,
        key=lambda document: hashlib.sha256(f"{seed}:{document}".encode()).digest(),
    )


class Placement:
    """Decides line by line, by document and by picture. `part_of` gives each document's part; those
    not in it go to part 0.

    The first line with a picture decides where that picture belongs: a later line of another
    document that is in another part is rejected, and one of no known document goes where its
    picture is.
    """

    def __init__(self, part_of: Mapping[str, int]) -> None:
        self._part_of = part_of
        # hash of the pixels → part, text of the first line with them
        self._seen: dict[bytes, tuple[int, str]] = {}

    def first_text(self, pixels_sha256: bytes) -> str | None:
        """Text of the first line that was placed with these pixels; None when there is none."""
        found = self._seen.get(pixels_sha256)
        if found:
            return found[1]
        return None

    def part_of(self, row: LineRow) -> int:
        """Return the part of a line's document."""
        return self._part_of.get(document_of_row(row), 0)

    def place(self, row: LineRow, pixels_sha256: bytes) -> int | None:
        """Return the part for a line; None when its picture is in another part already."""
        of_document = self.part_of(row)
        part, _ = self._seen.setdefault(pixels_sha256, (of_document, row.text))
        is_free = not row.source and not row.extra.get("document")
        if part == of_document or is_free:
            return part
        return None
