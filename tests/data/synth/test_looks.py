import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.blank import blank_page
from nordocr_cli.data.synth.fonts import FontFace, FontPicker
from nordocr_cli.data.synth.looks import LOOKS
from nordocr_cli.data.synth.receipts import receipt
from nordocr_cli.data.synth.render import Style, look_weights, render_line
from nordocr_cli.data.synth.setting import LineSetting
from nordocr_cli.data.synth.single_cells import single_cell
from nordocr_cli.data.synth.texts import Text, TextSource
from nordocr_cli.data.synth.vocabulary import VOCABULARIES
from nordocr_cli.errors import UsageError
from nordocr_cli.geometry import Geometry

WIDE = Geometry(max_width=1792)


def test_looks_weigh_one_and_name_what_there_is() -> None:
    assert sum(look.weight for look in LOOKS.values()) == pytest.approx(1.0)
    for name, look in LOOKS.items():
        for weights in (look.kinds, look.categories, look.recipes, look.crops):
            assert sum(weights.values()) == pytest.approx(1.0, abs=0.02), name


@pytest.mark.parametrize("name", sorted(LOOKS))
def test_a_look_draws_its_own_kinds_of_text_and_damage(
    faces: list[FontFace], name: str
) -> None:
    style = Style(looks={name: 1.0})
    texts, fonts = TextSource(NORDIC), FontPicker(faces)
    lines = [
        render_line(random.Random(f"1:{index}"), texts, fonts, WIDE, style)
        for index in range(12)
    ]
    assert {line.made["look"] for line in lines} == {name}
    assert {line.text.kind for line in lines} <= set(LOOKS[name].kinds)
    assert {line.made["damage"] for line in lines} <= set(LOOKS[name].recipes)


def test_all_lines_are_blank_where_all_are_wanted_blank(faces: list[FontFace]) -> None:
    style = Style(blank=1.0)
    texts, fonts = TextSource(NORDIC), FontPicker(faces)
    for index in range(60):
        line = render_line(random.Random(f"1:{index}"), texts, fonts, WIDE, style)
        assert line.text.label == ""
        assert WIDE.squash_ratio(*line.crop.shape[:2]) < 1.05


def test_a_blank_page_has_no_mark_of_the_size_of_a_dash() -> None:
    """What could be read as a dash or a full stop is not labelled as nothing."""
    for seed in range(200):
        ink = blank_page(random.Random(seed), 30, WIDE)
        columns = (ink > 100).any(axis=0)
        share = columns.mean()
        assert share == 0 or share > 0.5 or columns.sum() >= 3, seed


def test_receipts_hold_prices_labels_and_mostly_capitals() -> None:
    lines = [
        " ".join(receipt(random.Random(seed), VOCABULARIES["sv"])) for seed in range(600)
    ]
    lettered = [line for line in lines if any(letter.isalpha() for letter in line)]
    assert sum(line == line.upper() for line in lettered) > 0.55 * len(lettered)
    assert sum(any(digit.isdigit() for digit in line) for line in lines) > 250
    assert len(set(lines)) > 400


def test_single_cells_are_mostly_figures_and_hold_what_looks_alike() -> None:
    cells = Counter(
        single_cell(random.Random(seed), VOCABULARIES["da"]) for seed in range(3000)
    )
    assert cells["0"] > 100
    assert {"O", "l", "-", "–", "5", "8"} <= set(cells)
    figures = sum(count for cell, count in cells.items() if any(c.isdigit() for c in cell))
    assert figures > 0.7 * 3000


def test_texts_of_other_languages_come_more_often_where_a_look_wants_them() -> None:
    source = TextSource(
        NORDIC, {"sv": ["en mening om banken"], "de": ["ein Satz über die Bank"]}
    )

    def share(foreign: float) -> float:
        kinds = {"running": 1.0}
        drawn = [source.draw(random.Random(seed), kinds, foreign) for seed in range(800)]
        return sum(text.language == "de" for text in drawn) / len(drawn)

    assert share(0.0) == 0
    assert share(14.0) > 3 * share(1.0) > 0


def test_show_through_may_stand_beside_the_text_alone(faces: list[FontFace]) -> None:
    style = Style(
        looks={"office": 1.0}, recipes={"showthrough": 1.0}, neighbours=0, rules=0
    )
    source = TextSource(NORDIC, max_characters=12)
    ends = []
    for index in range(60):
        line = render_line(
            random.Random(f"7:{index}"), source, FontPicker(faces), WIDE, style
        )
        dark = line.crop[..., 0] < np.median(line.crop) - 60
        columns = np.flatnonzero(dark.any(axis=0))
        ends.append((dark.shape[1] - columns[-1]) / dark.shape[0] if len(columns) else 0)
    assert sum(end > 2 for end in ends) > 5, (
        "blank page that is more than two lines high wide"
    )


def test_look_weights_are_read_and_checked() -> None:
    assert look_weights(["book=2", "receipt"]) == {"book": 2.0, "receipt": 1.0}
    with pytest.raises(UsageError, match="--look tent"):
        look_weights(["tent"])


def test_a_letter_of_a_bent_type_bar_stands_off_its_place_every_time(
    faces: list[FontFace],
) -> None:
    from nordocr_cli.data.synth.setting import LineSetting

    mono = replace(
        next(face for face in faces if face.category == "mono"), category="typewriter"
    )
    settings = [
        LineSetting.draw(random.Random(seed), mono, ("aba",), 0.0) for seed in range(40)
    ]
    bent = [setting for setting in settings if setting.loose]
    assert 5 < len(bent) < 35
    assert all(set(setting.loose or {}) == set("ab") for setting in bent)


def test_zeros_among_digits_are_drawn_as_the_letter_o_where_a_look_asks_for_it(
    faces: list[FontFace], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Price(TextSource):
        def draw(self, *_: object) -> Text:
            return Text(("OSLO 0 200,05",), "no", "receipt")

    drawn: list[str] = []
    put = LineSetting.put

    def record(self: LineSetting, draw: object, x: float, y: float, cell: str) -> None:
        drawn.append(cell)
        put(self, draw, x, y, cell)

    monkeypatch.setattr(LineSetting, "put", record)
    mono = FontPicker([face for face in faces if face.category == "mono"])
    for share in (0.0, 1.0):
        receipts = replace(LOOKS["receipt"], round_zeros=share, recipes={"clean": 1.0})
        monkeypatch.setitem(LOOKS, "receipt", receipts)
        style = Style(looks={"receipt": 1.0}, neighbours=0.0)
        line = render_line(random.Random("zeros"), Price(NORDIC), mono, WIDE, style)
        assert line.text.label == "OSLO 0 200,05"
    assert set(drawn) == {"OSLO 0 200,05", "OSLO 0 2OO,O5"}
