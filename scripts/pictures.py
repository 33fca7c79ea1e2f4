#!/usr/bin/env python3
"""Make the pictures of README and docs from the samples: a page with what was read on it, and the
served page in Chromium. Needs the extra `serve`, playwright and chromium.

python3 scripts/pictures.py
"""

import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import cv2
import uvicorn
from playwright.sync_api import sync_playwright

import nordocr
from nordocr.serving import ServeSettings, create_app

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "docs" / "img"
DOCUMENT = ROOT / "samples" / "doc" / "dev_doc.tif"
OVERLAY_PAGE = 1
OVERLAY_WIDTH_PX = 1_100
OVERLAY_HEIGHT_PX = 475
SCREEN = {"width": 1_280, "height": 760}
COLOURS = 32


def overlay(document: nordocr.Document) -> None:
    """Draw the top of a page with its lines and what was read."""
    with tempfile.TemporaryDirectory() as folder:
        document.save(Path(folder) / "page.png")
        page = cv2.imread(str(Path(folder) / f"page-{OVERLAY_PAGE}.png"))
    height_px = round(page.shape[0] * OVERLAY_WIDTH_PX / page.shape[1])
    page = cv2.resize(page, (OVERLAY_WIDTH_PX, height_px), interpolation=cv2.INTER_AREA)
    write_small(PICTURES / "page-read.png", page[:OVERLAY_HEIGHT_PX])


def screenshot(reader: nordocr.Reader) -> None:
    """Take the served page after a document was read and a line corrected."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = create_app(reader, ServeSettings(corrections=Path(tempfile.mkdtemp())))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)

    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport=SCREEN)
        tab.goto(f"http://127.0.0.1:{port}/")
        tab.set_input_files("#file", DOCUMENT)
        tab.wait_for_selector("#lines textarea", timeout=300_000)
        tab.eval_on_selector("#image", "image => image.decode()")
        tab.focus("#lines li:nth-child(4) textarea")
        tab.keyboard.press("Enter")
        content = tab.screenshot()
        browser.close()
    server.should_exit = True
    (PICTURES / "serve-full.png").write_bytes(content)
    write_small(PICTURES / "serve.png", cv2.imread(str(PICTURES / "serve-full.png")))
    (PICTURES / "serve-full.png").unlink()


def write_small(path: Path, picture: "cv2.typing.MatLike") -> None:
    """Write a picture as a PNG of few colours, a quarter of the size."""
    from PIL import Image

    image = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
    image.quantize(COLOURS, method=Image.Quantize.MEDIANCUT).save(path, optimize=True)


def main() -> None:
    """Write both pictures."""
    PICTURES.mkdir(exist_ok=True)
    reader = nordocr.Reader()
    overlay(reader.read(DOCUMENT))
    screenshot(reader)


if __name__ == "__main__":
    main()
