"""Questions about line crops, and the answers to them on disk."""

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from nordocr_cli.compare.reply import Answer, Reply, maximum_characters, read_reply
from nordocr_cli.data.layouts.result_json import box_to_json
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import MAX_TEXT_BYTES, read_regular
from nordocr_cli.records import Box
from nordocr_cli.runtime.protocols import Image

PROMPT = (
    "The image shows one line of a Nordic business document. Write out exactly what is printed,"
    " character for character: every space (also inside numbers such as 7 811 518), every dash,"
    " quote and letter (å ä ö æ ø ð þ). Correct, translate and complete nothing. Answer with the"
    " text alone, or with <EMPTY> when there is none; write \ufffd for a character that cannot be"
    " read."
)
PROMPT_SHA256 = hashlib.sha256(PROMPT.encode()).hexdigest()
# Servers refuse pictures with a side under 28 or 32 px, the patches of Qwen-VL.
MIN_SIDE_PX = 64
_MAX_WIDTH_PX = 4096  # of an enlarged crop
# The parameters of a request. Tokens are bounded by the crop's width: a model
# that repeats itself would otherwise go on to its own limit. No letter takes more than a token or
# two.
_TOKENS_MORE = 32
_TOKENS_PER_HEIGHT = 6
_MAXIMUM_TOKENS = 1024


@dataclass(frozen=True)
class Question:
    """One line crop as PNG, its pixels' hash and size, and its place in the document."""

    png: bytes
    crop_sha256: str
    height: int
    width: int
    page_index: int
    box: Box

    @property
    def params(self) -> dict[str, int]:
        """The parameters of the request: no randomness, and no more tokens than such a line can
        have.
        """
        tokens = _TOKENS_MORE + _TOKENS_PER_HEIGHT * -(-self.width // self.height)
        return {"temperature": 0, "seed": 1, "max_tokens": min(_MAXIMUM_TOKENS, tokens)}

    @property
    def maximum_characters(self) -> int:
        """A longer reading cannot be of this crop."""
        return maximum_characters(self.height, self.width)

    def key(self, model: str) -> str:
        """The key of an answer: these pixels, this model, prompt and parameters."""
        identity = [self.crop_sha256, model, PROMPT_SHA256, self.params]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def question(crop: Image, page_index: int, box: Box) -> Question:
    """Make a question of a crop, uint8 (height, width, 3) RGB. What is sent is at least MIN_SIDE_PX
    high and wide; hash and size are those of the crop itself.
    """
    import cv2

    _, png = cv2.imencode(".png", enlarged(crop)[..., ::-1])
    pixels = hashlib.sha256(repr(crop.shape).encode() + crop.tobytes()).hexdigest()
    return Question(png.tobytes(), pixels, crop.shape[0], crop.shape[1], page_index, box)


def enlarged(crop: Image) -> Image:
    """Return a crop of at least MIN_SIDE_PX a side, uint8 (height, width, 3): a low one enlarged,
    as far as its width allows, then padded with white at the right and bottom.
    """
    import cv2

    height, width = crop.shape[:2]
    scale = min(MIN_SIDE_PX / height, max(1.0, _MAX_WIDTH_PX / width))
    sent: Any = crop
    if scale > 1:
        size = round(width * scale), max(1, round(height * scale))
        sent = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
        width, height = size
    bottom = max(0, MIN_SIDE_PX - height)
    right = max(0, MIN_SIDE_PX - width)
    if bottom or right:
        white = (255, 255, 255)
        sent = cv2.copyMakeBorder(
            sent, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=white
        )
    return cast(Image, sent)


class AnswerFile:
    """Answers on disk as the server gave them: JSONL, one a line with its CRC, only ever appended
    to.

    Each is one write to a file opened for appending, so that neither threads nor a kill mix two of
    them. What a killed writer left of a line, and lines that are damaged, are skipped (`damaged`
    counts them) and requested again. Raises DataError for a file that holds no answer at all,
    UsageError when several models have answered and none is chosen.
    """

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path = path
        self.damaged = 0
        self._lock = threading.Lock()
        records, self._cut = self._load()
        models = {record["model"] for record in records}
        if model is None and len(models) > 1:
            raise UsageError(
                f"{path} holds answers of {', '.join(sorted(models))}; choose one with --vlm-model"
            )
        self.model = model or next(iter(models), "")
        self._replies = {
            r["key"]: Reply(**r["reply"]) for r in records if r["model"] == self.model
        }

    def __contains__(self, question: Question) -> bool:
        return question.key(self.model) in self._replies

    def has_any(self) -> bool:
        """Whether this model has ever answered."""
        return bool(self._replies)

    def get(self, question: Question) -> Answer:
        """Return the recorded answer; `unanswered` when there is none."""
        reply = self._replies.get(question.key(self.model))
        if reply:
            return read_reply(reply, question.maximum_characters)
        return Answer("unanswered", reason=f"not in {self.path.name}")

    def tokens(self, questions: Sequence[Question] | None = None) -> tuple[int, int, int]:
        """Return how many replies (to these questions; None: of this model) report their tokens,
        and the numbers of tokens in and out.
        """
        if questions is None:
            replies: list[Reply | None] = list(self._replies.values())
        else:
            replies = [self._replies.get(q.key(self.model)) for q in questions]
        counted = [
            (r.prompt_tokens, r.completion_tokens or 0)
            for r in replies
            if r and r.prompt_tokens is not None
        ]
        return (
            len(counted),
            sum(into for into, _ in counted),
            sum(out for _, out in counted),
        )

    def digest(self, questions: Sequence[Question]) -> str:
        """Return the SHA-256 of the replies to these questions, whatever their order in the file
        and whatever else is in it.
        """
        keys = {question.key(self.model) for question in questions}
        found = sorted(keys & self._replies.keys())
        replies = [[key, asdict(self._replies[key])] for key in found]
        return hashlib.sha256(json.dumps(replies).encode()).hexdigest()

    def add(self, question: Question, reply: Reply) -> None:
        """Append one reply. Raises DataError when it cannot be written."""
        record = {
            "key": question.key(self.model),
            "model": self.model,
            "prompt_sha256": PROMPT_SHA256,
            "params": question.params,
            "crop_sha256": question.crop_sha256,
            "page_index": question.page_index,
            "bbox": box_to_json(question.box),
            "reply": asdict(reply),
        }
        line = (
            json.dumps(record | {"crc32": _crc(record)}, ensure_ascii=False).encode(
                "utf-8", "surrogatepass"
            )
            + b"\n"
        )
        try:
            with self._lock:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(
                    self.path,
                    os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0),
                    0o666,
                )
                try:
                    # A line that was cut off is ended first, so that this record starts on a new
                    # line.
                    content = b"\n" + line if self._cut else line
                    self._cut = os.write(descriptor, content) != len(content)
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise DataError(
                f"cannot write {self.path}: {error.strerror or error}; the answers so far are kept"
            ) from error
        if self._cut:
            raise DataError(
                f"cannot write {self.path}: no disk space for the complete answer; the answers so"
                f" far are"
                " kept"
            )
        self._replies[str(record["key"])] = reply

    def _load(self) -> tuple[list[dict[str, Any]], bool]:
        """Return the complete records, and whether the last line was cut off."""
        if not self.path.exists():
            return [], False
        content = read_regular(self.path, MAX_TEXT_BYTES, "recording")
        *lines, rest = content.split(b"\n")
        found = [_record(line) for line in lines if line]
        self.damaged = found.count(None)
        records = [record for record in (*found, _record(rest)) if record is not None]
        if self.damaged and not records:
            raise DataError(f"{self.path} holds no recorded answer; is it the right file?")
        return records, bool(rest)


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record of an undamaged line, else None."""
    try:
        # A reply may hold half a surrogate pair, which parse_json refuses; the checksum below says
        # whether the line is one that this class wrote.
        record = json.loads(line)
        if record.pop("crc32") != _crc(record) or not isinstance(record["model"], str):
            return None
        Reply(**record["reply"])
        str(record["key"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record


def _crc(record: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(record, sort_keys=True).encode()):08x}"
