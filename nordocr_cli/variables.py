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

# Stand in for options of `train` and `prep` that are not given; `--dry-run` shows which did.
RUN_NAME = Variable(
    "RUN_NAME",
    "Name of the run: `train` writes to runs/NAME, where --run-dir is not given.",
    "runs/PROFILE-N",
)
TRAIN_DATASETS = Variable(
    "TRAIN_DATASETS",
    "Line stores of `train`, comma-separated, each STORE or STORE=RATIO, where --train is not"
    " given.",
    "data.train of the profile",
)
INCLUDE_LANGUAGES = Variable(
    "INCLUDE_LANGUAGES",
    "Languages that `prep` takes, comma-separated, where --include-language is not given.",
    "all languages",
)
PRECISION = Variable(
    "PRECISION",
    "train.precision of `train` (fp32, fp16, bf16, 16-mixed); --set wins over it.",
    "that of the profile",
)
RESUME_FROM = Variable(
    "RESUME_FROM",
    "Run folder, or a file in it, that `train` resumes, where none of --resume, --load and"
    " --run-dir is given.",
    "a new run",
)

VARIABLES = [
    PROFILES,
    THREADS,
    CACHE,
    TOKEN,
    TESSDATA_BEST,
    RUN_NAME,
    TRAIN_DATASETS,
    INCLUDE_LANGUAGES,
    PRECISION,
    RESUME_FROM,
]


def listed(variable: Variable) -> list[str]:
    """Return the comma-separated values of a variable, none where it is unset."""
    return [part.strip() for part in (variable.get() or "").split(",") if part.strip()]


def cache_folder() -> Path:
    """Return the folder for downloaded files. It is not created here."""
    chosen = CACHE.get()
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "nordocr"
