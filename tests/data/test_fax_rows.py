"""TIFF images in fax codes whose data is damaged: libtiff decodes white paper in its place."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from nordocr_cli.data import fax_rows
from nordocr_cli.data.documents import read_pages
from nordocr_cli.data.resize import decode_image
from nordocr_cli.errors import DamagedImageWarning, DataError

SAMPLES = Path(__file__).parents[2] / "samples"
CODES = ("group3", "group4", "tiff_ccitt")


def text_like(height=400, width=600):
    """Black and white noise in rows, which compresses about as text does."""
    rng = np.random.default_rng(7)
    coarse = rng.random((height // 8, width // 12)) < 0.8
    return np.kron(coarse, np.ones((8, 12), bool))


def encoded(pixels, code):
    """Return a TIFF, and the place and length of its first strip."""
    buffer = io.BytesIO()
    one_strip = {278: len(pixels)}
    Image.fromarray(pixels).save(buffer, "TIFF", compression=code, tiffinfo=one_strip)
    with Image.open(buffer) as image:
        place, length = image.tag_v2[273][0], image.tag_v2[279][0]
    return bytearray(buffer.getvalue()), place, length


def with_zeros_behind_its_strip(data, place, length, zeros=700):
    """Return the TIFF with a copy of its only strip, and zeros that count as a part of it."""
    changed = data + data[place : place + length] + bytes(zeros)
    values = {273: len(data), 279: length + zeros}
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for number in range(count):
        at = directory + 2 + 12 * number
        (tag,) = struct.unpack_from("<H", data, at)
        if tag in values:
            struct.pack_into("<HII", changed, at + 2, 4, 1, values[tag])
    return bytes(changed)


@pytest.mark.parametrize("code", CODES)
def test_sound_images_are_decoded_without_a_warning(code, recwarn):
    pixels = text_like()
    data, _, _ = encoded(pixels, code)

    decoded = decode_image(bytes(data), "fax.tif")

    np.testing.assert_array_equal(decoded[:, :, 0] > 128, pixels)
    assert not recwarn.list


@pytest.mark.parametrize("code", ["group3", "group4"])
def test_damaged_codes_are_warned_of_by_file(code, capfd):
    data, place, length = encoded(text_like(), code)
    third = length // 3
    data[place + third : place + 2 * third] = np.random.default_rng(1).bytes(third)

    with pytest.warns(DamagedImageWarning, match=r"fax\.tif: \d+ errors? in its fax code"):
        decode_image(bytes(data), "fax.tif")
    assert "Fax3Decode" not in capfd.readouterr().err


@pytest.mark.parametrize("share", [0.6, 0.9])
@pytest.mark.parametrize("code", CODES)
def test_data_that_was_never_written_is_warned_of(code, share):
    data, place, length = encoded(text_like(height=800), code)
    written = int(length * share)
    data[place + written : place + length] = bytes(length - written)

    with pytest.warns(DamagedImageWarning, match="lines of text may be missing"):
        decode_image(bytes(data), "fax.tif")


def test_data_that_was_never_written_is_warned_of_in_an_image_upside_down():
    buffer = io.BytesIO()
    tags = {274: 3, 278: 100}  # turned by 180 degrees; eight strips
    image = Image.fromarray(text_like(height=800))
    image.save(buffer, "TIFF", compression="group4", tiffinfo=tags)
    data = bytearray(buffer.getvalue())
    with Image.open(buffer) as opened:
        place, length = opened.tag_v2[273][1], opened.tag_v2[279][1]
    data[place + length // 2 : place + length] = bytes(length - length // 2)

    with pytest.warns(DamagedImageWarning, match="lines of text may be missing"):
        decode_image(bytes(data), "fax.tif")


@pytest.mark.parametrize("code", CODES)
def test_zeros_behind_the_codes_of_a_strip_are_no_damage(code, recwarn):
    pixels = text_like()
    data = with_zeros_behind_its_strip(*encoded(pixels, code))

    decoded = decode_image(data, "fax.tif")

    np.testing.assert_array_equal(decoded[:, :, 0] > 128, pixels)
    assert not recwarn.list


def test_an_image_of_damaged_rows_is_refused():
    data, place, length = encoded(text_like(), "group3")
    third = length // 3
    data[place + third : place + length] = bytes(length - third)

    with pytest.raises(DataError, match=r"fax\.tif: damaged image: \d+ errors"):
        decode_image(bytes(data), "fax.tif")


def test_what_others_write_to_stderr_meanwhile_is_kept(capfd, monkeypatch):
    pixels = text_like()
    data, _, _ = encoded(pixels, "group4")
    load = TiffImageFile.load

    def load_while_another_thread_writes(image):
        os.write(2, b"from another thread\n")
        return load(image)

    monkeypatch.setattr(TiffImageFile, "load", load_while_another_thread_writes)
    decoded = decode_image(bytes(data), "fax.tif")

    np.testing.assert_array_equal(decoded[:, :, 0] > 128, pixels)
    assert "from another thread" in capfd.readouterr().err


def test_a_cut_list_of_pages_is_reported_under_the_name_of_the_document(tmp_path, capfd):
    cut = tmp_path / "cut.tif"
    cut.write_bytes((SAMPLES / "doc/dev_doc.tif").read_bytes()[:220_000])

    document = read_pages(cut)
    for index in range(2):
        document.page(index)

    assert "tempfile" not in capfd.readouterr().err
    assert "cut.tif" in document.cut


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_images_are_decoded_without_a_temporary_folder(has_memory_files, monkeypatch):
    def no_folder(*arguments, **options):
        raise FileNotFoundError(2, "No usable temporary directory found")

    pixels = text_like()
    data, _, _ = encoded(pixels, "group4")
    monkeypatch.setattr("tempfile._get_default_tempdir", no_folder)
    monkeypatch.setattr("tempfile.tempdir", None)
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create", raising=False)

    decoded = decode_image(bytes(data), "fax.tif")

    np.testing.assert_array_equal(decoded[:, :, 0] > 128, pixels)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_forked_during_decoding_decodes_and_has_its_stderr(capfd, monkeypatch):
    data, _, _ = encoded(text_like(), "group4")
    load = TiffImageFile.load
    statuses = []

    def load_and_fork(image):
        monkeypatch.setattr(TiffImageFile, "load", load)
        child = os.fork()
        if child == 0:
            is_free = fax_rows._REDIRECTION.lock.acquire(timeout=5)
            os.write(2, b"from the child\n")
            os._exit(0 if is_free else 1)
        statuses.append(os.waitpid(child, 0)[1])
        assert "from the child" in capfd.readouterr().err  # before the parent passes it on
        return load(image)

    monkeypatch.setattr(TiffImageFile, "load", load_and_fork)
    decode_image(bytes(data), "fax.tif")

    assert statuses == [0]
    os.write(2, b"from the parent\n")
    assert "from the parent" in capfd.readouterr().err
