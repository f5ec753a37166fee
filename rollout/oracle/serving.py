"""Running the served oracle: on one port of this machine, or as a Ray Serve application."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnwise.errors import ConfigError, MissingExtraError
from turnwise.records import Json
from turnwise.rollout.oracle.app import make_app
from turnwise.rollout.oracle.service import OracleService
from turnwise.rollout.oracle.settings import ServeSettings

if TYPE_CHECKING:
    import uvicorn

_BACKLOG = 4_096
_KEEP_ALIVE_S = 75


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What to serve, and to whom.

    Attributes:
        rewards: Configuration of the reward tree.
        env: Id of the world, or None.
        env_options: Its keyword arguments.
        tokenizer: Path of a tokenizer, or None.
        match: How a final answer is compared with the label.
        settings: Limits and deadlines.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        token: What callers must send, or None.
    """

    rewards: str | Path | Mapping[str, Json] | None = None
    env: str | None = None
    env_options: Mapping[str, Json] = field(default_factory=dict)
    tokenizer: str | None = None
    match: str = "exact"
    settings: ServeSettings = field(default_factory=ServeSettings)
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65_536:
            raise ConfigError(f"a port is in [0, 65535], got {self.port}")
        if self.token is not None and not self.token:
            raise ConfigError("the token is empty: give one, or none at all")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"{self.host!r} can be reached from other machines: give a token (--token, or TURNWISE_TOKEN in the "
                "environment), or listen on 127.0.0.1"
            )

    def service(self) -> OracleService:
        """Return a service, not started yet.

        Raises:
            ConfigError: The rewards, the world or the tokenizer are wrong.
        """
        return OracleService(
            self.rewards,
            env=self.env,
            env_options=self.env_options or None,
            tokenizer=self.tokenizer,
            match=self.match,
            settings=self.settings,
        )


def is_loopback(host: str) -> bool:
    """Return whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def serve(options: ServeOptions, *, started: Callable[[str], None] = lambda url: None) -> None:
    """Serve until interrupted.

    Args:
        options: What to serve.
        started: Called with the address once requests are answered.

    Raises:
        ConfigError: The configuration is wrong, or the port is taken.
        MissingExtraError: FastAPI or uvicorn is not installed.
    """
    try:
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtraError("uvicorn", "serve") from error
    service = options.service()
    app = make_app(service, token=options.token)
    listening = _listen(options.host, options.port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            timeout_keep_alive=_KEEP_ALIVE_S,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=5,
        )
    )
    loop = _new_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(service, server, listening, started))
    except KeyboardInterrupt:
        pass  # Ctrl-C, after a graceful end
    finally:
        listening.close()
        loop.close()


async def _serve(
    service: OracleService, server: uvicorn.Server, listening: socket.socket, started: Callable[[str], None]
) -> None:
    # Before uvicorn, whose own report of a start that fails is a traceback.
    await service.start()
    host, port = listening.getsockname()[:2]
    started(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    try:
        await server.serve(sockets=[listening])
    finally:
        await service.stop()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error}. Another --port, or 0 for a free one?") from error
    return listening


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:
        return asyncio.new_event_loop()
    made: Any = uvloop.new_event_loop()
    loop: asyncio.AbstractEventLoop = made
    return loop
