"""Addresses of servers, as users and data sets give them."""

from urllib.parse import SplitResult, urlsplit

from nordocr_cli.errors import UsageError
from nordocr_cli.printable import caption

_MAX_CHARACTERS = 2_000


def split_address(url: str, named: str) -> SplitResult:
    """Return the parts of an http or https address. `named` says in messages where it comes from,
    such as `--url`.

    Raises UsageError for what is no such address, and for one that holds a password, which would
    stand in messages and files.
    """
    expected = "expected an http or https address, e.g. http://127.0.0.1:8000/v1"
    is_plain = url.isprintable() and " " not in url and len(url) <= _MAX_CHARACTERS
    try:
        parts = urlsplit(url)
        is_plain = is_plain and (parts.port is None or parts.port > 0)
    except ValueError:
        is_plain = False
    if not is_plain or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{named} {caption(url)!r}: {expected}")
    if parts.username or parts.password:
        raise UsageError(
            f"{named}: give the plain address, without a name or password; a key comes from an"
            " environment variable (see -h)"
        )
    return parts
