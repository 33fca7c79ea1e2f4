import base64
import io
import os
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from nordocr_cli.core.predict.inputs import find_images
from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.documents import read_pages
from nordocr_cli.data.formats import open_source, parse_source
from nordocr_cli.data.pdf import PdfPages
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.profile import load_profile

SAMPLES = Path(__file__).parents[2] / "samples" / "doc"


@pytest.fixture(scope="module")
def pdfium():
    return pytest.importorskip("pypdfium2")


def scan(path: Path, *pages: Image.Image, dpi: int = 300) -> Path:
    """A PDF whose pages are these images."""
    pages[0].save(path, save_all=True, append_images=pages[1:], resolution=dpi)
    return path


def drawn(
    path: Path,
    *,
    media: str = "0 0 200 100",
    content: str = "0 0 0 rg 20 30 40 10 re f",
    image: str = "",
) -> Path:
    """A PDF of one page, written by hand: a black bar at 20…60 points from the left and 30…40 from
    below, or an image /I of 8 x 8 pixels of the value 40, with the entries `image`.
    """
    bodies = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        (
            f"<</Type/Page/Parent 2 0 R/MediaBox[{media}]/Contents 4 0 R/Resources<</XObject<</I 5"
            " 0 R>>>>>>"
        ),
        f"<</Length {len(content)}>>stream\n{content}\nendstream",
        (
            "<</Type/XObject/Subtype/Image/Width 8/Height 8/Length"
            f" 64{image}>>stream\n{'(' * 64}\nendstream"
        ),
    ]
    file, places = "%PDF-1.4\n", []
    for number, body in enumerate(bodies, start=1):
        places.append(len(file))
        file += f"{number} 0 obj\n{body}\nendobj\n"
    rows = "".join(f"{place:010d} 00000 n \n" for place in places)
    path.write_text(
        f"{file}xref\n0 6\n0000000000 65535 f \n{rows}trailer<</Size 6/Root 1 0"
        f" R>>\nstartxref\n{len(file)}\n%%EOF\n"
    )
    return path


def noise(height: int, width: int, mode: str) -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ).convert(mode)


@pytest.mark.usefixtures("pdfium")
class TestPdf:
    def test_a_scan_comes_with_its_own_pixels(self, tmp_path: Path) -> None:
        tiff = read_pages(SAMPLES / "dev_doc.tif")
        pages = [Image.fromarray(tiff[index]).convert("1") for index in (0, 3)]
        document = read_pages(scan(tmp_path / "two.pdf", *pages))
        assert len(document) == 2
        np.testing.assert_array_equal(document[0], tiff[0])
        np.testing.assert_array_equal(document[1], tiff[3])
        # as JPEG, which loses a little
        gray = read_pages(scan(tmp_path / "gray.pdf", noise(60, 90, "L"), dpi=150))[0]
        assert (
            np.abs(
                gray.astype(int) - np.asarray(noise(60, 90, "RGB").convert("L"))[:, :, None]
            ).mean()
            < 12
        )

    def test_a_drawn_page_has_300_dpi_or_the_size_asked_for(self, tmp_path: Path) -> None:
        document = read_pages(drawn(tmp_path / "bar.pdf"))
        for size, page in ((None, document[0]), ((200, 400), document.page(0, (200, 400)))):
            height, width = size or (417, 833)
            assert page.shape == (height, width, 3)
            ys, xs = np.nonzero(page[:, :, 1] < 128)
            edges = (
                xs.min() / width,
                (xs.max() + 1) / width,
                ys.min() / height,
                (ys.max() + 1) / height,
            )
            assert edges == pytest.approx((0.1, 0.3, 0.6, 0.7), abs=0.006)
            assert page[0, 0].tolist() == [255, 255, 255]

    @pytest.mark.parametrize(
        ("entries", "shown"),
        [
            ("/ColorSpace/DeviceGray/BitsPerComponent 8", 40),
            ("/ColorSpace/DeviceGray/BitsPerComponent 8/Decode[1 0]", 215),
            ("/ImageMask true/BitsPerComponent 1", None),
        ],
    )
    def test_a_scan_is_what_the_page_shows(
        self, tmp_path: Path, entries: str, shown: int | None
    ) -> None:
        """Its values may mean the opposite, or be a stencil."""
        content = "q 4 0 0 4 0 0 cm /I Do Q"
        page = read_pages(
            drawn(tmp_path / "a.pdf", media="0 0 4 4", content=content, image=entries)
        )[0]
        assert page.shape == (8, 8, 3)
        if shown is not None:
            assert (page == shown).all()
        else:
            assert {int(value) for value in np.unique(page)} <= {0, 255}
            # 00101000: zeros are painted
            assert page[0, :, 0].tolist() == [0, 0, 255, 0, 255, 0, 0, 0]

    def test_pages_with_a_layout_become_lines(self, tmp_path: Path) -> None:
        tiff = read_pages(SAMPLES / "dev_doc.tif")
        scan(
            tmp_path / "dev_doc.pdf", *(Image.fromarray(page).convert("1") for page in tiff)
        )
        shutil.copy(SAMPLES / "dev_doc.json", tmp_path)
        profile = load_profile("svtrv2-1024").profile
        result = prep([tmp_path / "dev_doc.pdf"], tmp_path / "pdf.lmdb", profile)
        assert (result.read, result.kept) == (448, 448)
        entries = list(open_source(parse_source(str(tmp_path / "dev_doc.pdf"))).entries())
        assert entries[0].key.endswith(".pdf")
        last = list(open_source(parse_source(str(SAMPLES))).entries())[-1]
        crop = open_source(parse_source(str(tmp_path))).crop(entries[-1])
        np.testing.assert_array_equal(
            crop, open_source(parse_source(str(SAMPLES))).crop(last)
        )

    def test_alto_says_how_large_the_page_is(self, tmp_path: Path) -> None:
        drawn(tmp_path / "bar.pdf")
        alto = """<alto><Layout><Page WIDTH="400" HEIGHT="200"><PrintSpace><TextBlock><TextLine HPOS="40" VPOS="120" WIDTH="80"
        HEIGHT="20"><String CONTENT="Rad"/></TextLine></TextBlock></PrintSpace></Page></Layout></alto>"""
        (tmp_path / "bar.xml").write_text(alto)
        source = open_source(parse_source(str(tmp_path)))
        (entry,) = source.entries()
        crop = source.crop(entry)
        assert crop.shape == (20, 80, 3)
        assert crop.mean() < 10

    def test_what_is_damaged_locked_or_too_large_is_named(self, tmp_path: Path) -> None:
        whole = scan(tmp_path / "a.pdf", noise(50, 60, "L")).read_bytes()
        broken = tmp_path / "broken.pdf"
        for content in (
            b"%PDF-1.7",
            b"%PDF-1.4\ntrailer<</Root 1 0 R>>",
            whole[: len(whole) // 3],
        ):
            broken.write_bytes(content)
            with pytest.raises(DataError, match=r"broken\.pdf"):
                read_pages(broken)[0]
        with pytest.raises(DataError, match="above the limit of 40,000,000 for a page"):
            read_pages(drawn(tmp_path / "huge.pdf", media="0 0 14000 14000"))[0]
        with pytest.raises(DataError, match="above the limit of 40,000,000 for a page"):
            read_pages(tmp_path / "a.pdf").page(0, (50_000, 50_000))
        (tmp_path / "bomb.pdf").write_bytes(
            whole.replace(b"/Width 60", b"/Width 60000").replace(
                b"/Height 50", b"/Height 50000"
            )
        )
        with pytest.raises(DataError, match="50,000 x 60,000 pixels"):
            read_pages(tmp_path / "bomb.pdf")[0]

    def test_lines_of_a_pdf_need_regions(self, tmp_path: Path) -> None:
        with pytest.raises(
            UsageError, match=r"has 1 page; say where the lines are \(--regions FILE\)"
        ):
            list(find_images([scan(tmp_path / "a.pdf", noise(50, 60, "L"))]))


def test_without_pypdfium2_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    drawn(tmp_path / "a.pdf")
    shutil.copy(SAMPLES / "dev_doc.json", tmp_path / "a.json")
    for read in (
        lambda: read_pages(tmp_path / "a.pdf"),
        lambda: prep([tmp_path], tmp_path / "o.lmdb", load_profile("svtrv2-1024").profile),
    ):
        with pytest.raises(MissingBackendError, match=r"pip install pypdfium2"):
            read()


def pdf_of(*objects: bytes) -> bytes:
    """A PDF of numbered objects, the first of which is the catalogue."""
    numbered = (b"%d 0 obj%s endobj\n" % (n, found) for n, found in enumerate(objects, 1))
    return b"%PDF-1.5\n" + b"".join(numbered) + b"trailer<</Root 1 0 R>>"


def page_that_draws(content: bytes, resources: bytes, *others: bytes) -> bytes:
    """A PDF of one page; `others` are the objects from number 5 on."""
    return pdf_of(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 50]/Contents 4 0 R/Resources<<%s>>>>"
        % resources,
        stream(b"", content),
        *others,
    )


def stream(head: bytes, content: bytes) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (head, len(content), content)


def forms(levels: int, times: int, *, own_resources: bool) -> bytes:
    """A PDF whose drawings each show the next one `times` times."""
    drawings = []
    for level in range(levels):
        head = b"/Type/XObject/Subtype/Form/BBox[0 0 200 50]"
        if own_resources and level < levels - 1:
            head += b"/Resources<</XObject<</F%d %d 0 R>>>>" % (level + 1, 6 + level)
        shows = b"/F%d Do " % (level + 1) if level < levels - 1 else b"0 0 9 9 re f "
        drawings.append(stream(head, shows * times))
    names = b" ".join(b"/F%d %d 0 R" % (level, 5 + level) for level in range(levels))
    return page_that_draws(b"/F0 Do", b"/XObject<<%s>>" % names, *drawings)


TOO_LARGE = r"x\.pdf, page 1: reading it takes too much memory"
only_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems limit no memory of a process"
)


@only_linux
@pytest.mark.parametrize("own_resources", [True, False])
def test_drawings_in_drawings_that_stand_for_millions_are_refused(own_resources):
    pages = PdfPages(forms(12, 10, own_resources=own_resources), Path("x.pdf"))
    with pytest.raises(DataError, match=TOO_LARGE):
        pages.decode(0, None)
    few = PdfPages(forms(3, 10, own_resources=own_resources), Path("x.pdf"))
    assert few.decode(0, None).min() == 0


@only_linux
def test_after_a_page_that_takes_too_much_memory_the_next_one_is_read():
    """A document of such pages is not tried to its end."""
    content = forms(12, 10, own_resources=True)
    two_pages = content.replace(b"/Kids[3 0 R]/Count 1", b"/Kids[3 0 R 99 0 R]/Count 2")
    assert two_pages != content
    plain = b"99 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 50]>>\nendobj\n"
    pages = PdfPages(two_pages + plain, Path("x.pdf"))

    for _ in range(3):
        with pytest.raises(DataError, match=TOO_LARGE):
            pages.decode(0, None)
        if not pages._pdfium._refusal:
            assert pages.decode(1, None).min() == 255
    with pytest.raises(DataError, match="page 2: not read, since an earlier page failed"):
        pages.decode(1, None)


@only_linux
@pytest.mark.parametrize(
    ("dpi", "mode", "kind", "options"),
    [
        (600, "L", "JPEG", {}),
        (600, "RGB", "JPEG", {"progressive": True}),
        (300, "RGB", "JPEG2000", {}),
    ],
    ids=["gray", "progressive", "JPEG 2000"],
)
@pytest.mark.parametrize("with_text", [False, True], ids=["scan", "scan with a text layer"])
def test_scans_of_a_full_page_have_the_memory_that_they_take(
    dpi, mode, kind, options, with_text
):
    content, _ = scan_of_a_page(dpi, mode, kind, with_text=with_text, **options)
    height, width = round(dpi * 297 / 25.4), round(dpi * 210 / 25.4)
    drawn = PdfPages(content, Path("x.pdf")).decode(0, (height, width))
    assert drawn.shape == (height, width, 3)
    assert drawn[10].mean() < 30
    assert drawn[-10].mean() > 225


def scan_of_a_page(
    dpi: int, mode: str, kind: str, *, with_text: bool = True, **options: object
) -> tuple[bytes, bytes]:
    """A PDF of a scanned A4 page that is black at the top, with something drawn over it or
    without, and an empty page with the number 99.
    """
    size = round(dpi * 210 / 25.4), round(dpi * 297 / 25.4)
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    shown = b"q 200 0 0 50 0 0 cm /I Do Q" + b" 0 0 1 1 re f" * with_text
    content = page_that_draws(
        shown, b"/XObject<</I 5 0 R>>", image_of(picture, kind, **options)
    )
    plain = b"99 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 50]>>\nendobj\n"
    return content, plain


def jpeg_of(width: int, height: int) -> bytes:
    """The object of a photograph, which is a gradient."""
    return image_of(
        Image.linear_gradient("L").resize((width, height)).convert("RGB"), "JPEG"
    )


def image_of(picture: Image.Image, kind: str, **options: object) -> bytes:
    """The object of an image as PDF has it."""
    written = io.BytesIO()
    picture.save(written, kind, **options)
    filters = {"JPEG": "DCTDecode", "JPEG2000": "JPXDecode"}
    spaces = {"L": "DeviceGray", "RGB": "DeviceRGB"}
    head = (
        f"/Subtype/Image/Width {picture.width}/Height {picture.height}/BitsPerComponent 8"
        f"/ColorSpace/{spaces[picture.mode]}/Filter/{filters[kind]}"
    )
    return stream(head.encode(), written.getvalue())


@only_linux
def test_a_page_after_a_large_one_has_the_memory_of_a_process_of_its_own():
    large, plain = scan_of_a_page(300, "RGB", "JPEG2000")
    pages = b"/Kids[3 0 R 99 0 R 3 0 R 99 0 R]/Count 4"
    content = large.replace(b"/Kids[3 0 R]/Count 1", pages) + plain
    opened = PdfPages(content, Path("x.pdf"))
    assert [opened.decode(index, None).shape[2] for index in range(4)] == [3, 3, 3, 3]


@only_linux
def test_images_and_transparent_groups_of_a_page_have_memory():
    photograph = jpeg_of(4000, 3000)
    names = range(5, 11)
    shown = b"".join(b"q 20 0 0 20 %d 0 cm /I%d Do Q " % (20 * n, n) for n in names)
    resources = b"/XObject<<%s>>" % b"".join(b"/I%d %d 0 R" % (n, n) for n in names)
    photographs = page_that_draws(shown, resources, *[photograph] * len(names))
    assert PdfPages(photographs, Path("x.pdf")).decode(0, None).min() < 30

    head = b"/Subtype/Form/BBox[0 0 200 50]/Group<</S/Transparency/I true>>"
    head += b"/Resources<</XObject<</F 6 0 R>>/ExtGState<</G<</ca .9/BM/Multiply>>>>>>"
    inner = stream(head, b"/G gs 0 0 9 9 re f")
    outer = stream(head, b"/G gs /F Do 9 9 9 9 re f")
    groups = page_that_draws(b"/F Do", b"/XObject<</F 5 0 R>>", outer, inner)
    drawn = PdfPages(groups, Path("x.pdf")).decode(0, (6000, 4000))
    assert drawn.min() < 60


def test_what_interrupts_an_answer_leaves_nothing_of_it_to_the_next_page(monkeypatch):
    pages = PdfPages(page_that_draws(b"0 0 9 9 re f", b""), Path("x.pdf"))
    pages.decode(0, None)
    with monkeypatch.context() as patched:
        interrupt = Mock(side_effect=KeyboardInterrupt)
        patched.setattr("nordocr_cli.data.pdfium_process.json.loads", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pages.decode(0, None)
    assert pages.decode(0, None).min() == 0


@only_linux
def test_a_drawing_that_shows_itself_is_refused():
    head = b"/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</F 5 0 R>>>>"
    content = page_that_draws(
        b"/F Do", b"/XObject<</F 5 0 R>>", stream(head, b"/F Do /F Do")
    )
    with pytest.raises(DataError, match=TOO_LARGE):
        PdfPages(content, Path("x.pdf")).decode(0, None)


def test_a_page_of_many_paths_is_refused():
    packed = zlib.compress(b"0 0 9 9 re f\n" * 200_000, 9)
    content = page_that_draws(b"", b"").replace(
        stream(b"", b""), stream(b"/Filter/FlateDecode", packed)
    )
    with pytest.raises(DataError, match="page 1: has more than 100,000 objects"):
        PdfPages(content, Path("x.pdf")).decode(0, None)


def test_an_unused_pattern_of_billions_of_tiles_does_not_matter():
    tile = b"/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/Resources<<>>"
    tile += b"/XStep 0.001/YStep 0.001"
    content = page_that_draws(
        b"0 0 9 9 re f", b"/Pattern<</P 5 0 R>>", stream(tile, b"0 0 1 1 re f")
    )
    assert PdfPages(content, Path("x.pdf")).decode(0, None).min() == 0


@pytest.fixture
def one_second(monkeypatch):
    monkeypatch.setattr("nordocr_cli.data.pdfium_process.SECONDS_A_REQUEST", 1.0)


@pytest.mark.usefixtures("one_second")
def test_a_page_that_takes_long_to_draw_is_stopped():
    tile = b"/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/Resources<<>>"
    tile += b"/XStep 0.001/YStep 0.001"
    content = page_that_draws(
        b"/Pattern cs /P scn 0 0 200 50 re f",
        b"/Pattern<</P 5 0 R>>",
        stream(tile, b"0 0 1 1 re f"),
    )
    pages = PdfPages(content, Path("x.pdf"))
    with pytest.raises(DataError, match=r"x\.pdf, page 1: reading it takes more than 1 s"):
        pages.decode(0, None)
    with pytest.raises(DataError, match="not read, since an earlier page failed"):
        pages.decode(0, None)


def run_lengths(content: bytes) -> bytes:
    """Content as PDF's RunLengthDecode takes it, without runs."""
    pieces = [content[start : start + 128] for start in range(0, len(content), 128)]
    return b"".join(bytes([len(piece) - 1]) + piece for piece in pieces) + b"\x80"


PACKED = zlib.compress(b" " * (400 << 20), 1)


@only_linux
@pytest.mark.parametrize(
    ("head", "packed"),
    [
        (b"/Filter/FlateDecode", PACKED),
        (b"/Filter/Fl#61teDecode", PACKED),
        (b"/Filter 9 0 R", PACKED),
        (b"/Filter[/FlateDecode/FlateDecode]", zlib.compress(PACKED)),
        (b"/Filter[/ASCII85Decode/FlateDecode]", base64.a85encode(PACKED) + b"~>"),
        (b"/Filter[/ASCIIHexDecode/FlateDecode]", PACKED.hex().encode() + b">"),
        (b"/Filter[/RunLengthDecode/FlateDecode]", run_lengths(PACKED)),
    ],
    ids=["flate", "escaped", "indirect", "layers", "a85", "hex", "run lengths"],
)
def test_a_stream_that_stands_for_gigabytes_is_refused(head, packed):
    content = page_that_draws(b"", b"", b"", b"", b"", b"", b"/FlateDecode")
    content = content.replace(stream(b"", b""), stream(head, packed))
    with pytest.raises(DataError, match=TOO_LARGE):
        PdfPages(content, Path("x.pdf")).decode(0, None)


@only_linux
def test_a_stream_that_a_page_names_forty_times_is_refused():
    packed = zlib.compress(b" " * (31 << 20), 9)
    content = page_that_draws(b"", b"").replace(b"4 0 R", b"[%s]" % (b"4 0 R " * 40))
    content = content.replace(stream(b"", b""), stream(b"/Filter/FlateDecode", packed))
    with pytest.raises(DataError, match=TOO_LARGE):
        PdfPages(content, Path("x.pdf")).decode(0, None)


def test_many_large_images_on_a_page_are_refused_before_they_are_decoded():
    head = b"/Subtype/Image/Width 6000/Height 6000/BitsPerComponent 8/ColorSpace/DeviceGray"
    image = stream(head + b"/Filter/FlateDecode", zlib.compress(bytes(36_000_000), 9))
    names = b"/XObject<</I0 5 0 R/I1 6 0 R>>"
    content = page_that_draws(b"/I0 Do /I1 Do /I0 Do /I1 Do /I0 Do", names, image, image)
    refused = r"page 1: its 5 large images have 180,000,000 pixels together, more than 160,000,000"
    with pytest.raises(DataError, match=refused):
        PdfPages(content, Path("x.pdf")).decode(0, None)

    two = page_that_draws(b"/I0 Do /I1 Do", names, image, image)
    assert PdfPages(two, Path("x.pdf")).decode(0, None).ndim == 3


def test_a_mask_of_more_pixels_than_a_page_is_refused():
    mask = b"/Subtype/Image/Width 60000/Height 60000/Filter/CCITTFaxDecode"
    content = page_that_draws(
        b"/I Do",
        b"/XObject<</I 5 0 R>>",
        stream(b"/Subtype/Image/Width 8/Height 8/SMask 6 0 R", bytes(64)),
        stream(mask, bytes(9)),
    )
    with pytest.raises(DataError, match=r"x\.pdf: a mask in it: 60,000 x 60,000 pixels"):
        PdfPages(content, Path("x.pdf"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
def test_a_forked_process_reads_with_a_pdfium_of_its_own():
    pages = PdfPages(page_that_draws(b"0 0 9 9 re f", b""), Path("x.pdf"))
    child = os.fork()
    if not child:
        os._exit(int(pages.decode(0, None).min()))
    assert os.waitpid(child, 0)[1] == 0
    assert pages.decode(0, None).min() == 0


@only_linux
def test_limits_that_the_user_has_set_are_kept(tmp_path):
    path = tmp_path / "x.pdf"
    path.write_bytes(page_that_draws(b"0 0 9 9 re f", b""))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (50, 60));"
        "from pathlib import Path; from nordocr_cli.data.pdf import PdfPages;"
        "path = Path(sys.argv[1]); pages = PdfPages(path.read_bytes(), path);"
        "print(pages.decode(0, None).min());"
        "print(resource.prlimit(pages._pdfium._process.pid, resource.RLIMIT_CPU)[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "60"]


def test_pdfium_imports_nothing_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert PdfPages(page_that_draws(b"", b""), Path("x.pdf")).count == 1


def test_a_tile_of_a_pixel_at_600_dpi_is_drawn():
    tile = b"/PatternType 1/PaintType 1/TilingType 1/BBox[0 0 1 1]/Resources<<>>"
    tile += b"/XStep 1/YStep 1/Matrix[.12 0 0 .12 0 0]"
    content = page_that_draws(
        b"/Pattern cs /P scn 0 0 9 9 re f",
        b"/Pattern<</P 5 0 R>>",
        stream(tile, b"0 0 1 1 re f"),
    )
    assert PdfPages(content, Path("x.pdf")).decode(0, None).min() == 0


def test_a_jpeg_of_thousands_of_scans_in_a_pdf_is_refused():
    written = io.BytesIO()
    Image.new("L", (64, 64)).save(written, "JPEG")
    jpeg = written.getvalue()[:-2] + b"\xff\xda\0\2" * 300
    content = pdf_of(stream(b"/Subtype/Image/Filter/DCTDecode", jpeg))
    with pytest.raises(DataError, match=r"x\.pdf: an image in it: more than 200 scans"):
        PdfPages(content, Path("x.pdf"))
