from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nordocr_cli.data.split import (
    Placement,
    Split,
    choose_documents,
    choose_folds,
    document_of_row,
)
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.records import LineRow

DOCUMENTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.integers(1, 50), min_size=2, max_size=30
)


@given(DOCUMENTS, st.floats(0.01, 0.9), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_the_share_is_met_by_whole_documents(
    lines_of: dict[str, int], share: float, seed: int
) -> None:
    chosen = choose_documents(lines_of, share, seed)
    assert 0 < len(chosen) < len(lines_of)
    assert chosen <= set(lines_of)
    assert chosen == choose_documents(dict(reversed(lines_of.items())), share, seed)
    assert abs(sum(map(lines_of.get, chosen)) - share * sum(lines_of.values())) <= max(
        lines_of.values()
    )


@given(DOCUMENTS, st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_folds_are_of_like_size(lines_of: dict[str, int], folds: int) -> None:
    if len(lines_of) < folds:
        with pytest.raises(DataError, match="cannot be dealt"):
            choose_folds(lines_of, folds, 1)
        return
    part_of = choose_folds(lines_of, folds, 1)
    assert part_of.keys() == lines_of.keys()
    sizes = [
        sum(n for d, n in lines_of.items() if part_of[d] == part) for part in range(folds)
    ]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= max(lines_of.values())


def test_one_document_cannot_be_split() -> None:
    with pytest.raises(DataError, match="one document"):
        choose_documents({"a": 5}, 0.5, 1)


def line(document: str, text: str = "x") -> LineRow:
    return LineRow(
        f"{document}-{text}",
        "a.png",
        text,
        source=f"{document}:p1:r1" if document != "?" else "",
    )


@given(
    st.lists(st.tuples(st.sampled_from("ABC?"), st.integers(0, 3)), min_size=1, max_size=40)
)
@settings(max_examples=60, deadline=None)
def test_a_picture_is_in_one_store_and_so_is_a_document(
    lines: list[tuple[str, int]],
) -> None:
    placement = Placement({"B": 1, "C": 2})
    pictures: dict[int, set[int]] = {}
    documents: dict[str, set[int]] = {}
    for document, picture in lines:
        part = placement.place(line(document), bytes([picture]))
        if part is not None:
            pictures.setdefault(picture, set()).add(part)
            documents.setdefault(document, set()).add(part)
        else:
            assert pictures[picture] != {{"A": 0, "B": 1, "C": 2}[document]}
    assert all(len(parts) == 1 for parts in pictures.values())
    assert all(len(parts) == 1 for document, parts in documents.items() if document != "?")


def test_the_first_text_of_a_picture_is_remembered() -> None:
    placement = Placement({})
    assert placement.first_text(b"p") is None
    placement.place(line("A", "first"), b"p")
    placement.place(line("A", "second"), b"p")
    assert placement.first_text(b"p") == "first"
    assert document_of_row(line("A")) == "A"
    assert document_of_row(LineRow("id", "a.png", "x")) == "id"


@pytest.mark.parametrize("folds", [-1, 1, 1001, 2**63])
def test_a_number_of_folds_that_no_one_trains_is_refused_at_once(folds):
    with pytest.raises(UsageError, match="give a number from 2 to 1000"):
        Split(folds=folds).stores(Path("x.lmdb"))
