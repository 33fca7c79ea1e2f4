"""Tesseract as a line recognizer, and as a line finder for pages."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from nordocr_cli.atomic import sha256_of
from nordocr_cli.cores import usable_cores
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.records import Box, Recognition
from nordocr_cli.runtime.backends.tesseract.engine import Installed, find_tesseract
from nordocr_cli.runtime.protocols import Image

LANGUAGES = {
    "sv": "swe",
    "no": "nor",
    "nb": "nor",
    "nn": "nor",
    "da": "dan",
    "is": "isl",
    "fi": "fin",
    "fo": "fao",
    "en": "eng",
}
DEFAULT_LANGUAGES = "swe+nor+dan+isl"
# Tesseract's page segmentation modes.
_LINE = 7
_PAGE = 3
_BORDER_PX = 10


class TesseractRecognizer:
    """Reads crops as single lines (psm 7) with Tesseract's LSTM engine, each with a white border of
    10 px.

    `languages` is what `tesseract -l` takes, e.g. `swe+nor`; None means the language of each crop,
    or all four Nordic ones where it is not known. `workers` crops are read at a time, by default
    one per core. `installed` is the result of find_tesseract. Raises MissingBackendError when
    Tesseract or a language is not installed.
    """

    def __init__(
        self,
        languages: str | None = None,
        workers: int | None = None,
        installed: Installed | None = None,
        name: str = "tesseract",
    ) -> None:
        self.languages = languages
        self.name = f"{name}:{languages}" if languages else name
        self.installed = installed or find_tesseract()
        self.engine = self.installed.engine
        self._workers = workers or usable_cores()
        self._read_with: set[str] = set()
        require_languages(languages or DEFAULT_LANGUAGES, self.installed.languages)

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer. Raises UsageError for a language that Tesseract has no
        name for.
        """
        by_language: dict[str, list[int]] = {}
        for index in range(len(crops)):
            by_language.setdefault(
                self._language(languages[index] if languages else ""), []
            ).append(index)
        for language in by_language:
            require_languages(language, self.installed.languages)
        readings: list[Recognition] = [Recognition("")] * len(crops)
        for language, ids in by_language.items():
            self._read_with |= set(language.split("+"))
            texts = self.engine.tsv(
                [_with_border(crops[i]) for i in ids], language, _LINE, self._workers
            )
            for index, recognition in zip(ids, parse_tsv(texts, len(ids)), strict=True):
                readings[index] = recognition
        return readings

    def about(self) -> dict[str, Any]:
        """Return what to record in results about the program that read the crops so far: version,
        mode, and the hash of each language's data.
        """
        data = self.installed.data
        if data:
            hashes = {
                name: sha256_of(data / f"{name}.traineddata")
                for name in sorted(self._read_with)
            }
        else:
            hashes = None
        return {
            "version": self.installed.version,
            "psm": _LINE,
            "oem": 1,
            "traineddata_sha256": hashes,
        }

    def _language(self, of_crop: str) -> str:
        if self.languages:
            return self.languages
        if not of_crop:
            return DEFAULT_LANGUAGES
        if of_crop in LANGUAGES:
            return LANGUAGES[of_crop]
        raise UsageError(
            f"Tesseract has no name for language {of_crop!r}; give one, e.g. tesseract:swe+nor"
        )


def _with_border(crop: Image) -> Image:
    return np.pad(
        crop,
        ((_BORDER_PX, _BORDER_PX), (_BORDER_PX, _BORDER_PX), (0, 0)),
        constant_values=255,
    )


def require_languages(languages: str, installed: Collection[str]) -> None:
    """Raise MissingBackendError unless every language of e.g. `swe+nor` is installed."""
    missing = [name for name in languages.split("+") if name not in installed]
    if missing:
        packages = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
        raise MissingBackendError(
            f"Tesseract has no language {', '.join(missing)}; Debian: apt-get install {packages}"
        )


class TesseractLineFinder:
    """Finds the text lines of pages.

    Raises UsageError for a `language` (`sv`, …; `` tries all four) that Tesseract has no name for,
    and MissingBackendError where Tesseract or the language is not installed.
    """

    def __init__(self, language: str = "") -> None:
        if language and language not in LANGUAGES:
            raise UsageError(
                f"Tesseract has no name for language {language!r}; it has one for"
                f" {', '.join(LANGUAGES)}"
            )
        self._languages = LANGUAGES.get(language, DEFAULT_LANGUAGES)
        installed = find_tesseract()
        require_languages(self._languages, installed.languages)
        self._engine = installed.engine

    def find(self, page: Image) -> list[Box]:
        """Return the boxes of the lines on a page, uint8 (height, width, 3), in Tesseract's reading
        order. Raises DataError when Tesseract fails.
        """
        [tsv] = self._engine.tsv([page], self._languages, _PAGE)
        return parse_lines(tsv)


def parse_lines(tsv: str) -> list[Box]:
    """Return the boxes of the lines in Tesseract's TSV of one page. Lines without a word are
    ignored: they are rules and pictures. A box is a little taller than Tesseract's, which ends at
    the ink, since networks are trained on lines with some paper around them.
    """
    boxes = {}
    with_words = set()
    for cells in _rows(tsv):
        line = tuple(cells[1:5])  # page, block, paragraph, line
        if cells[0] == "4":
            left, top, width, height = map(int, cells[6:10])
            margin = max(2, height // 10)
            boxes[line] = Box(
                left - margin, top - margin, width + 2 * margin, height + 2 * margin
            )
        elif cells[0] == "5" and cells[11].strip():
            with_words.add(line)
    return [box for line, box in boxes.items() if line in with_words]


def parse_tsv(texts: Sequence[str], images: int) -> list[Recognition]:
    """Parse Tesseract's TSV of `images` single-line images, in one or more `texts`, into
    recognitions.

    Words are joined by one space; the confidence is the mean of the words' (0…1), weighted by their
    lengths. Raises DataError when Tesseract skipped an image.
    """
    lines: list[list[tuple[str, float]]] = []
    for tsv in texts:
        of_pages: dict[int, list[tuple[str, float]]] = {}
        for cells in _rows(tsv):
            words = of_pages.setdefault(int(cells[1]), [])
            if cells[0] == "5" and cells[11].strip():
                words.append((cells[11], float(cells[10]) / 100))
        lines += (of_pages[page] for page in sorted(of_pages))
    if len(lines) != images:
        raise DataError(
            f"tesseract gave a result for {len(lines)} of {images} crops; run it by hand on one"
            f" of them"
            " to see why"
        )
    return [_join(line) for line in lines]


def _rows(tsv: str) -> Iterator[list[str]]:
    """Yield the cells of each row except the header: level, page, block, paragraph, line, word,
    left, top, width, height, confidence and text.
    """
    for row in tsv.split("\n"):
        cells = row.split("\t")
        if len(cells) >= 12 and cells[0] != "level":
            yield cells


def _join(words: Sequence[tuple[str, float]]) -> Recognition:
    letters = sum(len(word) for word, _ in words)
    if letters:
        confidence = sum(len(word) * confidence for word, confidence in words) / letters
    else:
        confidence = 0.0
    return Recognition(" ".join(word for word, _ in words), confidence)
