import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nordocr_cli.data import resize
from nordocr_cli.data.resize import (
    _plain_size,
    decode_image,
    image_size,
    normalize_array,
    pad_batch,
    read_image,
    resize_line,
    rgb_pixels,
)
from nordocr_cli.errors import DamagedImageWarning, DataError, UsageError
from nordocr_cli.geometry import Geometry

GEOMETRY = Geometry()


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_decodes_colour_exactly() -> None:
    pixels = noise(9, 13)
    for format in ("PNG", "BMP", "TIFF"):
        np.testing.assert_array_equal(
            decode_image(encoded(Image.fromarray(pixels), format), "x"), pixels
        )
    assert decode_image(
        encoded(Image.fromarray(pixels), "WEBP", lossless=True), "x"
    ).shape == (
        9,
        13,
        3,
    )
    assert decode_image(encoded(Image.fromarray(pixels), "JPEG"), "x").shape == (9, 13, 3)


def test_decodes_one_bit_gray_and_palette() -> None:
    gray = np.tile(np.array([[0, 255, 255, 0]], dtype=np.uint8), (3, 1))
    for image in (
        Image.fromarray(gray),
        Image.fromarray(gray).convert("1"),
        Image.fromarray(gray).convert("P"),
    ):
        np.testing.assert_array_equal(
            decode_image(encoded(image), "x"), np.repeat(gray[:, :, None], 3, axis=2)
        )
    fax = encoded(Image.fromarray(gray).convert("1"), "TIFF", compression="group4")
    np.testing.assert_array_equal(decode_image(fax, "x")[:, :, 1], gray)


def test_lays_transparency_on_white() -> None:
    rgba = np.zeros((2, 3, 4), dtype=np.uint8)
    rgba[:, 0, 3] = 255
    rgba[:, 1, 3] = 128
    assert decode_image(encoded(Image.fromarray(rgba)), "x")[0, :, 0].tolist() == [
        0,
        127,
        255,
    ]
    palette = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("P")
    assert decode_image(encoded(palette, transparency=0), "x")[0, :, 0].tolist() == [
        255,
        255,
    ]


def test_scales_16_bit() -> None:
    values = np.array([[0, 128, 257, 32896, 65535]], dtype=np.uint16)
    for format in ("PNG", "TIFF"):
        assert decode_image(encoded(Image.fromarray(values), format), "x")[
            0, :, 0
        ].tolist() == [
            0,
            0,
            1,
            128,
            255,
        ]


def test_applies_exif_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    data = encoded(Image.fromarray(noise(8, 24)), "PNG", exif=exif)
    assert decode_image(data, "x").shape == (24, 8, 3)
    assert image_size(data, "x") == (24, 8)


def test_a_size_is_known_without_decoding() -> None:
    data = encoded(Image.fromarray(noise(8, 24)))
    pixels = data.index(b"IDAT")
    assert image_size(data[: pixels + 10], "cut off in its pixels") == (8, 24)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_every_orientation_is_turned_upright(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(noise(8, 24))
    options = {"exif": exif, "lossless": True} if format == "WEBP" else {"exif": exif}
    data = encoded(image, format, **options)
    stored = Image.open(io.BytesIO(encoded(image, format, **{**options, "exif": b""})))
    stored.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(stored).convert("RGB"))
    assert np.array_equal(decode_image(data, "x"), upright)
    assert image_size(data, "x") == upright.shape[:2]


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"]
)
def test_large_images_are_converted_in_bands(mode: str, monkeypatch) -> None:
    image = Image.fromarray(noise(37, 61))
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        image = Image.fromarray(np.asarray(image.convert("L")).astype(kind) * 16)
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(noise(37, 61, seed=1)[:, :, 0]))
    else:
        image = image.convert(mode)
    data = encoded(image, "TIFF")
    at_once = decode_image(data, "x")
    gray_at_once = decode_image(data, "x", keep_gray=True)
    monkeypatch.setattr(resize, "_BAND_PIXELS", 500)
    assert np.array_equal(decode_image(data, "x"), at_once)
    assert np.array_equal(decode_image(data, "x", keep_gray=True), gray_at_once)


def test_refuses_what_is_no_whole_image() -> None:
    png, jpeg = (
        encoded(Image.fromarray(noise(40, 200))),
        encoded(Image.fromarray(noise(40, 200)), "JPEG"),
    )
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 1
    bad = {
        "empty": b"",
        "text": b"not an image",
        "cut png": png[:900],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "flipped": bytes(flipped),
    }
    for what, data in bad.items():
        with pytest.raises(DataError, match=what):
            decode_image(data, what)
    frames = [Image.fromarray(noise(8, 8, seed)) for seed in range(3)]
    with pytest.raises(DataError, match="3 images"):
        decode_image(
            encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "x"
        )


def test_refuses_a_pixel_bomb_before_decoding() -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    for side, limit in ((60_000, "megapixels"), (5_000, "16 megapixels for one line")):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(b""))
            + chunk(b"IEND", b"")
        )
        with pytest.raises(DataError, match=limit if side == 5_000 else "bomb|megapixels"):
            decode_image(bomb, "bomb.png")


@pytest.mark.parametrize("size", [(2_000_000, 2), (1, 70_000)])
def test_refuses_a_side_that_no_decoder_takes(size) -> None:
    buffer = io.BytesIO()
    Image.new("L", size).save(buffer, "PNG")
    with pytest.raises(DataError, match="a side may have at most 65,500"):
        decode_image(buffer.getvalue(), "long.png")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "an HTML page"),
        (b"GIF89a" + bytes(20), "a GIF; convert it to PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"P5\n2 1\n255\n\0\0", "a PGM"),
    ],
)
def test_what_lies_in_place_of_an_image_is_named(data: bytes, named: str) -> None:
    for read in (decode_image, image_size):
        with pytest.raises(DataError, match=f"x.png: not an image in PNG.*, but .*{named}"):
            read(data, "x.png")


def test_read_image_names_the_file(tmp_path) -> None:
    with pytest.raises(DataError, match="nowhere.png"):
        read_image(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match="no such image file"):
        read_image(tmp_path)


@given(height=st.integers(1, 90), width=st.integers(1, 1500), seed=st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_resized_line_has_the_geometrys_size_and_is_a_fixed_point(
    height: int, width: int, seed: int
) -> None:
    for geometry in (
        GEOMETRY,
        Geometry(max_width=128, over_width="center-crop", resampler="corner-bilinear"),
    ):
        line = resize_line(noise(height, width, seed), geometry)
        assert line.shape == (32, geometry.line_width(height, width), 3)
        assert line.dtype == np.uint8
        assert resize_line(line, geometry) is line


def test_linear_is_cv2s_and_area_and_cubic_differ() -> None:
    crop = noise(64, 401)
    expected = cv2.resize(crop, (200, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_line(crop, GEOMETRY), expected)
    area, cubic = (
        resize_line(crop, Geometry(resampler=name)) for name in ("area", "cubic")
    )
    assert not np.array_equal(area, expected)
    assert not np.array_equal(cubic, area)


def test_corner_bilinear_is_the_consumers() -> None:
    crop = noise(50, 310)
    geometry = Geometry(resampler="corner-bilinear")
    line = resize_line(crop, geometry)
    width = line.shape[1]
    for y, x, channel in ((0, 0, 0), (7, 33, 1), (31, width - 1, 2), (15, 100, 0)):
        source_y, source_x = y * 50 / 32, x * 310 / width
        top, left = int(source_y), int(source_x)
        bottom, right = min(top + 1, 49), min(left + 1, 309)
        dy, dx = source_y - top, source_x - left
        value = (
            float(crop[top, left, channel]) * (1 - dy) * (1 - dx)
            + float(crop[top, right, channel]) * (1 - dy) * dx
            + float(crop[bottom, left, channel]) * dy * (1 - dx)
            + float(crop[bottom, right, channel]) * dy * dx
        )
        assert abs(float(line[y, x, channel]) - value) <= 0.5 + 1e-9


def test_over_wide_is_squashed_or_cropped_to_its_middle() -> None:
    crop = np.zeros((32, 400, 3), dtype=np.uint8)
    crop[:, 200:] = 255
    crop[:, :100] = 100
    squashed = resize_line(crop, Geometry(max_width=200))
    assert squashed.shape[1] == 200
    assert (squashed[:, 10] == 100).all()
    cropped = resize_line(crop, Geometry(max_width=200, over_width="center-crop"))
    assert cropped.shape[1] == 200
    assert not (cropped == 100).any()  # the outer quarters are gone
    np.testing.assert_array_equal(cropped, crop[:, 100:300])
    with pytest.raises(UsageError, match="auto"):
        resize_line(crop, Geometry(max_width=200, over_width="auto"))


def test_padding_is_exactly_one_after_normalization() -> None:
    lines = [np.zeros((32, 8, 3), np.uint8), np.full((32, 20, 3), 127, np.uint8)]
    images, widths = pad_batch(lines, GEOMETRY)
    assert images.shape == (2, 3, 32, 20)
    assert widths.tolist() == [8, 20]
    values = normalize_array(images, GEOMETRY)
    assert values.dtype == np.float32
    assert (values[0, :, :, 8:] == 1.0).all()
    assert (values[0, :, :, :8] == -1.0).all()
    assert pad_batch(lines, GEOMETRY, width=64)[0].shape == (2, 3, 32, 64)
    with pytest.raises(ValueError, match="does not fit"):
        pad_batch(lines, GEOMETRY, width=16)
    with pytest.raises(ValueError, match="at least one"):
        pad_batch([], GEOMETRY)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 60, "progressive": True, "optimize": True}),
        ("JPEG", {"quality": 95, "subsampling": 0, "comment": "x"}),
    ],
)
def test_plain_images_decode_as_pillow_does(mode: str, format: str, options: dict) -> None:
    for size in ((33, 71), (64, 900), (1, 1)):
        image = Image.fromarray(noise(*size)).convert(mode)
        data = encoded(image, format, **options)
        assert _plain_size(data) == size
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode_image(data, "x"), expected)
        gray = decode_image(data, "x", keep_gray=True)
        assert gray.shape == (size if mode != "RGB" else (*size, 3))
        np.testing.assert_array_equal(gray, expected[..., 0] if mode != "RGB" else expected)


def test_only_plain_images_take_the_short_way() -> None:
    image = Image.fromarray(noise(20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    for data in (
        encoded(image, exif=exif),
        encoded(image, "JPEG", exif=exif),
        encoded(image.convert("P")),
        encoded(image.convert("RGBA")),
        encoded(image, transparency=(1, 2, 3)),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image)[:-1],
        encoded(image) + b"\0",
        encoded(image, "JPEG")[:-2],
        b"\xff\xd8",
        b"\x89PNG\r\n\x1a\n",
        encoded(image, "BMP"),
    ):
        assert _plain_size(data) is None
    png = bytearray(encoded(image))
    png[60] ^= 1
    assert _plain_size(bytes(png)) is None


@given(height=st.integers(1, 90), width=st.integers(1, 1500))
@settings(max_examples=25, deadline=None)
def test_a_gray_crop_scales_as_its_rgb_form(height: int, width: int) -> None:
    gray = noise(height, width)[:, :, 0]
    for resampler in ("linear", "area", "cubic", "corner-bilinear"):
        for over_width in ("squash", "center-crop"):
            geometry = Geometry(max_width=256, resampler=resampler, over_width=over_width)
            line = resize_line(gray, geometry)
            np.testing.assert_array_equal(
                np.repeat(line[:, :, None], 3, axis=2),
                resize_line(np.stack([gray] * 3, 2), geometry),
            )


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_what_libjpeg_says_of_a_damaged_image_names_the_file(
    mode, with_exif, capfd
) -> None:
    exif = Image.Exif()
    if with_exif:
        exif[0x0112] = 1
    whole = encoded(Image.fromarray(noise(64, 90)).convert(mode), "JPEG", exif=exif)
    extra = whole[:-2] + b"\0" * 20 + whole[-2:]
    with pytest.warns(
        DamagedImageWarning, match=r"scan\.jpg: Corrupt JPEG data: \d+ extraneous"
    ):
        pixels = decode_image(extra, "scan.jpg")
    np.testing.assert_array_equal(pixels, decode_image(whole, "scan.jpg"))
    with pytest.warns(
        DamagedImageWarning, match=r"scan\.jpg: Corrupt JPEG data: premature end"
    ):
        decode_image(whole[:-400] + whole[-2:], "scan.jpg")
    assert capfd.readouterr().err == ""  # libjpeg itself prints nothing


def test_a_header_that_the_first_decoder_has_no_name_for_goes_to_the_next(
    monkeypatch,
) -> None:
    data = encoded(Image.fromarray(noise(20, 30)), "JPEG")
    expected = decode_image(data, "x")

    def no_name(*_, **__):
        raise KeyError(-1)  # as simplejpeg does for colours that it does not know

    monkeypatch.setattr(simplejpeg, "decode_jpeg_header", no_name)
    np.testing.assert_array_equal(decode_image(data, "x"), expected)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 60}])
def test_webp_has_the_pixels_and_the_orientation_that_pillow_gives(options, orientation):
    noise = np.random.default_rng(1).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (5, 5), 0))
    exif = image.getexif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    image.save(written, "WEBP", exif=exif, **options)
    expected = rgb_pixels(Image.open(io.BytesIO(written.getvalue())))
    np.testing.assert_array_equal(decode_image(written.getvalue(), "x"), expected)


def test_a_jpeg_of_thousands_of_exif_parts_is_refused_at_once():
    written = io.BytesIO()
    Image.new("L", (64, 64)).save(written, "JPEG")
    content = written.getvalue()
    part = b"\xff\xe1\x00\x0eExif\0\0II*\0\0\0"
    hostile = content[:2] + part * 300_000 + content[2:]
    began = time.process_time()
    for read in (decode_image, image_size):
        with pytest.raises(DataError, match="more than 200 parts of EXIF data"):
            read(hostile, "x.jpg")
    assert time.process_time() - began < 2
    few = content[:2] + part * 3 + content[2:]
    assert decode_image(few, "x.jpg").shape == (64, 64, 3)


def test_a_jpeg_of_thousands_of_scans_is_refused_at_once():
    written = io.BytesIO()
    Image.new("L", (2000, 2000), 255).save(written, "JPEG", progressive=True)
    content = written.getvalue()
    last = content.rindex(b"\xff\xda")
    hostile = content[:-2] + content[last:-2] * 3000 + content[-2:]
    began = time.process_time()
    with pytest.raises(DataError, match=r"x\.jpg: more than 200 scans in a JPEG"):
        decode_image(hostile, "x.jpg")
    assert time.process_time() - began < 2
    assert decode_image(content, "x.jpg").shape == (2000, 2000, 3)


def test_a_jpeg_of_millions_of_filling_bytes_is_refused(recwarn):
    written = io.BytesIO()
    Image.new("L", (64, 64)).save(written, "JPEG")
    content = written.getvalue()
    filled = content[:2] + b"\xff" * 500 + content[2:]
    assert decode_image(filled, "x.jpg").shape[:2] == (64, 64)
    for filling in (b"\xff", b"\xff\x00"):
        with pytest.raises(DataError, match="more than 1,000 kilobytes of filling"):
            decode_image(content[:2] + filling * 2_000_000 + content[2:], "x.jpg")


@pytest.mark.parametrize(
    "part", [b"\xff\x01", b"\xff\xe2\0\2", b"\xff\xfe\0\4ab", b"\xff\x01\xff\xff"]
)
def test_a_jpeg_of_millions_of_segments_is_refused_at_once(part):
    written = io.BytesIO()
    Image.new("L", (64, 64)).save(written, "JPEG")
    content = written.getvalue()
    began = time.process_time()
    with pytest.raises(DataError, match="more than 10,000 segments"):
        decode_image(content[:2] + part * 3_000_000 + content[2:], "x.jpg")
    assert time.process_time() - began < 2


def test_a_video_after_the_image_of_a_phone_is_not_looked_at():
    written = io.BytesIO()
    Image.new("L", (64, 32), 255).save(written, "JPEG")
    video = b"\xff\xda\xff\xe1Exif\0\0" * 1000
    assert decode_image(written.getvalue() + video, "x.jpg").shape == (32, 64, 3)


def test_scans_in_the_preview_of_a_camera_are_not_counted():
    written = io.BytesIO()
    Image.new("L", (64, 32), 255).save(written, "JPEG")
    content = written.getvalue()
    preview = b"\xff\xda" * 1000
    segment = b"\xff\xe2" + (len(preview) + 2).to_bytes(2, "big") + preview
    assert decode_image(content[:2] + segment + content[2:], "x.jpg").shape == (32, 64, 3)
