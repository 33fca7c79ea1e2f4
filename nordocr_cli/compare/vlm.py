"""A vision-language model as referee: recorded answers, and a client for OpenAI-compatible servers.

No network is touched without a URL. Only line crops are sent, to that host alone: redirects are refused, no environment
variable names a host, and the key comes from the variable that the user names. A time-out is not an answer: it is counted
and the line is left out of the comparison.
"""

import base64
import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, Literal

from nordocr_cli.charset import to_nfc
from nordocr_cli.data.result_json import box_to_json
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import Box
from nordocr_cli.runtime.protocols import Image

PROMPT = (
    "The image shows one line of a Nordic business document. Write out exactly what is printed, character for character: "
    "every space (also inside numbers such as 7 811 518), every dash, quote and letter (å ä ö æ ø ð þ). Correct, translate and "
    "complete nothing. Answer with the text alone, or with <EMPTY> when there is none."
)
PROMPT_SHA256 = hashlib.sha256(PROMPT.encode()).hexdigest()
_EMPTY = "<EMPTY>"
# The consumer's comparison recorded its time-outs as if they were text.
_RECORDED_TIMEOUT = "[VLM_TIMEOUT]"
_MAX_TOKENS = 300
_MAX_WAIT_S = 10.0
_RETRIED = (408, 409, 425, 429)

# unanswered: not in the recorded answers, and no server was given.
Status = Literal["ok", "timeout", "invalid", "failed", "unanswered"]


@dataclass(frozen=True)
class Question:
    """One line crop, uint8 (height, width, 3) RGB, and where it stands in the document."""

    crop: Image
    page_index: int
    box: Box

    @property
    def crop_sha256(self) -> str:
        """SHA-256 of the crop's size and pixels, in hex."""
        return hashlib.sha256(repr(self.crop.shape).encode() + self.crop.tobytes()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """The model's reading of one crop (NFC); only `ok` has a text that may be compared."""

    status: Status
    text: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server: `url` up to and with `/v1`, the model's name, and how it is asked."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    workers: int = 8
    timeout_s: float = 30.0
    tries: int = 2


def endpoint(url: str, model: str | None, key_env: str | None = None, workers: int = 8, timeout_s: float = 30.0) -> Endpoint:
    """Check what the user gave. Raises UsageError for a URL that is none, a missing model name or an unset key variable."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--vlm-url {url!r}: expected an http or https address, e.g. http://127.0.0.1:8000/v1")
    if not model:
        raise UsageError("--vlm-url needs --vlm-model, the name under which the server knows the model")
    if key_env is not None and not os.environ.get(key_env):
        raise UsageError(f"--vlm-key-env {key_env}: no such environment variable, or it is empty")
    return Endpoint(url.rstrip("/"), model, os.environ[key_env] if key_env else None, workers, timeout_s)


class AnswerFile:
    """Answers on disk: JSONL, one answer a line, only ever appended to, so that a run that was stopped goes on.

    An answer holds for one crop, one model and one prompt. Raises DataError naming the line that is not an answer; a last
    line that was cut off (the writer was killed) is left aside.
    """

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._whole_bytes: int | None = None  # where a last line that was cut off begins
        records = self._load()
        models = {record["model"] for record in records}
        if model is None and len(models) > 1:
            raise UsageError(f"{path} holds answers of {', '.join(sorted(models))}; choose one with --vlm-model")
        self.model = model or next(iter(models), "")
        self._texts = {
            record["crop_sha256"]: record["text"]
            for record in records
            if record["model"] == self.model and record["prompt_sha256"] == PROMPT_SHA256
        }

    def get(self, question: Question) -> Answer | None:
        """Return the recorded answer, or None."""
        text = self._texts.get(question.crop_sha256)
        if text is None:
            return None
        return Answer("timeout", reason="recorded as a time-out") if text == _RECORDED_TIMEOUT else Answer("ok", to_nfc(text))

    def add(self, question: Question, text: str) -> None:
        """Append one answer: one write, so that answers of several threads never mix."""
        record = {
            "page_index": question.page_index,
            "bbox": box_to_json(question.box),
            "text": text,
            "model": self.model,
            "crop_sha256": question.crop_sha256,
            "prompt_sha256": PROMPT_SHA256,
        }
        line = json.dumps(record, ensure_ascii=False) + "\n"
        try:
            with self._lock:
                if self._whole_bytes is not None:
                    os.truncate(self.path, self._whole_bytes)
                    self._whole_bytes = None
                with open(self.path, "ab") as file:
                    file.write(line.encode("utf-8"))
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror or error}; the answers so far are kept") from error
        self._texts[record["crop_sha256"]] = text

    def _load(self) -> list[dict[str, Any]]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot read {self.path}: {error.strerror or error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            self._whole_bytes = len(whole)
        records = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                records.append({key: str(record[key]) for key in ("text", "model", "crop_sha256", "prompt_sha256")})
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{self.path}:{number}: not a recorded answer ({type(error).__name__}: {error})") from None
        return records


def ask(questions: Sequence[Question], answers: AnswerFile, server: Endpoint | None, progress: Progress = SILENT) -> list[Answer]:
    """Return one answer a question: recorded ones from `answers`, the rest from `server` (None: `unanswered`).

    New answers are recorded as they come; time-outs, faults and invalid answers are not, so a later run asks again. Raises
    MissingBackendError when the server cannot be reached and UsageError when it refuses (wrong key, model or address).
    """
    found = [answers.get(question) for question in questions]
    open_ones = [question for question, answer in zip(questions, found, strict=True) if answer is None]
    if server is None or not open_ones:
        return [answer or Answer("unanswered", reason=f"not in {answers.path.name}") for answer in found]
    progress.note(f"sending {len(open_ones)} line crops to {server.url} ({len(questions) - len(open_ones)} already answered)")
    progress.start("asking", len(open_ones))

    def ask_and_record(question: Question) -> Answer:
        answer = _ask_one(question, server)
        if answer.status == "ok":
            answers.add(question, answer.text)
        return answer

    pool = ThreadPoolExecutor(server.workers)
    new: list[Answer] = []
    try:
        for answer in pool.map(ask_and_record, open_ones):
            new.append(answer)
            progress.advance()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        progress.finish()
    arrived = iter(new)
    return [answer or next(arrived) for answer in found]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Crops go to the host that the user named and to no other."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


def _ask_one(question: Question, server: Endpoint) -> Answer:
    answer = Answer("failed", reason="never asked")
    for attempt in range(server.tries):
        try:
            with _OPENER.open(_request(question, server), timeout=server.timeout_s) as response:
                answer = _parse(response.read())
            wait = 0.5
        except urllib.error.HTTPError as error:
            said = error.read(300).decode(errors="replace")
            if error.code < 500 and error.code not in _RETRIED:
                raise UsageError(f"{server.url} refuses: {error.code} {said.strip()}; check address, model and key") from None
            answer, wait = Answer("failed", reason=f"HTTP {error.code}"), _retry_after(error.headers)
        except (TimeoutError, urllib.error.URLError, OSError, ValueError) as error:
            cause = getattr(error, "reason", error)
            if isinstance(cause, TimeoutError):
                answer = Answer("timeout", reason=f"no answer in {server.timeout_s:g} s")
            elif isinstance(cause, ConnectionRefusedError):
                raise MissingBackendError(f"no server answers at {server.url}; start it, then run this again") from None
            elif isinstance(cause, OSError):
                answer = Answer("failed", reason=str(cause))
            else:
                answer = Answer("invalid", reason=str(cause))
            wait = 0.5
        if answer.status == "ok":
            return answer
        if attempt + 1 < server.tries:
            time.sleep(wait)
    return answer


def _request(question: Question, server: Endpoint) -> urllib.request.Request:
    import cv2

    _, png = cv2.imencode(".png", question.crop[..., ::-1])
    image = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode("ascii")
    content = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": image}}]
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "max_tokens": _MAX_TOKENS,
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {server.key}"} if server.key else {})
    url = server.url if server.url.endswith("/chat/completions") else f"{server.url}/chat/completions"
    return urllib.request.Request(url, json.dumps(body).encode(), headers)


def _parse(body: bytes) -> Answer:
    """Read a chat completion. An answer that was cut off or has several lines is not a reading of one line."""
    try:
        choice = json.loads(body)["choices"][0]
        text = choice["message"]["content"].strip()
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return Answer("invalid", reason=f"not a chat completion: {body[:120].decode(errors='replace')!r}")
    if choice.get("finish_reason") == "length":
        return Answer("invalid", reason=f"did not stop after {_MAX_TOKENS} tokens")
    if "\n" in text or not text:
        return Answer("invalid", reason=f"{len(text.splitlines())} lines instead of one")
    return Answer("ok", "" if text == _EMPTY else to_nfc(text))


def _retry_after(headers: Message) -> float:
    try:
        return min(_MAX_WAIT_S, max(0.0, float(headers.get("Retry-After") or 0.5)))
    except ValueError:  # a date
        return _MAX_WAIT_S
