from pathlib import Path

import pytest

from nordocr_cli.data.layouts.layout import Layout, language_code
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import DataError
from nordocr_cli.records import Box, Page, Region

ALTO = """<?xml version="1.0" encoding="UTF-8"?>
<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#">
 <Description><MeasurementUnit>pixel</MeasurementUnit>
  <sourceImageInformation><fileName>scan.tif</fileName></sourceImageInformation></Description>
 <Layout>
  <Page WIDTH="2481" HEIGHT="3508"><PrintSpace><TextBlock LANG="sv">
   <TextLine HPOS="10" VPOS="20" WIDTH="300" HEIGHT="40">
    <String CONTENT="A&#778;re" WC="0.9"/><SP/><String CONTENT="7" WC="0.5"/><String CONTENT="811"  WC="0.7"/></TextLine>
   <TextLine><String HPOS="10" VPOS="70" WIDTH="50" HEIGHT="30" CONTENT="förvalt"/><HYP CONTENT="-"/></TextLine>
  </TextBlock></PrintSpace></Page>
  <Page WIDTH="2481" HEIGHT="3508"/>
 </Layout>
</alto>"""

PAGE = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15">
 <!-- made by hand -->
 <Page imageFilename="p1.png" imageWidth="800" imageHeight="600"><TextRegion id="r" primaryLanguage="Swedish">
  <TextLine id="a"><Coords points="10,20 200,24 200,60 10,58"/>
   <TextEquiv index="1"><Unicode>wrong</Unicode></TextEquiv>
   <TextEquiv index="0" conf="0.75"><Unicode>Rätt text</Unicode></TextEquiv></TextLine>
  <TextLine id="b"><Coords><Point x="1" y="2"/><Point x="11" y="22"/></Coords>
   <Word><TextEquiv><Unicode>två</Unicode></TextEquiv></Word><Word><TextEquiv><Unicode>ord</Unicode></TextEquiv></Word></TextLine>
  <TextEquiv><Unicode>the whole region</Unicode></TextEquiv>
 </TextRegion></Page>
</PcGts>"""


def layout(tmp_path: Path, content: str, encoding: str = "utf-8") -> Layout:
    path = tmp_path / "layout.xml"
    path.write_bytes(content.encode(encoding))
    return read_layout(path)


def test_alto(tmp_path: Path) -> None:
    first = Region(Box(10, 20, 300, 40), "Åre 7 811", pytest.approx(0.7))
    second = Region(Box(10, 70, 50, 30), "förvalt-")
    found = layout(tmp_path, ALTO)
    assert found.pages == (Page(0, (first, second)), Page(1, ()))
    assert (found.language, found.images, found.sizes) == (
        "sv",
        ("scan.tif",) * 2,
        ((3508, 2481),) * 2,
    )


def test_page_xml(tmp_path: Path) -> None:
    outline = ((10.0, 20.0), (200.0, 24.0), (200.0, 60.0), (10.0, 58.0))
    lines = (
        Region(Box(10, 20, 190, 40), "Rätt text", 0.75, polygon=outline),
        Region(Box(1, 2, 10, 20), "två ord"),
    )
    expected = Layout((Page(0, lines),), "sv", ("p1.png",), ((600, 800),))
    assert layout(tmp_path, PAGE) == expected
    assert (
        layout(tmp_path, '<?xml version="1.0" encoding="UTF-16"?>' + PAGE, "utf-16")
        == expected
    )
    assert layout(tmp_path, "\ufeff" + PAGE) == expected


BOMB = (
    '<!DOCTYPE alto [<!ENTITY a "aaaaaaaa"><!ENTITY b'
    ' "&a;&a;&a;&a;">]><alto><Layout>&b;</Layout></alto>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_dtd_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"layout\.xml: it declares a DTD"):
        layout(tmp_path, BOMB, encoding)
    with pytest.raises(DataError, match="DTD"):
        layout(tmp_path, '<!DOCTYPE PcGts SYSTEM "file:///etc/passwd">' + PAGE, encoding)


def test_xml_of_empty_elements_is_refused_before_it_takes_gigabytes(tmp_path):
    path = tmp_path / "layout.xml"
    path.write_bytes(b"<alto>" + b"<a/>" * 2_000_000 + b"</alto>")
    with pytest.raises(DataError, match=r"layout\.xml .*2,000,002 elements in .* too many"):
        read_layout(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<alto><Layout>", "not readable XML"),
        ("<html/>", "no ocr_page"),
        ("<svg/>", "root is <svg>"),
        ("<alto/>", "no Page"),
        (ALTO.replace(">pixel<", ">mm10<"), "positions in mm10"),
        (ALTO.replace('WIDTH="300"', 'WIDTH="wide"'), "damaged alto"),
        (ALTO.replace('HPOS="10" VPOS="70"', ""), "damaged alto: KeyError"),
        (PAGE.replace("10,20 200,24", "10 20"), "damaged PcGts"),
        (PAGE.replace("10,20 200,24 200,60 10,58", "10,20 10,58"), "line 1 ('a'): bbox"),
        (
            PAGE.replace('points="10,20 200,24 200,60 10,58"', ""),
            "line 1 ('a'): the line has no position",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=r"layout\.xml") as caught:
        layout(tmp_path, content)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("Swedish", "sv"),
        ("Norwegian Bokmål", "nb"),
        ("swe", "sv"),
        ("da-DK", "da"),
        ("is_IS", "is"),
        ("Latin", "Latin"),
        ("", ""),
    ],
)
def test_languages_have_one_name(written, code):
    assert language_code(written) == code


def test_lines_that_are_wrong_can_be_told_and_left_out(tmp_path: Path) -> None:
    bad: dict[tuple[int, int], str] = {}
    for content, what in (
        (
            ALTO.replace('HPOS="10" VPOS="20"', 'HPOS="x" VPOS="20"'),
            "damaged line: ValueError",
        ),
        (
            PAGE.replace('points="10,20 200,24 200,60 10,58"', ""),
            "line 1 ('a'): the line has no position",
        ),
        (
            (
                '{"pages": [{"page_index": 0, "lines": [{"bbox": [9, 9, 9, 9], "text": "a"},'
                ' {"bbox": [0, 0, 5, 5]}]}]}'
            ),
            "no area",
        ),
    ):
        (tmp_path / "layout").write_text(content, encoding="utf-8")
        bad.clear()
        assert len(read_layout(tmp_path / "layout", bad).pages[0].regions) == 1
        assert list(bad) == [(0, 1)]
        assert what in bad[0, 1]


def test_page_xml_keeps_outlines_and_follows_the_reading_order(tmp_path: Path) -> None:
    def line(name: str, index: int) -> str:
        return (
            f'<TextLine id="{name}" custom="readingOrder {{index:{index};}}"><Coords points="10,20'
            f' 200,24 200,60 10,58"/><Baseline points="10,50 200,54"/><TextEquiv><Unicode>{name}'
            "</Unicode></TextEquiv></TextLine>"
        )

    content = (
        '<PcGts><Page><ReadingOrder><OrderedGroup><RegionRefIndexed index="1" regionRef="first"/>'
        '<RegionRefIndexed index="0" regionRef="second"/></OrderedGroup></ReadingOrder>'
        f'<TextRegion id="first">{line("d", 1)}{line("c", 0)}</TextRegion>'
        f'<TextRegion id="second">{line("a", 0)}{line("b", 1)}</TextRegion></Page></PcGts>'
    )
    regions = layout(tmp_path, content).pages[0].regions
    assert [region.text for region in regions] == ["a", "b", "c", "d"]
    assert regions[0].polygon == ((10, 20), (200, 24), (200, 60), (10, 58))
    assert regions[0].baseline == ((10, 50), (200, 54))


@pytest.mark.parametrize("points", ["10,20 200,24 200,60", "10 20 200 24 200 60"])
def test_alto_keeps_outlines(tmp_path: Path, points: str) -> None:
    content = (
        '<alto><Layout><Page><TextLine BASELINE="10 50 200 54"><Shape><Polygon'
        f' POINTS="{points}"/></Shape><String CONTENT="x"/></TextLine></Page></Layout></alto>'
    )
    (region,) = layout(tmp_path, content).pages[0].regions
    assert region.box == Box(10, 20, 190, 40)
    assert region.polygon == ((10, 20), (200, 24), (200, 60))
    assert region.baseline == ((10, 50), (200, 54))


@pytest.mark.parametrize(
    ("line", "text", "corners"),
    [
        ("10,20,200,24,200,60,10,58,Åre, 7", "Åre, 7", 4),
        ("10,20,200,24,200,60,10,58,Latin,Åre", "Åre", 4),
        ('10, 20, 200, 60, "Åre"', "Åre", 0),
        ('10 20 200 60 "Åre"', "Åre", 0),
    ],
)
def test_text_files_of_icdar(tmp_path: Path, line: str, text: str, corners: int) -> None:
    illegible = "1,1,9,1,9,9,1,9,###\n" if corners else '1 1 9 9 "###"\n'
    (region,) = layout(tmp_path, f"\ufeff{line}\r\n{illegible}").pages[0].regions
    assert (region.text, region.box, len(region.polygon)) == (
        text,
        Box(10, 20, 190, 40),
        corners,
    )


def test_entities_of_funsd_are_parted_into_lines(tmp_path: Path) -> None:
    def word(box: list[int], text: str) -> str:
        return f'{{"box": {box}, "text": "{text}"}}'

    rows = [word([10, 10, 50, 20], "två"), word([60, 10, 90, 20], "ord")]
    rows += [word([10, 30, 50, 40], "och"), word([60, 30, 90, 40], "mer")]
    content = (
        f'{{"form": [{{"box": [10, 10, 90, 40], "text": "två ord och mer", "words": ['
        f'{", ".join(rows)}]}}, {{"box": [1, 1, 9, 9], "text": "ensam", "words": []}}]}}'
    )
    regions = layout(tmp_path, content).pages[0].regions
    assert [region.text for region in regions] == ["två ord", "och mer", "ensam"]
    assert regions[0].box == Box(10, 10, 80, 10)


def test_abbyy_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ABBYY FineReader XML is not read; export ALTO"):
        layout(tmp_path, '<document xmlns="http://www.abbyy.com/FineReader_xml/10.xml"/>')


def test_a_text_that_is_no_line_is_refused(tmp_path):
    with pytest.raises(DataError, match="a text of 20,001 characters; a line has at most"):
        layout(tmp_path, PAGE.replace("Rätt text", "x" * 20_001))


def test_more_lines_than_a_page_has_are_refused(tmp_path):
    before, _, rest = ALTO.partition("<TextLine")
    line, _, after = rest.partition("</TextLine>")
    many = before + f"<TextLine{line}</TextLine>" * 10_001 + after
    with pytest.raises(DataError, match="more than 10,000 lines on one page"):
        layout(tmp_path, many)


ALTO_LINE = (
    '<alto><Layout><Page WIDTH="{0}" HEIGHT="100"><PrintSpace><TextLine HPOS="1" VPOS="1"'
    ' WIDTH="90" HEIGHT="20"><Shape><Polygon POINTS="{1}"/></Shape><String CONTENT="x"/>'
    "</TextLine></PrintSpace></Page></Layout></alto>"
)
PAGE_LINE = (
    '<PcGts><Page imageFilename="a.png" imageWidth="{0}" imageHeight="100"><TextRegion id="r">'
    '<Coords points="0,0 9,0 9,9"/><TextLine id="l"><Coords points="{1}"/><TextEquiv><Unicode>x'
    "</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"
)


@pytest.mark.parametrize("form", [ALTO_LINE, PAGE_LINE])
@pytest.mark.parametrize(
    ("width", "points"), [("1e999", "1,1 9,1 9,9"), ("200", "1,1 9,1 9,9 " * 40_000)]
)
def test_infinite_sizes_and_endless_outlines_are_refused(tmp_path, form, width, points):
    path = tmp_path / "page.xml"
    path.write_text(form.format("200", "1,1 9,1 9,9 " * 1000))
    assert len(read_layout(path).pages[0].regions) == 1
    path.write_text(form.format(width, points))
    with pytest.raises(DataError, match=r"page\.xml"):
        read_layout(path)
