import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from nordocr_cli.data.documents import crop_box, read_pages
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import Limits
from nordocr_cli.records import Box

SAMPLE = Path(__file__).parents[2] / "samples" / "doc" / "dev_doc.tif"


def tiff(*shades, **options):
    """A TIFF whose page k is gray `shades[k]`, 40 px wide and 20 px high."""
    pages = [Image.new("L", (40, 20), shade) for shade in shades]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], **options)
    return buffer.getvalue()


def test_the_sample_document_has_five_pages_of_black_on_white():
    pages = read_pages(SAMPLE)
    assert len(pages) == 5
    assert pages[0].shape == (3508, 2481, 3)
    # white paper: a G4 file read with its bits the other way round is black
    assert pages[4].mean() > 200


def test_pages_come_in_order_and_by_index(tmp_path):
    (tmp_path / "three.tif").write_bytes(tiff(10, 120, 250))
    pages = read_pages(tmp_path / "three.tif")
    assert [int(page[0, 0, 0]) for page in pages] == [10, 120, 250]
    assert int(pages[-1][0, 0, 1]) == 250
    assert [int(page[0, 0, 2]) for page in pages[1:]] == [120, 250]
    with pytest.raises(IndexError, match="3 pages"):
        pages[3]


def test_big_endian_and_bigtiff_are_counted(tmp_path):
    (tmp_path / "big.tif").write_bytes(tiff(1, 2, big_tiff=True))
    assert len(read_pages(tmp_path / "big.tif")) == 2
    # A big-endian TIFF of one 1x1 gray page, written by hand.
    tags = [
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1),
        (279, 1),
    ]
    entries = b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    (tmp_path / "motorola.tif").write_bytes(
        b"MM\0*"
        + struct.pack(">I", 10)
        + b"\x63\0"
        + struct.pack(">H", 9)
        + entries
        + bytes(4)
    )
    pages = read_pages(tmp_path / "motorola.tif")
    assert len(pages) == 1
    assert pages[0].tolist() == [[[0x63] * 3]]


def test_an_image_is_a_document_of_one_page(tmp_path):
    Image.new("RGBA", (8, 6), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (page,) = read_pages(tmp_path / "clear.png")
    assert page.shape == (6, 8, 3)
    assert page.min() == 255  # transparent is white


def test_pages_without_colour_may_be_kept_gray(tmp_path):
    gray, color = Image.new("L", (40, 30), 200), Image.new("RGB", (40, 30), (255, 0, 0))
    gray.save(tmp_path / "a.tif", save_all=True, append_images=[gray.convert("1"), color])
    gray.save(tmp_path / "gray.png")
    pages = [
        *read_pages(tmp_path / "a.tif", keep_gray=True),
        *read_pages(tmp_path / "gray.png", keep_gray=True),
    ]
    shown = [*read_pages(tmp_path / "a.tif"), *read_pages(tmp_path / "gray.png")]
    assert [page.shape for page in pages] == [(30, 40), (30, 40), (30, 40, 3), (30, 40)]
    for kept, rgb in zip(pages, shown, strict=True):
        assert rgb.shape == (30, 40, 3)
        assert (rgb == (kept if kept.ndim == 3 else kept[:, :, None])).all()


def test_a_cut_off_tiff_has_its_whole_pages_and_says_what_is_missing(tmp_path):
    whole = SAMPLE.read_bytes()
    (tmp_path / "half.tif").write_bytes(whole[: len(whole) // 2])
    pages = read_pages(tmp_path / "half.tif")
    assert len(pages) == 3
    assert (pages[0] == read_pages(SAMPLE)[0]).all()
    with pytest.raises(DataError, match="cut off after page 2"):
        pages[2]
    (tmp_path / "head.tif").write_bytes(whole[:8])
    with pytest.raises(DataError, match="cut off after page 0"):
        read_pages(tmp_path / "head.tif")


@pytest.mark.parametrize("where", ["offset", "count"])
def test_a_bigtiff_that_leads_beyond_63_bits_is_cut_off(tmp_path, where):
    far = struct.pack("<Q", 2**64 - 8)
    first = struct.pack("<Q", 16)
    content = b"II+\0\x08\0\0\0" + (far if where == "offset" else first) + far + bytes(100)
    (tmp_path / "far.tif").write_bytes(content)
    with pytest.raises(DataError, match="cut off after page 0"):
        read_pages(tmp_path / "far.tif")


def test_a_circle_of_pages_is_an_error(tmp_path):
    content = bytearray(tiff(10, 20))
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, first)
    (tmp_path / "circle.tif").write_bytes(content)
    with pytest.raises(DataError, match="circle after page 1"):
        read_pages(tmp_path / "circle.tif")


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(UsageError, match="no document"):
        read_pages(tmp_path / "none.tif")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(DataError, match=r"text\.png"):
        read_pages(tmp_path / "text.png")[0]


def scanned(mode, values, **tags):
    """A TIFF page 8 px wide, half paper and half ink, whose pixels are `values` (paper, ink)."""
    pixels = np.full((6, 8), values[0])
    pixels[:, 4:] = values[1]
    kind = {"I;16": np.uint16, "F": np.float32, "I": np.int32}[mode]
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(kind)).save(buffer, "TIFF", **tags)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("I;16", (65535, 0)),
        ("I;16", (4095, 0)),  # 12 bits in 16
        ("I;16", (1023, 3)),
        ("I;16", (250, 2)),  # 8 bits in 16
        ("F", (1.0, 0.0)),
        ("F", (255.0, 1.0)),
        ("F", (65000.0, 10.0)),
        ("I", (255, 0)),
        ("I", (65000, 9)),
    ],
)
def test_paper_is_bright_and_ink_is_dark_in_pixels_of_any_width(mode, values, tmp_path):
    (tmp_path / "a.tif").write_bytes(scanned(mode, values))
    (page,) = read_pages(tmp_path / "a.tif")
    assert page[0, 0].min() > 240
    assert page[0, 7].max() < 5


def test_pixels_without_a_known_white_are_refused_by_name(tmp_path):
    for values in ((3.0, -1.0), (1e9, 0.0), (float("nan"), 0.0)):
        (tmp_path / "a.tif").write_bytes(scanned("F", values))
        with pytest.raises(DataError, match=r"a\.tif: .* have no known white; convert"):
            read_pages(tmp_path / "a.tif")[0]


def written_by_hand(planes, bits, sample_format):
    """A TIFF 8 px wide and 6 px high whose samples lie in `planes`, one after the other."""
    count = len(planes)
    content = bytearray(struct.pack("<2sHI", b"II", 42, 0))
    offsets = []
    for plane in planes:
        offsets.append(len(content))
        content += plane
    tags = {
        256: [8],
        257: [6],
        258: [bits] * count,
        259: [1],
        262: [2 if count == 3 else 1],
        273: offsets,
        277: [count],
        278: [6],
        279: [len(plane) for plane in planes],
        284: [2 if count == 3 else 1],
        339: [sample_format] * count,
    }
    entries = b""
    for tag, values in tags.items():
        value = struct.pack(f"<{len(values)}H", *values).ljust(4, b"\0")
        if len(value) > 4:
            content += value
            value = struct.pack("<I", len(content) - len(value))
        entries += struct.pack("<HHI", tag, 3, len(values)) + value
    struct.pack_into("<I", content, 4, len(content))
    return bytes(content + struct.pack("<H", len(tags)) + entries + bytes(4))


@pytest.mark.parametrize(
    ("planes", "bits", "sample_format", "named"),
    [
        ([bytes(2 * 48)] * 3, 16, 1, "separate planes of 16 bits a sample"),
        ([bytes(8 * 48)], 64, 3, "floating-point samples of 64 bits"),
        ([bytes(2 * 48)], 16, 3, "floating-point samples of 16 bits"),
        ([bytes(48)], 8, 2, "signed integer samples of 8 bits"),
    ],
)
def test_pixels_that_cannot_be_read_are_named(planes, bits, sample_format, named, tmp_path):
    (tmp_path / "a.tif").write_bytes(written_by_hand(planes, bits, sample_format))
    with pytest.raises(DataError, match=rf"a\.tif: a TIFF with {named} cannot be read; "):
        read_pages(tmp_path / "a.tif")[0]


@pytest.mark.parametrize(
    ("tag", "value", "named"),
    [
        (259, 34712, "a TIFF compressed with JPEG 2000 cannot be read"),
        (259, 34933, "a TIFF compressed with PNG cannot be read"),
        (259, 12345, "a TIFF compressed with method 12345 cannot be read"),
        (262, 9, "a TIFF with Lab colours cannot be read"),
    ],
)
def test_compressions_and_colours_that_cannot_be_read_are_named(
    tag, value, named, tmp_path
):
    content = bytearray(written_by_hand([bytes(48)], 8, 1))
    entry = content.index(struct.pack("<HHI", tag, 3, 1))
    struct.pack_into("<H", content, entry + 8, value)
    (tmp_path / "a.tif").write_bytes(content)

    with pytest.raises(DataError, match=named):
        read_pages(tmp_path / "a.tif")[0]


def test_a_big_endian_big_tiff_is_refused_by_name(tmp_path):
    header = b"MM\0\x2b" + struct.pack(">HHQ", 8, 0, 16)
    directory = struct.pack(">QHHQQQ", 1, 256, 3, 1, 8 << 48, 0)
    (tmp_path / "a.tif").write_bytes(header + directory)

    with pytest.raises(DataError, match="a BigTIFF with big-endian numbers cannot be read"):
        read_pages(tmp_path / "a.tif")[0]


def test_separate_planes_of_eight_bits_are_read(tmp_path):
    planes = [bytes([shade]) * 48 for shade in (200, 100, 50)]
    (tmp_path / "a.tif").write_bytes(written_by_hand(planes, 8, 1))
    (page,) = read_pages(tmp_path / "a.tif")
    assert page[3, 3].tolist() == [200, 100, 50]


def test_sixteen_bits_may_be_the_other_way_round(tmp_path):
    content = bytearray(scanned("I;16", (0, 65535)))
    with Image.open(io.BytesIO(content)) as image:
        assert image.tag_v2[262] == 1
    at = content.index(struct.pack("<HHIH", 262, 3, 1, 1))
    struct.pack_into("<HHIH", content, at, 262, 3, 1, 0)
    (tmp_path / "a.tif").write_bytes(content)
    (page,) = read_pages(tmp_path / "a.tif")
    assert page[0, 0].tolist() == [255] * 3
    assert page[0, 7].tolist() == [0] * 3


def test_a_thumbnail_is_no_page(tmp_path):
    pages = [
        Image.new("L", (10, 5), 7),
        Image.new("L", (40, 20), 99),
        Image.new("L", (40, 20), 3),
    ]
    buffer = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(buffer, new=True) as writer:
        for page in pages:
            page.save(writer, "TIFF", tiffinfo={254: int(page.width == 10)})
            writer.newFrame()
    (tmp_path / "a.tif").write_bytes(buffer.getvalue())
    document = read_pages(tmp_path / "a.tif")
    assert [int(page[0, 0, 0]) for page in document] == [99, 3]


def test_the_first_picture_of_an_mpo_is_the_page(tmp_path):
    first, second = (Image.new("RGB", (64, 32), shade) for shade in ((200,) * 3, (10,) * 3))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second])
    (page,) = read_pages(tmp_path / "a.jpg")
    assert int(page[0, 0, 0]) == pytest.approx(200, abs=2)


def test_the_resolution_comes_from_the_file(tmp_path):
    Image.new("L", (1728, 1100), 255).save(tmp_path / "fax.tif", dpi=(204, 98))
    Image.new("L", (800, 600), 255).save(tmp_path / "a.png", dpi=(200, 200))
    Image.new("L", (800, 600), 255).save(tmp_path / "none.png")
    Image.new("L", (4000, 3000), 255).save(tmp_path / "camera.jpg", dpi=(72, 72))
    fax = read_pages(tmp_path / "fax.tif").resolution(0, (1100, 1728))
    assert (fax.x_dpi, fax.y_dpi) == (204, 98)
    assert read_pages(tmp_path / "a.png").resolution(0, (600, 800)).x_dpi == pytest.approx(
        200, 0.01
    )
    assert read_pages(tmp_path / "none.png").resolution(0, (600, 800)) is None
    assert read_pages(tmp_path / "camera.jpg").resolution(0, (3000, 4000)) is None


def test_a_turned_photographs_resolution_is_turned_too(tmp_path):
    image = Image.new("L", (300, 200), 255)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif, dpi=(200, 100))
    document = read_pages(tmp_path / "a.jpg")
    assert document[0].shape[:2] == (300, 200)
    turned = document.resolution(0, (300, 200))
    assert (turned.x_dpi, turned.y_dpi) == (100, 200)


def test_limits_are_checked_before_decoding(tmp_path):
    (tmp_path / "three.tif").write_bytes(tiff(10, 120, 250))
    with pytest.raises(DataError, match="claims 3 pages, above the limit of 2"):
        read_pages(tmp_path / "three.tif", Limits(max_pages=2))
    with pytest.raises(DataError, match="page 1: 20 x 40 pixels .* above the limit of 700"):
        read_pages(tmp_path / "three.tif", Limits(max_pixels=700))[0]
    Image.new("L", (9000, 9000), 255).save(tmp_path / "large.png")
    with pytest.raises(
        DataError, match=r"9,000 x 9,000 pixels .* raise --max-pixels to 81000000"
    ):
        read_pages(tmp_path / "large.png")[0]


def test_boxes_are_cut_as_the_consumer_cuts_them():
    page = np.arange(20 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3)
    # 8.9 → 9, 7.1 → 8
    assert np.array_equal(crop_box(page, Box(2.9, 3.9, 4.2, 5.0)), page[3:9, 2:8])
    assert np.array_equal(crop_box(page, Box(2, 3, 4, 5)), page[3:8, 2:6])
    assert np.array_equal(crop_box(page, Box(-5, -5, 100, 100)), page)
    with pytest.raises(DataError, match="outside its page"):
        crop_box(page, Box(30, 0, 5, 5))


def tiff_with_a_tag_outside(path):
    """A TIFF of 20 x 8 pixels with a description that should lie behind the end of the file."""
    tags = [(256, 4, 1, 20), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(270, 2, 9999, 1 << 20), (273, 4, 1, 200), (278, 4, 1, 8), (279, 4, 1, 160)]
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    content += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(content.ljust(200, b"\0") + bytes(160))
    return path


def test_what_pillow_warns_of_names_the_file(tmp_path):
    folder = tmp_path / "pages"
    folder.mkdir()
    for name in ("a.tif", "b.tif"):
        tiff_with_a_tag_outside(folder / name)
    command = [sys.executable, "-m", "nordocr_cli", "read", folder, "--layout", "line"]
    done = subprocess.run(
        [*command, "--model", "tesseract"], capture_output=True, text=True
    )
    warned = [line for line in done.stderr.splitlines() if "Tag data larger" in line]
    for name in ("a.tif", "b.tif"):
        assert any(line.startswith(f"warning: {folder / name}: ") for line in warned), (
            warned
        )
    assert "UserWarning" not in done.stderr
    assert "warnings.warn" not in done.stderr
