"""The process in which PDFium opens one document; `PdfiumProcess` starts it and talks to it.

PDFium is a program of a million lines that interprets what a stranger wrote. A PDF of a kilobyte
can make it take gigabytes, draw for hours or crash. Here that ends this process only: it may take
so much memory and processor time, and the process that reads the document names the file.

A request is one line of JSON, and so is its answer; the pixels of a bitmap follow the answer. This
module is imported without the rest of the package, NumPy and OpenCV, so that it starts quickly.
"""

import ctypes
import json
import math
import os
import select
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pypdfium2

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RAW = pypdfium2.raw
_MAXIMUM_OBJECTS = 100_000  # looked at for images; a business page has hundreds
_STACK_BYTES = 256 << 10  # of a second thread, which counts as memory of PDFium
_STATUS = Path("/proc/self/status")  # Linux only
# PDFium leaves out an image for whose pixels it gets no memory. A page is refused when it came so
# close to the limit that this may have happened.
_MARGIN_PER_PIXEL = 4


class RefusedError(Exception):
    """Why a document or page cannot be read; `kind` is "damaged", "memory", "time", "objects" or
    "drawing".
    """

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind


def main() -> None:
    """Answer the requests on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the process that asked
    _end_with_the_other_process()
    requests = sys.stdin.buffer
    answers = sys.stdout.buffer
    document: _OpenDocument | None = None
    for line in iter(requests.readline, b""):
        request = json.loads(line)
        bitmap: pypdfium2.PdfBitmap | None = None
        try:
            if document is None:
                document = _OpenDocument(requests.read(request["bytes"]), request)
                answer: dict[str, Any] = {"pages": document.page_count}
            else:
                answer, bitmap = document.answer(request)
        except RefusedError as error:
            answer = {"refused": error.kind, "message": str(error)}
        except pypdfium2.PdfiumError as error:
            answer = {"refused": "damaged", "message": str(error)}
        except MemoryError:
            answer = {"refused": "memory", "message": ""}
        except Exception:  # noqa: BLE001 # a bug, which the other process reports
            answer = {"bug": traceback.format_exc()}
        answer["is_swollen"] = document is not None and document.is_swollen
        _send(answers, answer, bitmap)


def _end_with_the_other_process() -> None:
    """End this process as soon as the one that asks is gone, also in the middle of a page. The
    kernel's own signal for this comes when a thread ends, although its process goes on.
    """
    if not hasattr(select, "poll"):  # Windows
        return
    threading.stack_size(_STACK_BYTES)
    threading.Thread(target=_wait_for_hangup, daemon=True).start()


def _wait_for_hangup() -> None:
    watched = select.poll()
    # Without events only the end of the pipe is reported.
    watched.register(sys.stdin.fileno(), 0)
    watched.poll()
    os._exit(0)


def _send(
    answers: BinaryIO, answer: "Mapping[str, Any]", bitmap: "pypdfium2.PdfBitmap | None"
) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    if bitmap is not None:
        answers.write(memoryview(bitmap.buffer).cast("B"))
    answers.flush()


class _OpenDocument:
    """The document of this process, and the page that was requested last.

    To open it and to look at a page may take `parsing_bytes`: what a page holds is parsed then, and
    a small file may hold gigabytes. To draw one may take `drawing_bytes`, for the pixels of images.
    """

    def __init__(self, content: bytes, request: "Mapping[str, Any]") -> None:
        self._parsing_bytes: int = request["parsing_bytes"]
        self._drawing_bytes: int = request["drawing_bytes"]
        self._seconds: float = request["seconds"]
        _limit("RLIMIT_CORE", 0)  # a crash leaves no file
        _limit("RLIMIT_DATA", self._parsing_bytes)
        self._limit_time()
        self._document = pypdfium2.PdfDocument(content)
        self.page_count = len(self._document)
        self._document.init_forms()
        self._page: pypdfium2.PdfPage | None = None
        self._page_index = -1
        self._largest_pixels = 0

    @property
    def is_swollen(self) -> bool:
        """Whether this process has taken more than another page may take to be parsed. It keeps
        some of it, so the next page needs another process.
        """
        peak = _peak_bytes()
        if peak is None:
            return sys.platform == "linux"  # other systems limit nothing
        return peak > self._parsing_bytes

    def answer(
        self, request: "Mapping[str, Any]"
    ) -> "tuple[dict[str, Any], pypdfium2.PdfBitmap | None]":
        """Return the answer to a request about a page, and the bitmap that follows it."""
        self._limit_time()
        page = self._opened(request["page"])
        requested = request["do"]
        if requested == "size":
            return {"size": page.get_size()}, None
        if requested == "look":
            return self._look(page), None
        maximum = _limit("RLIMIT_DATA", self._drawing_bytes)
        if requested == "scan":
            bitmap = _only_image(page).get_bitmap()
            return _form_of(bitmap), bitmap
        bitmap = self._draw(page, request["height"], request["width"])
        if requested == "draw":  # a thumbnail is only compared
            self._require_memory(maximum)
        return _form_of(bitmap), bitmap

    def _limit_time(self) -> None:
        """Let the kernel end this process some seconds of processor time from now."""
        _limit("RLIMIT_CPU", math.ceil(time.process_time() + self._seconds))

    def _opened(self, index: int) -> "pypdfium2.PdfPage":
        if self._page is None or index != self._page_index:
            if self._page is not None:
                self._page.close()
            self._page = None
            self._largest_pixels = 0
            _limit("RLIMIT_DATA", self._parsing_bytes)
            self._page = self._document[index]
            self._page_index = index
        return self._page

    def _look(self, page: "pypdfium2.PdfPage") -> dict[str, Any]:
        """What a page consists of: its images, and how many other objects."""
        images: list[pypdfium2.PdfImage] = []
        other_objects = 0
        for item in _objects(page):
            if item.type == _RAW.FPDF_PAGEOBJ_IMAGE:
                images.append(item)
            elif item.type != _RAW.FPDF_PAGEOBJ_FORM:
                # What a form holds is listed after it.
                other_objects += 1
        sizes = [image.get_px_size() for image in images]
        self._largest_pixels = max((width * height for width, height in sizes), default=0)
        answer: dict[str, Any] = {
            "size": page.get_size(),
            "rotation": page.get_rotation(),
            "images": sizes,
            "other_objects": other_objects,
        }
        if len(images) == 1:
            answer["matrix"] = images[0].get_matrix().get()
            answer["bounds"] = images[0].get_bounds()
        return answer

    def _draw(
        self, page: "pypdfium2.PdfPage", height: int, width: int
    ) -> "pypdfium2.PdfBitmap":
        self._largest_pixels = max(self._largest_pixels, height * width)
        bitmap = pypdfium2.PdfBitmap.new_native(width, height, _RAW.FPDFBitmap_BGR)
        bitmap.fill_rect((255, 255, 255, 255), 0, 0, width, height)
        deadline = _Deadline(self._seconds)
        status = _RAW.FPDF_RenderPageBitmap_Start(
            *(bitmap, page, 0, 0, width, height, 0, _RAW.FPDF_ANNOT),
            ctypes.byref(deadline.pause),
        )
        _RAW.FPDF_RenderPage_Close(page)
        if status == _RAW.FPDF_RENDER_TOBECONTINUED:
            raise RefusedError("time")
        if status != _RAW.FPDF_RENDER_DONE:
            raise RefusedError("drawing")
        if self._document.formenv:
            _RAW.FPDF_FFLDraw(
                *(self._document.formenv, bitmap, page, 0, 0, width, height, 0),
                _RAW.FPDF_ANNOT,
            )
        return bitmap

    def _require_memory(self, maximum: int) -> None:
        margin = _MARGIN_PER_PIXEL * self._largest_pixels
        if (_peak_bytes() or 0) + margin > maximum:
            raise RefusedError("memory")


class _Deadline:
    """Tells PDFium to stop drawing when this process has computed for some seconds. The kernel's
    limit ends what PDFium does without looking here.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.process_time() + seconds
        kind = dict(_RAW.IFSDK_PAUSE._fields_)["NeedToPauseNow"]
        self._callback = kind(lambda _: int(self.is_over))  # kept, for PDFium calls it
        self.pause = _RAW.IFSDK_PAUSE(version=1, NeedToPauseNow=self._callback, user=None)

    @property
    def is_over(self) -> bool:
        return time.process_time() > self._end


def _objects(page: "pypdfium2.PdfPage") -> "Iterator[pypdfium2.PdfObject]":
    for number, item in enumerate(page.get_objects(), start=1):
        if number > _MAXIMUM_OBJECTS:
            raise RefusedError("objects", f"{_MAXIMUM_OBJECTS:,}")
        yield item


def _only_image(page: "pypdfium2.PdfPage") -> "pypdfium2.PdfImage":
    images = (item for item in _objects(page) if item.type == _RAW.FPDF_PAGEOBJ_IMAGE)
    return next(images)


def _form_of(bitmap: "pypdfium2.PdfBitmap") -> dict[str, int]:
    """What is needed to read the bytes of a bitmap: sides and row length in pixels and bytes."""
    return {
        "height": bitmap.height,
        "width": bitmap.width,
        "stride": bitmap.stride,
        "channels": bitmap.n_channels,
    }


def _limit(name: str, maximum: int) -> int:
    """Let the kernel limit what this process takes of a resource, such as "RLIMIT_DATA". Return the
    limit that holds: the user may have set a lower one, which only root can raise.
    """
    try:
        import resource
    except ImportError:  # Windows
        return maximum
    kind = getattr(resource, name)
    _, highest = resource.getrlimit(kind)
    if highest != resource.RLIM_INFINITY:
        maximum = min(maximum, highest)
    resource.setrlimit(kind, (maximum, highest))
    return maximum


def _peak_bytes() -> int | None:
    """The most memory that this process has taken so far; None where the system does not tell."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(found[0]) << 10 if found else None
