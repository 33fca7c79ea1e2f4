"""What stands in front of every request: who may ask, for how much, and what browsers may load."""

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nordocr.serving.settings import ServeSettings

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

COOKIE = "nordocr_token"
OPEN_PATHS = ("/healthz",)

# The page is its own and only source; a document that was uploaded cannot run or load anything.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
        " connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


class BodyTooLargeError(Exception):
    """A request sent more bytes than it may."""


class Guard:
    """ASGI middleware: checks host, origin, token and size before the application sees a request.

    - Host must be a name under which the server answers; a name of somebody else's that points here
      (DNS rebinding) is refused.
    - Requests that change something must come from the page itself, if a browser sends them.
    - With a token, every request but /healthz carries it: as `Authorization: Bearer`, as `?token=`
      in the address (which sets a cookie), or as that cookie.
    - Bodies end at `max_bytes`, whatever their headers claim.
    """

    def __init__(self, app: App, settings: ServeSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one request; see the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refuse(send, *refusal)
            return

        await self._guarded(scope, receive, send)

    async def _guarded(self, scope: Message, receive: Receive, send: Send) -> None:
        """Run the application with counted bytes and the headers for browsers."""
        cookie = self._cookie_to_set(scope)
        received_bytes = 0
        answered = False

        async def counted_receive() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._settings.max_bytes:
                raise BodyTooLargeError
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal answered
            # The application answers a body that ended early with an error of its own.
            if received_bytes > self._settings.max_bytes:
                if not answered:
                    answered = True
                    await refuse(send, 413, "too-large", self._too_large())
                return
            if message["type"] == "http.response.start":
                answered = True
                headers = [*message["headers"], *_as_bytes(SECURITY_HEADERS)]
                if cookie:
                    headers.append((b"set-cookie", cookie.encode("latin-1")))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, counted_receive, guarded_send)
        except BodyTooLargeError:
            if not answered:
                await refuse(send, 413, "too-large", self._too_large())

    def _refusal(
        self, scope: Message, headers: dict[str, str]
    ) -> tuple[int, str, str] | None:
        """Return (status, code, message) for a request that is not let in."""
        host = _host_name(headers.get("host", ""))
        if self._settings.hosts and host not in self._settings.hosts:
            return 421, "host", f"this server does not answer for the host {host!r}"

        origin = headers.get("origin", "")
        changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and origin and _host_name(_netloc(origin)) != host:
            return 403, "origin", f"requests from {origin} are not accepted"

        if scope["path"] not in OPEN_PATHS and not self._has_token(scope, headers):
            return (
                401,
                "token",
                "send the token: Authorization: Bearer TOKEN, or ?token=TOKEN",
            )

        claimed = headers.get("content-length", "0")
        is_number = claimed.isascii() and claimed.isdigit() and len(claimed) < 20
        if not is_number or int(claimed) > self._settings.max_bytes:
            return 413, "too-large", self._too_large()
        return None

    def _too_large(self) -> str:
        limit_mb = self._settings.max_bytes >> 20
        return (
            f"a document may have at most {limit_mb} MB; send fewer pages or a smaller scan"
        )

    def _has_token(self, scope: Message, headers: dict[str, str]) -> bool:
        token = self._settings.token
        if not token:
            return True
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        sent = [bearer] if scheme.lower() == "bearer" else []
        sent += _query_token(scope)
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                sent.append(value)
        return any(hmac.compare_digest(one.encode(), token.encode()) for one in sent)

    def _cookie_to_set(self, scope: Message) -> str:
        """Return the cookie for a browser that came with the token in the address."""
        token = self._settings.token
        if not token or not _query_token(scope):
            return ""
        return f"{COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"


def _query_token(scope: Message) -> list[str]:
    return parse_qs(scope["query_string"].decode("latin-1")).get("token", [])


def _netloc(address: str) -> str:
    """Return the host and port of an address, "" for what is no address."""
    try:
        return urlsplit(address).netloc
    except ValueError:
        return ""


def _host_name(host: str) -> str:
    """Return a Host header without its port; an IPv6 address without its brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _as_bytes(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]


async def refuse(send: Send, status: int, code: str, message: str) -> None:
    """Answer with an error in the form that all errors of the interface have."""
    body = json.dumps({"error": {"code": code, "message": message, "hint": ""}}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    if status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*_as_bytes(headers), *_as_bytes(SECURITY_HEADERS)],
        }
    )
    await send({"type": "http.response.body", "body": body})
