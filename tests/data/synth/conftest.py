from pathlib import Path

import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.fonts import FontFace, find_faces
from nordocr_cli.errors import DataError

FONT_LIST = Path(__file__).parents[3] / "samples" / "train" / "fonts.tsv"


@pytest.fixture(scope="session")
def faces() -> list[FontFace]:
    """The fonts of samples/train, as far as this machine has them."""
    try:
        return find_faces(FONT_LIST, NORDIC)[0]
    except DataError:
        pytest.skip(
            "neither DejaVu nor Liberation is installed (apt-get install fonts-dejavu"
            " fonts-liberation)"
        )
