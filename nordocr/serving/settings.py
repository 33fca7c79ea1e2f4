"""What `nordocr serve` allows, in one record."""

from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ServeSettings:
    """Limits and access of a server.

    `token` is what clients must send (empty: none, which is only for loopback); `hosts` are the
    names under which the server answers, so that a foreign page cannot reach it through a name of
    its own; empty means any. `corrections` is the folder for corrected lines. At most `waiting`
    requests queue and `kept` documents are stored; the oldest is forgotten first.
    """

    corrections: Path
    token: str = ""
    hosts: tuple[str, ...] = LOOPBACK
    max_bytes: int = 50 << 20
    waiting: int = 256
    kept: int = 64
