"""Download one archive: resumable, bounded, verified, and complete or not there at all."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from nordocr_cli.addresses import split_address
from nordocr_cli.atomic import make_folder
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.progress import SILENT, Progress

MAXIMUM_DOWNLOAD_BYTES = 50 << 30
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 30.0
_PARTIAL = 206


def download(
    url: str,
    target: Path,
    *,
    sha256: str = "",
    token: str = "",
    maximum_bytes: int = MAXIMUM_DOWNLOAD_BYTES,
    progress: Progress = SILENT,
) -> str:
    """Download `url` to `target` and return the SHA-256 of the file, in hex.

    What an interrupted call received is kept as `target.part` and continued. `token` is sent as
    bearer token to the named host only, never to a host that it redirects to. Plain HTTP is taken
    from this machine only. Raises UsageError for another kind of address, DataError when the server
    refuses, the file is too large, or its checksum is not `sha256`.
    """
    import httpx

    _require_address(url)
    part = target.with_name(target.name + ".part")
    make_folder(target.parent)
    received = part.stat().st_size if part.exists() else 0

    headers = {"Range": f"bytes={received}-"} if received else {}
    if token:
        # httpx drops this header when a redirect leads to another host.
        headers["Authorization"] = f"Bearer {token}"
    try:
        with (
            httpx.Client(
                follow_redirects=True, timeout=_TIMEOUT_S, trust_env=False
            ) as client,
            client.stream("GET", url, headers=headers) as response,
        ):
            _require_success(url, response.status_code)
            _require_address(str(response.url))
            is_continued = response.status_code == _PARTIAL
            length = int(response.headers.get("content-length", 0))
            total = length + received if is_continued else length
            _require_size(url, total, maximum_bytes)
            progress.start("download", total // _CHUNK_BYTES or None, "MiB")
            _write(
                response.iter_bytes(_CHUNK_BYTES),
                part,
                is_continued,
                maximum_bytes,
                progress,
            )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DataError(
            f"cannot download {url}: {type(error).__name__} {error}; what arrived is kept, the same"
            " command continues"
        ) from None
    finally:
        progress.finish()

    found = _sha256(part)
    if sha256 and found != sha256:
        part.unlink()
        raise DataError(
            f"{url} has sha256 {found}, but {sha256} is expected: the file was changed or damaged;"
            " nothing is kept"
        )
    part.replace(target)
    return found


def _require_address(url: str) -> None:
    parts = split_address(url, "the address")
    is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme == "https" or (parts.scheme == "http" and is_local):
        return
    raise UsageError(
        f"{url}: only https addresses are fetched (http from this machine alone)"
    )


def _require_success(url: str, status: int) -> None:
    if status in (200, _PARTIAL):
        return
    if status in (401, 403):
        hint = "; give a token with --token-env NAME"
    else:
        hint = ""
    raise DataError(f"{url}: the server answered {status}{hint}")


def _require_size(url: str, size: int, maximum_bytes: int) -> None:
    if size > maximum_bytes:
        raise DataError(f"{url} has {size:,} bytes; at most {maximum_bytes:,} are fetched")


def _write(
    chunks: Iterator[bytes],
    part: Path,
    is_continued: bool,
    maximum_bytes: int,
    progress: Progress,
) -> None:
    mode = "ab" if is_continued else "wb"
    try:
        with part.open(mode) as file:
            for chunk in chunks:
                file.write(chunk)
                if file.tell() > maximum_bytes:
                    raise DataError(f"more than {maximum_bytes:,} bytes arrived; stopped")
                progress.advance()
    except OSError as error:
        raise DataError(f"cannot write {part}: {error.strerror or error}") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
