"""Tesseract as a recognizer: the command line program, one process for many crops, two of them at a time.

One crop a call costs about 100 ms, most of it start-up; a list of crops costs about 25 ms a line. Tesseract's LSTM engine
keeps nothing from one image of a list to the next, so a crop's text is the same alone and in a list.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.records import Box, Recognition
from nordocr_cli.runtime.protocols import Image

LANGUAGES = {"sv": "swe", "no": "nor", "nb": "nor", "nn": "nor", "da": "dan", "is": "isl", "fi": "fin", "fo": "fao", "en": "eng"}
DEFAULT_LANGUAGES = "swe+nor+dan+isl"
# Short lists keep all processes busy to the end; longer ones save little start-up.
_CROPS_A_CALL = 24
_BORDER_PX = 10
_TIMEOUT_S = 300


class TesseractRecognizer:
    """Reads crops with `tesseract --psm 7` and its LSTM engine, each with a white border of 10 px.

    `languages` is what `tesseract -l` takes, e.g. `swe+nor`; None means the language of each crop, or all four Nordic ones
    where it is not known. Raises MissingBackendError when the program or a language is not installed.
    """

    def __init__(self, languages: str | None = None, processes: int | None = None) -> None:
        self.languages = languages
        self.name = f"tesseract:{languages}" if languages else "tesseract"
        self._processes = processes or os.cpu_count() or 1
        self._installed = installed_languages()
        require_languages(languages or DEFAULT_LANGUAGES, self._installed)

    def recognize(self, crops: Sequence[Image], languages: Sequence[str] = ()) -> list[Recognition]:
        """Read the crops; see Recognizer. Raises UsageError for a language that Tesseract has no name for."""
        if not crops:
            return []
        by_language: dict[str, list[int]] = {}
        for index in range(len(crops)):
            by_language.setdefault(self._language(languages[index] if languages else ""), []).append(index)
        for language in by_language:
            require_languages(language, self._installed)
        # As many calls as keep every process busy, of at most _CROPS_A_CALL crops.
        size = min(_CROPS_A_CALL, -(-len(crops) // self._processes))
        jobs = [(name, ids[at : at + size]) for name, ids in by_language.items() for at in range(0, len(ids), size)]
        readings: list[Recognition] = [Recognition("")] * len(crops)
        with tempfile.TemporaryDirectory(prefix="nordocr-tesseract-") as folder, ThreadPoolExecutor(self._processes) as pool:
            for (_, ids), read in zip(jobs, pool.map(lambda job: _read(crops, job[1], job[0], Path(folder)), jobs), strict=True):
                for index, recognition in zip(ids, read, strict=True):
                    readings[index] = recognition
        return readings

    def _language(self, of_crop: str) -> str:
        if self.languages:
            return self.languages
        if not of_crop:
            return DEFAULT_LANGUAGES
        if of_crop in LANGUAGES:
            return LANGUAGES[of_crop]
        raise UsageError(f"Tesseract has no name for language {of_crop!r}; give one, e.g. tesseract:swe+nor")


def require_languages(languages: str, installed: set[str]) -> None:
    """Raise MissingBackendError unless every language of e.g. `swe+nor` is installed."""
    if missing := [name for name in languages.split("+") if name not in installed]:
        packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
        raise MissingBackendError(f"Tesseract has no language {', '.join(missing)}; Debian: apt-get install {packages}")


def installed_languages() -> set[str]:
    """Return the languages that the installed Tesseract knows. Raises MissingBackendError when there is no Tesseract."""
    if shutil.which("tesseract") is None:
        raise MissingBackendError(
            "the program tesseract is not on PATH; Debian: apt-get install tesseract-ocr tesseract-ocr-swe tesseract-ocr-nor "
            "tesseract-ocr-dan tesseract-ocr-isl"
        )
    done = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise MissingBackendError(f"tesseract --list-langs failed: {done.stderr.strip()[-200:]}; install it again")
    return set(done.stdout.split("\n")[1:]) - {""}


def tesseract_version() -> str:
    """Return e.g. `tesseract 5.3.0`. Raises MissingBackendError when there is no Tesseract."""
    installed_languages()
    done = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, timeout=30, check=True)
    return (done.stdout or done.stderr).split("\n")[0]


def find_lines(page: Image, language: str = "") -> list[Box]:
    """Return the boxes of the text lines on a page, uint8 (height, width, 3), in Tesseract's reading order.

    `language` is that of the page (`sv`, …; `` tries all four). Raises UsageError for one that Tesseract has no name for,
    MissingBackendError where it is not installed, and DataError when Tesseract fails.
    """
    import cv2

    if language and language not in LANGUAGES:
        raise UsageError(f"Tesseract has no name for language {language!r}; it has one for {', '.join(LANGUAGES)}")
    languages = LANGUAGES.get(language, DEFAULT_LANGUAGES)
    require_languages(languages, installed_languages())
    _, encoded = cv2.imencode(".png", page[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    command = ["tesseract", "stdin", "stdout", "-l", languages, "--oem", "1", "--psm", "3", "--dpi", "300", "tsv"]
    tsv = _run(command, encoded.tobytes(), "a page")
    return parse_lines(tsv)


def parse_lines(tsv: str) -> list[Box]:
    """Return the boxes of the lines in Tesseract's TSV of one page, those without a word left out: they are rules and pictures.

    A box is a little higher than Tesseract's, which cuts at the ink: networks are trained on lines with some paper around.
    """
    boxes, said = {}, set()
    for row in tsv.split("\n")[1:]:
        cells = row.split("\t")
        if len(cells) < 12:
            continue
        line = tuple(cells[1:5])  # page, block, paragraph, line
        if cells[0] == "4":
            left, top, width, height = map(int, cells[6:10])
            margin = max(2, height // 10)
            boxes[line] = Box(left - margin, top - margin, width + 2 * margin, height + 2 * margin)
        elif cells[0] == "5" and cells[11].strip():
            said.add(line)
    return [box for line, box in boxes.items() if line in said]


def _run(command: list[str], data: bytes, what: str) -> str:
    # Its OpenMP threads cost more than they bring on line crops: 0.9 s a page instead of 2-4 s with this limit.
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(command, input=data, capture_output=True, env=environment, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"tesseract took more than {_TIMEOUT_S} s for {what}; is the machine out of memory?") from None
    if done.returncode:
        raise DataError(f"tesseract failed ({done.returncode}): {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout.decode("utf-8")


def _read(crops: Sequence[Image], ids: Sequence[int], language: str, folder: Path) -> list[Recognition]:
    """Read crops `ids` in one call of the program."""
    import cv2

    files = []
    for index in ids:
        bordered = np.pad(crops[index], ((_BORDER_PX, _BORDER_PX), (_BORDER_PX, _BORDER_PX), (0, 0)), constant_values=255)
        _, encoded = cv2.imencode(".png", bordered[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        files.append(folder / f"{index}.png")
        files[-1].write_bytes(encoded.tobytes())
    command = ["tesseract", "stdin", "stdout", "-l", language, "--oem", "1", "--psm", "7", "--dpi", "300", "tsv"]
    tsv = _run(command, "".join(f"{file}\n" for file in files).encode(), f"{len(ids)} crops")
    for file in files:
        file.unlink()
    return parse_tsv(tsv, len(ids))


def parse_tsv(tsv: str, images: int) -> list[Recognition]:
    """Turn Tesseract's TSV for a list of `images` single-line images into their readings.

    Words are joined by one space; the confidence is the mean of the words' (0…1), weighted by their lengths. Raises DataError
    when Tesseract left an image out.
    """
    words: list[list[tuple[str, float]]] = [[] for _ in range(images)]
    seen = set()
    for row in tsv.split("\n")[1:]:
        cells = row.split("\t")
        if len(cells) < 12:
            continue
        # Columns: level, page, block, paragraph, line, word, left, top, width, height, confidence, text.
        page = int(cells[1]) - 1
        seen.add(page)
        if cells[0] == "5" and cells[11].strip():
            words[page].append((cells[11], float(cells[10]) / 100))
    if seen != set(range(images)):
        raise DataError(f"tesseract answered for {len(seen)} of {images} crops; run it by hand on one of them to see why")
    return [_join(line) for line in words]


def _join(words: Sequence[tuple[str, float]]) -> Recognition:
    letters = sum(len(word) for word, _ in words)
    confidence = sum(len(word) * confidence for word, confidence in words) / letters if letters else 0.0
    return Recognition(" ".join(word for word, _ in words), confidence)
