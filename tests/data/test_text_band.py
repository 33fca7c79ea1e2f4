"""Crops are cut down to their band of text: real letters drawn by Pillow."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import load_charset
from nordocr_cli.core.eval.lines import line_image
from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.store import LineStore, LineStoreWriter
from nordocr_cli.data.text_band import find_band, tighten, tightened
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow

FONT_PX = 24
PITCH_PX = 34  # from baseline to baseline


def drawn(lines: list[str], height: int, first_y: int, width: int = 620) -> np.ndarray:
    """Draw lines of text one under the other, the first one's top at `first_y`."""
    page = Image.new("L", (width, height), 250)
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(size=FONT_PX)
    for number, line in enumerate(lines):
        pen.text((6, first_y + number * PITCH_PX), line, font=font, fill=20)
    return np.repeat(np.asarray(page)[:, :, None], 3, axis=2)


def between_neighbours() -> np.ndarray:
    """A crop of a middle line that shows the feet of the line above and the heads of the one
    below."""
    return drawn(
        [
            "the line above ends here",
            "Årsregnskap för 1938 gäller",
            "below begins another one",
        ],
        height=72,
        first_y=-15,
    )


def ink_rows(crop: np.ndarray) -> np.ndarray:
    return np.flatnonzero((crop[:, :, 0] < 128).any(axis=1))


def test_the_rests_of_neighbouring_lines_are_cut_off() -> None:
    crop = between_neighbours()
    tight = tighten(crop)

    assert tight.shape[1] == crop.shape[1]
    assert tight.shape[0] < 0.75 * crop.shape[0]
    alone = drawn(["Årsregnskap för 1938 gäller"], height=72, first_y=-15 + PITCH_PX)
    rows = ink_rows(alone)
    band = find_band(crop)
    assert band is not None
    assert band.top <= rows[0]
    assert band.bottom >= rows[-1]


def test_white_above_and_below_is_cut_to_the_room_of_a_line() -> None:
    crop = drawn(["no ascenders or accents: a sum"], height=120, first_y=48)
    tight = tighten(crop)
    assert tight.shape[0] < 60
    assert len(ink_rows(tight)) == len(ink_rows(crop))


def test_a_tight_crop_comes_back_as_it_is() -> None:
    crop = drawn(["Ägg 12,50 kr"], height=30, first_y=2, width=180)
    assert tighten(crop) is crop


def test_a_sloping_line_becomes_level() -> None:
    level = drawn(["A long line that was scanned at an angle of two degrees"], 90, 34, 640)
    slope = 0.035
    matrix = np.array([[1, 0, 0], [-slope, 1, slope * 320]], np.float32)
    sloping = cv2.warpAffine(
        level,
        matrix,
        (640, 90),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderValue=(250, 250, 250),
    )
    tight = tighten(sloping)

    assert len(ink_rows(sloping)) > 1.5 * len(ink_rows(level))
    assert len(ink_rows(tight)) <= len(ink_rows(level)) + 3
    assert tight.shape[0] < 60


@pytest.mark.parametrize(
    "crop",
    [
        np.full((40, 300, 3), 255, np.uint8),
        np.full((40, 300), 0, np.uint8),
        np.full((4, 300, 3), 255, np.uint8),
        np.full((40, 3, 3), 255, np.uint8),
    ],
    ids=["white", "black", "low", "narrow"],
)
def test_a_crop_without_a_band_comes_back_as_it_is(crop: np.ndarray) -> None:
    assert tighten(crop) is crop


def test_gray_and_colour_are_cut_alike() -> None:
    crop = between_neighbours()
    assert np.array_equal(tighten(crop)[:, :, 0], tighten(crop[:, :, 0].copy()))


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.uint8,
        st.tuples(st.integers(1, 90), st.integers(1, 300)),
        elements=st.integers(0, 255),
        fill=st.just(255),
    )
)
def test_any_pixels_give_a_crop_of_the_same_width(crop: np.ndarray) -> None:
    tight = tighten(crop)
    assert tight.dtype == np.uint8
    assert tight.shape[1] == crop.shape[1]
    assert 1 <= tight.shape[0] <= crop.shape[0]


def test_a_line_that_has_the_height_of_the_network_is_not_cut_again() -> None:
    geometry = Geometry(tighten=True)
    line = resize_line(tightened(between_neighbours(), geometry), geometry)
    assert tightened(line, geometry) is line
    assert tightened(between_neighbours(), replace(geometry, tighten=False)).shape[0] == 72


def test_a_geometry_without_tightening_is_written_as_before() -> None:
    assert "tighten" not in Geometry().to_json()
    assert Geometry(**Geometry(tighten=True).to_json()) == Geometry(tighten=True)
    assert Geometry(tighten=True).conflicts(Geometry()) == [
        "geometry.tighten: True / False"
    ]


def test_lines_of_a_manifest_have_the_widths_that_they_announce(tmp_path: Path) -> None:
    Image.fromarray(between_neighbours()).save(tmp_path / "a.png")
    row = {"image": "a.png", "text": "Årsregnskap för 1938 gäller"}
    manifest = tmp_path / "lines.jsonl"
    manifest.write_text(json.dumps(row) + "\n", encoding="utf-8")

    plain = ManifestLines(manifest, Geometry())
    tight = ManifestLines(manifest, Geometry(tighten=True))
    with plain, tight:
        assert tight.widths[0] == tight.image(0).shape[1]
        assert tight.widths[0] > 1.2 * plain.widths[0]


@pytest.mark.parametrize(
    "text", ["3 228 736", "-2 486 721", "38 238", "83 271", "8 689", "0"]
)
def test_the_waist_of_figures_is_no_gap(text: str) -> None:
    page = Image.new("L", (240, 60), 255)
    ImageDraw.Draw(page).text((4, 10), text, font=ImageFont.load_default(size=36), fill=0)
    pixels = np.asarray(page)
    rows, columns = np.flatnonzero((pixels < 128).any(axis=1)), pixels.min(axis=0) < 128
    crop = pixels[rows[0] : rows[-1] + 1, : np.flatnonzero(columns)[-1] + 3]

    tight = tighten(crop)
    assert (tight < 128).sum() >= 0.98 * (crop < 128).sum()


def test_lines_of_a_store_are_tightened_for_a_network_of_tight_lines(
    tmp_path: Path,
) -> None:
    plain, tight = Geometry(), Geometry(tighten=True)
    charset = load_charset("nordic")
    for geometry in (plain, tight):
        with LineStoreWriter(
            tmp_path / f"{geometry.tighten}.lmdb", geometry, charset
        ) as writer:
            line = resize_line(tightened(between_neighbours(), geometry), geometry)
            writer.add(
                line, LineRow(id="a", image="a.png", text="Årsregnskap för 1938 gäller")
            )
    network = Contract(charset, tight, {"name": "svtrv2-nano"})

    with LineStore(tmp_path / "False.lmdb") as store:
        read = line_image(store, 0, network)
        assert read.shape[0] == 32
        assert read.shape[1] > 1.2 * store.image(0).shape[1]
        as_stored = Contract(charset, plain, {"name": "svtrv2-nano"})
        assert np.array_equal(line_image(store, 0, as_stored), store.image(0))
    with LineStore(tmp_path / "True.lmdb") as store:
        assert np.array_equal(line_image(store, 0, network), store.image(0))
