"""The supervisor's end of its zygote: starts it, asks it for forks and kills, hears of deaths."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable

from turnwise.rollout.engine.processes import MARK, kill_marked
from turnwise.rollout.engine.wire import WorkerSpec, encode
from turnwise.rollout.engine.zygote import COMMAND, FORK, HELLO, KILL, REPORT, STARTED, UNFORKED

log = logging.getLogger(__name__)

FORKS_IN_FLIGHT = 16  # descriptors on their way count against the limit on open files
CLOSE_S = 5.0
# Ray kills the direct children of a worker that ends, which would leave no one to kill those below:
# the zygote is a grandchild, and ends by itself when its socket closes.
# No garbage collection before the forks: it would leave holes that each child fills with copies of its own.
_RUN = """
import gc, os, sys
gc.disable()
if os.fork():
    os._exit(0)
os.setsid()  # Ctrl-C in a terminal is for the driver
from turnwise.rollout.engine.zygote import main
sys.exit(main(sys.argv[1:]))
"""

# Numerical libraries start a thread per core at import, which a fork would not survive.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class ZygoteClient:
    """One zygote process and the socket to it. All methods are called on the event loop."""

    def __init__(
        self,
        spec: WorkerSpec,
        beats_fd: int,
        *,
        on_report: Callable[[bytes, int, int, bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        """Prepare a zygote for ``spec``.

        Args:
            spec: What its children run.
            beats_fd: Descriptor of the heartbeat table.
            on_report: Called with each report's kind, two numbers and text.
            on_lost: Called once when it is gone without :meth:`close`.
        """
        self._spec = spec
        self._beats_fd = beats_fd
        self._on_report = on_report
        self._on_lost = on_lost
        self._mark = secrets.token_hex(8)
        self._gone = asyncio.Event()
        self.pid = 0
        self._control: socket.socket | None = None
        self._received = b""
        self._waiting: deque[tuple[int, int, int]] = deque()
        self._in_flight = 0
        self._mourning: asyncio.Task[None] | None = None
        self.was_ready = False
        self._closing = False

    @property
    def ready(self) -> bool:
        """Whether it can fork now."""
        return self.was_ready and self._control is not None

    async def start(self) -> None:
        """Start the process; it reports ``HELLO`` or ``REFUSED`` when its imports are done."""
        ours, theirs = socket.socketpair()
        with theirs:
            await asyncio.to_thread(self._spawn, theirs.fileno())
        ours.setblocking(False)
        self._control = ours
        loop = asyncio.get_running_loop()
        data = encode(self._spec)
        await loop.sock_sendall(ours, struct.pack("<I", len(data)) + data)
        loop.add_reader(ours.fileno(), self._readable)

    def _spawn(self, control: int) -> None:
        # A module of the working directory must not shadow an installed one (from Python 3.11 on).
        env = {**os.environ, **_ONE_THREAD, MARK: self._mark, "PYTHONSAFEPATH": "1"}
        subprocess.run(
            [sys.executable, "-c", _RUN, str(control), str(self._beats_fd)],
            pass_fds=(control, self._beats_fd),
            stdin=subprocess.DEVNULL,
            env=env,
            check=True,
        )

    def fork(self, slot: int, sock: int, journal: int) -> None:
        """Ask for a child in ``slot``; takes over the descriptor ``sock``, only reads ``journal``."""
        self._waiting.append((slot, sock, journal))
        self._pump()

    def _pump(self) -> None:
        while self._control is not None and self._waiting and self._in_flight < FORKS_IN_FLIGHT:
            slot, sock, journal = self._waiting[0]
            try:
                socket.send_fds(self._control, [COMMAND.pack(FORK, slot, 0)], [sock, journal])
            except BlockingIOError:
                asyncio.get_running_loop().call_later(0.01, self._pump)
                return
            except OSError:
                return  # it is gone: its end of the socket says so
            os.close(sock)
            self._waiting.popleft()
            self._in_flight += 1

    def kill(self, pid: int) -> None:
        """Have a child killed; its death is reported like any other."""
        try:
            if self._control is not None:
                self._control.send(COMMAND.pack(KILL, 0, pid))
        except BlockingIOError:
            asyncio.get_running_loop().call_later(0.01, self.kill, pid)
        except OSError:
            return

    def _readable(self) -> None:
        if self._control is None:
            return
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._received += data
        while len(self._received) >= REPORT.size:
            kind, first, second, length = REPORT.unpack_from(self._received)
            end = REPORT.size + length
            if len(self._received) < end:
                return
            text = self._received[REPORT.size : end]
            self._received = self._received[end:]
            if kind in (STARTED, UNFORKED):
                self._in_flight -= 1
            if kind == HELLO:
                self._hello(first, second)
            self._on_report(kind, first, second, text)
        self._pump()

    def _hello(self, pid: int, threads: int) -> None:
        self.pid = pid
        self.was_ready = True
        if threads > 1:
            log.warning(
                "importing what %s needs started %d threads: a fork copies none of them, so start them in the "
                "environment's constructor instead",
                self._spec.env_id,
                threads - 1,
            )

    def _lost(self) -> None:
        """The zygote's end of the socket is closed: it is gone."""
        self._gone.set()
        self._hang_up()
        if not self._closing:
            self._mourning = asyncio.get_running_loop().create_task(self._mourn())

    async def _mourn(self) -> None:
        """Make sure that nothing is left of a zygote that died by itself, then tell."""
        await asyncio.to_thread(kill_marked, self._mark)
        self._on_lost()

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None
        for _, sock, _ in self._waiting:
            os.close(sock)
        self._waiting.clear()

    async def close(self) -> None:
        """End the zygote, which first kills all its children. Returns when it is gone."""
        self._closing = True
        if self._control is None:
            return
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_WR)
        try:
            await asyncio.wait_for(self._gone.wait(), CLOSE_S)
        except asyncio.TimeoutError:
            self._hang_up()
            await asyncio.to_thread(kill_marked, self._mark)
