"""A served page: a small document with known regions, and a server in this process."""

import json
import socket
import threading
import time

import cv2
import numpy as np
import pytest

import nordocr

TEXTS = ("Summa 123", "Moms 456")


class ReaderWithRegions(nordocr.Reader):
    """A Reader that is given the positions of the lines, so that no line finder is needed."""

    regions = None

    def read(self, source, **options):
        return super().read(source, regions=self.regions, **options)


@pytest.fixture(scope="session")
def page(tmp_path_factory):
    """A page image with two lines: (image file, regions file)."""
    folder = tmp_path_factory.mktemp("page")
    pixels = np.full((200, 500, 3), 255, np.uint8)
    for row, text in enumerate(TEXTS):
        at = (20, 60 + 80 * row)
        cv2.putText(
            pixels, text, at, cv2.FONT_HERSHEY_SIMPLEX, 1.2, (0, 0, 0), 2, cv2.LINE_AA
        )
    cv2.imwrite(str(folder / "page.png"), pixels)
    lines = [
        {"bbox": {"x": 10, "y": 25 + 80 * row, "width": 300, "height": 45}, "text": ""}
        for row in range(len(TEXTS))
    ]
    regions = {"pages": [{"page_index": 0, "lines": lines}]}
    (folder / "page.json").write_text(json.dumps(regions), encoding="utf-8")
    return folder / "page.png", folder / "page.json"


@pytest.fixture(scope="session")
def reader(page):
    """One opened reader for all tests."""
    made = ReaderWithRegions(threads=1)
    made.regions = page[1]
    return made


@pytest.fixture
def serve(reader):
    """A function that starts a real server with the settings given and returns its address."""
    import uvicorn

    from nordocr.serving import create_app

    servers = []

    def start(settings, reader=reader):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = uvicorn.Config(
            create_app(reader, settings), host="127.0.0.1", port=port, log_level="error"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server ended at its start"
            time.sleep(0.02)
        servers.append((server, thread))
        return f"http://127.0.0.1:{port}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(timeout=20)
