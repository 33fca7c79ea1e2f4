"""TIFF images in fax codes whose data is damaged: libtiff decodes white paper in its place."""

import io
import os

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from nordocr_cli.data.resize import decode_image
from nordocr_cli.errors import DamagedImageWarning, DataError

CODES = ("group3", "group4", "tiff_ccitt")


def text_like(height=400, width=600):
    """Black and white noise in rows, which compresses about as text does."""
    rng = np.random.default_rng(7)
    coarse = rng.random((height // 8, width // 12)) < 0.8
    return np.kron(coarse, np.ones((8, 12), bool))


def encoded(pixels, code):
    """Return a TIFF, and the place and length of its first strip."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF", compression=code)
    with Image.open(buffer) as image:
        place, length = image.tag_v2[273][0], image.tag_v2[279][0]
    return bytearray(buffer.getvalue()), place, length


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


@pytest.mark.parametrize("code", ["group4", "tiff_ccitt"])
def test_data_that_was_never_written_is_warned_of(code):
    data, place, length = encoded(text_like(), code)
    data[place + length // 2 : place + length] = bytes(length - length // 2)

    with pytest.warns(DamagedImageWarning, match="lines of text may be missing"):
        decode_image(bytes(data), "fax.tif")


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
