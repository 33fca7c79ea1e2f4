import random

import pytest
from PIL import Image, ImageDraw

from nordocr_cli.data.synth.fonts import EM_PX, FontFace
from nordocr_cli.data.synth.setting import LineSetting, letter_advance


def _sans(faces: list[FontFace]) -> FontFace:
    return next(face for face in faces if face.category == "sans")


def test_a_coarse_grid_moves_each_letter_by_the_same_step_all_along_the_line(
    faces: list[FontFace],
) -> None:
    face = _sans(faces)
    setting = LineSetting.draw(random.Random(1), face, ("livslängd", "8 805"), coarse=1.0)
    assert setting.advances is not None
    assert set(setting.advances) == set("livslängd 8805")
    step = min(
        abs(a - b)
        for a in setting.advances.values()
        for b in setting.advances.values()
        if a != b
    )
    assert EM_PX / 22 <= step <= EM_PX / 9
    for letter, advance in setting.advances.items():
        assert abs(advance - letter_advance(face, letter)) < EM_PX / 9
    assert setting.length("ss") == 2 * setting.length("s")
    assert any(
        advance != letter_advance(face, letter)
        for letter, advance in setting.advances.items()
    )


def test_typewriters_have_no_coarse_grid(faces: list[FontFace]) -> None:
    mono = next(face for face in faces if face.category in ("mono", "typewriter"))
    assert all(
        LineSetting.draw(random.Random(seed), mono, ("abc",), coarse=1.0).advances is None
        for seed in range(20)
    )


@pytest.mark.parametrize("seed", range(8))
def test_ink_ends_where_the_length_says(faces: list[FontFace], seed: int) -> None:
    """Letters are drawn where `length` counts them: the renderer sizes its image by it."""
    setting = LineSetting.draw(
        random.Random(seed), _sans(faces), ("Årets resultat",), coarse=0.5
    )
    image = Image.new("L", (1200, 120))
    setting.put(ImageDraw.Draw(image), 20, 80, "Årets resultat")
    box = image.getbbox()
    assert box is not None
    assert box[2] == pytest.approx(20 + setting.length("Årets resultat"), abs=0.25 * EM_PX)
