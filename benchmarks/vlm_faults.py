"""Ask a faulty reader about many lines, killing the asker again and again: is a line lost, or asked
twice?

    python benchmarks/vlm_faults.py                     # 1,000 lines, 50 kills, 30 % faults: a
        quarter of an hour
    python benchmarks/vlm_faults.py --lines 48 --kills 3

A server on this machine speaks the protocol of vision-language models and reads the image that it
is sent: a share of the crops with Tesseract, the rest by looking up their pixels. Of its answers 30
% are a 429, a 503 in plain text, JSON that is cut off, or none before the time-out. `nordocr
compare3way` asks it with 8 workers and is killed (SIGKILL) in the midst of asking. Then one run
finishes. Checked: every line has its answer; no line is asked about again once its answer is on
disk; never more requests in flight than workers; the result is the very bytes of a run without
faults and kills.
"""

import argparse
import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from nordocr_cli.compare.answers import AnswerFile, enlarged
from nordocr_cli.data.documents import crop_box, read_pages
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.data.layouts.result_json import write_result
from nordocr_cli.data.resize import decode_image
from nordocr_cli.records import Box, Page, Region
from nordocr_cli.runtime.backends.tesseract.recognizer import TesseractRecognizer

ROOT = Path(__file__).resolve().parents[1]
TIFF, TRUTH = ROOT / "samples/doc/dev_doc.tif", ROOT / "samples/doc/dev_doc.json"
FAULTS = ("429", "503", "cut JSON", "time-out")
TIMEOUT_S = 8.0  # also a busy machine has read a crop by then
WORKERS = 8


class Reader(ThreadingHTTPServer):
    """Reads what it is sent; `faults` is the share of requests that go wrong."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        texts: dict[str, str],
        faults: float,
        tesseract_share: float,
        timeout_s: float,
        seed: int,
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.texts, self.faults, self.timeout_s = texts, faults, timeout_s
        self.random, self.lock, self.one_at_a_time = (
            random.Random(seed),
            threading.Lock(),
            threading.Lock(),
        )
        self.tesseract = TesseractRecognizer("swe", workers=1) if tesseract_share else None
        self.tesseract_share = tesseract_share
        self.asked: list[tuple[float, str]] = []  # when, and the crop's pixels
        self.failed: Counter[str] = Counter()
        self.read_before: dict[str, str] = {}
        self.in_flight: Counter[bytes] = Counter()
        self.most_in_flight = 0

    def handle_error(self, request: object, client_address: object) -> None:
        """The asker was killed while it was answered."""

    def read(self, png: bytes) -> tuple[str, str]:
        """Return the hash of a crop's pixels, and what stands on it."""
        crop = decode_image(png, "what was sent")
        pixels = pixels_of(crop)
        pixels = ORIGINALS.get(pixels, pixels)
        if self.tesseract and int(pixels[:8], 16) / 2**32 < self.tesseract_share:
            with self.one_at_a_time:
                # asked again because this took too long: do not do it twice
                if pixels not in self.read_before:
                    self.read_before[pixels] = self.tesseract.recognize([crop])[0].text
            return pixels, self.read_before[pixels] or "<EMPTY>"
        return pixels, self.texts[pixels] or "<EMPTY>"


# Small crops are enlarged before they are sent: hash of what is sent → hash of the crop itself.
ORIGINALS: dict[str, str] = {}


class Handler(BaseHTTPRequestHandler):
    """POST /v1/chat/completions."""

    server: Reader

    def do_POST(self) -> None:
        """Answer, or fail as a server does."""
        server = self.server
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        with server.lock:
            # a line that is asked about again while its first request still waits is one
            server.in_flight[sent] += 1
            server.most_in_flight = max(server.most_in_flight, len(+server.in_flight))
        try:
            text, fault = self._read(sent)
        finally:
            with server.lock:
                server.in_flight[sent] -= 1
        if fault == "time-out":
            time.sleep(self.server.timeout_s + 0.5)  # the asker has given up long before
        usage = {"prompt_tokens": 100, "completion_tokens": len(text) // 2 + 1}
        choice = {
            "message": {"role": "assistant", "content": text},
            "finish_reason": "stop",
        }
        answer = json.dumps({"choices": [choice], "usage": usage}).encode()
        code = {"429": 429, "503": 503}.get(fault, 200)
        answer = (
            b"upstream connect error" if code == 503 else b"{}" if code == 429 else answer
        )
        self.send_response(code)
        self.send_header("Content-Length", str(len(answer)))
        if code == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if fault == "cut JSON" else answer)

    def _read(self, sent: bytes) -> tuple[str, str]:
        """Return what stands on the image that was sent, and what is to go wrong ("": nothing)."""
        server = self.server
        body = json.loads(sent)
        image = body["messages"][0]["content"][1]["image_url"]["url"].removeprefix(
            "data:image/png;base64,"
        )
        pixels, text = server.read(base64.b64decode(image))
        with server.lock:
            server.asked.append((time.monotonic(), pixels))
            fault = (
                server.random.choice(FAULTS)
                if server.random.random() < server.faults
                else ""
            )
            if fault:
                server.failed[fault] += 1
        return text, fault

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def pixels_of(crop: np.ndarray) -> str:
    """Return the hash of a crop (height, width, 3)."""
    return hashlib.sha256(repr(crop.shape).encode() + crop.tobytes()).hexdigest()


def prepare(folder: Path, lines: int) -> dict[str, str]:
    """Write two engines' results of `lines` lines and return the text on each crop by its pixels.

    The document has 448 lines; further ones are the same lines cut a pixel or two larger, so each
    crop differs.
    """
    pages, document = read_layout(TRUTH).pages, read_pages(TIFF)
    grown: list[Page] = []
    texts: dict[str, str] = {}
    for page in pages:
        image, regions = document[page.index], []
        for by in range(-(-lines // sum(len(p.regions) for p in pages)) + 1):
            for region in page.regions:
                box = Box(
                    region.box.x - by,
                    region.box.y - by,
                    region.box.width + 2 * by,
                    region.box.height + 2 * by,
                )
                crop = crop_box(image, box)
                pixels = pixels_of(crop)
                ORIGINALS[pixels_of(enlarged(crop))] = pixels
                if pixels not in texts and len(texts) < lines * (page.index + 1) // len(
                    pages
                ):
                    texts[pixels] = region.text
                    regions.append(Region(box, region.text))
        grown.append(Page(page.index, tuple(regions)))
    write_result(folder / "a.json", grown)
    spaceless = [
        Page(p.index, tuple(Region(r.box, r.text.replace(" ", "")) for r in p.regions))
        for p in grown
    ]
    write_result(folder / "b.json", spaceless)
    return texts


def asker(folder: Path, url: str, timeout_s: float) -> "subprocess.Popen[bytes]":
    """Start one run of the command in `folder`."""
    command = [
        sys.executable,
        "-m",
        "nordocr_cli",
        "compare3way",
        TIFF,
        "--svtrv2",
        "../a.json",
        "--tess",
        "../b.json",
    ]
    command += [
        "--vlm-url",
        url,
        "--vlm-model",
        "reader",
        "--vlm-cache",
        "answers.jsonl",
        "--vlm-timeout",
        str(timeout_s),
    ]
    command += ["--workers", str(WORKERS), "-o", "out.json", "--quiet"]
    with open(folder / "log.txt", "ab") as log:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=environment,
        )


@dataclass
class Found:
    """What came of it. `lost` lines have no answer in the end; `repeated` were asked again with
    their answer on disk.
    """

    lines: int
    kills: int
    requests: int
    faults: dict[str, int]
    read_by_tesseract: int
    lost: int
    repeated: int
    asked_again_in_flight: int
    most_in_flight: int
    same_result: bool
    damaged_lines: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether all promises held."""
        return (
            not self.lost
            and not self.repeated
            and self.most_in_flight <= WORKERS
            and self.same_result
        )


def serve(
    texts: dict[str, str],
    faults: float,
    tesseract_share: float,
    timeout_s: float,
    seed: int,
) -> Reader:
    """Start a reader."""
    reader = Reader(texts, faults, tesseract_share, timeout_s, seed)
    threading.Thread(target=reader.serve_forever, args=(0.02,), daemon=True).start()
    return reader


def recorded(path: Path) -> set[str]:
    """Return the crops whose answers are complete on disk."""
    crops = set()
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with suppress(ValueError):
            crops.add(json.loads(line)["crop_sha256"])
    return crops


def _without_command(path: Path) -> dict[str, Any] | None:
    """Return a result but for its command, which names other files; None where there is none."""
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    result.pop("command", None)
    return result


def measure(
    folder: Path,
    lines: int,
    kills: int,
    *,
    faults: float = 0.3,
    tesseract_share: float = 0.1,
    timeout_s: float = TIMEOUT_S,
    seed: int = 1,
) -> Found:
    """Run it all in `folder`."""
    began = time.monotonic()
    texts = prepare(folder, lines)
    chance = random.Random(seed)
    reader = serve(texts, faults, tesseract_share, timeout_s, seed)
    url = f"http://127.0.0.1:{reader.server_port}/v1"
    torn, answers = folder / "torn", folder / "torn" / "answers.jsonl"
    torn.mkdir()
    on_disk: list[tuple[float, set[str]]] = []
    done = 0
    ended_by_itself = 0
    while done < kills:
        if ended_by_itself > 10 * kills:
            raise RuntimeError(
                f"the command ends before it can be killed: {torn / 'log.txt'}"
            )
        before, expected = (
            len(reader.asked),
            chance.randint(1, max(1, 2 * lines // (kills + 1))),
        )
        process = asker(torn, url, timeout_s)
        while process.poll() is None and len(reader.asked) < before + expected:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.02))
        if process.poll() is None:
            process.kill()
            done += 1
        else:
            ended_by_itself += 1
        process.wait()
        time.sleep(0.1)
        while +reader.in_flight:  # what was asked before the kill
            time.sleep(0.01)
        on_disk.append((time.monotonic(), recorded(answers)))
        if len(on_disk[-1][1]) == lines:
            break
    asker(torn, url, timeout_s).wait()
    reader.shutdown()

    repeated = {
        crop
        for at, crops in on_disk
        for when, crop in reader.asked
        if crop in crops and when > at
    }
    clean = folder / "clean"
    clean.mkdir()
    perfect = serve(texts, 0.0, tesseract_share, timeout_s, seed)
    asker(clean, f"http://127.0.0.1:{perfect.server_port}/v1", timeout_s).wait()
    perfect.shutdown()
    outputs = [_without_command(path) for path in (torn / "out.json", clean / "out.json")]
    asked = Counter(crop for _, crop in reader.asked)
    return Found(
        lines=lines,
        kills=done,
        requests=len(reader.asked),
        faults=dict(reader.failed),
        read_by_tesseract=len(reader.read_before),
        lost=len(set(texts) - recorded(answers)),
        repeated=len(repeated),
        asked_again_in_flight=asked.total() - len(asked) - reader.failed.total(),
        most_in_flight=reader.most_in_flight,
        same_result=outputs[0] is not None and outputs[0] == outputs[1],
        damaged_lines=AnswerFile(answers).damaged,
        seconds=round(time.monotonic() - began, 1),
    )


def main() -> None:
    """Measure, print and check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--faults", type=float, default=0.3)
    parser.add_argument("--tesseract-share", type=float, default=0.1)
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vlm-faults-") as folder:
        found = measure(
            Path(folder),
            given.lines,
            given.kills,
            faults=given.faults,
            tesseract_share=given.tesseract_share,
            timeout_s=given.timeout,
            seed=given.seed,
        )
    value = {
        "schema": "nordocr.vlm-faults/1",
        "workers": WORKERS,
        "timeout_s": given.timeout,
        **asdict(found),
    }
    print(json.dumps(value, indent=2))
    if given.output:
        given.output.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    sys.exit(0 if found.right else 1)


if __name__ == "__main__":
    main()
