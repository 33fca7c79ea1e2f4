"""A vision-language model as a reader: the client for OpenAI-compatible servers
(`/chat/completions`).

No network is touched without a URL. Only line crops are sent, to that host alone: redirects and
proxies are not followed, no environment variable names a host, the key comes from the variable that
the user names, and a host other than this machine must be allowed by name of the flag. What the
server said is recorded at once; a run that was stopped asks only for the rest.
"""

import base64
import http.client
import ipaddress
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from nordocr_cli.compare.answers import PROMPT, AnswerFile, Question
from nordocr_cli.compare.reply import Answer, Reply, parse_completion
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.printable import hide, redacted
from nordocr_cli.progress import SILENT, Progress

# With three requests of ten failing, one line of 15,000 fails eight times in a row.
_TRIES = 8
_BACKOFF_S, _MOST_BACKOFF_S = 0.5, 30.0
# So many failures without one answer between them, at 30 % once in 10^16 runs, mean that the server
# is down.
_GIVE_UP_AFTER = 32
_MOST_BYTES = 4_000_000
_MOST_ERROR_BYTES = 64_000
_RETRIED = (408, 409, 425, 429)


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server: `url` up to and with `/v1`, the model's name, and how it is
    asked.

    `tries` a line, `timeout_s` each; at most `requests_per_s` and `max_requests` in all (None: no
    bound); `price` is what 1,000 tokens in and out cost.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    workers: int = 8
    timeout_s: float = 30.0
    requests_per_s: float | None = None
    max_requests: int | None = None
    price: tuple[float, float] | None = None
    tries: int = _TRIES
    backoff_s: float = _BACKOFF_S

    def __post_init__(self) -> None:
        if self.key:
            hide(self.key)  # no message may repeat it


@dataclass(frozen=True)
class Asked:
    """One answer a question, and what it took: requests sent, and how many failed in which way."""

    answers: tuple[Answer, ...]
    requests: int = 0
    failures: tuple[tuple[str, int], ...] = ()


def endpoint(
    url: str,
    model: str | None,
    key_env: str | None = None,
    *,
    allow_remote: bool = False,
    workers: int = 8,
    timeout_s: float = 30.0,
    requests_per_s: float | None = None,
    max_requests: int | None = None,
    price: str | None = None,
) -> Endpoint:
    """Check what the user gave. Raises UsageError for a URL that is none or leads to another
    machine without `allow_remote`, a missing model name, an unset key variable, and a price that is
    not one.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"--vlm-url {url!r}: expected an http or https address, e.g. http://127.0.0.1:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "--vlm-url: give the plain address; a key comes from the variable that --vlm-key-env"
            " names"
        )
    if not model:
        raise UsageError(
            "--vlm-url needs --vlm-model, the name under which the server knows the model"
        )
    if not _is_this_machine(parts.hostname) and not allow_remote:
        raise UsageError(
            f"{parts.hostname} is another machine: the document's lines would be sent there;"
            " --vlm-allow-remote allows it"
        )
    if key_env is not None and not os.environ.get(key_env):
        raise UsageError(f"--vlm-key-env {key_env}: no such environment variable, or it is empty")
    key = os.environ[key_env] if key_env else None
    return Endpoint(
        url.rstrip("/"),
        model,
        key,
        workers,
        timeout_s,
        requests_per_s,
        max_requests,
        _price(price) if price else None,
    )


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _price(text: str) -> tuple[float, float]:
    try:
        into, _, out = text.partition(",")
        price = float(into), float(out or into)
    except ValueError:
        price = (-1.0, -1.0)
    if not all(0 <= part < float("inf") for part in price):
        raise UsageError(
            f"--vlm-price {text!r}: expected the price of 1,000 tokens in and out, e.g. 0.15,0.60"
        )
    return price


def estimate(questions: Sequence[Question], answers: AnswerFile) -> tuple[int, int, bool]:
    """Return about how many tokens these questions take in and out, and whether that rests on
    recorded answers' counts.

    Without those a picture is taken for a token in 750 pixels and 85 more, a line for half the
    tokens that it may have.
    """
    told, into, out = answers.tokens()
    if told:
        return round(len(questions) * into / told), round(len(questions) * out / told), True
    pictures = sum(85 + q.height * q.width // 750 + len(PROMPT) // 3 for q in questions)
    return pictures, sum(q.params["max_tokens"] for q in questions) // 2, False


def ask(
    questions: Sequence[Question],
    answers: AnswerFile,
    server: Endpoint | None,
    progress: Progress = SILENT,
) -> Asked:
    """Return one answer a question: recorded ones from `answers`, the rest from `server` (None:
    `unanswered`).

    Each reply is recorded as it comes, also one that is no reading: the model would say it again.
    Time-outs and faults are not, so a later run asks again. Crops that are the same are asked once.
    Raises MissingBackendError when the server cannot be reached or stops answering, UsageError when
    it refuses (wrong key, model or address).
    """
    missing = {
        question.key(answers.model): question for question in questions if question not in answers
    }
    if server is None or not missing:
        return Asked(tuple(answers.get(question) for question in questions))
    client = _Client(server, answers)
    progress.start("asking", len(missing))
    pool = ThreadPoolExecutor(server.workers)
    futures = {pool.submit(client.ask, question): key for key, question in missing.items()}
    failed: dict[str, Answer] = {}
    try:
        for future in as_completed(futures):
            if (answer := future.result()) is not None:
                failed[futures[future]] = answer
            progress.advance()
    finally:
        client.stop.set()  # what is being answered now is still recorded
        pool.shutdown(cancel_futures=True)
        progress.finish()
    found = (
        failed.get(question.key(answers.model)) or answers.get(question) for question in questions
    )
    return Asked(tuple(found), client.requests, tuple(sorted(client.failures.items())))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Crops go to the host that the user named and to no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


class _Client:
    """Asks one question at a time in each of several threads, and keeps to the endpoint's
    bounds.
    """

    def __init__(self, server: Endpoint, answers: AnswerFile) -> None:
        self.server = server
        self.stop = threading.Event()
        self.requests = 0
        self.failures: Counter[str] = Counter()
        self._answers = answers
        self._lock = threading.Lock()
        self._in_a_row = 0  # failures since the last answer
        self._next_at = time.monotonic()
        self._answered = False

    def ask(self, question: Question) -> Answer | None:
        """Record the server's reply and return None, or return why there is none."""
        answer = Answer("unanswered", reason="the run was stopped")
        for attempt in range(self.server.tries):
            if not self._may_ask():
                stopped = self.stop.is_set()
                return (
                    answer
                    if stopped or attempt
                    else Answer("unanswered", reason="--vlm-max-requests were used up")
                )
            reply, answer, wait_s = self._once(question)
            if reply is not None:
                self._answers.add(question, reply)
                return None
            if attempt + 1 < self.server.tries:
                # Full jitter: eight workers that failed together do not come back together.
                wait_s += random.uniform(
                    0, min(_MOST_BACKOFF_S, self.server.backoff_s * 2**attempt)
                )
                if self.stop.wait(wait_s):
                    return answer
        return answer

    def _may_ask(self) -> bool:
        """Wait for this request's turn and count it; False when the run was stopped or its requests
        are used up.
        """
        with self._lock:
            if self.stop.is_set() or (
                self.server.max_requests is not None and self.requests >= self.server.max_requests
            ):
                return False
            self.requests += 1
            now = time.monotonic()
            turn = max(now, self._next_at)
            if self.server.requests_per_s:
                self._next_at = turn + 1 / self.server.requests_per_s
        return not self.stop.wait(turn - now)

    def _once(self, question: Question) -> tuple[Reply | None, Answer, float]:
        """Ask once. Returns the reply, or else what to say of it and the seconds that the server
        wants to be left alone.
        """
        server, wait_s = self.server, 0.0
        try:
            with _OPENER.open(_request(question, server), timeout=server.timeout_s) as response:
                reply = parse_completion(response.read(_MOST_BYTES))
            with self._lock:
                self._in_a_row, self._answered = 0, True
            return reply, Answer("ok"), 0.0
        except urllib.error.HTTPError as error:
            said = _body(error)
            if error.code < 500 and error.code not in _RETRIED:
                raise UsageError(
                    f"{server.url} refuses: {error.code} {said}; check address, model and key"
                ) from None
            answer, wait_s = (
                Answer("failed", reason=f"HTTP {error.code}"),
                _retry_after(error.headers),
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, ConnectionRefusedError) and not self._answered:
                raise MissingBackendError(
                    f"no server answers at {server.url}; start it, then run this again"
                ) from None
            if isinstance(cause, TimeoutError):
                answer = Answer("timeout", reason=f"no answer in {server.timeout_s:g} s")
            elif isinstance(error, ValueError):
                answer = Answer("failed", reason=redacted(str(error)))
            else:
                answer = Answer("failed", reason=redacted(f"{type(cause).__name__}: {cause}"))
        with self._lock:
            self.failures[answer.reason if answer.reason.startswith("HTTP") else answer.status] += 1
            self._in_a_row += 1
            if self._in_a_row >= _GIVE_UP_AFTER:
                raise MissingBackendError(
                    f"{server.url}: {self._in_a_row} requests in a row failed, the last with"
                    f" {answer.reason}; what was answered is kept in {self._answers.path}, run this"
                    " again to go on"
                )
        return None, answer, wait_s


def _request(question: Question, server: Endpoint) -> urllib.request.Request:
    image = "data:image/png;base64," + base64.b64encode(question.png).decode("ascii")
    content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": image}}]
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": content}],
        **question.params,
    }
    headers = {"Content-Type": "application/json"} | (
        {"Authorization": f"Bearer {server.key}"} if server.key else {}
    )
    url = (
        server.url if server.url.endswith("/chat/completions") else f"{server.url}/chat/completions"
    )
    return urllib.request.Request(url, json.dumps(body).encode(), headers)


def _body(error: urllib.error.HTTPError) -> str:
    """What the server says beside its status; it may be cut off as any answer."""
    try:
        # A server may echo the request's headers, and with them the key. It is hidden before the
        # text is cut, which could leave a part of it.
        return redacted(error.read(_MOST_ERROR_BYTES).decode(errors="replace").strip())[:300]
    except (OSError, http.client.HTTPException):
        return ""


def _retry_after(headers: Message) -> float:
    """Seconds that the header asks for, at most 30: a number, or a date."""
    value = headers.get("Retry-After") or "0"
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return min(_MOST_BACKOFF_S, max(0.0, seconds)) if seconds == seconds else 0.0
