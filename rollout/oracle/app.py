"""The oracle as an ASGI application: FastAPI for documentation and the small endpoints, raw ASGI for those that score.

The scoring endpoints check what they read with msgspec and never build a pydantic model: bodies are large.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import turnwise
from turnwise.errors import MissingExtraError
from turnwise.rollout.oracle import native
from turnwise.rollout.oracle.bodies import RejectedError
from turnwise.rollout.oracle.dialects import carr, nemo_gym, openrlhf, slime
from turnwise.rollout.oracle.exchange import JSON, Endpoint, Incoming, Receive, Reply, Send
from turnwise.rollout.oracle.openapi import document
from turnwise.rollout.oracle.schema import json_schema
from turnwise.rollout.oracle.service import OracleService
from turnwise.rollout.oracle.sessions import Sessions

if TYPE_CHECKING:
    from fastapi import FastAPI

_REALM = (("www-authenticate", "Bearer"),)


class Guard:
    """Lets through who has the token."""

    def __init__(self, token: str | None) -> None:
        """Ask for ``token``; None asks for none."""
        self._token = None if token is None else token.encode()

    def check(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Check a request: ``Authorization: Bearer``, ``X-API-Key``, or ``?token=`` for clients that know a URL only.

        Raises:
            RejectedError: 401 without the token.
        """
        if self._token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            given = headers.get("x-api-key", "")
        if not given and scope.get("query_string"):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token):
            raise RejectedError(401, "no_token", "send the server's token as 'Authorization: Bearer TOKEN'")


class ScoringRoute:
    """One scoring endpoint as a raw ASGI application."""

    def __init__(self, endpoint: Endpoint, service: OracleService, guard: Guard) -> None:
        """Answer ``endpoint`` with ``service``."""
        self._endpoint, self._service, self._guard = endpoint, service, guard

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.perf_counter()
        try:
            reply = await self._answer(scope, receive)
        except RejectedError as error:
            reply = Reply(error.encode(), status=error.status, headers=self._extra(error))
        try:
            await _send(reply, send)
        finally:
            self._service.metrics.request(self._endpoint.dialect, reply.status, time.perf_counter() - began)

    async def _answer(self, scope: Any, receive: Receive) -> Reply:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._guard.check(scope, headers)
        if scope["method"] != "POST":
            raise RejectedError(405, "method", f"{self._endpoint.path} takes POST, got {scope['method']}")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RejectedError(415, "encoding", "send the body as it is, without a Content-Encoding")
        kind = headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if not (kind == JSON or kind.endswith("+json")):
            raise RejectedError(415, "content_type", f"send Content-Type: {JSON}, got {kind[:80]!r}")
        body = await _read(headers, receive, self._service.settings.max_body_bytes)
        return await self._endpoint.answer(Incoming(body, headers), self._service)

    def _extra(self, error: RejectedError) -> tuple[tuple[str, str], ...]:
        if error.status == 429:
            return (("retry-after", str(self._service.settings.retry_after_s)),)
        if error.status == 405:
            return (("allow", "POST"),)
        return _REALM if error.status == 401 else ()


async def _read(headers: Mapping[str, str], receive: Receive, most: int) -> bytes:
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise RejectedError(413, "too_large", f"a body may have {most} bytes, got {length}")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RejectedError(499, "gone", "the client left before the body was complete")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise RejectedError(413, "too_large", f"a body may have {most} bytes, got more")
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(reply: Reply, send: Send) -> None:
    headers = [(b"content-type", reply.content_type.encode())]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in reply.headers]
    if reply.stream is None:
        headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if reply.stream is None:
        await send({"type": "http.response.body", "body": reply.body})
        return
    async for part in reply.stream:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def make_endpoints(service: OracleService) -> tuple[Endpoint, ...]:
    """Return every scoring endpoint of a service."""
    gym = nemo_gym.endpoints(Sessions(service.settings))
    return (*native.ENDPOINTS, *openrlhf.ENDPOINTS, *slime.ENDPOINTS, *carr.ENDPOINTS, *gym)


def make_app(service: OracleService, *, token: str | None = None) -> FastAPI:
    """Return the application; it starts the service's workers with itself, and ends them.

    Args:
        service: What to serve.
        token: What callers must send; None lets everyone in.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI
        from starlette.responses import Response
        from starlette.routing import BaseRoute, Route
    except ModuleNotFoundError as error:
        raise MissingExtraError("fastapi", "serve") from error

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    guard = Guard(token)
    endpoints = make_endpoints(service)
    routes: list[BaseRoute] = [Route(one.path, ScoringRoute(one, service, guard)) for one in endpoints]
    # FastAPI's own pages would be served without the token.
    app = FastAPI(
        title="turnwise oracle",
        version=turnwise.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        routes=routes,
    )
    for path, answer in _small(service, endpoints, token is not None).items():
        app.router.routes.append(Route(path, _small_route(path, answer, guard, Response), methods=["GET"]))
    app.openapi = lambda: document(endpoints, guarded=token is not None)  # type: ignore[method-assign]
    return app


def _small(service: OracleService, endpoints: Sequence[Endpoint], guarded: bool) -> dict[str, Any]:
    import msgspec
    from fastapi.openapi.docs import get_swagger_ui_html

    def health() -> tuple[bytes, str]:
        state = {
            "status": "ok" if service.pool.alive else "starting",
            "version": turnwise.__version__,
            "workers": service.pool.alive,
            "pending": service.pending,
            "rewards": service.oracle.tree.names,
            "components": service.oracle.shape.components,
            "env": None if service.oracle.world is None else service.oracle.world.env_id,
        }
        return msgspec.json.encode(state), JSON

    return {
        "/health": health,
        "/metrics": lambda: (service.metrics.text(), "text/plain; version=0.0.4"),
        "/v1/schema": lambda: (msgspec.json.encode(json_schema()), JSON),
        "/openapi.json": lambda: (msgspec.json.encode(document(endpoints, guarded=guarded)), JSON),
        "/docs": lambda: (get_swagger_ui_html(openapi_url="openapi.json", title="turnwise oracle").body, "text/html"),
    }


def _small_route(path: str, answer: Any, guard: Guard, response: Any) -> Any:
    async def route(request: Any) -> Any:
        if path != "/health":
            try:
                guard.check(request.scope, {name.lower(): value for name, value in request.headers.items()})
            except RejectedError as error:
                return response(error.encode(), status_code=error.status, media_type=JSON, headers=dict(_REALM))
        body, kind = answer()
        return response(body, media_type=kind)

    return route
