import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import features

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth import render
from nordocr_cli.data.synth.damage import RECIPES
from nordocr_cli.data.synth.fonts import FontFace, FontPicker, open_font, open_shaped_font
from nordocr_cli.data.synth.render import Style, recipe_weights, render_line
from nordocr_cli.data.synth.texts import Text, TextSource
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.geometry import Geometry

WIDE = Geometry(max_width=1792)


class _Says(TextSource):
    """A text source that always says the same."""

    def __init__(self, *cells: str) -> None:
        super().__init__(NORDIC)
        self._text = Text(cells, "sv", "row")

    def draw(self, rng: random.Random, *_: object) -> Text:
        return self._text


def _clean(**changes: float) -> Style:
    return replace(
        Style(
            recipes={"clean": 1.0},
            looks={"office": 1.0},
            neighbours=0,
            rules=0,
            inverse=0,
            columns=0,
            pen=0,
            curl=0,
        ),
        **changes,
    )


def test_a_line_follows_from_its_generator(faces: list[FontFace]) -> None:
    texts, fonts = TextSource(NORDIC), FontPicker(faces)
    alone = render_line(random.Random("3:17"), texts, fonts, WIDE)
    for index in range(10):
        render_line(random.Random(f"3:{index}"), texts, fonts, WIDE)
    again = render_line(random.Random("3:17"), texts, fonts, WIDE)
    assert again.text == alone.text
    assert (again.crop == alone.crop).all()


@pytest.mark.parametrize("max_width", [128, 1792])
def test_lines_fit_the_profile_and_hold_ink_and_gray_pixels(
    faces: list[FontFace], max_width: int
) -> None:
    geometry = Geometry(max_width=max_width)
    texts, fonts = TextSource(NORDIC, max_characters=max_width // 10), FontPicker(faces)
    widths = []
    for index in range(150):
        line = render_line(random.Random(f"1:{index}"), texts, fonts, geometry)
        height, width, channels = line.crop.shape
        assert channels == 3
        assert line.crop.dtype == np.uint8
        assert (line.crop[..., 0] == line.crop[..., 2]).all()
        assert line.crop.std() > 2
        assert geometry.squash_ratio(height, width) < 1.05
        widths.append(geometry.line_width(height, width))
    assert max(widths) > 0.7 * max_width


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_damage_leaves_lines_that_can_be_read(
    faces: list[FontFace], name: str
) -> None:
    style = Style(recipes={name: 1.0})
    lines = [
        render_line(
            random.Random(f"2:{index}"), TextSource(NORDIC), FontPicker(faces), WIDE, style
        )
        for index in range(8)
    ]
    assert {line.made["damage"] for line in lines} == {name}


def test_the_gap_between_cells_is_wider_than_the_one_between_words(
    faces: list[FontFace],
) -> None:
    def longest_gap(*cells: str) -> float:
        line = render_line(
            random.Random("4:1"), _Says(*cells), FontPicker(faces[:1]), WIDE, _clean()
        )
        assert line.text.label == "Summa tillgångar 1 234 567"
        blank = (line.crop[..., 0] > 200).all(axis=0)
        runs = "".join("x" if b else " " for b in blank).split()
        return max(len(run) for run in runs) / line.crop.shape[0]

    assert longest_gap("Summa tillgångar", "1 234 567") > 0.8
    assert longest_gap("Summa tillgångar 1 234 567") < 0.6


def test_what_does_not_fit_leaves_the_label_too(faces: list[FontFace]) -> None:
    numbers = "ett två tre fyra fem sex sju åtta"
    line = render_line(
        random.Random("5:1"),
        _Says(numbers),
        FontPicker(faces),
        Geometry(max_width=128),
        _clean(),
    )
    assert numbers.startswith(line.text.label)
    assert 0 < len(line.text.label) < 20


def test_a_picture_without_its_letters_is_not_legible() -> None:
    ink = np.zeros((40, 400), np.uint8)
    for left in range(20, 380, 24):
        ink[8:32, left : left + 8] = 255
    page = 255 - ink
    lost = page.copy()
    lost[:, 150:230] = 255
    assert render._is_legible(page, ink, 24)
    assert render._is_legible(page // 4 + 150, ink, 24), "faint is legible"
    assert not render._is_legible(lost, ink, 24), "letters are gone"
    assert not render._is_legible(np.full_like(page, 255), ink, 24)
    assert not render._is_legible(np.zeros_like(page), ink, 24)
    noise = np.random.default_rng(1).choice(np.array([0, 255], np.uint8), page.shape)
    assert not render._is_legible(noise, ink, 24)


def test_a_face_of_capitals_gets_a_label_in_capitals(faces: list[FontFace]) -> None:
    capitals = replace(faces[0], caps_only=True)
    line = render_line(
        random.Random("6:1"), _Says("hår och för"), FontPicker([capitals]), WIDE, _clean()
    )
    assert line.text.label == "HÅR OCH FÖR"


def test_fonts_that_cannot_write_the_texts_are_an_error(faces: list[FontFace]) -> None:
    poor = replace(faces[0], characters=frozenset("abc "))
    with pytest.raises(DataError, match="--fonts"):
        render_line(random.Random(1), _Says("Åre"), FontPicker([poor]), WIDE)


def test_slivers_are_slices_of_ink_at_the_ends_alone() -> None:
    ink = np.full((20, 300), 200, np.uint8)
    for seed in range(10):
        there = np.flatnonzero(render._slivers(random.Random(seed), ink, 30).any(axis=0))
        assert 0 < len(there) < 20
        assert ((there < 10) | (there >= 290)).all()


def test_a_bent_line_rises_and_falls_by_a_part_of_a_letter() -> None:
    ink = np.zeros((60, 400), np.uint8)
    ink[29:31] = 255
    bent = render._bend(random.Random(1), ink.shape, 40)(ink)
    middle = (bent * np.arange(60.0)[:, None]).sum(axis=0) / bent.sum(axis=0, dtype=float)
    assert 1 < middle.max() - middle.min() <= 2 * 0.13 * 40


@pytest.mark.skipif(
    not features.check("raqm"), reason="this Pillow was built without libraqm"
)
def test_kerning_and_ligatures_are_those_of_the_font(faces: list[FontFace]) -> None:
    path = next(face.path for face in faces if face.category in ("sans", "serif"))
    plain, shaped = open_font(path, 0), open_shaped_font(path, 0)
    assert any(
        plain.getlength(pair) != shaped.getlength(pair)
        for pair in ("AV", "Ta", "fi", "To", "LT", "P.")
    )


def test_damage_weights_are_read_and_checked() -> None:
    assert recipe_weights(["clean", "bilevel=0.3"]) == {"clean": 1.0, "bilevel": 0.3}
    for wrong, message in (
        ("bilevl", "bilevel"),
        ("clean=much", "weight"),
        ("clean=-1", "zero or more"),
        ("clean=0", "zero"),
    ):
        with pytest.raises(UsageError, match=message):
            recipe_weights([wrong])
