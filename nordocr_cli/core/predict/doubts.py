"""When a reading is doubtful: reported in a warning, in JSON, and with --fail-if-doubtful by the
exit code.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.records import Recognition

MINIMUM_CONFIDENCE = 0.6
# A page is doubtful when more than this share of its lines is empty or unsure.
_MAX_UNSURE_SHARE = 0.5
# Ink of letters outside of all lines: below it, stamps, signatures and small pictures.
_UNCOVERED_SHARE = 0.25
# Where a reading is unsure, letters of this share of the image's height count too: the upper half
# of a fax page is 400 pixels high, and its letters 7.
_SMALL_LETTERS = 0.015


def page_doubts(
    readings: Sequence[Recognition], uncovered_share: float = 0.0
) -> tuple[str, ...]:
    """Return why the readings of a page's lines may be wrong, in words; empty when nothing speaks
    against them.
    """
    doubts = []
    unsure = sum(is_unsure(reading) for reading in readings)
    if unsure > _MAX_UNSURE_SHARE * len(readings):
        doubts.append(
            f"{unsure} of {len(readings)} lines are empty or have a confidence below"
            f" {MINIMUM_CONFIDENCE}"
        )
    if uncovered_share > _UNCOVERED_SHARE:
        doubts.append(f"{uncovered_share:.0%} of the ink lies in no line")
    return tuple(doubts)


def image_doubts(image: NDArray[np.uint8], reading: Recognition) -> tuple[str, ...]:
    """Return why an image, uint8 (height, width, 3), read as one line, may not be one. The rows of
    text are counted in high images and where the reading is unsure.
    """
    from nordocr_cli.core.predict.inputs import ROWS_HEIGHT_PX, is_page_size
    from nordocr_cli.pages.ink import text_rows

    height, width = image.shape[:2]
    size = f"{height} x {width} px (height x width)"
    if is_page_size(height, width):
        return (f"{size} looks like a page, but was read as one line: use --layout page",)
    if height < ROWS_HEIGHT_PX and not is_unsure(reading):
        return ()
    rows = text_rows(image, _SMALL_LETTERS) if is_unsure(reading) else text_rows(image)
    if rows < 2:
        return ()
    return (f"{rows} lines of text were read as one line: use --layout page",)


def is_unsure(reading: Recognition) -> bool:
    """Return whether a line reads as nothing, or with little confidence."""
    if not reading.text.strip():
        return True
    return reading.confidence is not None and reading.confidence < MINIMUM_CONFIDENCE
