#!/usr/bin/env python3
"""Is asking a vision-language model about lines bounded by the server? 448 crops, 8 workers.

    python benchmarks/vlm_speed.py

A server on this machine takes 0.5 s for each line, eight at a time; so many lines need that long at
least. What the client needs beyond that is its own.
"""

import json
import tempfile
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nordocr_cli import atomic
from nordocr_cli.compare.answers import AnswerFile, question
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.compare.vlm import ask
from nordocr_cli.data.manifest_lines import ManifestLines
from nordocr_cli.records import Box
from nordocr_cli.runtime.stopwatch import measurement_environment

RESULT = Path(__file__).parent / "results" / "vlm-speed.json"
DOCUMENT = Path(__file__).parents[1] / "samples" / "doc" / "dev_doc.json"
WORKERS, SECONDS_A_LINE = 8, 0.5
SLOTS = threading.Semaphore(WORKERS)


class Handler(BaseHTTPRequestHandler):
    """Answers every request with the same text."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Take as long as a model takes."""
        self.rfile.read(int(self.headers["Content-Length"]))
        with SLOTS:
            time.sleep(SECONDS_A_LINE)
        message = {"role": "assistant", "content": "Rad"}
        choice = {"message": message, "finish_reason": "stop"}
        answer = json.dumps({"choices": [choice], "usage": {}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Ask, print, save."""
    with ManifestLines(DOCUMENT) as lines:
        box = Box(0, 0, 90, 20)
        questions = [question(lines.image(index), 0, box) for index in range(len(lines))]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = Endpoint(f"http://127.0.0.1:{server.server_port}/v1", "m", workers=WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        began, spent = time.perf_counter(), time.process_time()
        ask(questions, AnswerFile(Path(folder) / "answers.jsonl", "m"), endpoint)
        seconds, processor = time.perf_counter() - began, time.process_time() - spent
    server.shutdown()
    bound = len(questions) / WORKERS * SECONDS_A_LINE
    result = {
        "what": "lines asked about through a server of 0.5 s a line, eight at a time",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": measurement_environment(None),
        "lines": len(questions),
        "seconds": round(seconds, 2),
        "seconds_of_the_server": bound,
        "processor_s_of_client_and_server": round(processor, 2),
    }
    print(json.dumps(result, indent=2))
    atomic.write_json(RESULT, result)


if __name__ == "__main__":
    main()
