"""From image files to line images: the one decoder and the one resize that prep, evaluation and the
runners share.

Pixels are uint8 RGB in the order (height, width, 3) throughout; torch-free.
"""

import io
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nordocr_cli.artifact.contract import InputType
from nordocr_cli.current_file import reading_file
from nordocr_cli.data.fax_rows import is_fax_coded, load_fax_rows
from nordocr_cli.errors import DamagedImageWarning, DataError, UsageError
from nordocr_cli.geometry import NORMALIZATIONS, Geometry
from nordocr_cli.limits import MAX_PAGE_SIDE, require_sides
from nordocr_cli.pixels import Pixels

MAX_LINE_PIXELS = 16_000_000
IMAGE_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
# What lies in place of images, or is an image in another format, by what its first bytes hold.
_LOOK_BYTES = 64
# Of a JPEG. A progressive image has about ten scans, each of which touches every pixel; cameras
# write one part of EXIF data and a few hundred segments.
_FILLING = "kilobytes of filling between the segments"
_JPEG_LIMITS = {
    "scans": 200,
    "parts of EXIF data": 200,
    "segments": 10_000,
    _FILLING: 1000,  # Pillow reads it byte by byte
}
# The next marker in compressed data, where FF 00 is a byte and FF D0 to FF D7 are restarts.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_APP1 = 0xE1
_WITHOUT_LENGTH = (0x01, 0xD8)
_LOOKS = {
    b"version https://git-lfs": "a pointer of Git LFS; `git lfs pull` fetches the image",
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"%pdf-": "a PDF",
    b"gif8": "a GIF; convert it to PNG",
    b"ftypavif": "AVIF; convert it to PNG",
    b"ftyphei": "HEIF; convert it to JPEG",
    b"jp  \r\n": "JPEG 2000; convert it to PNG",
    b"p5\n": "a PGM; convert it to PNG",
    b"p6\n": "a PPM; convert it to PNG",
}

# Pillow has one limit for all images; ours are checked from the header, before decoding.
Image.MAX_IMAGE_PIXELS = None

_HALF_VISIBLE = 127  # alpha, of 255
_BRIGHT = 170  # a level, of 255, that is hardly seen on white
_EXIF_ORIENTATION = 0x0112
_TRANSPARENT_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
# What is converted at a time.
_BAND_PIXELS = 1 << 20
# A TIFF tag, and its value for bilevel and gray pages whose paper is 0.
_PHOTOMETRIC = 262
_MIN_IS_WHITE = 0
# Other TIFF tags.
_BITS_A_SAMPLE = 258
_SAMPLES = 277
_PLANES = 284
_SAMPLE_FORMAT = 339
_SEPARATE_PLANES = 2  # value of _PLANES
_SIGNED = 2  # value of _SAMPLE_FORMAT
_SAMPLE_KINDS = {_SIGNED: "signed integer", 3: "floating-point", 5: "complex", 6: "complex"}
_NARROW_BITS = 8
# What Pillow cannot open: a byte order, values of _COMPRESSION, values of _PHOTOMETRIC.
_BIG_ENDIAN_BIG_TIFF = b"MM\0\x2b"
_COMPRESSION = 259  # TIFF tag
_COMPRESSIONS = {
    34661: "JBIG",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
    34933: "PNG",
    50002: "JPEG XL",
    52546: "JPEG XL",
}
_LAB = (8, 9, 10)
# The largest value of white that scanners write into wider pixels: 8, 10, 12, 14 and 16 bits.
_WHITES = (255, 1023, 4095, 16383, 65535)
_CV2_INTERPOLATION = {
    "linear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
}


class UnsupportedPixelsError(ValueError):
    """The image is sound, but its kind of pixels cannot be read; the message says which."""


def decode_image(
    data: bytes, what: str, *, max_pixels: int = MAX_LINE_PIXELS, keep_gray: bool = False
) -> Pixels:
    """Decode one PNG, JPEG, TIFF, BMP or WebP image to uint8 (height, width, 3) RGB; with
    `keep_gray` a plain gray one may come back as (height, width).

    1-bit, gray and palette images become RGB, transparency is laid on white, wider pixels are
    scaled to 8 bits, EXIF orientation is applied; of an MPO the first image is taken. `what` names
    the image in errors. Raises DataError when the data is empty, truncated, damaged, in another
    format, of several frames, or larger than `max_pixels`. Warns with DamagedImageWarning of a JPEG
    that libjpeg decodes in spite of damage, as most programs do.
    """
    if not data:
        raise DataError(f"{what}: the file is empty")
    require_quick_jpeg(data, what)
    plain = _decode_plain(data, what, max_pixels, keep_gray)
    if plain is not None:
        return plain
    with reading_file(what):
        return _decode_with_pillow(data, what, max_pixels, keep_gray)


def _decode_with_pillow(data: bytes, what: str, max_pixels: int, keep_gray: bool) -> Pixels:
    """Decode any image that is no plain JPEG or PNG; see `decode_image`."""
    try:
        image = open_image(data, what)
        _require_one_small_image(image, what, max_pixels)
        if image.format == "WEBP":
            image = _decoded_webp(image, data)
        if image.format == "PNG":
            # Loading a PNG skips the checksums of its pixel chunks; a damaged one would come back
            # as other pixels.
            image.verify()
            image = open_image(data, what)
        pixels = rgb_pixels(image, keep_gray=keep_gray)
        if image.format == "JPEG":
            _warn_of_damage(data, what)
        return pixels
    except DataError:
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, met while it opens the image
        raise DataError(
            f"{what}: its pixels are more than the limit of {max_pixels / 1e6:.0f} megapixels"
        ) from None
    except UnidentifiedImageError:
        raise _unidentified(data, what) from None
    except UnsupportedPixelsError as error:
        raise DataError(f"{what}: {error}") from None
    except Exception as error:  # a decoder fed with damaged bytes raises almost anything
        raise DataError(f"{what}: damaged image: {error}") from error


def open_image(data: bytes, what: str) -> Image.Image:
    """Open an image with Pillow, which reads its header only. Raises DataError for a JPEG that
    takes minutes to read, and what Pillow raises.
    """
    require_quick_jpeg(data, what)
    return Image.open(io.BytesIO(data), formats=IMAGE_FORMATS)


def require_quick_jpeg(data: bytes, what: str) -> None:
    """Raise DataError for a JPEG with so many scans that decoding them takes minutes, or with so
    many parts of EXIF data or so much filling that Pillow takes minutes. Other data passes.
    """
    if data[:2] != b"\xff\xd8":
        return
    counts = dict.fromkeys(_JPEG_LIMITS, 0)
    for part in _jpeg_parts(data):
        counts[part] += 1
        maximum = _JPEG_LIMITS[part]
        if counts[part] > maximum:
            raise DataError(
                f"{what}: more than {maximum:,} {part} in a JPEG; save the image as PNG"
            )


def _jpeg_parts(data: bytes) -> Iterator[str]:
    """Yield what each segment of a JPEG is, a key of `_JPEG_LIMITS`, up to the end of its first
    image. What follows, as the video of a phone, is not looked at.
    """
    place = 2
    is_header = True
    while (marker := _JPEG_MARKER.search(data, place)) is not None:
        kind = data[marker.start() + 1]
        if is_header:
            yield from repeat(_FILLING, (marker.start() - place) >> 10)
        if kind == _END_OF_IMAGE:
            return
        place = length_at = marker.end()
        if kind in _WITHOUT_LENGTH:
            yield "segments"
            continue
        if kind == _START_OF_SCAN:
            is_header = False
            yield "scans"
        elif kind == _APP1 and data.startswith(b"Exif\0\0", length_at + 2):
            yield "parts of EXIF data"
        else:
            yield "segments"
        place += max(2, int.from_bytes(data[length_at : length_at + 2], "big"))


def _decoded_webp(image: Image.Image, data: bytes) -> Image.Image:
    """Decode a WebP without transparency with OpenCV: Pillow's decoder, made for animations, takes
    five times the memory.
    """
    if image.mode != "RGB":
        return image
    as_stored = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), as_stored)
    if pixels is None or pixels.shape[:2] != (image.height, image.width):
        return image  # Pillow says what is wrong
    decoded = Image.fromarray(pixels)
    decoded.info = image.info
    return decoded


def _unidentified(data: bytes, what: str) -> DataError:
    """The error for bytes in no format that is read; it names what they look like."""
    unsupported = unsupported_tiff(data, what)
    if unsupported is not None:
        return unsupported
    head = data[:_LOOK_BYTES].lstrip().lower()
    kind = next((kind for mark, kind in _LOOKS.items() if mark in head), None)
    but = f", but {kind}" if kind else ""
    return DataError(f"{what}: not an image in {', '.join(IMAGE_FORMATS)}{but}")


def unsupported_tiff(data: bytes, what: str) -> DataError | None:
    """Return the error for a TIFF whose kind of samples, compression or numbers Pillow does not
    know, None for other and for damaged files.
    """
    from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2

    if data[:2] not in (b"II", b"MM"):
        return None
    if data[:4] == _BIG_ENDIAN_BIG_TIFF:
        return DataError(
            f"{what}: a BigTIFF with big-endian numbers cannot be read; save it with little-endian"
            " numbers or as a plain TIFF"
        )
    try:
        file = io.BytesIO(data)
        is_big = b"\x2b" in data[2:4]
        directory = ImageFileDirectory_v2(file.read(16 if is_big else 8))
        file.seek(directory.next)
        directory.load(file)
        bits = max(directory.get(_BITS_A_SAMPLE, (1,)))
        kind = directory.get(_SAMPLE_FORMAT, (1,))[0]
        compression = int(directory.get(_COMPRESSION, 1))
        colours = int(directory.get(_PHOTOMETRIC, _MIN_IS_WHITE))
    except Exception:  # noqa: BLE001 # damaged: the caller's message stands
        return None
    if compression not in COMPRESSION_INFO:
        name = _COMPRESSIONS.get(compression, f"method {compression}")
        return DataError(
            f"{what}: a TIFF compressed with {name} cannot be read; save it with LZW or without"
            " compression"
        )
    if colours in _LAB:
        return DataError(f"{what}: a TIFF with Lab colours cannot be read; save it as RGB")
    if bits in (1, _NARROW_BITS):
        return None  # Pillow knows these, so the file is damaged
    name = _SAMPLE_KINDS.get(kind, "unsigned integer")
    return DataError(
        f"{what}: a TIFF with {name} samples of {bits} bits cannot be read; convert it to 8 bits"
        " a sample"
    )


def _decode_plain(
    data: bytes, what: str, max_pixels: int, keep_gray: bool
) -> Pixels | None:
    """Decode a JPEG or PNG that needs no more than its pixels; None for any other image."""
    size = _plain_size(data)
    if size is None or size[0] * size[1] > max_pixels or max(size) > MAX_PAGE_SIDE:
        return None

    if data[:2] == b"\xff\xd8":
        pixels = _decode_jpeg(data, what)
    else:
        pixels = _decode_png(data)
    if pixels is None or pixels.shape[:2] != size:
        return None

    is_gray = pixels.ndim == 2
    if is_gray and not keep_gray:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return pixels


def _decode_png(data: bytes) -> Pixels | None:
    """Return uint8 (height, width) or (height, width, 3) RGB, None when OpenCV refuses it."""
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint8:
        return None
    if pixels.ndim == 2:
        return np.asarray(pixels, dtype=np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _decode_jpeg(data: bytes, what: str) -> Pixels | None:
    """Return uint8 (height, width) or (height, width, 3) RGB, None when libjpeg refuses it.

    libjpeg-turbo as in Pillow and OpenCV, which print its warnings without the name of the file or
    not at all.
    """
    try:
        color_space = _color_space(data)
        try:
            pixels = simplejpeg.decode_jpeg(data, color_space)
        except ValueError as warning:  # also an error, which comes again
            pixels = simplejpeg.decode_jpeg(data, color_space, strict=False)
            _warn(what, warning)
    except ValueError:
        return None
    return np.asarray(pixels[:, :, 0] if color_space == "GRAY" else pixels, dtype=np.uint8)


def _warn_of_damage(data: bytes, what: str) -> None:
    """Warn when libjpeg decodes a JPEG in spite of damage. Decodes it at an eighth of its size."""
    try:
        color_space = _color_space(data)
        sides = {"min_height": 1, "min_width": 1, "min_factor": 8}
        try:
            simplejpeg.decode_jpeg(data, color_space, **sides)
        except ValueError as warning:
            simplejpeg.decode_jpeg(data, color_space, strict=False, **sides)
            _warn(what, warning)
    except ValueError:
        return  # Pillow says what is wrong


def _color_space(data: bytes) -> str:
    """The name of the colours that a JPEG is decoded to. Raises ValueError for no JPEG."""
    try:
        _, _, stored, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except KeyError as error:  # colours that it has no name for
        raise ValueError(f"unknown colours ({error})") from None
    return {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(stored, "RGB")


def _warn(what: str, warning: ValueError) -> None:
    message = f"{what}: {warning}; parts of the image may be wrong"
    warnings.warn(message, DamagedImageWarning, stacklevel=2)


def _require_one_small_image(image: Image.Image, what: str, max_pixels: int) -> None:
    """Raise DataError for more pixels or a longer side than the limits, and for a file of several
    images.
    """
    width, height = image.size
    require_sides(height, width, what)
    if width * height > max_pixels:
        of_a_line = " for one line" if max_pixels == MAX_LINE_PIXELS else ""
        raise DataError(
            f"{what}: {height} x {width} pixels are more than the limit of"
            f" {max_pixels / 1e6:.0f} megapixels{of_a_line}"
        )

    frames = getattr(image, "n_frames", 1)
    # The further images of an MPO are the same picture for other screens.
    if frames > 1 and image.format != "MPO":
        raise DataError(f"{what}: holds {frames} images; one was expected")


def _plain_size(data: bytes) -> tuple[int, int] | None:
    """(height, width) of a whole JPEG or PNG that says nothing but its pixels, gray or RGB with 8
    bits (gray PNGs with less).

    OpenCV and libjpeg decode these as Pillow does, in two thirds of the time. What OpenCV reads
    otherwise, or accepts though it is damaged, has to take the other way and gives None:
    orientation, transparency, palettes, profiles, wrong checksums, missing ends.
    """
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _plain_png(data)
        if data[:2] == b"\xff\xd8":
            return _plain_jpeg(data)
        return None
    except struct.error:
        return None


def _plain_png(data: bytes) -> tuple[int, int] | None:
    size = None
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if (
            zlib.crc32(memoryview(data)[at + 4 : end - 4])
            != struct.unpack_from(">I", data, end - 4)[0]
        ):
            return None
        if kind == b"IHDR":
            width, height, depth, colors = struct.unpack_from(">IIBB", data, at + 8)
            if (colors == 0 and depth <= 8) or (colors == 2 and depth == 8):
                size = (height, width)
            else:
                size = None
        elif kind not in (b"IDAT", b"IEND", b"pHYs", b"tEXt", b"tIME"):
            return None
        if kind == b"IEND":
            if end == len(data):
                return size
            return None
        at = end
    return None


def _plain_jpeg(data: bytes) -> tuple[int, int] | None:
    if data[-2:] != b"\xff\xd9":
        return None
    size = None
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", data, at)
        if mark != 0xFF:
            return None
        if kind == 0xDA:  # the pixels begin
            return size
        if kind in (0xC0, 0xC1, 0xC2):
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            if depth == 8 and channels in (1, 3) and height:
                size = (height, width)
            else:
                size = None
        elif kind not in (0xC4, 0xDB, 0xDD, 0xE0, 0xFE):  # tables, restarts, JFIF, comment
            return None
        at += 2 + length


def image_size(data: bytes, what: str) -> tuple[int, int]:
    """Return (height, width) of an encoded image as `decode_image` would give it, from its header.
    Raises DataError.
    """
    try:
        with reading_file(what):
            return _size_in_header(data, what)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise _unidentified(data, what) from None
    except Exception as error:  # see decode_image
        raise DataError(f"{what}: damaged image: {error}") from error


def _size_in_header(data: bytes, what: str) -> tuple[int, int]:
    image = open_image(data, what)
    width, height = image.size
    # Pillow decodes a complete PNG to look for EXIF data behind its pixels, and gives the size of a
    # TIFF upright.
    is_plain_png = image.format == "PNG" and b"eXIf" not in data
    may_be_turned = image.format != "TIFF" and (not is_plain_png or "exif" in image.info)
    if may_be_turned and image.getexif().get(_EXIF_ORIENTATION, 1) >= 5:
        return (width, height)
    return (height, width)


def read_image(path: Path, *, max_pixels: int = MAX_LINE_PIXELS) -> Pixels:
    """Read an image file; see `decode_image`. Raises DataError naming the file."""
    return decode_image(
        read_image_bytes(path, max_pixels=max_pixels), str(path), max_pixels=max_pixels
    )


def read_image_bytes(path: Path | str, *, max_pixels: int = MAX_LINE_PIXELS) -> bytes:
    """Read an image file's bytes. Raises DataError when it is no regular file or far larger than
    its pixels could be.
    """
    try:
        with open(path, "rb", buffering=0, opener=_open_at_once) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path}: no such image file")
            if status.st_size > 8 * max_pixels + (1 << 20):
                raise DataError(
                    f"{path}: {status.st_size / 1e6:.0f} MB are too large for one image"
                )
            return file.read(status.st_size) or b""
    except IsADirectoryError:
        raise DataError(f"{path}: no such image file") from None
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such image file") from error
    except OSError as error:
        raise DataError(
            f"{path}: cannot read the image: {error.strerror or error}"
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for somebody to write into a named pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def rgb_pixels(image: Image.Image, *, keep_gray: bool = False) -> Pixels:
    """Return an opened Pillow image (its current frame) as uint8 (height, width, 3) RGB; see
    `decode_image` for the rules.

    Raises UnsupportedPixelsError for pixels below 0 or above 65535, whose white is unknown, and for
    wide samples in separate planes, and whatever Pillow raises on damaged data.
    """
    tags = getattr(image, "tag_v2", {})
    _require_readable_samples(tags)
    if is_fax_coded(tags):
        load_fax_rows(image, tags)
    else:
        image.load()
    # Pillow turns round one and eight bits, and leaves wider pixels as they are.
    is_inverted = tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE
    orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if image.mode.startswith("I") or image.mode == "F":
        pixels = _gray_of_wide(image, is_inverted)
    elif image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        pixels = _rgb_of_transparent(image)
    else:
        pixels = _in_bands(image, _opaque_pixels)

    pixels = _turned_upright(pixels, orientation)
    if pixels.ndim == 2 and not keep_gray:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    return pixels


def _require_readable_samples(tags: Mapping[int, Any]) -> None:
    """Raise UnsupportedPixelsError for a TIFF of signed bytes, or whose colours of more than 8 bits
    lie in separate planes: Pillow reads other pixels without an error.
    """
    is_separate = tags.get(_PLANES) == _SEPARATE_PLANES and tags.get(_SAMPLES, 1) > 1
    bits = max(tags.get(_BITS_A_SAMPLE, (1,)))
    is_signed = _SIGNED in tags.get(_SAMPLE_FORMAT, (1,))
    if is_signed and bits <= _NARROW_BITS:
        raise UnsupportedPixelsError(
            f"a TIFF with signed integer samples of {bits} bits cannot be read; convert it to"
            " unsigned samples"
        )
    if is_separate and bits > _NARROW_BITS:
        raise UnsupportedPixelsError(
            f"a TIFF with separate planes of {bits} bits a sample cannot be read; save it with"
            " interleaved samples or 8 bits a sample"
        )


def _bands(image: Image.Image) -> Iterator[Image.Image]:
    """Yield an image from top to bottom in parts of a few megapixels, so that what a conversion
    needs on the way does not grow with the page. A small image comes in one part, itself.
    """
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        yield image.crop((0, top, image.width, bottom))


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """Convert an image band by band to what `convert` gives: uint8 (height, width), or with a third
    axis of 3.
    """
    pixels: Pixels | None = None
    top = 0
    for band in _bands(image):
        converted = convert(band)
        if band is image:
            return converted
        if pixels is None:
            shape = (image.height, image.width, *converted.shape[2:])
            pixels = np.empty(shape, dtype=np.uint8)
        pixels[top : top + band.height] = converted
        top += band.height
    assert pixels is not None
    return pixels


def _opaque_pixels(image: Image.Image) -> Pixels:
    """Gray (height, width) of a gray image, RGB (height, width, 3) of any other."""
    if image.mode in ("1", "L"):
        # Pillow's RGB takes four bytes a pixel on the way.
        return np.asarray(image.convert("L"), dtype=np.uint8)
    return np.asarray(image.convert("RGB")).copy()


def _rgb_of_transparent(image: Image.Image) -> Pixels:
    """Lay a transparent image on white, or on black where its visible pixels are so bright that
    nothing could be seen on white.
    """
    visible = 0
    darkest = 255
    for band in _bands(image):
        pixels = np.asarray(band.convert("RGBA"))  # (h, w, 4)
        colours = pixels[pixels[:, :, 3] > _HALF_VISIBLE][:, :3]
        visible += len(colours)
        darkest = min(darkest, int(colours.min(initial=255)))
    is_sparse = 0 < 2 * visible < image.height * image.width
    backdrop = (255, 255, 255, 255)
    if is_sparse and darkest > _BRIGHT:
        backdrop = (0, 0, 0, 255)

    def composed(band: Image.Image) -> Pixels:
        paper = Image.new("RGBA", band.size, backdrop)
        laid = Image.alpha_composite(paper, band.convert("RGBA"))
        return np.asarray(laid.convert("RGB")).copy()

    return _in_bands(image, composed)


def _gray_of_wide(image: Image.Image, is_inverted: bool) -> Pixels:
    """Scale pixels of more than 8 bits, or floats, to uint8 (height, width).

    What value is white is not in the file: it is the smallest of the usual ones that holds all
    pixels, as paper is bright. Raises UnsupportedPixelsError where there is none.
    """
    lowest = np.inf
    highest = -np.inf
    for band in _bands(image):
        values = np.asarray(band, dtype=np.float64)
        # Unlike min() these let NaN through, which is refused below.
        lowest = float(np.minimum(lowest, values.min()))
        highest = float(np.maximum(highest, values.max()))
    if not (lowest >= 0 and highest <= _WHITES[-1]):
        raise UnsupportedPixelsError(
            f"pixels of mode {image.mode} from {lowest:g} to {highest:g} have no known white;"
            " convert the image to 8 or 16 bits a channel"
        )
    whites = (1.0, *_WHITES) if image.mode == "F" else _WHITES
    white = next(value for value in whites if highest <= value)

    def scaled(band: Image.Image) -> Pixels:
        values = np.asarray(band, dtype=np.float64)
        gray = np.floor(values * (255 / white) + 0.5).astype(np.uint8)
        if is_inverted:
            return 255 - gray
        return gray

    return _in_bands(image, scaled)


def _turned_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels (height, width) or (height, width, 3) upright, given the orientation of their
    EXIF data.
    """
    if orientation not in range(2, 9):
        return pixels
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def resize_line(crop: Pixels, geometry: Geometry) -> Pixels:
    """Scale a (h, w, 3) crop to uint8 (geometry.height, geometry.line_width(h, w), 3), or a gray
    (h, w) one to two dimensions.

    A crop that has the right height and an allowed width comes back untouched. A crop that is too
    wide is squashed to `max_width`, or with `over_width = "center-crop"` cut to its middle first.
    Raises ValueError for a crop without pixels and UsageError when `over_width` is still "auto".
    """
    # cv2's cubic rounds one channel otherwise
    if crop.ndim == 2 and geometry.resampler in ("corner-bilinear", "cubic"):
        return resize_line(np.repeat(crop[:, :, None], 3, axis=2), geometry)[:, :, 0]
    height, width = crop.shape[:2]
    new_height = geometry.height
    new_width = geometry.line_width(height, width)
    natural_width = geometry.natural_width(height, width)
    if natural_width > new_width:
        if geometry.over_width == "auto":
            raise UsageError(
                'geometry.over_width "auto" is decided by `nordocr prep`; give "squash" or'
                ' "center-crop" here'
            )
        if geometry.over_width == "center-crop":
            # Cut before scaling: the same picture, without ever holding the whole scaled line.
            keep = max(1, round(width * new_width / natural_width))
            left = (width - keep) // 2
            crop = crop[:, left : left + keep]
            width = keep
    if (height, width) == (new_height, new_width):
        return crop
    if geometry.resampler == "corner-bilinear":
        return _corner_bilinear(crop, new_height, new_width)
    interpolation = _CV2_INTERPOLATION[geometry.resampler]
    # cv2: width first
    resized = cv2.resize(
        np.ascontiguousarray(crop), (new_width, new_height), interpolation=interpolation
    )
    return np.asarray(resized, dtype=np.uint8)


def _corner_bilinear(crop: Pixels, new_height: int, new_width: int) -> Pixels:
    """Bilinear as the consumer serves it: source = target * size / new_size, no half-pixel centre,
    no antialias, float64.
    """
    height, width = crop.shape[:2]
    y = np.arange(new_height) * (height / new_height)
    x = np.arange(new_width) * (width / new_width)
    top = np.minimum(y.astype(int), height - 1)
    left = np.minimum(x.astype(int), width - 1)
    bottom = np.minimum(top + 1, height - 1)
    right = np.minimum(left + 1, width - 1)
    dy = (y - top)[:, None, None]
    dx = (x - left)[None, :, None]
    upper = crop[top].astype(np.float64)  # (new_height, w, 3)
    rows = upper + (crop[bottom] - upper) * dy  # (new_height, w, 3)
    blended = (
        rows[:, left] + (rows[:, right] - rows[:, left]) * dx
    )  # (new_height, new_width, 3)
    return np.floor(blended + 0.5).astype(np.uint8)


def pad_batch(
    lines: Sequence[Pixels], geometry: Geometry, width: int | None = None
) -> tuple[Pixels, NDArray[np.int64]]:
    """Stack line images, padded on the right with the geometry's pad value.

    `lines` are uint8 (height, w, 3); `width` is the batch's width W in pixels, the widest line's
    when left out. Returns uint8 (N, 3, height, W) and the lines' own widths int64 (N,). Raises
    ValueError when there are no lines, when one has another height, or when one is wider than
    `width`.
    """
    if not lines:
        raise ValueError("a batch needs at least one line")
    widths = np.array([line.shape[1] for line in lines], dtype=np.int64)
    if width is None:
        width = int(widths.max())
    # (N, 3, H, W)
    images = np.full(
        (len(lines), 3, geometry.height, width), geometry.pad_value, dtype=np.uint8
    )
    for image, line in zip(images, lines, strict=True):
        if (
            line.shape[0] != geometry.height
            or line.shape[1] > width
            or line.shape[2:] != (3,)
        ):
            raise ValueError(
                f"a line of shape {line.shape} does not fit a batch of height {geometry.height} and"
                f" width {width}"
            )
        image[:, :, : line.shape[1]] = line.transpose(2, 0, 1)
    return images, widths


def normalize_array(images: Pixels, geometry: Geometry) -> NDArray[np.float32]:
    """Return uint8 images (N, 3, height, W) as float32 network input; 0…255 becomes -1…1 with
    "symmetric".
    """
    mean, scale = (
        np.array(part, dtype=np.float32).reshape(1, 3, 1, 1)
        for part in NORMALIZATIONS[geometry.normalization]
    )
    return (images.astype(np.float32) - mean) / scale


def network_input(images: Pixels, geometry: Geometry, kind: InputType) -> NDArray[Any]:
    """Return uint8 images (N, 3, height, W) as a deployed network takes them: normalized floats, or
    as they are.
    """
    if kind == "uint8":
        return images
    return normalize_array(images, geometry).astype(kind, copy=False)
