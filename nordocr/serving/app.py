"""The HTTP interface: read a document, look at its pages, take it away as a file, correct it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, HTTPException, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as HttpError

from nordocr.reading import Reader, suffix_of_content
from nordocr.serving.corrections import Corrected, CorrectionStore
from nordocr.serving.guard import Guard
from nordocr.serving.library import Library, Stored, page_pixels
from nordocr.serving.settings import ServeSettings
from nordocr.serving.worker import QueueFullError, Worker
from nordocr_cli import __version__
from nordocr_cli.errors import DataError, NordocrError, UsageError
from nordocr_cli.printable import caption

_STATIC = Path(__file__).parent / "static"
_CHUNK_BYTES = 1 << 20
# The page is shown scaled down to this many pixels; boxes are given in pixels of the scan.
_SHOWN_SIDE_PX = 2_000
_RETRY_AFTER_S = "5"
_MEDIA_TYPES = {
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "alto": "application/xml",
    "hocr": "application/xhtml+xml",
    "pdf": "application/pdf",
}
_SUFFIXES = {"text": "txt", "alto": "alto.xml"}

Format = Literal["text", "json", "tsv", "alto", "hocr", "pdf"]


class BoxOut(BaseModel):
    """A box in pixels of the page; `x`, `y` is the top left corner."""

    x: float
    y: float
    width: float
    height: float


class WordOut(BaseModel):
    """A word of a line; `confidence` is between 0 and 1."""

    text: str
    confidence: float | None
    box: BoxOut


class LineOut(BaseModel):
    """A line of text; `confidence` is between 0 and 1."""

    text: str
    confidence: float | None
    box: BoxOut
    outline: list[tuple[float, float]]
    words: list[WordOut]


class PageOut(BaseModel):
    """A page; `error` says why it could not be read."""

    index: int | None
    height_px: int
    width_px: int
    lines: list[LineOut]
    error: str = ""
    doubts: list[str] = []


class DocumentOut(BaseModel):
    """A document that was read. `id` names it until the server forgets it."""

    id: str
    source: str
    pages: list[PageOut]


class LineIn(BaseModel):
    """What stands on a line; `page` and `line` count from 0."""

    page: int = Field(ge=0)
    line: int = Field(ge=0)
    text: str = Field(max_length=2_000)


class LinesIn(BaseModel):
    """Lines with texts that differ from what was read, or that a person has confirmed."""

    lines: list[LineIn] = Field(max_length=100_000)


class SavedOut(BaseModel):
    """Where corrected lines were saved, and how many the manifest has now."""

    manifest: str
    rows: int


class HealthOut(BaseModel):
    """The state of the server: the model it reads with and the number of requests in line."""

    status: Literal["ok"]
    version: str
    model: str
    waiting: int


class ErrorOut(BaseModel):
    """Why a request failed and what helps."""

    code: str
    message: str
    hint: str


class ErrorsOut(BaseModel):
    """The body of every answer with a status of 400 and above."""

    error: ErrorOut


def create_app(reader: Reader, settings: ServeSettings) -> FastAPI:
    """Return the application for an ASGI server; `reader` is used by one thread at a time."""
    library = Library(settings.kept)
    worker = Worker(settings.waiting)
    images = Worker(settings.waiting)  # pages can be looked at while others are read

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        worker.close()
        images.close()
        library.close()

    app = FastAPI(
        title="nordocr",
        version=__version__,
        description="Reads Nordic business documents: PDF, TIFF and images of pages.",
        docs_url=None,  # these pages load scripts from other hosts
        redoc_url=None,
        lifespan=lifespan,
        responses={"4XX": {"model": ErrorsOut}, "503": {"model": ErrorsOut}},
    )
    app.add_middleware(Guard, settings=settings)
    _answer_errors(app)

    @app.get("/healthz")
    async def healthz() -> HealthOut:
        """Tell that the server is up."""
        return HealthOut(
            status="ok",
            version=__version__,
            model=Path(reader.model).name,
            waiting=worker.jobs,
        )

    @app.post("/read")
    async def read(file: UploadFile) -> DocumentOut:
        """Read a PDF, TIFF or image, sent as the form field `file`."""
        path = await _store_upload(file, library)
        name = Path(file.filename or "document").name

        def job() -> Stored:
            document = reader.read(path, name=name)
            return library.add(name, path, document)

        try:
            kept = await worker.run(job)
        except BaseException:
            library.forget(path)
            raise
        return DocumentOut(**{**kept.document.to_json(), "id": kept.key, "source": name})

    _add_documents(app, library, images, CorrectionStore(settings.corrections))

    @app.get("/", include_in_schema=False, response_class=FileResponse)
    async def index() -> FileResponse:
        """Return the page."""
        return FileResponse(_STATIC / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    return app


def _add_documents(
    app: FastAPI, library: Library, images: Worker, store: CorrectionStore
) -> None:
    """Add what can be done with a document that was read: look at pages, download, correct."""

    def stored(key: str) -> Stored:
        found = library.get(key)
        if found is None:
            raise HTTPException(
                404, "no such document; the server keeps only the last ones"
            )
        return found

    @app.get("/documents/{key}/pages/{index}.png", response_class=Response)
    async def page(key: str, index: int) -> Response:
        """Return a page as PNG, scaled down to 2,000 pixels if it is larger."""
        document = stored(key)
        if not 0 <= index < len(document.document.pages):
            raise HTTPException(404, "no such page")
        content = await images.run(lambda: _page_png(document, index))
        return Response(content, media_type="image/png")

    @app.post("/documents/{key}/files/{format}", response_class=FileResponse)
    async def download(key: str, format: Format, lines: LinesIn) -> FileResponse:
        """Return the document as a file, with `lines` in place of what was read."""
        document = stored(key)
        suffix = _SUFFIXES.get(format, format)

        def job() -> Path:
            target = library.new_file(f".{suffix}")
            corrected = _with_corrections(document, lines)
            return corrected.save(target, format)

        target = await images.run(job)
        return FileResponse(
            target,
            media_type=_MEDIA_TYPES[format],
            filename=f"{Path(document.name).stem}.{suffix}",
            background=BackgroundTask(library.forget, target),
        )

    @app.post("/documents/{key}/corrections")
    async def corrections(key: str, lines: LinesIn) -> SavedOut:
        """Save lines as a manifest for `nordocr prep` and fine-tuning."""
        document = stored(key)
        corrected = [Corrected(line.page, line.line, line.text) for line in lines.lines]
        if not corrected:
            raise UsageError("no line was corrected or confirmed")
        rows = await images.run(lambda: store.save(document, corrected))
        return SavedOut(manifest=str(store.manifest), rows=rows)


def _answer_errors(app: FastAPI) -> None:
    """Give every failure the same form: {"error": {"code", "message", "hint"}}."""

    @app.exception_handler(NordocrError)
    async def expected(request: Request, error: NordocrError) -> JSONResponse:
        status = 422 if isinstance(error, DataError) else 400
        return _error(status, "data" if status == 422 else "usage", str(error), error.hint)

    @app.exception_handler(QueueFullError)
    async def full(request: Request, error: QueueFullError) -> JSONResponse:
        message = "too many documents wait to be read; try again in a few seconds"
        return _error(503, "busy", message, headers={"Retry-After": _RETRY_AFTER_S})

    # The class of which FastAPI's own is one: unknown addresses and damaged forms raise it.
    @app.exception_handler(HttpError)
    async def http(request: Request, error: HttpError) -> JSONResponse:
        return _error(error.status_code, "http", str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _error(422, "usage", _first_problem(error))


def _first_problem(error: RequestValidationError) -> str:
    """Where a request is wrong and how. What was sent is not repeated: it may hold numbers and
    characters that no answer can carry.
    """
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return caption(f"{where}: {problem['msg']}")


def _error(
    status: int,
    code: str,
    message: str,
    hint: str = "",
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    body = ErrorsOut(error=ErrorOut(code=code, message=message, hint=hint))
    return JSONResponse(body.model_dump(), status, headers)


async def _store_upload(file: UploadFile, library: Library) -> Path:
    """Write an upload to disk and return its path; the ending tells its kind.

    Raises DataError if it is no PDF, TIFF or image, or the disk is full.
    """
    first = await file.read(_CHUNK_BYTES)
    path = library.new_file(suffix_of_content(first))
    try:
        with path.open("wb") as target:
            chunk = first
            while chunk:
                target.write(chunk)
                chunk = await file.read(_CHUNK_BYTES)
    except OSError as error:
        library.forget(path)
        raise DataError(f"the document cannot be stored: {error.strerror}") from error
    return path


def _page_png(stored: Stored, index: int) -> bytes:
    import cv2

    page = cv2.cvtColor(page_pixels(stored, index), cv2.COLOR_RGB2BGR)
    scale = _SHOWN_SIDE_PX / max(page.shape[:2])
    if scale < 1:
        page = cv2.resize(page, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    done, content = cv2.imencode(".png", page)
    if not done:
        raise DataError(f"page {index + 1} cannot be written as PNG")
    return content.tobytes()


def _with_corrections(stored: Stored, lines: LinesIn) -> Any:
    changes = {(line.page, line.line): line.text for line in lines.lines}
    return stored.document.corrected(changes)
