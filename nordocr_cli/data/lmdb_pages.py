"""The part of LMDB's file format that is needed to find damage that would end the process.

LMDB maps its file and believes it: a read behind the end of a truncated file, or at an address that
a damaged page names, ends the process (SIGBUS, or an assertion). So the file is checked before LMDB
sees it. The format is that of 64-bit LMDB 0.9:

| where | what |
|---|---|
| page 0 and 1 | meta pages; the newer one counts: root page, depth and flags of the tree, last
    page, transaction |
| a page's 16 bytes of header | its number (8 bytes), 2 unused, flags, end of the pointers, begin of
    the nodes (2 each) |
| a page's pointers | where on the page each node begins (2 bytes each) |
| a node of a leaf | size of the value (4), flags (2), size of the key (2), the key, the value or
    its first page's number |
| a node of a branch | number of the child page (6), size of the key (2), the key |
"""

import mmap
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from nordocr_cli.errors import DataError, UsageError

_ORDER = "<" if sys.byteorder == "little" else ">"
_META_BYTES = 152
_MAGIC = 0xBEEFC0DE
_VERSION = 1
_PAGE_HEADER = 16
_NODE_HEADER = 8
# Flags of a page.
_BRANCH = 1
_LEAF = 2
# Flags of a node.
_BIG = 1  # the value has pages of its own
_DUPLICATES = 4  # one key has several values
_NO_PAGE = 2**64 - 1
_MAXIMUM_DEPTH = 32
_AGAIN = "copy it again, or make it again with `nordocr prep`"


class _Meta(NamedTuple):
    transaction: int
    page_bytes: int
    pages: int
    flags: int
    root: int


def check_lmdb_file(data: Path) -> None:
    """Check that an LMDB data file holds every page that its newest meta page counts. Raises
    DataError, and UsageError when nothing is there.
    """
    if not data.parent.exists():
        raise UsageError(f"no line store {data.parent}; `nordocr prep` makes one")
    try:
        if not data.is_file():
            raise DataError(f"{data.parent}: no LMDB here (no data.mdb)")
        size = data.stat().st_size
        meta = _newest_meta(data)
        if meta is None:
            raise DataError(
                f"{data}: not an LMDB file, or its first pages are damaged; copy it again, or make"
                " it again with prep"
            )
        needed = meta.pages * meta.page_bytes
        if size < needed:
            raise DataError(f"{data}: truncated: {size:,} bytes of {needed:,}; {_AGAIN}")
    except OSError as error:
        raise DataError(f"cannot read {data}: {error.strerror or error}") from error


def check_lmdb_tree(data: Path) -> None:
    """Check that no page of the keys' tree leads out of a file that `check_lmdb_file` has passed:
    three microseconds a line.

    Values are not looked at, so a damaged one is not found here. Raises DataError.
    """
    meta = _newest_meta(data)
    assert meta is not None
    with (
        open(data, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        problem = _problem_in_tree(mapped, meta)
        if problem:
            raise DataError(f"{data}: {problem}; {_AGAIN}")


def bytes_in_use(data: Path) -> int | None:
    """Bytes up to the last page in use, by the newer of the two meta pages; None when there is
    none.
    """
    meta = _newest_meta(data)
    if meta:
        return meta.pages * meta.page_bytes
    return None


def _newest_meta(data: Path) -> _Meta | None:
    found: list[_Meta] = []
    with open(data, "rb") as file:
        first = file.read(_META_BYTES)
        if len(first) == _META_BYTES:
            page_bytes = struct.unpack_from(_ORDER + "I", first, 40)[0]
        else:
            page_bytes = 0
        for offset in (0, page_bytes):
            file.seek(offset)
            page = file.read(_META_BYTES)
            if len(page) == _META_BYTES and struct.unpack_from(_ORDER + "II", page, 16) == (
                _MAGIC,
                _VERSION,
            ):
                flags, (root, last_page, transaction) = (
                    struct.unpack_from(_ORDER + "H", page, 92)[0],
                    struct.unpack_from(_ORDER + "QQQ", page, 128),
                )
                found.append(_Meta(transaction, page_bytes, last_page + 1, flags, root))
    if found:
        return max(found)
    return None


def _problem_in_tree(mapped: mmap.mmap, meta: _Meta) -> str | None:
    """What is wrong with the tree of keys, None when nothing is: every page of it is visited once,
    the values' own are not.
    """
    if meta.page_bytes < 256 or meta.page_bytes & (meta.page_bytes - 1) or meta.flags:
        return "its meta page is damaged, or it is of a kind that prep does not read"
    end = meta.pages * meta.page_bytes
    size = meta.page_bytes
    header, node_header, page_number = (
        struct.Struct(_ORDER + form) for form in ("QHHHH", "HHHH", "Q")
    )
    waiting = [] if meta.root == _NO_PAGE else [(meta.root, 1)]
    seen = set[int]()
    while waiting:
        number, depth = waiting.pop()
        if not 1 < number < meta.pages or number in seen or depth > _MAXIMUM_DEPTH:
            return f"damaged: its tree leads to page {number} of {meta.pages}"
        seen.add(number)
        start = number * size
        own_number, _, flags, lower, upper = header.unpack_from(mapped, start)
        nodes = (lower - _PAGE_HEADER) // 2
        # LMDB assumes that a branch has at least two children.
        if (
            own_number != number
            or flags not in (_BRANCH, _LEAF)
            or not lower <= upper <= size
            or nodes < (3 - flags)
        ):
            return f"page {number} is damaged"
        for pointer in struct.unpack_from(
            f"{_ORDER}{nodes}H", mapped, start + _PAGE_HEADER
        ):
            key_at = pointer + _NODE_HEADER
            if pointer < lower or key_at > size:
                return f"page {number} is damaged"
            low, high, node_flags, key_bytes = node_header.unpack_from(
                mapped, start + pointer
            )
            value_at = key_at + key_bytes
            if flags == _BRANCH:
                if value_at > size:
                    return f"page {number} is damaged"
                waiting.append((low | high << 16 | node_flags << 32, depth + 1))
                continue
            value_bytes = low | high << 16
            if (
                node_flags & _DUPLICATES
                or value_at + (8 if node_flags & _BIG else value_bytes) > size
            ):
                return f"page {number} is damaged"
            if node_flags & _BIG:
                first = page_number.unpack_from(mapped, start + value_at)[0]
                if first < 2 or first * size + _PAGE_HEADER + value_bytes > end:
                    return f"page {number} is damaged: a value lies beyond the file's end"
    return None
