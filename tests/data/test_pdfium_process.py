"""The processes in which PDFium reads documents: how many there are, and when they end."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from nordocr_cli.core.prep.run import prep
from nordocr_cli.profile import load_profile

pytest.importorskip("pypdfium2")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

READER = """
import sys
from pathlib import Path
from nordocr_cli.data.documents import read_pages
pages = read_pages(Path(sys.argv[1]))
print(pages._pdf._pdfium._process.pid, flush=True)
pages[0]
"""
LAYOUT = """<PcGts><Page imageFilename="{0}" imageWidth="80" imageHeight="40"><TextRegion id="r">
<Coords points="0,0 80,0 80,40 0,40"/><TextLine id="l"><Coords points="4,4 76,4 76,36 4,36"/>
<TextEquiv><Unicode>Rad</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""


def drawn_for_minutes(path: Path) -> Path:
    """A PDF of a large page that is painted over sixty thousand times."""
    painted = "0 0 2000 1000 re f\n" * 60_000
    bodies = [
        "<</Type/Catalog/Pages 2 0 R>>",
        "<</Type/Pages/Kids[3 0 R]/Count 1>>",
        "<</Type/Page/Parent 2 0 R/MediaBox[0 0 2000 1000]/Contents 4 0 R>>",
        f"<</Length {len(painted)}>>stream\n{painted}\nendstream",
    ]
    objects = [f"{at} 0 obj{body} endobj\n" for at, body in enumerate(bodies, 1)]
    path.write_text(f"%PDF-1.4\n{''.join(objects)}trailer<</Root 1 0 R>>")
    return path


def processor_s(pid: int) -> float | None:
    """The processor time of a process; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_it_ends_when_the_reader_is_killed(tmp_path):
    pdf = drawn_for_minutes(tmp_path / "minutes.pdf")
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(pdf)], stdout=subprocess.PIPE, text=True
    )
    child = int(reader.stdout.readline())
    while processor_s(child) < 1:
        assert reader.poll() is None
        time.sleep(0.05)
    reader.kill()
    reader.communicate()
    began = spent = processor_s(child)
    while spent is not None:
        assert spent - began < 3  # it would go on to its limit of 10 s
        time.sleep(0.05)
        spent = processor_s(child)


def test_many_documents_do_not_use_up_the_descriptors(tmp_path):
    picture = Image.new("L", (80, 40), 255)
    ImageDraw.Draw(picture).rectangle((20, 10, 60, 30), 0)
    layouts = []
    for number in range(20):
        picture.save(tmp_path / f"{number}.pdf", resolution=72)
        layouts.append(tmp_path / f"{number}.xml")
        layouts[-1].write_text(LAYOUT.format(f"{number}.pdf"))
    profile = load_profile("svtrv2-nano").profile

    few = len(os.listdir("/proc/self/fd")) + 25
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        result = prep(layouts, tmp_path / "pdf.lmdb", profile)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert result.kept == len(layouts)
