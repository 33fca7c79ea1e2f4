"""What the weights in the package read: nothing where nothing is written, and single figures."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.fonts import label_font
from nordocr_cli.runtime.protocols import Recognizer
from nordocr_cli.runtime.recognizers import open_recognizer

HEIGHT, WIDTH = 40, 600


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return open_recognizer("nordocr-default", device="cpu", threads=1)


def _white() -> NDArray[np.uint8]:
    return np.full((HEIGHT, WIDTH, 3), 255, np.uint8)


def _with_rules(*rows: int, columns: tuple[int, ...] = ()) -> NDArray[np.uint8]:
    image = _white()
    for row in rows:
        image[row : row + 2] = 0
    for column in columns:
        image[:, column : column + 2] = 0
    return image


def _dotted() -> NDArray[np.uint8]:
    image = _white()
    for column in range(0, WIDTH, 8):
        image[30:32, column : column + 2] = 0
    return image


def _noise(share: float, level: int) -> NDArray[np.uint8]:
    image = _white()
    image[np.random.default_rng(5).random((HEIGHT, WIDTH)) < share] = level
    return image


def _edge() -> NDArray[np.uint8]:
    image = _white()
    image[-6:] = 0
    return image


def _paper() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(3).uniform(222, 240, (4, 60)).astype(np.float32)
    gray = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(_white(), id="white"),
        pytest.param(_white() // 255, id="black"),
        pytest.param(_white() // 5 * 4, id="gray"),
        pytest.param(_paper(), id="paper"),
        pytest.param(_with_rules(20), id="a rule"),
        pytest.param(_with_rules(2, 36, columns=(100, 300)), id="a grid"),
        pytest.param(_dotted(), id="a dotted rule"),
        pytest.param(_edge(), id="an edge"),
        pytest.param(_noise(0.01, 0), id="specks"),
        pytest.param(_noise(0.3, 215), id="noise"),
    ],
)
def test_nothing_is_read_where_nothing_is_written(
    recognizer: Recognizer, image: NDArray[np.uint8]
) -> None:
    assert recognizer.recognize([image])[0].text == ""


@pytest.mark.parametrize("text", ["0", "7", "-", "10", "0,00", "1 250", "-45", "2 %", "Å"])
def test_a_single_cell_is_read_as_it_stands(recognizer: Recognizer, text: str) -> None:
    font = label_font(NORDIC, 30)
    picture = Image.new("L", (int(font.getlength(text)) + 16, 44), 255)
    ImageDraw.Draw(picture).text((8, 33), text, 0, font=font, anchor="ls")
    crop = np.repeat(np.asarray(picture)[:, :, None], 3, axis=2)
    assert recognizer.recognize([crop])[0].text == text
