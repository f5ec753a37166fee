"""The application: all protocols over the same sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import msgspec

from turnwise import __version__
from turnwise.errors import MissingExtraError
from turnwise.rollout.envserver.gate import Gate
from turnwise.rollout.envserver.mcp_endpoint import McpEndpoint
from turnwise.rollout.envserver.openenv import OpenEnvSocket
from turnwise.rollout.envserver.options import ServerOptions, make_spec
from turnwise.rollout.envserver.pool import SessionPool
from turnwise.rollout.envserver.routes import COOKIE, Call, Handler, Reply, Routes, guarded
from turnwise.rollout.envserver.sessions import Sessions


@asynccontextmanager
async def open_sessions(options: ServerOptions) -> AsyncIterator[Sessions]:
    """Start the processes of a server; when the block ends, none is left.

    Raises:
        TurnwiseError: The world, its options or the rewards are wrong, or the world cannot be made.
    """
    pool = SessionPool(make_spec(options), sessions=options.max_sessions, spares=options.spares)
    sessions = Sessions(pool, limit=options.max_sessions, idle_s=options.idle_s)
    try:
        await sessions.start()
        yield sessions
    finally:
        await sessions.close()


def make_app(sessions: Sessions, options: ServerOptions) -> Any:
    """Return the ASGI application.

    Args:
        sessions: Started sessions, see :func:`open_sessions`.
        options: The server's options.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    try:
        from fastapi import FastAPI
        from starlette.routing import Route, WebSocketRoute
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve") from error
    endpoint = McpEndpoint(sessions, idle_s=options.idle_s) if find_spec("mcp") is not None else None

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        if endpoint is None:
            yield
            return
        async with endpoint.running():
            yield

    title = f"turnwise: {options.env}"
    app = FastAPI(title=title, version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.router.routes.append(WebSocketRoute("/ws", OpenEnvSocket(sessions, max_chars=options.max_body_bytes)))
    if endpoint is not None:
        app.router.routes.append(Route("/mcp", endpoint, methods=["GET", "POST", "DELETE"]))
    for method, path, summary, handler in Routes(sessions, options).table():
        app.add_api_route(path, _endpoint(handler), methods=[method], summary=summary)
    app.add_middleware(Gate, token=options.token, max_body_bytes=options.max_body_bytes)
    return app


def _endpoint(handler: Handler) -> Any:
    """Carry a request to a handler and its reply back."""
    from fastapi import Request, Response

    async def answer(request: Any) -> Any:
        call = Call(body=await request.body(), cookie=request.cookies.get(COOKIE), path=dict(request.path_params))
        reply = await guarded(handler, call)
        response = Response(_encode(reply), reply.status, dict(reply.headers), media_type="application/json")
        if reply.cookie is not None:
            response.set_cookie(COOKIE, reply.cookie, httponly=True, samesite="strict")
        return response

    # By hand: under postponed evaluation FastAPI could not resolve a local import.
    answer.__annotations__ = {"request": Request}
    return answer


def _encode(reply: Reply) -> bytes:
    return msgspec.json.encode(reply.body)
