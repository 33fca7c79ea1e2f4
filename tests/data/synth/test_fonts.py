import random
import shutil
from pathlib import Path

import pytest

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth import fonts
from nordocr_cli.data.synth.fonts import FontFace, FontPicker, find_faces
from nordocr_cli.data.synth.letter_shapes import LETTERS, letter_agreement
from nordocr_cli.errors import DataError, UsageError


def test_dejavu_and_liberation_draw_the_whole_charset(faces: list[FontFace]) -> None:
    for face in faces:
        # – and — are the same picture in DejaVu Sans Mono.
        assert set(NORDIC.characters) - face.characters <= (
            set("—") if face.category == "mono" else set()
        ), face.name
    assert not any(face.caps_only for face in faces)


class _Drawn:
    """A font in which ø looks like o, – like -, 0 like O; § is the missing glyph and € blank."""

    def getbbox(self, text: str, anchor: str) -> tuple[float, float, float, float]:
        return (0, -8, 8, 0)

    def getmask(self, text: str, mode: str) -> bytes:
        alike = {"ø": "o", "–": "-", "O": "0", "§": "\uffff", "€": "", " ": ""}
        return alike.get(text, text).encode("utf-8") or b"\0"


def test_a_character_without_a_picture_of_its_own_does_not_count_as_drawn() -> None:
    pictures = fonts._pictures(_Drawn(), NORDIC)  # type: ignore[arg-type]
    drawn = fonts._drawn_characters(pictures, NORDIC)
    assert set(NORDIC.characters) - drawn == set("ø–§€")


def test_a_face_is_drawn_only_for_texts_that_it_covers(faces: list[FontFace]) -> None:
    plain = FontFace("plain.ttf", 0, "Plain", "Regular", "sans", frozenset("abc "))
    full = FontFace("full.ttf", 0, "Full", "Regular", "sans", frozenset("abcå "))
    picker = FontPicker([plain, full])
    assert {picker.draw(random.Random(seed), "a bå") for seed in range(40)} <= {full, None}
    assert {picker.draw(random.Random(seed), "a bc") for seed in range(40)} == {plain, full}
    assert picker.draw(random.Random(1), "ø") is None


def test_upright_regular_faces_come_more_often_than_italics() -> None:
    every = frozenset("a ")
    picker = FontPicker(
        [
            FontFace(s, 0, "F", s, "sans", every)
            for s in ("Regular", "Italic", "Bold", "Thin Italic")
        ]
    )
    drawn = [picker.draw(random.Random(seed), "a") for seed in range(2000)]
    share = {
        s: sum(face is not None and face.style == s for face in drawn) / 2000
        for s in ("Regular", "Italic", "Thin Italic")
    }
    assert share["Regular"] > 0.4 > share["Italic"] > share["Thin Italic"] > 0


def test_files_that_are_no_fonts_are_left_out_and_named(
    tmp_path: Path, faces: list[FontFace]
) -> None:
    shutil.copy(faces[0].path, tmp_path / "good.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"not a font")
    found, left_out = find_faces(tmp_path, NORDIC)
    assert [Path(face.path).name for face in found] == ["good.ttf"]
    assert len(left_out) == 1
    assert "broken.ttf" in left_out[0]


def test_a_list_names_fonts_that_are_not_here(
    tmp_path: Path, faces: list[FontFace]
) -> None:
    listed = tmp_path / "fonts.tsv"
    listed.write_text(
        f"category\tpackage\tfile\nmono\t\t{faces[0].path}\nsans\tfonts-nowhere\tNowhere.ttf\n",
        encoding="utf-8",
    )
    found, left_out = find_faces(listed, NORDIC)
    assert [face.category for face in found] == ["mono"]
    assert "fonts-nowhere" in left_out[0]


def test_wrong_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such"):
        find_faces(tmp_path / "nowhere", NORDIC)
    with pytest.raises(DataError, match="no font"):
        find_faces(tmp_path, NORDIC)
    (tmp_path / "fonts.tsv").write_text("name\nArial\n", encoding="utf-8")
    with pytest.raises(DataError, match="file"):
        find_faces(tmp_path / "fonts.tsv", NORDIC)


def _with_other_letters(source: str, target: Path, letters: dict[str, str]) -> None:
    """Copy a font so that each letter of `letters` shows the glyph of another."""
    ttlib = pytest.importorskip("fontTools.ttLib")
    font = ttlib.TTFont(source)
    for table in font["cmap"].tables:
        glyphs = dict(table.cmap)
        for letter, shown in letters.items():
            if ord(letter) in glyphs:
                table.cmap[ord(letter)] = glyphs[ord(shown)]
    font.save(target)


def test_a_face_that_draws_other_signs_than_its_letters_is_refused(
    tmp_path: Path, faces: list[FontFace]
) -> None:
    alphabet = LETTERS
    moved = dict(zip(alphabet, alphabet[7:] + alphabet[:7], strict=True))
    _with_other_letters(faces[0].path, tmp_path / "Plain Text.ttf", moved)
    shutil.copy(faces[1].path, tmp_path / "good.ttf")
    found, left_out = find_faces(tmp_path, NORDIC)
    assert [Path(face.path).name for face in found] == ["good.ttf"]
    assert "draws no letters" in left_out[0]


def test_a_face_with_two_digits_alike_is_refused(
    tmp_path: Path, faces: list[FontFace]
) -> None:
    _with_other_letters(faces[0].path, tmp_path / "digits.ttf", {"7": "1"})
    shutil.copy(faces[1].path, tmp_path / "good.ttf")
    _, left_out = find_faces(tmp_path, NORDIC)
    assert "two digits alike" in left_out[0]


def test_a_ring_that_is_not_drawn_is_no_ring(tmp_path: Path, faces: list[FontFace]) -> None:
    _with_other_letters(faces[0].path, tmp_path / "bare.ttf", {"å": "a"})
    found, _ = find_faces(tmp_path, NORDIC)
    assert "å" not in found[0].characters
    assert "a" in found[0].characters


def test_the_same_face_in_two_files_counts_once(
    tmp_path: Path, faces: list[FontFace]
) -> None:
    shutil.copy(faces[0].path, tmp_path / "one.ttf")
    shutil.copy(faces[0].path, tmp_path / "two.ttf")
    found, left_out = find_faces(tmp_path, NORDIC)
    assert len(found) == 1
    assert "the same letters as" in left_out[0]


def test_every_face_of_a_collection_is_used(tmp_path: Path, faces: list[FontFace]) -> None:
    ttlib = pytest.importorskip("fontTools.ttLib")
    collection = ttlib.TTCollection()
    collection.fonts = [ttlib.TTFont(faces[0].path), ttlib.TTFont(faces[1].path)]
    collection.save(tmp_path / "two.ttc")
    found, _ = find_faces(tmp_path, NORDIC)
    assert [face.index for face in found] == [0, 1]
    assert fonts.open_face(found[1]).getname() != fonts.open_face(found[0]).getname()


def test_named_instances_of_a_variable_font_are_listed() -> None:
    class _Variable:
        def get_variation_names(self) -> list[bytes]:
            return [b"Light", b"Bold"]

    assert fonts._instances(_Variable()) == ["Light", "Bold"]  # type: ignore[arg-type]


def test_text_faces_agree_with_the_known_shapes(faces: list[FontFace]) -> None:
    for face in faces:
        assert letter_agreement(fonts.open_face(face)) > 0.7, face.name
