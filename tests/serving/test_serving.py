"""The HTTP interface of `nordocr serve`: reading, files, corrections, limits and access."""

import json
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pypdfium2
import pytest

import nordocr
from nordocr.serving import ServeSettings, create_app
from nordocr.serving.guard import COOKIE
from nordocr_cli.data.manifest import iterate_manifest

TOKEN = "a-token-of-many-letters"


@pytest.fixture
def settings(tmp_path):
    return ServeSettings(corrections=tmp_path / "corrections")


@pytest.fixture
def client(serve, settings):
    with httpx.Client(base_url=serve(settings), timeout=60) as opened:
        yield opened


@pytest.fixture
def document(client, page):
    answer = client.post("/read", files={"file": ("räkning.png", page[0].read_bytes())})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_document_is_read_with_boxes_and_confidences(document):
    (page,) = document["pages"]
    assert document["source"] == "räkning.png"
    assert [line["text"] for line in page["lines"]] == ["Summa 123", "Moms 456"]
    assert (page["height_px"], page["width_px"]) == (200, 500)
    assert page["lines"][0]["box"] == {"x": 10, "y": 25, "width": 300, "height": 45}
    assert 0.5 < page["lines"][0]["confidence"] <= 1
    assert [word["text"] for word in page["lines"][0]["words"]] == ["Summa", "123"]


def test_the_page_of_a_document_is_a_picture(client, document):
    answer = client.get(f"/documents/{document['id']}/pages/0.png")
    assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG")
    assert client.get(f"/documents/{document['id']}/pages/1.png").status_code == 404
    assert client.get("/documents/unknown/pages/0.png").status_code == 404


def test_files_hold_the_corrected_text(client, document, tmp_path):
    path = f"/documents/{document['id']}/files"
    lines = {"lines": [{"page": 0, "line": 0, "text": "Summa 128"}]}
    text = client.post(f"{path}/text", json=lines)
    assert text.text == "Summa 128\nMoms 456\n"
    assert "r%C3%A4kning.txt" in text.headers["content-disposition"]
    assert "Summa 128" in client.post(f"{path}/alto", json=lines).text.replace('"/>', " ")
    pdf = tmp_path / "out.pdf"
    pdf.write_bytes(client.post(f"{path}/pdf", json=lines).content)
    opened = pypdfium2.PdfDocument(pdf)
    assert "128" in opened[0].get_textpage().get_text_range()
    opened.close()
    assert client.post(f"{path}/docx", json=lines).status_code == 422


def test_corrections_become_a_manifest_that_prep_takes(client, document, settings):
    path = f"/documents/{document['id']}/corrections"
    first = {"lines": [{"page": 0, "line": 0, "text": "Summa 128"}]}
    assert client.post(path, json=first).json()["rows"] == 1
    both = {"lines": [{"page": 0, "line": n, "text": f"rad {n}"} for n in (0, 1)]}
    saved = client.post(path, json=both).json()
    assert saved["rows"] == 2  # the first row was replaced
    entries = iterate_manifest(settings.corrections / "manifest.jsonl")
    rows = [entry.row for entry in entries]
    assert [row.text for row in rows] == ["rad 0", "rad 1"]
    assert all((settings.corrections / row.image).is_file() for row in rows)


@pytest.mark.parametrize(
    "line",
    [
        {"page": 0, "line": 9, "text": "x"},
        {"page": 3, "line": 0, "text": "x"},
        {"page": 0, "line": 0, "text": "   "},
        {"page": 0, "line": 0, "text": "a\nb"},
    ],
)
def test_a_line_that_cannot_be_saved_is_refused_by_name(client, document, settings, line):
    answer = client.post(f"/documents/{document['id']}/corrections", json={"lines": [line]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "usage")
    assert not settings.corrections.exists()


def test_what_is_no_document_is_refused_with_a_sentence(client):
    answer = client.post("/read", files={"file": ("x.pdf", b"hello, world")})
    assert answer.status_code == 422
    assert "no PDF" in answer.json()["error"]["message"]
    damaged = client.post(
        "/read", files={"file": ("x.png", b"\x89PNG\r\n\x1a\n" + bytes(100))}
    )
    assert (damaged.status_code, damaged.json()["error"]["code"]) == (422, "data")
    assert client.post("/read", files={"wrong": ("x.png", b"")}).status_code == 422


def test_limits_of_bytes_hold_with_and_without_a_claimed_length(serve, tmp_path):
    settings = ServeSettings(corrections=tmp_path, max_bytes=10_000)
    address = serve(settings)
    big = httpx.post(f"{address}/read", files={"file": ("x.png", bytes(20_000))})
    assert (big.status_code, big.json()["error"]["code"]) == (413, "too-large")

    def chunks():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'
        for _ in range(100):
            yield bytes(1_000)

    headers = {"content-type": "multipart/form-data; boundary=b"}
    streamed = httpx.post(f"{address}/read", content=chunks(), headers=headers)
    assert (streamed.status_code, streamed.json()["error"]["code"]) == (413, "too-large")


def test_limits_of_pages_hold(serve, page, tmp_path):
    pages = pypdfium2.PdfDocument.new()
    for _ in range(3):
        pages.new_page(100, 100)
    pages.save(tmp_path / "three.pdf")
    address = serve(
        ServeSettings(corrections=tmp_path), nordocr.Reader(threads=1, max_pages=2)
    )
    answer = httpx.post(
        f"{address}/read", files={"file": ("t.pdf", (tmp_path / "three.pdf").read_bytes())}
    )
    assert (answer.status_code, "3 pages" in answer.text) == (422, True)


def test_old_documents_are_forgotten_and_their_files_with_them(serve, page, tmp_path):
    settings = ServeSettings(corrections=tmp_path, kept=2)
    address = serve(settings)
    keys = []
    for _ in range(3):
        answer = httpx.post(
            f"{address}/read", files={"file": ("x.png", page[0].read_bytes())}
        )
        keys.append(answer.json()["id"])
    codes = [httpx.get(f"{address}/documents/{k}/pages/0.png").status_code for k in keys]
    assert codes == [404, 200, 200]


# Access
# ----------------------------------------


def test_a_foreign_host_or_origin_is_refused(client):
    foreign = client.get("/healthz", headers={"host": "evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (421, "host")
    posted = client.post(
        "/read", headers={"origin": "http://evil.example"}, files={"file": b""}
    )
    assert (posted.status_code, posted.json()["error"]["code"]) == (403, "origin")


def test_a_token_is_needed_where_one_is_set(serve, tmp_path):
    settings = ServeSettings(corrections=tmp_path, token=TOKEN, hosts=())
    address = serve(settings)
    assert httpx.get(f"{address}/healthz").status_code == 200
    assert httpx.get(f"{address}/").status_code == 401
    assert (
        httpx.get(f"{address}/", headers={"authorization": "Bearer wrong"}).status_code
        == 401
    )
    assert (
        httpx.get(f"{address}/", headers={"authorization": f"Bearer {TOKEN}"}).status_code
        == 200
    )
    entered = httpx.get(f"{address}/?token={TOKEN}")
    assert "HttpOnly" in entered.headers["set-cookie"]
    cookies = {COOKIE: TOKEN}
    assert httpx.get(f"{address}/static/app.js", cookies=cookies).status_code == 200


def test_the_page_asks_nobody_else(client):
    for path in ("/", "/static/app.js", "/static/style.css"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "http://" not in answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in answer.text
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert client.get("/docs").status_code == 404


def test_the_interface_is_described(client):
    schema = client.get("/openapi.json").json()
    assert {"/read", "/healthz", "/documents/{key}/corrections"} <= set(schema["paths"])
    assert client.get("/healthz").json()["status"] == "ok"


# Many clients
# ----------------------------------------


def resident_mb():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def test_200_parallel_requests_are_all_answered_and_memory_stays_bounded(
    serve, page, tmp_path
):
    address = serve(ServeSettings(corrections=tmp_path, waiting=256, kept=8))
    content = page[0].read_bytes()
    with httpx.Client(base_url=address, timeout=300) as warm:
        warm.post("/read", files={"file": ("warm.png", content)})
    before_mb = resident_mb()
    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=address, timeout=300, limits=limits) as client:

        def send(number):
            answer = client.post("/read", files={"file": (f"{number}.png", content)})
            return answer.status_code, answer.json()["source"], len(answer.json()["pages"])

        with ThreadPoolExecutor(200) as pool:
            answers = list(pool.map(send, range(200)))
    assert answers == [(200, f"{number}.png", 1) for number in range(200)]
    assert resident_mb() - before_mb < 200


class SlowReader:
    """A reader that waits until it is let go."""

    model = "slow"

    def __init__(self):
        self.go = threading.Event()

    def read(self, source, **_):
        self.go.wait(timeout=60)
        raise nordocr.DataError("nothing to read")


def test_more_requests_than_may_wait_are_sent_away_with_a_time(serve, page, tmp_path):
    slow = SlowReader()
    address = serve(ServeSettings(corrections=tmp_path, waiting=3), slow)

    def send(_):
        return httpx.post(
            f"{address}/read", files={"file": ("x.png", page[0].read_bytes())}, timeout=60
        )

    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(send, number) for number in range(10)]
        while sum(answer.done() for answer in answers) < 7:
            pass
        slow.go.set()
        statuses = sorted(answer.result().status_code for answer in answers)
    assert statuses == [422] * 3 + [503] * 7
    busy = next(a.result() for a in answers if a.result().status_code == 503)
    assert (busy.headers["retry-after"], busy.json()["error"]["code"]) == ("5", "busy")


def test_the_application_can_be_made_without_a_server(reader, settings):
    assert create_app(reader, settings).title == "nordocr"
    json.dumps(create_app(reader, settings).openapi())


DEEP = "[" * 100_000
HOSTILE_BODIES = {
    "deep": f'{{"lines": {DEEP}'.encode(),
    "half a surrogate pair": b'{"lines": [{"page": 0, "line": 0, "text": "\\ud800"}]}',
    "half a surrogate pair as key": b'{"\\udfff": 1, "lines": "\\udfff"}',
    "long number": b'{"lines": [{"page": ' + b"9" * 5000 + b', "line": 0, "text": ""}]}',
    "not a number": b'{"lines": [{"page": NaN, "line": Infinity, "text": ""}]}',
    "no JSON": b"\xff\xfe\x00",
    "a list": b"[]",
}


@pytest.mark.parametrize("body", HOSTILE_BODIES.values(), ids=HOSTILE_BODIES)
def test_hostile_json_is_refused_with_an_error(client, document, body):
    headers = {"content-type": "application/json"}
    for path in ("corrections", "files/text"):
        address = f"/documents/{document['id']}/{path}"
        answer = client.post(address, content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text
        assert set(answer.json()["error"]) == {"code", "message", "hint"}
        assert len(answer.content) < 2_000


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://["},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"host": "["},
        {"authorization": "Bearer \xff"},
        {"cookie": "nordocr_token=\xff; =;"},
    ],
)
def test_hostile_headers_get_an_answer(client, headers):
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = client.post("/read", files={"file": ("x.png", b"x")}, headers=sent)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]


MULTIPART = "multipart/form-data; boundary=b"
HOSTILE_FORMS = {
    "no boundary": ("multipart/form-data", b"x"),
    "no end": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"',
    ),
    "no parts": (MULTIPART, b"--b--\r\n"),
    "no form": ("text/plain", b"x"),
    "fields": (
        MULTIPART,
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 2000
        + b"--b--\r\n",
    ),
}


@pytest.mark.parametrize("form", HOSTILE_FORMS.values(), ids=HOSTILE_FORMS)
def test_hostile_forms_are_refused_with_an_error(client, form):
    kind, body = form
    answer = client.post("/read", content=body, headers={"content-type": kind})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["..%2f..%2fetc", "%00", "x" * 5000, "%ff"])
def test_documents_are_found_by_their_key_alone(client, path):
    for rest in ("pages/0.png", f"pages/{'9' * 5000}.png", "pages/-1.png"):
        answer = client.get(f"/documents/{path}/{rest}")
        assert 400 <= answer.status_code < 500, answer.text
        assert answer.json()["error"]["message"]


def test_a_folder_of_corrections_that_cannot_be_made_is_said(serve, page, tmp_path):
    (tmp_path / "file").write_text("x")
    address = serve(ServeSettings(corrections=tmp_path / "file"))
    with page[0].open("rb") as file:
        read = httpx.post(f"{address}/read", files={"file": file}, timeout=60).json()
    lines = {"lines": [{"page": 0, "line": 0, "text": "Summa"}]}
    answer = httpx.post(f"{address}/documents/{read['id']}/corrections", json=lines)
    assert answer.status_code == 422
    assert "cannot make the folder" in answer.json()["error"]["message"]


def test_a_document_that_cannot_be_stored_is_said(client, page, monkeypatch, tmp_path):
    gone = tmp_path / "gone" / "document.png"
    monkeypatch.setattr("nordocr.serving.app.Library.new_file", lambda *_: gone)
    answer = client.post("/read", files={"file": ("a.png", page[0].read_bytes())})
    assert answer.status_code == 422
    assert "the document cannot be stored" in answer.json()["error"]["message"]
