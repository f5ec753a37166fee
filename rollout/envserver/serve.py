"""Run a server until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError
from turnwise.rollout.envserver.app import make_app, open_sessions
from turnwise.rollout.envserver.options import ServerOptions

SHUTDOWN_S = 5


def serve(options: ServerOptions, *, on_ready: Callable[[str], None] = lambda url: None) -> None:
    """Serve a world until SIGINT or SIGTERM; then no process of a session is left.

    Args:
        options: What to serve, and how.
        on_ready: Called with the server's address when sessions can be begun.

    Raises:
        ConfigError: The world, its options, the rewards or the address are wrong.
        MissingExtraError: FastAPI, uvicorn or websockets is not installed.
    """
    for module in ("fastapi", "uvicorn", "websockets"):
        try:
            __import__(module)
        except ImportError as error:
            raise MissingExtraError(module, "serve") from error
    asyncio.run(_serve(options, on_ready))


async def _serve(options: ServerOptions, on_ready: Callable[[str], None]) -> None:
    import uvicorn

    with _listen(options) as listening:
        async with open_sessions(options) as sessions:
            server = uvicorn.Server(config(make_app(sessions, options), options))
            host, port = listening.getsockname()[:2]
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
            telling = asyncio.get_running_loop().create_task(_tell(server, lambda: on_ready(url)))
            await server.serve(sockets=[listening])
            telling.cancel()


async def _tell(server: Any, on_ready: Callable[[], None]) -> None:
    while not server.started:  # noqa: ASYNC110 - uvicorn sets a flag and tells nobody
        await asyncio.sleep(0.01)
    on_ready()


def config(app: Any, options: ServerOptions) -> Any:
    """Return uvicorn's configuration."""
    import uvicorn

    return uvicorn.Config(
        app,
        log_level="warning",
        ws_max_size=options.max_body_bytes,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )


def _listen(options: ServerOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((options.host.strip("[]"), options.port))
    except OSError as error:
        listening.close()
        raise ConfigError(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from error
    return listening
