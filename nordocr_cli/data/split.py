"""Which store a line goes to: whole documents, and a picture never into two stores, so that nothing
is measured on what was trained on.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import LineRow


@dataclass(frozen=True)
class Split:
    """How the lines are parted into stores: a share for validation, or k folds, or neither (both
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
            raise UsageError(f"--val-split {self.val_share} is not a share from 0 to below 1")
        if self.folds == 1 or (self.folds and self.val_share):
            raise UsageError(
                "--folds takes a number from 2 on, and --val-split or --folds can be had, not both"
            )
        if self.folds:
            return [
                output.with_name(f"{output.stem}_fold{k}{output.suffix}")
                for k in range(1, self.folds + 1)
            ]
        return (
            [output, output.with_name(f"{output.stem}_val{output.suffix}")]
            if self.val_share
            else [output]
        )

    def parts(self, lines_of: Mapping[str, int]) -> dict[str, int]:
        """Return the part of each document that is not in the first."""
        if self.folds:
            return choose_folds(lines_of, self.folds, self.seed)
        return (
            dict.fromkeys(choose_documents(lines_of, self.val_share, self.seed), 1)
            if self.val_share
            else {}
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a store records about it."""
        kind = (
            {"folds": self.folds}
            if self.folds
            else {"val_split": self.val_share}
            if self.val_share
            else {}
        )
        return kind | {"seed": self.seed} if kind else {}


def document_of(row: LineRow) -> str:
    """Document that a line was cut from: `source` up to a colon (`d000:p1:r4`), the line itself
    where it is not known.
    """
    return row.source.split(":")[0] or row.id


def choose_documents(lines_of: Mapping[str, int], share: float, seed: int) -> set[str]:
    """Choose documents that hold about `share` of all lines, at least one and never all; the same
    for the same seed.

    `lines_of` counts the lines of each document. Raises DataError when there is only one document.
    """
    if len(lines_of) < 2:
        raise DataError(
            "all lines come from one document, so none can be set aside for validation; leave"
            " --val-split out"
        )
    order = _shuffled(lines_of, seed)
    missing = share * sum(lines_of.values())
    chosen: set[str] = set()
    for document in order[:-1]:
        if lines_of[document] < 2 * missing:  # brings the total nearer to the share
            chosen.add(document)
            missing -= lines_of[document]
    return chosen or {min(order, key=lambda document: lines_of[document])}


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
    filled, part_of = [0] * folds, {}
    # The large ones first: a small one can still even out what they left uneven.
    for document in sorted(_shuffled(lines_of, seed), key=lambda document: -lines_of[document]):
        part = min(range(folds), key=lambda part: filled[part])
        part_of[document] = part
        filled[part] += lines_of[document]
    return part_of


def _shuffled(documents: Mapping[str, int], seed: int) -> list[str]:
    return sorted(
        documents, key=lambda document: hashlib.sha256(f"{seed}:{document}".encode()).digest()
    )


class Placement:
    """Decides line by line, by document and by picture. `part_of` gives each document's part; those
    not in it go to part 0.

    The first line with a picture decides where that picture belongs: a later line of another
    document that is in another part has to be left out, and one of no known document goes where its
    picture is.
    """

    def __init__(self, part_of: Mapping[str, int]) -> None:
        self._part_of = part_of
        # hash of the pixels → part, text of the first line with them
        self._seen: dict[bytes, tuple[int, str]] = {}

    def first_text(self, pixels_sha256: bytes) -> str | None:
        """Text of the first line that was placed with these pixels; None when there is none."""
        return self._seen[pixels_sha256][1] if pixels_sha256 in self._seen else None

    def place(self, row: LineRow, pixels_sha256: bytes) -> int | None:
        """Return the part for a line; None when its picture is in another part already."""
        wanted = self._part_of.get(document_of(row), 0)
        part, _ = self._seen.setdefault(pixels_sha256, (wanted, row.text))
        return part if part == wanted or not row.source else None
