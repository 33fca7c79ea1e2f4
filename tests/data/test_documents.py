import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.data.documents import crop_box, read_pages
from nordocr_cli.errors import DataError, UsageError
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
        b"MM\0*" + struct.pack(">I", 10) + b"\x63\0" + struct.pack(">H", 9) + entries + bytes(4)
    )
    pages = read_pages(tmp_path / "motorola.tif")
    assert len(pages) == 1
    assert pages[0].tolist() == [[[0x63] * 3]]


def test_an_image_is_a_document_of_one_page(tmp_path):
    Image.new("RGBA", (8, 6), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    (page,) = read_pages(tmp_path / "clear.png")
    assert page.shape == (6, 8, 3)
    assert page.min() == 255  # transparent is white


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


def test_boxes_are_cut_as_the_consumer_cuts_them():
    page = np.arange(20 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(20, 30, 3)
    # 8.9 → 9, 7.1 → 8
    assert np.array_equal(crop_box(page, Box(2.9, 3.9, 4.2, 5.0)), page[3:9, 2:8])
    assert np.array_equal(crop_box(page, Box(2, 3, 4, 5)), page[3:8, 2:6])
    assert np.array_equal(crop_box(page, Box(-5, -5, 100, 100)), page)
    with pytest.raises(DataError, match="outside its page"):
        crop_box(page, Box(30, 0, 5, 5))
