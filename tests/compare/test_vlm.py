"""The client against a real socket: a server thread that answers, dawdles, fails, redirects and
refuses on request.
"""

import base64
import json
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from nordocr_cli.compare.answers import AnswerFile, enlarged, question
from nordocr_cli.compare.endpoint import Endpoint, endpoint
from nordocr_cli.compare.reply import Answer
from nordocr_cli.compare.vlm import ask, estimate_tokens
from nordocr_cli.compare.vlm_client import retry_after
from nordocr_cli.core.compare3way.vlm import ask_missing
from nordocr_cli.data.resize import decode_image
from nordocr_cli.errors import MissingBackendError, NordocrError, UsageError
from nordocr_cli.records import Box

USAGE = {"prompt_tokens": 50, "completion_tokens": 4}


class Server(ThreadingHTTPServer):
    """Answers `line <mean gray of the crop>`; `faults` maps that number to the faults of the first
    calls, in order.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults, self.calls, self.requests, self.lock = {}, [], [], threading.Lock()
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        image = body["messages"][0]["content"][1]["image_url"]["url"].removeprefix(
            "data:image/png;base64,"
        )
        gray = int(decode_image(base64.b64decode(image), "sent").mean())
        with self.server.lock:
            self.server.calls.append(gray)
            self.server.requests.append((self.path, dict(self.headers), body))
            fault = self.server.faults.get(gray, [None])
            fault = fault.pop(0) if fault else None
        if fault == "slow":
            self.server.ended.wait(60)  # longer than any client waits
        if "/v1/" not in self.path:
            fault = 404
        if fault == "hang up":
            self.connection.close()
            return
        choice = {"message": {"content": f"line {gray}\n"}, "finish_reason": "stop"}
        if fault == "long":
            choice["finish_reason"] = "length"
        if fault == "key as text":
            choice["message"]["content"] = self.headers["Authorization"]
        if fault == "lines":
            choice["message"]["content"] = "one\ntwo"
        if fault == "nothing":
            choice["message"]["content"] = None
        if fault == "empty":
            choice["message"]["content"] = "<EMPTY>"
        answer = (
            b"oops"
            if fault == "no json"
            else json.dumps({"choices": [choice], "usage": USAGE}).encode()
        )
        if fault in (401, "echo"):  # some servers repeat the request that they refuse
            answer = json.dumps(
                {"error": "bad key", "headers": dict(self.headers)}
            ).encode()
        self.send_response(
            fault if isinstance(fault, int) else 500 if fault == "half an error" else 200
        )
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[:20] if fault in ("cut", "half an error") else answer)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield running
        running.ended.set()
        running.shutdown()
        thread.join()


def questions(*grays):
    return [
        question(np.full((8, 40, 3), gray, np.uint8), 0, Box(0, 10.0 * n, 40, 8))
        for n, gray in enumerate(grays)
    ]


def asking(server, **options):
    return Endpoint(
        server.url,
        "reader",
        **{"workers": 4, "timeout_s": 60, "backoff_s": 0.01, "tries": 2} | options,
    )


def read(*args):
    return list(ask(*args).answers)


def test_answers_come_in_order_and_are_recorded(server, tmp_path):
    twenty = questions(*range(0, 200, 10))
    path = tmp_path / "answers.jsonl"
    answers = read(twenty, AnswerFile(path, "reader"), asking(server))
    assert answers == [Answer("ok", f"line {gray}") for gray in range(0, 200, 10)]
    # A second run asks nothing, with or without a server.
    assert read(twenty, AnswerFile(path), asking(server)) == answers
    assert read(twenty, AnswerFile(path), None) == answers
    assert len(server.calls) == 20


def test_tokens_are_those_that_the_server_reported(server, tmp_path, heard):
    answers = AnswerFile(tmp_path / "a.jsonl", "reader")
    ask_missing(questions(1, 2, 3), answers, asking(server), offline=False, progress=heard)
    assert heard.notes[-1] == (
        "3 requests; 150 tokens in and 12 out, as reported by 3 answers"
    )


def test_crops_that_are_the_same_are_asked_once(server, tmp_path):
    answers = read(
        questions(*[5] * 9, 6), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server)
    )
    assert [answer.text for answer in answers] == ["line 5"] * 9 + ["line 6"]
    assert sorted(server.calls) == [5, 6]


def test_what_is_sent(server, tmp_path):
    read(
        questions(7),
        AnswerFile(tmp_path / "a.jsonl", "reader"),
        asking(server, key="sesame"),
    )
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer sesame"
    assert (body["model"], body["temperature"], body["seed"], body["max_tokens"]) == (
        "reader",
        0,
        1,
        62,
    )
    assert "sesame" not in (tmp_path / "a.jsonl").read_text()
    assert "sesame" not in repr(asking(server, key="sesame"))


def test_a_timeout_is_not_an_answer_and_is_asked_again_later(server, tmp_path):
    server.faults = {10: ["slow", "slow"], 20: ["slow"]}
    path = tmp_path / "answers.jsonl"
    impatient = asking(server, timeout_s=3)
    result = ask(questions(10, 20, 30), AnswerFile(path, "reader"), impatient)
    timed_out, late, fine = result.answers
    assert (timed_out.status, timed_out.text) == ("timeout", "")
    assert (late.text, fine.text) == ("line 20", "line 30")
    assert sorted(server.calls) == [10, 10, 20, 20, 30]
    assert (result.requests, result.failures) == (5, (("timeout", 3),))
    server.calls.clear()
    assert [
        a.text for a in read(questions(10, 20, 30), AnswerFile(path), asking(server))
    ] == [
        "line 10",
        "line 20",
        "line 30",
    ]
    assert server.calls == [10]


@pytest.mark.parametrize(
    ("faults", "answer"),
    [
        ([503], Answer("ok", "line 5")),
        ([408], Answer("ok", "line 5")),
        (["cut"], Answer("ok", "line 5")),
        (["hang up"], Answer("ok", "line 5")),
        (["half an error"], Answer("ok", "line 5")),
        ([429, 500], Answer("failed", reason="HTTP 500")),
        (["no json", "no json"], Answer("failed", reason="not a chat completion: 'oops'")),
    ],
)
def test_a_fault_is_tried_again(server, tmp_path, faults, answer):
    read(questions(6), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server))
    server.faults = {5: faults.copy()}
    answers = read(
        questions(5, 6), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server)
    )
    assert answers[0].status == answer.status
    assert answers[0].text == answer.text
    assert answers[0].reason.startswith(answer.reason)
    assert server.calls == [6, 5, 5]


@pytest.mark.parametrize(
    ("fault", "answer", "calls"),
    [
        ("long", Answer("invalid", reason="did not stop in time"), 3),
        ("nothing", Answer("invalid", reason="an empty answer"), 3),
        ("lines", Answer("invalid", reason="2 lines instead of one"), 1),
        ("empty", Answer("ok", "", rules=()), 1),
    ],
)
def test_an_answer_that_is_no_reading_is_recorded_and_not_asked_for_by_a_later_run(
    server, tmp_path, fault, answer, calls
):
    server.faults = {5: [fault] * 3}
    for _ in range(2):
        file = AnswerFile(tmp_path / "a.jsonl", "reader")
        assert read(questions(5), file, asking(server, tries=4)) == [answer]
    assert len(server.calls) == calls


def test_a_cut_answer_is_asked_for_again_with_more_tokens(server, tmp_path):
    server.faults = {5: ["long"]}
    file = AnswerFile(tmp_path / "a.jsonl", "reader")
    assert read(questions(5), file, asking(server)) == [Answer("ok", "line 5")]
    assert [body["max_tokens"] for _, _, body in server.requests] == [62, 4 * 62]


@pytest.mark.parametrize("fault", [401, "echo"])
def test_a_key_that_the_server_repeats_is_left_out(server, tmp_path, fault):
    server.faults = {5: [fault]}
    recorded = tmp_path / "a.jsonl"
    endpoint = asking(server, key="sesame-open", tries=1)
    with pytest.raises(NordocrError) as raised:
        read(questions(5), AnswerFile(recorded, "reader"), endpoint)
    message = str(raised.value)
    assert "bad key" in message
    assert "sesame" not in message
    assert not recorded.exists() or "sesame" not in recorded.read_text()


def test_an_answer_that_is_the_key_fails_and_is_not_recorded(server, tmp_path):
    server.faults = {5: ["key as text"]}
    recorded = tmp_path / "a.jsonl"
    endpoint = asking(server, key="sesame-open", tries=1)
    first, second = read(questions(5, 6), AnswerFile(recorded, "reader"), endpoint)
    assert (first.status, second.text) == ("failed", "line 6")
    assert "sesame" not in str(first) + recorded.read_text()


@pytest.mark.parametrize("code", [401, 403, 302])
def test_a_refusal_of_the_user_ends_the_run_at_once(server, tmp_path, code):
    server.faults = {gray: [code] * 9 for gray in range(50)}
    with pytest.raises(UsageError, match=f"refuses: {code}"):
        read(
            questions(*range(50)),
            AnswerFile(tmp_path / "a.jsonl", "reader"),
            asking(server),
        )
    assert len(server.calls) <= 4  # one of each worker


def test_a_refused_line_is_failed_and_the_others_are_answered(server, tmp_path):
    server.faults = {5: [400] * 9, 7: [422] * 9}
    answers = read(
        questions(5, 6, 7), AnswerFile(tmp_path / "a.jsonl", "m"), asking(server)
    )
    assert [answer.status for answer in answers] == ["failed", "ok", "failed"]
    assert answers[0].reason.startswith("HTTP 400")
    assert sorted(server.calls) == [5, 6, 7]  # a refusal is not tried again
    # A later run asks for the refused lines alone, and ends as well.
    again = read(questions(5, 6, 7), AnswerFile(tmp_path / "a.jsonl", "m"), asking(server))
    assert [answer.status for answer in again] == ["failed", "ok", "failed"]


def test_a_server_that_refuses_every_line_ends_the_run_with_its_own_words(server, tmp_path):
    server.faults = {gray: [400] * 9 for gray in range(3)}
    with pytest.raises(UsageError, match="refuses: 400"):
        read(
            questions(*range(3)), AnswerFile(tmp_path / "a.jsonl", "reader"), asking(server)
        )


def test_the_address_is_found_with_and_without_v1(server, tmp_path):
    base = server.url.removesuffix("/v1")
    for number, url in enumerate((server.url, base, f"{base}/api")):
        file = AnswerFile(tmp_path / f"{number}.jsonl", "reader")
        endpoint = Endpoint(url, "reader", tries=3, backoff_s=0.01)
        assert read(questions(5), file, endpoint) == [Answer("ok", "line 5")]
    plain = "/chat/completions"
    paths = [path for path, _, _ in server.requests]
    assert paths == [f"/v1{plain}", f"/v1{plain}", f"/api{plain}", f"/api/v1{plain}"]
    assert Endpoint("http://h/api", "m").addresses == (
        f"http://h/api{plain}",
        f"http://h/api/v1{plain}",
    )
    assert Endpoint("http://h/v2", "m").addresses == (f"http://h/v2{plain}",)


def test_parameters_can_be_changed_for_strict_servers(server, tmp_path):
    params = {
        "seed": None,
        "max_tokens": None,
        "max_completion_tokens": "auto",
        "top_p": 0.5,
    }
    file = AnswerFile(tmp_path / "a.jsonl", "reader")
    read(questions(5), file, asking(server, params=params))
    body = server.requests[0][2]
    assert "seed" not in body
    assert "max_tokens" not in body
    assert (body["max_completion_tokens"], body["top_p"]) == (62, 0.5)
    found = endpoint("http://localhost", "m", params=["seed=none", "top_p=0.5", "a=b"])
    assert found.params == {"seed": None, "top_p": 0.5, "a": "b"}
    for wrong in ("seed", "=1", "model=other", "a=" + "[" * 100_000):
        with pytest.raises(UsageError, match="--vlm-param"):
            endpoint("http://localhost", "m", params=[wrong])


def test_crops_are_sent_with_at_least_64_pixels_a_side(server, tmp_path):
    for height, width in ((8, 40), (20, 10), (100, 30), (10, 3000), (80, 200)):
        crop = np.full((height, width, 3), 200, np.uint8)
        sent = decode_image(question(crop, 0, Box(0, 0, width, height)).png, "sent")
        assert min(sent.shape[:2]) >= 64
        assert sent.shape[1] <= 4096
    assert enlarged(np.zeros((80, 200, 3), np.uint8)).shape == (80, 200, 3)


def test_an_unknown_host_is_said_once(tmp_path):
    server = Endpoint("http://no-such-host.invalid/v1", "m")
    with pytest.raises(MissingBackendError, match="no such host|no server answers"):
        read(questions(5, 6), AnswerFile(tmp_path / "a.jsonl", "m"), server)


def test_a_server_without_tls_is_said_once(server, tmp_path):
    url = server.url.replace("http:", "https:")
    with pytest.raises(MissingBackendError, match="no secure connection"):
        read(questions(5, 6), AnswerFile(tmp_path / "a.jsonl", "m"), Endpoint(url, "m"))


def test_no_server_is_a_missing_backend(server, tmp_path):
    url = server.url
    server.server_close()
    with pytest.raises(MissingBackendError, match="no server answers"):
        read(questions(5), AnswerFile(tmp_path / "a.jsonl", "m"), Endpoint(url, "m"))


def test_a_server_that_only_fails_is_given_up(server, tmp_path):
    server.faults = {gray: [503] * 99 for gray in range(100)}
    with pytest.raises(
        MissingBackendError, match="32 requests in a row failed, the last with HTTP 503"
    ):
        read(
            questions(*range(100)),
            AnswerFile(tmp_path / "a.jsonl", "reader"),
            asking(server, tries=8),
        )
    assert 32 <= len(server.calls) < 32 + 2 * 4


def test_requests_are_bounded(server, tmp_path):
    path = tmp_path / "a.jsonl"
    first = read(
        questions(*range(10)), AnswerFile(path, "reader"), asking(server, max_requests=4)
    )
    assert [answer.status for answer in first].count("ok") == len(server.calls) == 4
    assert {answer.reason for answer in first if answer.status != "ok"} == {
        "--vlm-max-requests were used up"
    }
    assert [
        answer.status
        for answer in read(questions(*range(10)), AnswerFile(path), asking(server))
    ] == ["ok"] * 10
    assert len(server.calls) == 10


def test_requests_keep_their_distance(server, tmp_path):
    began = time.monotonic()
    read(
        questions(*range(5)),
        AnswerFile(tmp_path / "a.jsonl", "reader"),
        asking(server, requests_per_s=20),
    )
    assert time.monotonic() - began >= 4 / 20


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("3", 3, 3),
        ("1e9", 30, 30),
        ("-2", 0, 0),
        ("nan", 0, 0),
        ("soon", 0, 0),
        (None, 0, 0),
        (60.0, 29, 30),
        (-60.0, 0, 0),
    ],
)
def test_the_servers_wish_for_a_pause(header, low, high):
    headers = {}
    if header is not None:
        headers["Retry-After"] = (
            formatdate(time.time() + header, usegmt=True)
            if isinstance(header, float)
            else header
        )
    assert low <= retry_after(headers) <= high


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "200", "x-ratelimit-reset-requests": "9s"}, 0.2),
        ({"x-ratelimit-reset-requests": "200ms"}, 0.2),
        ({"x-ratelimit-reset-tokens": "1.5s", "x-ratelimit-reset-requests": "1m30s"}, 30),
    ],
)
def test_rate_limits_name_their_reset(headers, seconds):
    assert retry_after(headers) == pytest.approx(seconds)


def test_an_estimate_rests_on_recorded_answers(server, tmp_path):
    answers, eight = AnswerFile(tmp_path / "a.jsonl", "reader"), questions(*range(8))
    guessed = estimate_tokens(eight, answers)
    assert guessed[2] is False
    assert all(tokens > 0 for tokens in guessed[:2])
    read(eight[:2], answers, asking(server))
    assert estimate_tokens(eight, answers) == (8 * 50, 8 * 4, True)


@pytest.mark.parametrize("seconds", [float("nan"), 1e300, float("inf")])
def test_a_timeout_that_no_socket_takes_is_refused(seconds):
    with pytest.raises(UsageError, match="--vlm-timeout .* at most 86400 seconds"):
        endpoint("http://localhost", "m", timeout_s=seconds)
    with pytest.raises(UsageError, match="--vlm-rps nan"):
        endpoint("http://localhost", "m", requests_per_s=float("nan"))


def test_what_the_user_gives_is_checked(monkeypatch):
    hostile = (
        "http://[",
        "http://x:99999999/",
        "http://a\x1b[2J/",
        "http://a b/",
        "http://x:0/",
    )
    for wrong in ("localhost:8000", "ftp://localhost", "http://", *hostile):
        with pytest.raises(UsageError, match="expected an http or https address"):
            endpoint(wrong, "m")
    with pytest.raises(UsageError, match="give the plain address"):
        endpoint("http://me:sesame@localhost/v1", "m")
    with pytest.raises(UsageError, match="needs --vlm-model"):
        endpoint("http://localhost", None)
    with pytest.raises(UsageError, match="NO_SUCH_KEY: no such environment variable"):
        endpoint("http://localhost", "m", "NO_SUCH_KEY")
    with pytest.raises(UsageError, match="expected the price"):
        endpoint("http://localhost", "m", price="cheap")
    monkeypatch.setenv("A_KEY", "sesame")
    found = endpoint("http://localhost/v1/", "m", "A_KEY", price="0.5,2")
    assert found == Endpoint("http://localhost/v1", "m", "sesame", price=(0.5, 2.0))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "[::1]", "localhost"])
def test_this_machine_needs_no_leave(host):
    assert endpoint(f"http://{host}:8000/v1", "m").url == f"http://{host}:8000/v1"


@pytest.mark.parametrize(
    "host",
    ["192.168.1.2", "api.example.com", "localhost.example.com", "[2001:db8::1]", "0.0.0.0"],
)
def test_another_machine_does(host):
    with pytest.raises(UsageError, match="--vlm-allow-remote allows it"):
        endpoint(f"https://{host}/v1", "m")
    assert endpoint(f"https://{host}/v1", "m", allow_remote=True).model == "m"
