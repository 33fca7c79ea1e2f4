"""Damaged and hostile inputs of the readers: each one is read or refused with a message."""

import io
import json
import random
import threading
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .trials import Kind, Result, Trial, WrongResult, damaged

ROOT = Path(__file__).resolve().parents[2]
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP")
_HOSTILE_PARTS = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<!--<script>",
    "{{ 7 * 7 }}",
    "\u202e\u2066\x00\x1b",
    "' onload='alert(1)",
    "]]>\u2028",
    "javascript:alert(1)",
    "&lt;svg/onload=alert(1)&gt;",
)


def images(folder: Path) -> Trial:
    """Damage in image files of five formats."""
    from nordocr_cli.data.resize import read_image

    rng = np.random.default_rng(1)
    picture = Image.fromarray(rng.integers(0, 256, (40, 300, 3), dtype=np.uint8))
    contents = []
    for name in _FORMATS:
        target = io.BytesIO()
        picture.save(target, name)
        contents.append(target.getvalue())

    def trial(number: int, rng: random.Random) -> Result:
        path = folder / f"damaged-{number % 8}.{_FORMATS[number % 5].lower()}"
        path.write_bytes(damaged(contents[number % 5], rng))
        read_image(path)
        return "accepted"

    return trial


def pdfs(folder: Path) -> Trial:
    """Damage in PDF files; every page is drawn."""
    from nordocr_cli.data.documents import read_pages

    target = io.BytesIO()
    page = Image.new("RGB", (400, 300), "white")
    page.save(target, "PDF", save_all=True, append_images=[page], resolution=72)
    content = target.getvalue()

    def trial(number: int, rng: random.Random) -> Result:
        path = folder / f"damaged-{number % 8}.pdf"
        path.write_bytes(damaged(content, rng))
        document = read_pages(path)
        for index in range(min(4, len(document))):
            document[index]
        return "accepted"

    return trial


def layouts(folder: Path) -> Trial:
    """Damage in ALTO, PAGE-XML, hOCR and result JSON."""
    from nordocr_cli.data.layouts.readers import read_layout

    box = 'HPOS="10" VPOS="10" WIDTH="200" HEIGHT="30"'
    contents = {
        "alto.xml": '<?xml version="1.0"?><alto><Layout><Page WIDTH="900" HEIGHT="700">'
        f"<PrintSpace>"
        f'<TextBlock ID="b"><TextLine ID="l" {box}><String CONTENT="Årsmöte" {box}/></TextLine>'
        "</TextBlock></PrintSpace></Page></Layout></alto>",
        "page.xml": '<?xml version="1.0"?><PcGts><Page imageFilename="a.png" imageWidth="900"'
        ' imageHeight="700"><TextRegion id="r"><TextLine id="l"><Coords points="10,10 200,10'
        ' 200,40 10,40"/><TextEquiv><Unicode>Årsmöte</Unicode></TextEquiv></TextLine>'
        "</TextRegion></Page></PcGts>",
        "a.hocr": '<html><body><div class="ocr_page" title="image a.png; bbox 0 0 900 700">'
        '<span class="ocr_line" title="bbox 10 10 200 40">Årsmöte</span></div></body></html>',
        "a.json": json.dumps(
            {
                "pages": [
                    {"page": 1, "regions": [{"bbox": [10, 10, 200, 30], "text": "Årsmöte"}]}
                ]
            }
        ),
    }
    names = list(contents)

    def trial(number: int, rng: random.Random) -> Result:
        name = names[number % len(names)]
        path = folder / f"{number % 8}-{name}"
        path.write_bytes(damaged(contents[name].encode(), rng))
        read_layout(path)
        return "accepted"

    return trial


def json_values(folder: Path) -> Trial:
    """Valid JSON of unexpected shapes, where results, recordings and contracts are read."""
    from nordocr_cli.artifact.contract import contract_from_json
    from nordocr_cli.data.layouts.readers import read_layout
    from nordocr_cli.limits import read_json
    from nordocr_cli.metrics.recorded import read_recorded

    def trial(number: int, rng: random.Random) -> Result:
        path = folder / f"{number % 8}.json"
        path.write_text(json.dumps(_any_json(rng, 4)), encoding="utf-8")
        match number % 3:
            case 0:
                contract_from_json(read_json(path), str(path))
            case 1:
                read_layout(path)
            case _:
                read_recorded(path)
        return "accepted"

    return trial


def _any_json(rng: random.Random, depth: int) -> Any:
    keys = (
        "pages",
        "regions",
        "bbox",
        "text",
        "id",
        "hyp",
        "ref",
        "schema",
        "charset",
        "lines",
    )
    scalars = (None, True, 0, -1, 10**18, 1.5, "", "å", "\x00", "x" * 1000, 1e308)
    choice = rng.random()
    if depth == 0 or choice < 0.2:
        return rng.choice(scalars)
    if choice < 0.45:
        return [_any_json(rng, depth - 1) for _ in range(rng.randrange(4))]
    return {rng.choice(keys): _any_json(rng, depth - 1) for _ in range(rng.randrange(1, 5))}


def labels(_: Path) -> Trial:
    """Hostile labels, ids and file names in the HTML report: no element may come of them."""
    from nordocr_cli.metrics.html_report import evaluation_page, gallery_rows, render_page
    from nordocr_cli.metrics.report import report_of
    from nordocr_cli.metrics.score import score_line
    from nordocr_cli.records import LineResult

    def page_of(texts: list[str]) -> str:
        results = [
            LineResult(
                id=f"{n}{text}", reference=text, hypothesis=f"{text}x", language="sv"
            )
            for n, text in enumerate(texts)
        ]
        scores = [score_line(result) for result in results]
        rows = gallery_rows(scores)
        page = evaluation_page(report_of(scores), rows, title=texts[0], subtitle=texts[1])
        return render_page(page)

    def trial(_: int, rng: random.Random) -> Result:
        parts = [
            "".join(rng.choices(_HOSTILE_PARTS, k=rng.randrange(1, 5))) for _ in range(3)
        ]
        plain = _Elements(page_of(["a", "b", "c"]))
        hostile = _Elements(page_of(parts))
        if hostile.tags != plain.tags:
            raise WrongResult(f"the labels made elements: {hostile.tags} {plain.tags}")
        return "accepted"

    return trial


class _Elements(HTMLParser):
    """Counts the elements of a page that could run or load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        active = tag in ("script", "img", "iframe", "object", "link", "form", "embed")
        handlers = [name for name, _ in attrs if name.startswith("on")]
        for name in ([tag] if active else []) + handlers:
            self.tags[name] = self.tags.get(name, 0) + 1


class _FaultyServer(ThreadingHTTPServer):
    """Answers some requests as a chat model does, and others in many wrong ways."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _FaultyHandler)
        self.rng = random.Random(1)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _FaultyHandler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        rng = self.server.rng  # type: ignore[attr-defined]
        good = json.dumps(
            {"choices": [{"message": {"content": "Rad"}, "finish_reason": "stop"}]}
        ).encode()
        fault = rng.choice(["none", "damaged", "status", "shape", "echo", "empty"])
        body = good
        status = 200
        if fault == "damaged":
            body = damaged(good, rng)
        elif fault == "status":
            status = rng.choice([429, 500, 503])
        elif fault == "shape":
            body = json.dumps(_any_json(rng, 4)).encode()
        elif fault == "echo":
            status = 500
            body = str(self.headers).encode()
        elif fault == "empty":
            body = b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def vlm_answers(folder: Path) -> Trial:
    """A server of a vision-language model that fails in many ways: a wrong answer never becomes a
    text, and the key never appears.
    """
    from nordocr_cli.compare.answers import AnswerFile, Question
    from nordocr_cli.compare.vlm import Endpoint, ask
    from nordocr_cli.records import Box

    started: list[_FaultyServer] = []

    def trial(number: int, rng: random.Random) -> Result:
        if not started:
            started.append(_FaultyServer())
        server = started[0]
        server.rng = rng
        url = f"http://127.0.0.1:{server.server_port}/v1"
        endpoint = Endpoint(
            url, "m", key="secret-of-the-test", tries=1, timeout_s=2.0, workers=1
        )
        question = Question(b"png", f"{number:064d}", 32, 200, 0, Box(0, 0, 200, 32))
        (answer,) = ask(
            [question], AnswerFile(folder / f"{number}.jsonl", "m"), endpoint
        ).answers
        if "secret-of-the-test" in repr(answer):
            raise WrongResult("the key is in the answer")
        return "accepted" if answer.status == "ok" else "refused"

    return trial


KINDS = (
    Kind("images", "damaged image files", 10_000, images),
    Kind("pdfs", "damaged PDF files", 500, pdfs),
    Kind("layouts", "damaged ALTO, PAGE, hOCR and JSON layouts", 1000, layouts),
    Kind("json", "JSON of unexpected shapes", 1000, json_values),
    Kind("labels", "hostile labels in the HTML report", 500, labels),
    Kind("vlm", "faulty answers of a VLM server", 300, vlm_answers),
)
