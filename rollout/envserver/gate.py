"""What every request passes first: who may come in, from where, and with how much."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from turnwise.rollout.envserver.options import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_S = 30.0  # to send a whole body
OPEN_PATHS = ("/health",)


class Gate:
    """Token, origin and size of requests, looked at before anything is read into."""

    def __init__(self, app: ASGIApp, *, token: str | None, max_body_bytes: int) -> None:
        """Guard an application.

        Args:
            app: The application.
            token: What ``Authorization: Bearer`` must carry; None lets in whoever reaches the loopback address.
            max_body_bytes: Largest body.
        """
        self._app = app
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._max = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer why not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope["path"], headers)
        if scope["type"] == "websocket":
            if refusal is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
            return
        if refusal is None and scope["method"] in ("POST", "PUT", "PATCH"):
            body = await self._body(headers, receive)
            if isinstance(body, bytes):
                await self._app(scope, _replay(body, receive), send)
                return
            refusal = body
        if refusal is None:
            await self._app(scope, receive, send)
            return
        await _answer(refusal, send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
            return 403, "requests of other web sites are not answered", "FORBIDDEN"
        if self._expected is None:
            # A web site may give its own name the address 127.0.0.1, and would be of the same origin then.
            if not is_loopback(urlsplit(f"//{host}").hostname or ""):
                return (
                    403,
                    f"a server without a token answers to its loopback address only, got the host {host[:64]!r}",
                    "FORBIDDEN",
                )
            return None
        given = headers.get(b"authorization", b"")
        if path in OPEN_PATHS or secrets.compare_digest(given, self._expected):
            return None
        return 401, "send the server's token as 'Authorization: Bearer TOKEN'", "UNAUTHORIZED"

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | tuple[int, str, str]:
        too_large = (413, f"a body has at most {self._max} bytes", "TOO_LARGE")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max:
            return too_large
        try:
            body = await asyncio.wait_for(self._read(receive), BODY_S)
        except asyncio.TimeoutError:
            return 408, f"the body did not come within {BODY_S:g} s", "TIMEOUT"
        return too_large if body is None else body

    async def _read(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self._max:
                return None
            parts.append(part)
            if message["type"] != "http.request" or not message.get("more_body", False):
                return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Hand on a body that was read already, then what else comes."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


async def send_json(send: Send, status: int, body: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer an ASGI request with JSON."""
    typed = (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*typed, *headers]})
    await send({"type": "http.response.body", "body": body})


async def _answer(refusal: tuple[int, str, str], send: Send) -> None:
    status, message, code = refusal
    body = msgspec.json.encode({"error": {"code": code, "message": message}, "detail": message})
    await send_json(send, status, body, ((b"www-authenticate", b"Bearer"),) if status == 401 else ())
