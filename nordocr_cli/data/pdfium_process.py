"""A process of its own for the PDFium of one document, with limited memory and processor time."""

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nordocr_cli
from nordocr_cli.errors import DataError, MissingBackendError
from nordocr_cli.limits import Limits

# Drawings of a page take a second at most.
SECONDS_A_REQUEST = 10.0
# To open a document, and to parse a page: streams, objects, fonts.
_PARSING_BYTES = 150 << 20
# To draw a page, for each pixel that a page may have: PDFium takes up to 19 bytes for a pixel of an
# image (JPEG 2000 in colour), and keeps every image and transparent group of the page.
_DRAWING_BYTES_PER_PIXEL = 20
_MAXIMUM_ANSWER = 64 << 20
# A page that takes too much memory ends its process after a second or less, and the next page gets
# another one. So many times: a document of such pages is not read to its end.
_MAXIMUM_LARGE_PAGES = 3
_CPU_SIGNAL = getattr(signal, "SIGXCPU", None)


class PdfiumProcess:
    """PDFium with one document open, in another process. May be shared by threads.

    Raises MissingBackendError without pypdfium2, DataError when the document cannot be opened.
    `where` names the document in messages.
    """

    def __init__(self, content: bytes, where: str, limits: Limits) -> None:
        self._content = content
        self._where = where
        self._limits = limits
        self._lock = threading.Lock()
        self._refusal = ""
        self._large_pages = 0
        self._page = -1
        self._is_swollen = False
        self._begin()

    def ask(self, where: str, **request: Any) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a request about a page, and the bytes of its bitmap; see
        `pdfium_child`. `where` names the page in messages.

        Raises DataError when the page is damaged or takes too much memory or time.
        """
        with self._lock:
            if self._refusal:
                raise DataError(f"{where}: {self._refusal}")
            if self._is_swollen and request["page"] != self._page:
                self._discard()
            if self._process is None or os.getpid() != self._owner:
                self._begin()  # it was ended, or this is a fork and the pipes are its parent's
            self._page = request["page"]
            return self._exchange(where, request)

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._has_answered = False
        try:
            process = subprocess.Popen(
                _command(self._where),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        except OSError as error:
            raise DataError(
                f"{self._where}: the process that reads PDF cannot be started ({error}); close"
                " other documents or programs"
            ) from error
        self._process: subprocess.Popen[bytes] | None = process
        weakref.finalize(self, _end, process, self._owner)
        size = len(self._content)
        request = {
            "bytes": size,
            "parsing_bytes": _PARSING_BYTES + 2 * size,
            "drawing_bytes": _PARSING_BYTES
            + 2 * size
            + _DRAWING_BYTES_PER_PIXEL * self._limits.max_pixels,
            "seconds": SECONDS_A_REQUEST,
        }
        answer, _ = self._exchange(self._where, request, self._content)
        self.page_count: int = answer["pages"]

    def _exchange(
        self, where: str, request: dict[str, Any], content: bytes = b""
    ) -> tuple[dict[str, Any], bytes]:
        try:
            answer, pixels = self._answer(request, content)
        except BaseException:
            # Ctrl-C, for example: the rest of the answer is still in the pipe.
            self._discard()
            raise
        if answer is None:
            raise self._ended(where)
        self._has_answered = True
        self._is_swollen = answer["is_swollen"]
        if "bug" in answer:
            raise RuntimeError(f"{where}: PDFium's process failed:\n{answer['bug']}")
        if "refused" in answer:
            raise self._refused(where, answer["refused"], answer["message"])
        return answer, pixels

    def _answer(
        self, request: dict[str, Any], content: bytes
    ) -> tuple[dict[str, Any] | None, bytes]:
        """Send a request; return the answer and its pixels, None where the process has ended."""
        assert self._process is not None
        requests = self._process.stdin
        answers = self._process.stdout
        assert requests is not None
        assert answers is not None
        with suppress(BrokenPipeError):  # it has ended: there is no answer either
            requests.write(json.dumps(request).encode() + b"\n" + content)
            requests.flush()
        line = answers.readline(_MAXIMUM_ANSWER)
        if not line.endswith(b"\n"):
            return None, b""
        answer = json.loads(line)
        size = answer.get("height", 0) * answer.get("stride", 0)
        pixels = answers.read(size)
        if len(pixels) < size:
            return None, b""
        return answer, pixels

    def _discard(self) -> None:
        """End the process; the next request gets another one."""
        if self._process is not None:
            _end(self._process, self._owner)
        self._process = None
        self._is_swollen = False

    def _refused(self, where: str, kind: str, message: str) -> DataError:
        if kind == "damaged" and "password" in message.lower():
            return DataError(
                f"{where}: the PDF cannot be opened ({message}); save it without a password"
            )
        if kind == "damaged":
            return DataError(f"{where}: damaged PDF ({message}); save the document again")
        if kind == "objects":
            return DataError(
                f"{where}: has more than {message} objects; print it to an image first"
            )
        if kind == "drawing":
            return DataError(
                f"{where}: cannot be drawn; print the document to images first"
            )
        if kind == "time":
            return self._too_slow(where)
        return self._too_large(where)

    def _ended(self, where: str) -> DataError:
        """The error for a process that ended without an answer."""
        assert self._process is not None
        code = self._process.wait()
        if code > 0 and not self._has_answered:
            raise RuntimeError(f"{where}: PDFium's process ended with code {code}")
        if _CPU_SIGNAL is not None and code == -_CPU_SIGNAL:
            return self._too_slow(where)
        return self._too_large(where)

    def _too_slow(self, where: str) -> DataError:
        """The error for a page that takes too long. The other pages are not tried, since each of
        them may take as long.
        """
        why = f"reading it takes more than {SECONDS_A_REQUEST:g} s"
        return self._stopped(where, why, is_last=True)

    def _too_large(self, where: str) -> DataError:
        """The error for a page that takes too much memory."""
        self._large_pages += 1
        why = "reading it takes too much memory, or PDFium fails on it"
        return self._stopped(where, why, is_last=self._large_pages >= _MAXIMUM_LARGE_PAGES)

    def _stopped(self, where: str, why: str, *, is_last: bool) -> DataError:
        """The error for a page that took too much, for whose sake the process was ended."""
        self._discard()
        if is_last:
            self._refusal = f"not read, since an earlier page failed ({why})"
        return DataError(f"{where}: {why}; print the document to images first")


def _command(where: str) -> Sequence[str]:
    """The command that starts the process. It imports what this process would import, and nothing
    from the working folder.
    """
    library = find_spec("pypdfium2")
    if library is None or library.origin is None:
        raise MissingBackendError(f"{where}: PDF needs pypdfium2; pip install pypdfium2")
    if not sys.executable:
        raise MissingBackendError(
            f"{where}: PDF needs the program python, which was not found"
        )
    own_folders = [
        str(Path(file).resolve().parents[1])
        for file in (nordocr_cli.__file__, library.origin)
    ]
    # Python passes over entries that are no text.
    given_folders = [folder for folder in sys.path if isinstance(folder, str) and folder]
    folders = [*own_folders, *given_folders]
    code = f"import sys; sys.path[:] = {folders!r}; "
    code += "from nordocr_cli.data.pdfium_child import main; main()"
    return (sys.executable, "-I", "-S", "-c", code)


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """End the process at once; only the process that started it does so."""
    if os.getpid() != owner:
        return
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()
