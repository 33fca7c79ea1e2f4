"""Lines of a validation or test store that training has seen: copies, near copies, and lines of the
same documents.

| kind | what two lines have in common |
|---|---|
| exact | every pixel |
| near | the text (spaces aside), and a picture that differs by noise, compression, scale or a
    slightly other crop (see data/fingerprint.py) |
| document | the document that they were cut from, where rows name one |
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.data.fingerprint import NEAR_BITS, differing_bits
from nordocr_cli.data.split import document_of_row
from nordocr_cli.data.store import LineStore
from nordocr_cli.records import LineRow

_EXAMPLES = 3


@dataclass(frozen=True)
class Leakage:
    """How many of `lines` lines training has seen. `exact`, `near` and `of_documents` count lines,
    each under the first that holds; `documents` counts the documents in both; `examples` names some
    pairs.
    """

    lines: int
    exact: int
    near: int
    of_documents: int
    documents: int
    examples: tuple[str, ...] = ()

    @property
    def is_found(self) -> bool:
        """Whether training has seen any of the lines."""
        return self.exact + self.near + self.of_documents > 0

    def to_json(self) -> dict[str, Any]:
        """Return the counts and examples as plain JSON values."""
        return asdict(self)

    def describe(self, tested: str, trained: str) -> str:
        """Return one sentence with the counts and examples; `tested` and `trained` name the
        stores.
        """
        counts = {
            "exact copies": self.exact,
            "near copies": self.near,
            f"lines of {self.documents} documents that are in both": self.of_documents,
        }
        found = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        if self.examples:
            shown = f", e.g. {'; '.join(self.examples)}"
        else:
            shown = ""
        return f"of {self.lines} lines in {tested}, {trained} has {found}{shown}"


def find_leakage(trained: Sequence[LineStore], tested: Sequence[LineStore]) -> Leakage:
    """Compare the lines of the `tested` stores with those trained on. Reads rows, no pixels, but of
    stores that were made before they kept fingerprints.
    """
    seen = _Seen(trained)
    counts = dict.fromkeys(("exact", "near", "document"), 0)
    documents: set[str] = set()
    examples: list[str] = []
    lines = 0
    for store, index, pixels, print_ in _lines(tested):
        lines += 1
        row = store.row(index)
        kind, partner = seen.find(row, pixels, print_)
        if not kind:
            continue
        counts[kind] += 1
        if kind == "document":
            documents.add(document_of_row(row))
        elif len(examples) < _EXAMPLES:
            examples.append(f"{row.id!r} is {partner!r} ({kind}, {row.text[:30]!r})")
    return Leakage(
        lines,
        counts["exact"],
        counts["near"],
        counts["document"],
        len(documents),
        tuple(examples),
    )


class _Seen:
    """The lines that were trained on, by pixels, text and document."""

    def __init__(self, stores: Sequence[LineStore]) -> None:
        self._by_pixels: dict[int, str] = {}
        self._documents: set[str] = set()
        by_text: dict[str, list[tuple[int, str]]] = {}
        for store, index, pixels, print_ in _lines(stores):
            row = store.row(index)
            self._by_pixels.setdefault(pixels, row.id)
            by_text.setdefault(_squeezed(row.text), []).append((print_, row.id))
            if _is_of_document(row):
                self._documents.add(document_of_row(row))
        self._by_text = {text: _columns(found) for text, found in by_text.items()}

    def find(self, row: LineRow, pixels: int, print_: int) -> tuple[str, str]:
        """Return the kind of a line's copy and the id of the line trained on; empty strings when
        there is none.
        """
        if pixels in self._by_pixels:
            return "exact", self._by_pixels[pixels]
        prints, names = self._by_text.get(_squeezed(row.text), (None, []))
        if prints is not None and row.text:
            bits = differing_bits(prints, print_)
            nearest = int(bits.argmin())
            if bits[nearest] <= NEAR_BITS:
                return "near", names[nearest]
        if _is_of_document(row) and document_of_row(row) in self._documents:
            return "document", ""
        return "", ""


def _lines(stores: Sequence[LineStore]) -> Iterator[tuple[LineStore, int, int, int]]:
    """Yield store, index, hash of the pixels and fingerprint of each line."""
    return chain.from_iterable(_lines_of(store) for store in stores)


def _lines_of(store: LineStore) -> Iterator[tuple[LineStore, int, int, int]]:
    pixels, prints = store.prints()
    for index, pair in enumerate(zip(pixels.tolist(), prints.tolist(), strict=True)):
        yield store, index, *pair


def _columns(found: Sequence[tuple[int, str]]) -> tuple[NDArray[np.uint64], list[str]]:
    """Fingerprints and ids of lines."""
    return np.array([print_ for print_, _ in found], np.uint64), [name for _, name in found]


def _is_of_document(row: LineRow) -> bool:
    return bool(row.source or row.extra.get("document"))


def _squeezed(text: str) -> str:
    return "".join(text.split())
