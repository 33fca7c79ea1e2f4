"""What becomes of a row: the line that is kept, or the reason for which it is rejected.

`prepare_shard` is all the work on images, and the same function on every engine (see engines.py).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from nordocr_cli.charset import Charset, describe_character
from nordocr_cli.core.prep.stats import LeftOut
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import Source
from nordocr_cli.data.notes import note_mapped, note_over_wide
from nordocr_cli.data.oov import replace_characters
from nordocr_cli.errors import DataError
from nordocr_cli.geometry import Geometry, frames_needed
from nordocr_cli.records import LineRow

if TYPE_CHECKING:
    from nordocr_cli.data.line_record import EncodedLine
    from nordocr_cli.pixels import Pixels

# Below these nothing can be read: letters need some six pixels.
_MINIMUM_HEIGHT_PX = 6
_MINIMUM_WIDTH_PX = 3
# Even "i" and "l" are wider than this share of the line's height.
_NARROWEST_CHARACTER = 0.15
# Levels, of 255, between paper and ink: less is hardly seen.
_MINIMUM_CONTRAST = 24
# Levels between the averages of a line's cells.
_MINIMUM_CELL_CONTRAST = 3
_CELL_ROWS = 2
_CELL_COLUMNS = 33


@dataclass(frozen=True)
class PreparedLine:
    """A line that can be kept."""

    row: LineRow
    encoded: "EncodedLine"


IndexedEntry = tuple[int, Entry]  # number of the source, its entry
# the entry with its text as it is kept, and what became of it
EntryOutcome = tuple[Entry, LeftOut | PreparedLine]


@dataclass(frozen=True)
class Selection:
    """Which rows to take: those of these languages and subsets; all where none are named.

    `empty`: rows whose text is empty too. A network learns from them to read nothing where nothing
    is written.
    """

    languages: tuple[str, ...] = ()
    subsets: tuple[str, ...] = ()
    empty: bool = False

    def left_out(self, row: LineRow) -> LeftOut | None:
        """Return why a row is rejected, None when it is taken."""
        if self.languages and row.language not in self.languages:
            return LeftOut("other-language", f"language {row.language!r}")
        if self.subsets and row.subset not in self.subsets:
            return LeftOut("other-subset", f"subset {row.subset!r}")
        return None


@dataclass(frozen=True)
class PrepRules:
    """All that decides what becomes of a row: the filters, the charset of the texts with the
    replacements for characters that it does not have, and the geometry of the lines. Labels must
    fit the CTC frames of their lines or, for a network that writes tokens, have at most
    `max_label_length` characters.
    """

    select: Selection
    charset: Charset
    mapping: Mapping[str, str]
    geometry: Geometry
    max_label_length: int | None = None

    def check(self, entry: Entry) -> Entry | LeftOut:
        """Return the entry with its text cleaned, or why a filter rejects it or its text cannot be
        used. Reads no image.
        """
        if entry.row is None:
            return LeftOut("illegible" if entry.illegible else "bad-row", entry.problem)
        unwanted = self.select.left_out(entry.row)
        if unwanted:
            return unwanted
        cleaned = self._cleaned(entry)
        assert cleaned.row is not None
        keeps_empty = self.select.empty and not entry.row.text
        if not cleaned.row.text and not keeps_empty:
            return LeftOut("empty-text", "the text is empty; --keep-empty keeps such rows")
        return self._problem_of_text(cleaned.row.text) or cleaned

    def line(self, source: Source, entry: Entry) -> LeftOut | PreparedLine:
        """Read, scale and encode the image of a checked entry."""
        from nordocr_cli.data.line_record import encode_line
        from nordocr_cli.data.resize import resize_line
        from nordocr_cli.data.text_band import tightened

        row = entry.row
        geometry = self.geometry
        assert row is not None
        try:
            crop = source.crop(entry)
        except FileNotFoundError as error:
            return LeftOut("missing-image", f"no image {error}")
        except DataError as error:
            return LeftOut("unreadable-image", str(error))
        crop = tightened(crop, geometry)
        height, width = crop.shape[:2]
        problem = self._problem_of_size(row.text, height, width)
        if problem:
            return problem
        ratio = geometry.squash_ratio(height, width)
        if ratio > 1:
            row = note_over_wide(row, ratio, geometry)
        line = resize_line(crop, geometry)
        encoded = encode_line(line)
        if row.text and not has_ink(line, encoded.contrast):
            return LeftOut("no-ink", f"{height} x {width} px (height x width) without ink")
        return PreparedLine(row, encoded)

    def _cleaned(self, entry: Entry) -> Entry:
        """The entry with characters replaced and without spaces at the ends of its text."""
        row = entry.row
        assert row is not None
        text = row.text
        if self._mapped_characters and self._mapped_characters.search(text):
            mapped = Counter(c for c in text if c in self.mapping)
            row = note_mapped(row, replace_characters(text, self.mapping), mapped)
        trimmed = row.text.strip()
        if trimmed != row.text:
            return replace(entry, row=replace(row, text=trimmed), trimmed=True)
        if row is entry.row:
            return entry
        return replace(entry, row=row)

    @cached_property
    def _mapped_characters(self) -> re.Pattern[str] | None:
        """Finds the characters of the mapping: most texts have none, and this runs for each."""
        if self.mapping:
            return re.compile(f"[{re.escape(''.join(self.mapping))}]")
        return None

    def _problem_of_text(self, text: str) -> LeftOut | None:
        missing = self.charset.missing(text)
        if missing:
            names = ", ".join(map(describe_character, missing))
            count = Counter(c for c in text if c in missing)
            return LeftOut(
                "oov",
                f"charset {self.charset.name!r} has no {names} (text: {text!r})",
                count,
            )
        if self.max_label_length is not None and len(text) > self.max_label_length:
            return LeftOut(
                "too-long",
                f"{len(text)} characters; model.max_label_length is {self.max_label_length}",
            )
        return None

    def _problem_of_size(self, text: str, height: int, width: int) -> LeftOut | None:
        size = f"{height} x {width} px (height x width)"
        if height < _MINIMUM_HEIGHT_PX or width < _MINIMUM_WIDTH_PX:
            return LeftOut("too-small", f"{size} are too small for {len(text)} characters")
        narrowest = _NARROWEST_CHARACTER * height * len(text)
        if height > width and width < narrowest and len(text) > 1:
            return LeftOut(
                "taller-than-wide",
                f"{size} for {len(text)} characters; if the text runs up or down, turn the image by"
                " 90 degrees",
            )
        if self.max_label_length is not None:
            return None
        frames = self.geometry.out_length(self.geometry.line_width(height, width))
        needed = frames_needed(text)
        if frames < needed:
            return LeftOut(
                "ctc-infeasible",
                f"{len(text)} characters need {needed} CTC frames; {size} give {frames}",
            )
        return None


def has_ink(line: "Pixels", cell_contrast: int) -> bool:
    """Whether something can be seen on a scaled line, uint8 (height, width[, 3]); `cell_contrast`
    is that of its cells (see data/fingerprint.py), which is high for nearly all lines.
    """
    if cell_contrast >= _MINIMUM_CONTRAST:
        return True
    if int(line.max()) - int(line.min()) < _MINIMUM_CONTRAST:
        return False
    import cv2

    # Averages of all pixels: specks of dust hardly change them, a full stop does.
    averages = cv2.resize(line, (_CELL_COLUMNS, _CELL_ROWS), interpolation=cv2.INTER_AREA)
    return int(averages.max()) - int(averages.min()) >= _MINIMUM_CELL_CONTRAST


def prepare_shard(
    sources: Sequence[Source], rules: PrepRules, rows: Sequence[IndexedEntry]
) -> list[EntryOutcome]:
    """Return what became of some rows, in their order."""
    outcomes: list[EntryOutcome] = []
    for number, entry in rows:
        checked = rules.check(entry)
        if isinstance(checked, LeftOut):
            outcomes.append((entry, checked))
        else:
            outcomes.append((checked, rules.line(sources[number], checked)))
    return outcomes
