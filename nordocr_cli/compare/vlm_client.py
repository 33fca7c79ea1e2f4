"""The HTTP client of the VLM: one question at a time in each of several threads.

Redirects and proxies are not followed and no environment variable names a host. A line that the
server refuses is `failed`, and the others go on; the client gives up when the server cannot be
reached, when nothing but failures come, or when it refused every line and never answered one.
"""

import base64
import random
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx

from nordocr_cli.compare.answers import PROMPT, AnswerFile, Question
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.compare.reply import (
    Answer,
    Reply,
    ServerError,
    error_message,
    parse_completion,
)
from nordocr_cli.errors import MissingBackendError, NordocrError, UsageError
from nordocr_cli.limits import parse_json
from nordocr_cli.printable import holds_secret, redacted

_MAX_BACKOFF_S = 30.0
# So many failures without one answer between them, at 30 % once in 10^16 runs, mean that the server
# is down.
_GIVE_UP_AFTER = 32
_MAX_BYTES = 4_000_000
_RETRIED = (408, 409, 425, 429)
# Every line would get the same answer, whatever is in it.
_SAME_FOR_ALL = (401, 403, 404, 405, 407)
# A cut or empty reply is requested again with more tokens: a model may have spent them on thoughts.
_CUT_TRIES = 3
_MORE_TOKENS = 4  # times as many with each request
_MAX_TOKENS = 8192
_QUOTA = re.compile(r"insufficient_quota|quota|billing|credit|payment", re.IGNORECASE)
_TOKEN_KEYS = ("max_tokens", "max_completion_tokens")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Outcome:
    """The result of one request: a reply, or the answer that represents its failure.

    `retry` asks to try again after `wait_s` seconds; `refused` means that the server understood and
    declined.
    """

    reply: Reply | None = None
    answer: Answer = field(default_factory=lambda: Answer("ok"))
    retry: bool = False
    refused: bool = False
    wait_s: float = 0.0


class Client:
    """Asks questions for several threads, within the endpoint's bounds."""

    def __init__(self, server: Endpoint, answers: AnswerFile) -> None:
        self.server = server
        self.stop = threading.Event()
        self.requests = 0
        self.failures: Counter[str] = Counter()
        self._answers = answers
        self._lock = threading.Lock()
        self._failed_in_a_row = 0  # since the last answer
        self._next_at = time.monotonic()
        self._address = 0  # of the endpoint's addresses
        self._answered = answers.has_any()
        self._answered_now = False
        self._refusal = ""
        self._last_failure = ""
        self._http = httpx.Client(
            follow_redirects=False,
            trust_env=False,
            timeout=server.timeout_s,
            limits=httpx.Limits(max_connections=server.workers),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, question: Question) -> Answer | None:
        """Record the server's reply and return None, or return the answer that represents its
        failure. Raises errors that end the run, for the other threads too.
        """
        try:
            return self._ask(question)
        except NordocrError:
            self.stop.set()
            raise

    def _ask(self, question: Question) -> Answer | None:
        answer = Answer("unanswered", reason="the run was stopped")
        cut: Reply | None = None
        cuts = 0
        for attempt in range(self.server.tries):
            if not self._may_ask():
                return self._not_asked(answer, attempt)
            outcome = self._request(question, _MORE_TOKENS**cuts)
            if outcome.reply is not None:
                cuts += 1
                if not outcome.reply.is_cut or cuts == _CUT_TRIES:
                    self._answers.add(question, outcome.reply)
                    return None
                cut = outcome.reply
                continue

            answer = outcome.answer
            if not outcome.retry:
                return answer
            # Full jitter: eight workers that failed together do not come back together.
            backoff_s = min(_MAX_BACKOFF_S, self.server.backoff_s * 2**attempt)
            is_last = attempt + 1 == self.server.tries
            if not is_last and self.stop.wait(
                outcome.wait_s + random.uniform(0, backoff_s)
            ):
                return answer

        if cut is not None:
            self._answers.add(question, cut)
            return None
        return answer

    def require_some_answer(self) -> None:
        """Raise an error with the server's own words when it has never answered a line: UsageError
        when it refused them all, MissingBackendError when it failed.
        """
        if self._answered:
            return
        if self._refusal:
            raise self._refused_all()
        if self._last_failure:
            raise MissingBackendError(
                f"{self.server.url} answered no line; the last failure: {self._last_failure}"
            )

    def _not_asked(self, answer: Answer, attempt: int) -> Answer:
        if self.stop.is_set() or attempt:
            return answer
        return Answer("unanswered", reason="--vlm-max-requests were used up")

    def _may_ask(self) -> bool:
        """Wait for this request's turn and count it; False when the run was stopped or its requests
        are used up.
        """
        with self._lock:
            limit = self.server.max_requests
            if self.stop.is_set() or (limit is not None and self.requests >= limit):
                return False
            self.requests += 1
            now = time.monotonic()
            turn = max(now, self._next_at)
            if self.server.requests_per_s:
                self._next_at = turn + 1 / self.server.requests_per_s
        return not self.stop.wait(turn - now)

    def _request(self, question: Question, more_tokens: int) -> Outcome:
        """Send one request; what ends the run is raised."""
        address = self._address
        try:
            status, headers, body = self._send(question, address, more_tokens)
            outcome = self._judge(status, headers, body, address)
        except httpx.TimeoutException:
            reason = f"no answer in {self.server.timeout_s:g} s"
            outcome = Outcome(answer=Answer("timeout", reason=reason), retry=True)
        except httpx.TransportError as error:
            self._require_reachable(error)
            reason = redacted(f"{type(error).__name__}: {error}")
            outcome = Outcome(answer=Answer("failed", reason=reason), retry=True)
        except ValueError as error:
            outcome = Outcome(answer=Answer("failed", reason=str(error)), retry=True)
        self._count(outcome)
        return outcome

    def _send(
        self, question: Question, address: int, more_tokens: int
    ) -> tuple[int, httpx.Headers, bytes]:
        server = self.server
        if server.key:
            headers = {"Authorization": f"Bearer {server.key}"}
        else:
            headers = {}
        request = self._http.build_request(
            "POST",
            server.addresses[address],
            json=_body(question, server, more_tokens),
            headers=headers,
        )
        deadline = time.monotonic() + server.timeout_s
        response = self._http.send(request, stream=True)
        try:
            body = b""
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _MAX_BYTES:
                    raise ValueError(f"an answer of more than {_MAX_BYTES:,} bytes")
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout(
                        "the answer did not end in time", request=request
                    )
            return response.status_code, response.headers, body
        finally:
            response.close()

    def _judge(
        self, status: int, headers: httpx.Headers, body: bytes, address: int
    ) -> Outcome:
        """What a response means. Raises ValueError for one that is no completion."""
        if status < 300:
            try:
                reply = parse_completion(body, headers.get("Content-Type", ""))
            except ServerError as error:
                return self._judge_error(error.status or 500, str(error), headers)
            if holds_secret(reply.content):
                reason = "the server repeats the key in its answer"
                return Outcome(answer=Answer("failed", reason=reason))
            return Outcome(reply=reply)

        words = _words(body)
        if 300 <= status < 400:
            location = headers.get("Location", "another address")
            words = f"redirects to {location}"
            return self._refuse_all_or_line(status, words)
        if status in (404, 405) and self._try_next_address(address):
            return Outcome(answer=Answer("failed", reason=f"HTTP {status}"), retry=True)
        return self._judge_error(status, words, headers)

    def _judge_error(self, status: int, words: str, headers: httpx.Headers) -> Outcome:
        reason = f"HTTP {status} {words}".strip()
        if status == 429 and _QUOTA.search(words):
            return self._refuse_all_or_line(status, words)
        if status >= 500 or status in _RETRIED:
            answer = Answer("failed", reason=reason)
            return Outcome(answer=answer, retry=True, wait_s=retry_after(headers))
        if status in _SAME_FOR_ALL:
            return self._refuse_all_or_line(status, words)

        with self._lock:
            self._refusal = reason
        return Outcome(answer=Answer("failed", reason=reason), refused=True)

    def _refuse_all_or_line(self, status: int, words: str) -> Outcome:
        """A refusal that has nothing to do with the line: it ends a run that was never answered."""
        reason = f"HTTP {status} {words}".strip()
        with self._lock:
            self._refusal = reason
            if not self._answered:
                raise self._refused_all()
        return Outcome(answer=Answer("failed", reason=reason), refused=True)

    def _refused_all(self) -> UsageError:
        words = self._refusal.removeprefix("HTTP ")
        return UsageError(f"{self.server.url} refuses: {words}; {_advice(words)}")

    def _try_next_address(self, address: int) -> bool:
        """Go on to the next address after a 404; True when this request should be sent again."""
        with self._lock:
            if self._answered_now:
                return False
            if self._address != address:
                return True  # another thread has gone on already
            if address + 1 == len(self.server.addresses):
                return False
            self._address += 1
            return True

    def _require_reachable(self, error: httpx.TransportError) -> None:
        """Raise MissingBackendError for what no second try would change, as long as nothing was
        answered.
        """
        if self._answered_now or not isinstance(error, httpx.ConnectError):
            return
        causes = list(_causes(error))
        url = self.server.url
        if any(isinstance(cause, ssl.SSLError) for cause in causes) or "SSL" in str(error):
            raise MissingBackendError(f"{url}: no secure connection ({error})") from None
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            raise MissingBackendError(f"{url}: no such host ({error})") from None
        raise MissingBackendError(
            f"no server answers at {url}; start it, then run this again"
        ) from None

    def _count(self, outcome: Outcome) -> None:
        """Count failures, and give up when nothing else comes."""
        with self._lock:
            if outcome.reply is not None:
                self._failed_in_a_row = 0
                self._answered = self._answered_now = True
                return

            self._last_failure = outcome.answer.reason
            self.failures[_kind_of_failure(outcome.answer)] += 1
            if outcome.refused and self._answered:
                return  # the server is there, and declines some lines
            self._failed_in_a_row += 1
            if self._failed_in_a_row < _GIVE_UP_AFTER:
                return
            raise self._given_up(outcome)

    def _given_up(self, outcome: Outcome) -> NordocrError:
        if outcome.refused:
            return self._refused_all()
        return MissingBackendError(
            f"{self.server.url}: {self._failed_in_a_row} requests in a row failed, the last with"
            f" {outcome.answer.reason}; what was answered is kept in {self._answers.path}, run this"
            " again to continue"
        )


def _kind_of_failure(answer: Answer) -> str:
    """`HTTP 503`, or the status of the answer."""
    if answer.reason.startswith("HTTP"):
        return " ".join(answer.reason.split()[:2])
    return answer.status


def _advice(words: str) -> str:
    """What may help against a refusal."""
    if "max_completion_tokens" in words:
        return "try --vlm-param max_tokens=none --vlm-param max_completion_tokens=auto"
    for name in ("max_tokens", "seed", "temperature"):
        if name in words:
            return f"try --vlm-param {name}=none"
    if words.startswith("3"):
        return "redirects are not followed, as crops go to the given host alone"
    if words.startswith("429"):
        return "the quota is used up, which no waiting changes"
    if "HTML page" in words:
        return "a login page or a proxy may stand in front of the server"
    return "check address, model and key"


def _body(question: Question, server: Endpoint, more_tokens: int) -> dict[str, Any]:
    image = "data:image/png;base64," + base64.b64encode(question.png).decode("ascii")
    content = [
        {"type": "text", "text": PROMPT},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    params = server.params_of(question)
    for key in _TOKEN_KEYS:
        if isinstance(params.get(key), int):
            params[key] = max(params[key], min(_MAX_TOKENS, params[key] * more_tokens))
    return {
        "model": server.model,
        "messages": [{"role": "user", "content": content}],
        **params,
    }


def _causes(error: BaseException | None) -> Any:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _words(body: bytes) -> str:
    """Return the server's message in the body of an error."""
    text = body[:_MAX_BYTES].decode("utf-8-sig", errors="replace")
    try:
        value = parse_json(text)
    except (ValueError, RecursionError):
        return redacted(" ".join(text.split()))[:200]
    # A server may echo the request's headers, and with them the key.
    message = error_message(value)
    code = value.get("error", {}) if isinstance(value, Mapping) else {}
    if isinstance(code, Mapping):
        kind = code.get("code") or code.get("type")
    else:
        kind = None
    if isinstance(kind, str) and kind not in message:
        message = redacted(f"{message} ({kind})" if message else kind)
    return message or redacted(" ".join(text.split()))[:200]


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a server asks to wait, at most 30: from Retry-After (a number or a
    date), retry-after-ms, or the reset times of rate limits (e.g. `200ms`, `1m30s`).
    """
    waits = [0.0]
    value = headers.get("Retry-After")
    if value:
        waits.append(_seconds_or_date(value))
    value = headers.get("retry-after-ms")
    if value:
        waits.append(_number(value) / 1000)
    if not headers.get("Retry-After") and not headers.get("retry-after-ms"):
        for name in ("x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"):
            parts = _DURATION.findall(headers.get(name) or "")
            waits.append(sum(float(count) * _SECONDS[unit] for count, unit in parts))
    return min(_MAX_BACKOFF_S, max(waits))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if value > 0 else 0.0  # NaN compares as False


def _seconds_or_date(text: str) -> float:
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return _number(text)
