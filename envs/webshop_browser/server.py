"""The site's server: one per process, on loopback, in a thread of its own, for as long as somebody uses it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

from turnwise.envs.webshop_browser.sessions import Sessions
from turnwise.envs.webshop_browser.site import make_site
from turnwise.errors import MissingExtraError, SandboxError

_START_S = 30.0
_STOP_S = 10.0
_SHARED: dict[int, SiteServer] = {}
_LOCK = threading.Lock()


class SiteServer:
    """A server on a port of 127.0.0.1."""

    def __init__(self, *, port: int = 0) -> None:
        """Start serving.

        Args:
            port: The port; 0 takes a free one.

        Raises:
            MissingExtraError: FastAPI or uvicorn is not installed.
            SandboxError: It does not start.
        """
        try:
            import uvicorn
        except ImportError as error:
            raise MissingExtraError("uvicorn", "browser") from error
        self.sessions, self.users = Sessions(), 0
        app = make_site(self.sessions)
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", port))
        except OSError as error:
            self._socket.close()
            raise SandboxError(f"cannot serve on port {port}: {error}", kind="boot") from error
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, lifespan="off", ws="none", http="h11", loop="asyncio"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="turnwise-webshop-site", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise SandboxError("the shop's site does not start", kind="boot")
            time.sleep(0.005)

    def _run(self) -> None:
        with contextlib.suppress(SystemExit):  # how uvicorn says that it could not start
            self._server.run(sockets=[self._socket])

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self._socket.getsockname()[1]}"

    def address(self, token: str) -> str:
        """Return the address of a session's first page."""
        return f"http://{self.host}/{token}/0"

    @property
    def alive(self) -> bool:
        """Whether it serves."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop serving; may be called twice."""
        self._server.should_exit = True
        self._server.force_exit = True  # its clients are our own pages, which are gone
        self._thread.join(_STOP_S)
        self._socket.close()


def borrow_server() -> SiteServer:
    """Return this process's server, started if there is none; give it back with :func:`return_server`.

    Raises:
        MissingExtraError: FastAPI, uvicorn or jinja2 is not installed.
        SandboxError: It does not start.
    """
    with _LOCK:
        server = _SHARED.get(os.getpid())
        if server is None or not server.alive:
            server = _SHARED[os.getpid()] = SiteServer()
        server.users += 1
        return server


def return_server(server: SiteServer) -> None:
    """Give a borrowed server back; the last one ends it."""
    with _LOCK:
        server.users -= 1
        if server.users > 0:
            return
        if _SHARED.get(os.getpid()) is server:
            del _SHARED[os.getpid()]
    server.close()


@contextlib.contextmanager
def serving(*, port: int = 0) -> Iterator[SiteServer]:
    """Serve while the block runs, on a port of one's own."""
    server = SiteServer(port=port)
    try:
        yield server
    finally:
        server.close()
