"""The environment variables that the program reads, declared once: `nordocr doctor` and the docs
list them from here.
"""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Variable:
    """An environment variable. `default` is what applies without it, in words; the value of a
    secret is never shown.
    """

    name: str
    meaning: str
    default: str
    is_secret: bool = False

    def get(self) -> str | None:
        """Return the value, or None if the variable is unset or empty."""
        return os.environ.get(self.name) or None


PROFILES = Variable(
    "NORDOCR_PROFILES",
    "Folder of your own profiles, searched first.",
    "shipped profiles only",
)
THREADS = Variable(
    "NORDOCR_THREADS", "CPU threads, where --threads is not given.", "all cores"
)
CACHE = Variable(
    "NORDOCR_CACHE",
    "Folder of downloaded weights and public data sets.",
    "~/.cache/nordocr",
)
TOKEN = Variable(
    "NORDOCR_TOKEN",
    "Token that `nordocr serve` requires from its clients.",
    "none on loopback",
    is_secret=True,
)

TESSDATA_BEST = Variable(
    "NORDOCR_TESSDATA_BEST",
    "Folder with the models of tessdata_best, for `tesseract-best`.",
    "tesseract-best is not available",
)

VARIABLES = [PROFILES, THREADS, CACHE, TOKEN, TESSDATA_BEST]


def cache_folder() -> Path:
    """Return the folder for downloaded files. It is not created here."""
    chosen = CACHE.get()
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "nordocr"
