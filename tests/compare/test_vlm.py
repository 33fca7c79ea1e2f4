"""The client against a real socket: a server thread that answers, dawdles, fails, redirects and refuses on request."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nordocr_cli.compare.vlm import Answer, AnswerFile, Endpoint, Question, ask, endpoint
from nordocr_cli.data.resize import decode_image
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.records import Box


class Server(ThreadingHTTPServer):
    """Answers `line <mean gray of the crop>`; `faults` maps that number to the faults of the first calls, in order."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.calls, self.requests, self.lock = {}, [], [], threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image = body["messages"][0]["content"][1]["image_url"]["url"].removeprefix("data:image/png;base64,")
        gray = int(decode_image(base64.b64decode(image), "sent").mean())
        with self.server.lock:
            self.server.calls.append(gray)
            self.server.requests.append((self.path, dict(self.headers), body))
            fault = self.server.faults.get(gray, [None])
            fault = fault.pop(0) if fault else None
        if fault == "slow":
            time.sleep(1.2)
        choice = {"message": {"content": f"line {gray}\n"}, "finish_reason": "stop"}
        if fault == "long":
            choice["finish_reason"] = "length"
        if fault == "lines":
            choice["message"]["content"] = "Here it is:\nline"
        if fault == "empty":
            choice["message"]["content"] = "<EMPTY>"
        answer = b"<html>" if fault == "html" else json.dumps({"choices": [choice]}).encode()
        self.send_response(fault if isinstance(fault, int) else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def questions(*grays):
    return [Question(np.full((8, 40, 3), gray, np.uint8), 0, Box(0, 10.0 * n, 40, 8)) for n, gray in enumerate(grays)]


def asking(server, **options):
    return Endpoint(server.url, "reader", **{"workers": 4, "timeout_s": 0.6} | options)


def test_answers_come_in_order_and_are_recorded(server, tmp_path, heard):
    asked = questions(*range(0, 200, 10))
    path = tmp_path / "answers.jsonl"
    answers = ask(asked, AnswerFile(path, "reader"), asking(server), heard)
    assert answers == [Answer("ok", f"line {gray}") for gray in range(0, 200, 10)]
    assert server.url in heard.notes[0]
    assert "20 line crops" in heard.notes[0]
    # A second run asks nothing, with or without a server.
    assert ask(asked, AnswerFile(path), asking(server)) == answers
    assert ask(asked, AnswerFile(path), None) == answers
    assert len(server.calls) == 20


def test_what_is_sent(server, tmp_path):
    ask(questions(7), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server, key="sesame"))
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sesame"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("reader", 0, 300)
    assert "sesame" not in (tmp_path / "a.jsonl").read_text()
    assert "sesame" not in repr(asking(server, key="sesame"))


def test_a_timeout_is_not_an_answer_and_is_asked_again_later(server, tmp_path):
    server.faults = {10: ["slow", "slow"], 20: ["slow"]}
    path = tmp_path / "answers.jsonl"
    timed_out, late, fine = ask(questions(10, 20, 30), AnswerFile(path, "reader"), asking(server))
    assert timed_out.status == "timeout"
    assert timed_out.text == ""
    assert (late.text, fine.text) == ("line 20", "line 30")
    assert sorted(server.calls) == [10, 10, 20, 20, 30]
    server.calls.clear()
    assert [a.text for a in ask(questions(10, 20, 30), AnswerFile(path), asking(server))] == ["line 10", "line 20", "line 30"]
    assert server.calls == [10]


@pytest.mark.parametrize(
    ("faults", "answer"),
    [
        ([503], Answer("ok", "line 5")),
        ([429, 500], Answer("failed", reason="HTTP 500")),
        (["html", "html"], Answer("invalid", reason="not a chat completion: '<html>'")),
        (["long", "long"], Answer("invalid", reason="did not stop after 300 tokens")),
        (["lines", "lines"], Answer("invalid", reason="2 lines instead of one")),
        (["empty"], Answer("ok", "")),
    ],
)
def test_faults(server, tmp_path, faults, answer):
    server.faults = {5: faults.copy()}
    assert ask(questions(5), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server)) == [answer]


@pytest.mark.parametrize("code", [401, 404, 302])
def test_a_refusal_ends_the_run(server, tmp_path, code):
    server.faults = {5: [code]}
    with pytest.raises(UsageError, match=f"refuses: {code}"):
        ask(questions(5), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server))
    assert server.calls == [5]


def test_no_server_is_a_missing_backend(server, tmp_path):
    url = server.url
    server.server_close()
    with pytest.raises(MissingBackendError, match="no server answers"):
        ask(questions(5), AnswerFile(tmp_path / "a.jsonl", "m"), Endpoint(url, "m"))


def test_a_cut_last_line_is_left_aside_and_mended(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    ask(questions(1, 2), AnswerFile(path, "reader"), asking(server, workers=1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:50])
    assert [a.status for a in ask(questions(1, 3), AnswerFile(path), None)] == ["ok", "unanswered"]
    assert path.read_bytes() == whole + whole[:50]  # reading changes nothing
    ask(questions(3), AnswerFile(path), asking(server))
    assert path.read_bytes().startswith(whole)
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == ["line 1", "line 2", "line 3"]


def test_recorded_answers_hold_for_one_model_and_one_crop(server, tmp_path):
    path = tmp_path / "answers.jsonl"
    for model in ("one", "two"):
        ask(questions(1), AnswerFile(path, model), asking(server))
    with pytest.raises(UsageError, match=r"answers of one, two; choose one with --vlm-model"):
        AnswerFile(path)
    assert ask(questions(1, 2), AnswerFile(path, "one"), None)[1].status == "unanswered"
    path.write_text(path.read_text().replace("line 1", "[VLM_TIMEOUT]"))
    assert ask(questions(1), AnswerFile(path, "two"), None)[0].status == "timeout"
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"answers\.jsonl:1: not a recorded answer"):
        AnswerFile(path)


def test_what_the_user_gives_is_checked(monkeypatch):
    with pytest.raises(UsageError, match="expected an http or https address"):
        endpoint("localhost:8000", "m")
    with pytest.raises(UsageError, match="needs --vlm-model"):
        endpoint("http://localhost", None)
    with pytest.raises(UsageError, match="NO_SUCH_KEY: no such environment variable"):
        endpoint("http://localhost", "m", "NO_SUCH_KEY")
    monkeypatch.setenv("A_KEY", "sesame")
    assert endpoint("http://localhost/v1/", "m", "A_KEY") == Endpoint("http://localhost/v1", "m", "sesame")
