"""Servers as they are: what wraps a reply, and how servers fail. Every mode ends with the right text
or with a named failure of the line; a wrapped text is never a reference.
"""

import base64
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nordocr_cli.compare.answers import AnswerFile, question
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.compare.reply import Reply, read_reply
from nordocr_cli.compare.vlm import ask
from nordocr_cli.data.resize import decode_image
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.records import Box

LINES = 3


def completion(content, finish="stop", **message):
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return 200, {"choices": [choice]}, {}


def error(status, message, headers=None, **fields):
    return status, {"error": {"message": message, **fields}}, headers or {}


def events(text):
    deltas = [{"choices": [{"delta": {"content": letter}}]} for letter in text]
    lines = [f"data: {json.dumps(delta)}\n\n" for delta in deltas]
    body = "".join([": a comment\n\n", *lines, "data: [DONE]\n\n"])
    return 200, body.encode(), {"Content-Type": "text/event-stream"}


def plain_json(text):
    return json.dumps(completion(text)[1]).encode()


# What the server makes of a line's true text.
WRAPPED = {
    "plain": completion,
    "parts": lambda t: completion([{"type": "text", "text": t}]),
    "thoughts": lambda t: completion(f"<think>Looks like\na line.</think>\n{t}"),
    "only the end of the thoughts": lambda t: completion(f"A line.\n</think>\n\n{t}"),
    "thoughts on one line": lambda t: completion(f"short</think>{t}"),
    "two thoughts": lambda t: completion(f"<think>a</think><think>b</think>{t}"),
    "thoughts in triangles": lambda t: completion(f"◁think▷The line◁/think▷{t}"),
    "channels": lambda t: completion(
        "<|channel|>analysis<|message|>look<|end|><|start|>assistant"
        f"<|channel|>final<|message|>{t}<|return|>"
    ),
    "box": lambda t: completion(f"<|begin_of_box|>{t}<|end_of_box|>"),
    "special token": lambda t: completion(f"{t}<|im_end|>"),
    "end of sequence": lambda t: completion(f"{t}</s>"),
    "answer tag": lambda t: completion(f"<answer>{t}</answer>"),
    "open answer tag": lambda t: completion(f"<think>x</think><answer>{t}"),
    "json": lambda t: completion(json.dumps({"text": t})),
    "json in a fence": lambda t: completion(f'```json\n{{"transcription": "{t}"}}\n```'),
    "labelled fence": lambda t: completion(f"```text\n{t}\n```"),
    "fence on one line": lambda t: completion(f"```{t}```"),
    "fence with talk": lambda t: completion(f"Here:\n```\n{t}\n```\n\nAnything else?"),
    "backticks": lambda t: completion(f"`{t}`"),
    "bold": lambda t: completion(f"**{t}**"),
    "quotes": lambda t: completion(f'"{t}"'),
    "english quotes": lambda t: completion(f"“{t}”"),
    "entities": lambda t: completion(t.replace("&", "&amp;")),
    "latex": lambda t: completion(f"${t}$"),
    "latex text": lambda t: completion(rf"\(\text{{{t}}}\)"),
    "english lead-in": lambda t: completion(f"The text in the image reads: {t}"),
    "swedish lead-in": lambda t: completion(f"Texten i bilden lyder: {t}"),
    "norwegian lead-in": lambda t: completion(f"Her er teksten på linjen: **{t}**"),
    "danish lead-in": lambda t: completion(f"Teksten i billedet er: {t}"),
    "icelandic lead-in": lambda t: completion(f"Textinn á myndinni er: {t}"),
    "swedish transcription": lambda t: completion(f'Transkription: "{t}"'),
    "events": events,
    "compressed": lambda t: (
        200,
        gzip.compress(plain_json(t)),
        {"Content-Encoding": "gzip"},
    ),
    "byte order mark": lambda t: (200, b"\xef\xbb\xbf" + plain_json(t), {}),
}
NO_READING = {
    "null with reasoning": (
        completion(None, reasoning_content="The line reads Rad 1"),
        ("invalid", "an empty answer"),
    ),
    "cut in its thoughts": (
        completion("<think>Let me", "length"),
        ("invalid", "did not stop"),
    ),
    "refusal": (completion("I'm sorry, I can't help with that."), ("invalid", "a refusal")),
    "refusal field": (completion(None, refusal="No."), ("invalid", "a refusal: No.")),
    "swedish refusal": (
        completion("Jag kan tyvärr inte läsa texten i bilden."),
        ("invalid", "a refusal"),
    ),
    "norwegian refusal": (
        completion("Beklager, jeg ser ikke noe."),
        ("invalid", "a refusal"),
    ),
    "danish refusal": (
        completion("Jeg kan desværre ikke læse den."),
        ("invalid", "a refusal"),
    ),
    "icelandic refusal": (
        completion("Því miður get ég það ekki."),
        ("invalid", "a refusal"),
    ),
    "content filter": (completion("", "content_filter"), ("failed", "content filter")),
}
ENDS = {
    "error with status 200": (
        (200, {"error": {"message": "CUDA out of memory", "code": 500}}, {}),
        MissingBackendError,
        "CUDA out of memory",
    ),
    "login page": (
        (200, b"<!DOCTYPE html><html><body>Please log in</body></html>", {}),
        UsageError,
        "Please log in.*login page",
    ),
    "redirect": (
        (307, b"", {"Location": "http://127.0.0.1:1/other"}),
        UsageError,
        "307 redirects to http://127.0.0.1:1/other; redirects are not followed",
    ),
    "quota": (
        error(429, "You exceeded your current quota", code="insufficient_quota"),
        UsageError,
        "429 You exceeded your current quota .*no waiting changes",
    ),
    "unknown parameter": (
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}, {}),
        UsageError,
        "422 body.seed: Extra inputs; try --vlm-param seed=none",
    ),
    "other token parameter": (
        error(
            400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        ),
        UsageError,
        "try --vlm-param max_tokens=none --vlm-param max_completion_tokens=auto",
    ),
}


class Server(ThreadingHTTPServer):
    """Answers each request with `respond(true text, request number, size of the picture)`."""

    daemon_threads = True

    def __init__(self, respond):
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond, self.count, self.lock = respond, 0, threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        url = body["messages"][0]["content"][1]["image_url"]["url"]
        image = decode_image(base64.b64decode(url.partition(",")[2]), "sent")
        with self.server.lock:
            self.server.count += 1
            number = self.server.count
        text = f"Rad & {int(image.mean())}"
        status, content, headers = self.server.respond(text, number, image.shape[:2])
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def answers(tmp_path):
    """A function that asks a server for LINES lines, low ones among them."""

    def ask_server(respond, **options):
        crops = [np.full((12 + 20 * n, 90, 3), 10 * n, np.uint8) for n in range(LINES)]
        questions = [question(crop, 0, Box(0, 0, 90, 20)) for crop in crops]
        with Server(respond) as server:
            thread = threading.Thread(
                target=server.serve_forever, args=(0.01,), daemon=True
            )
            thread.start()
            endpoint = Endpoint(
                f"http://127.0.0.1:{server.server_port}/v1",
                "m",
                **{"workers": 1, "tries": 3, "backoff_s": 0.001} | options,
            )
            try:
                return ask(
                    questions, AnswerFile(tmp_path / "a.jsonl", "m"), endpoint
                ).answers
            finally:
                server.shutdown()
                thread.join()

    return ask_server


@pytest.mark.parametrize("mode", WRAPPED)
def test_a_wrapped_reply_ends_as_the_text(answers, mode):
    found = answers(lambda text, *_: WRAPPED[mode](text))
    texts = [answer.text for answer in found]
    assert texts == [f"Rad & {text.rpartition(' ')[2]}" for text in texts]
    assert [answer.status for answer in found] == ["ok"] * LINES


@pytest.mark.parametrize("mode", NO_READING)
def test_a_reply_without_a_reading_is_named(answers, mode):
    response, (status, reason) = NO_READING[mode]
    for answer in answers(lambda *_: response):
        assert (answer.status, answer.text) == (status, "")
        assert reason in answer.reason


@pytest.mark.parametrize("mode", ENDS)
def test_a_server_that_answers_nothing_ends_the_run_with_its_own_words(answers, mode):
    response, kind, message = ENDS[mode]
    with pytest.raises(kind, match=message):
        answers(lambda *_: response)


@pytest.mark.parametrize("limit", [28, 32, 64])
@pytest.mark.parametrize("status", [400, 500])
def test_low_crops_are_enlarged_to_what_servers_take(answers, limit, status):
    def picky(text, _, size):
        if min(size) < limit:
            return error(status, f"height:{size[0]} must be larger than factor:{limit}")
        return completion(text)

    assert [answer.status for answer in answers(picky)] == ["ok"] * LINES


def test_one_filtered_line_is_failed_and_the_rest_are_answered(answers):
    def filtering(text, number, _):
        if number == 2:
            return error(
                400, "filtered by the content management policy", code="content_filter"
            )
        return completion(text)

    found = answers(filtering)
    assert [answer.status for answer in found] == ["ok", "failed", "ok"]
    assert "content management policy (content_filter)" in found[1].reason


def test_a_rate_limit_is_waited_for(answers):
    def limited(text, number, _):
        if number % 2:
            return error(429, "Rate limit", {"retry-after-ms": "5"})
        return completion(text)

    assert [answer.status for answer in answers(limited)] == ["ok"] * LINES


def test_strict_servers_are_served_with_changed_parameters(answers):
    assert [
        a.status for a in answers(lambda t, *_: completion(t), params={"seed": None})
    ] == ["ok"] * LINES


@pytest.mark.parametrize(
    "text",
    [
        "”Vi har gjort vårt bästa”",
        "»Selskabet«",
        "Summa: 1 234",
        "Text: enligt not 5",
        "*) se not 3",
        "$ 100 000",
        "a < b > c",
        "{1} {2}",
        "Jag kan läsa",
        "Här finns 3 lager",
        "1 000 & 2 000",
        "Transport: 500",
    ],
)
def test_a_line_that_only_looks_wrapped_stays_as_it_is(text):
    answer = read_reply(Reply(text), 100)
    assert (answer.text, answer.status, answer.rules) == (text, "ok", ())
