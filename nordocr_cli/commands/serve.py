"""`nordocr serve`: a page and an HTTP interface for reading documents."""

import re
import secrets
from pathlib import Path
from typing import Annotated

import typer

from nordocr_cli import options
from nordocr_cli.console import Console
from nordocr_cli.errors import UsageError
from nordocr_cli.variables import TOKEN

_TOKEN_CHARACTERS = re.compile(r"[A-Za-z0-9_-]{16,}")


def serve(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Beyond loopback a token is required.",
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8765,
    model: options.OptionalModel = None,
    corrections: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where corrected lines are saved as a manifest."),
    ] = Path("corrections"),
    token: Annotated[
        str,
        typer.Option(
            metavar="TOKEN",
            envvar=TOKEN.name,
            show_default=False,
            help="Token that clients must send. Beyond loopback one is generated if none is given.",
        ),
    ] = "",
    max_mb: Annotated[
        int, typer.Option("--max-mb", min=1, metavar="MB", help="Largest document.")
    ] = 50,
    max_pages: Annotated[
        int,
        typer.Option(
            "--max-pages", min=1, metavar="N", help="Maximum number of pages of a document."
        ),
    ] = 200,
    waiting: Annotated[
        int,
        typer.Option(
            "--queue",
            min=1,
            metavar="N",
            help="Maximum number of waiting requests; more get 503.",
        ),
    ] = 256,
    device: options.Device = "auto",
    threads: options.Threads = None,
    as_json: options.Json = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = 0,
) -> None:
    """Serve a page on which documents are dropped, read, corrected and downloaded.

    The page loads nothing from other hosts. POST /read takes a document as the form field `file`,
    /openapi.json describes every request, /healthz answers while the server is up. On loopback
    (the default) no token is needed. Ctrl-C ends it.

    Example: nordocr serve --corrections corrections/
    """
    from nordocr_cli.extras import missing

    console = Console(quiet=quiet, verbose=verbose, as_json=as_json)
    is_loopback = host in ("127.0.0.1", "localhost", "::1")
    if token and not _TOKEN_CHARACTERS.fullmatch(token):
        raise UsageError(
            f"--token ({TOKEN.name}): at least 16 of the characters A-Z a-z 0-9 _ -; make one:"
            ' python3 -c "import secrets; print(secrets.token_urlsafe())"'
        )
    if dry_run:
        plan = {
            "host": host,
            "port": port,
            "model": model or "nordocr-default",
            "corrections": str(corrections),
            "token_required": bool(token) or not is_loopback,
            "max_mb": max_mb,
            "max_pages": max_pages,
            "queue": waiting,
        }
        options.show_plan(console, plan)
        return

    try:
        import uvicorn

        from nordocr.serving import ServeSettings, create_app
    except ImportError as error:
        if error.name not in ("fastapi", "uvicorn", "starlette", "python_multipart"):
            raise
        raise missing("fastapi", "nordocr serve") from error
    from nordocr.reading import Reader

    if not token and not is_loopback:
        token = secrets.token_urlsafe()
    reader = Reader(model, device=device, threads=threads, max_pages=max_pages)
    settings = ServeSettings(
        corrections=corrections,
        token=token,
        # With a token, a foreign page that points a name here still lacks the token.
        hosts=() if token else ("127.0.0.1", "localhost", "::1"),
        max_bytes=max_mb << 20,
        waiting=waiting,
    )
    shown_host = f"[{host}]" if ":" in host else host
    address = f"http://{shown_host}:{port}/" + (f"?token={token}" if token else "")
    console.note(
        f"nordocr reads with {Path(reader.model).name}: {address}  (Ctrl-C ends it)"
    )
    uvicorn.run(
        create_app(reader, settings),
        host=host,
        port=port,
        log_level="info" if verbose else "warning",
        access_log=bool(verbose),
        server_header=False,
    )
