"""The server's end of one worker: its process, the socket to it, and the jobs it has."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from turnwise.rollout.engine.processes import kill_group
from turnwise.rollout.oracle.frames import HEAD, MAX_FRAME, Done, Job, Ping, Pong, Ready, Setup, frame, from_worker
from turnwise.rollout.oracle.schema import EvidenceLevel

TaskT = TypeVar("TaskT")
_BUFFER = 1 << 22
_PING_S = 1.0


class WorkerLink(asyncio.Protocol, Generic[TaskT]):
    """A worker as the server sees it.

    Attributes:
        jobs: Number to what the worker was given, oldest first.
        open: Whether it is ready.
        stalled: Whether it makes no progress, so that it gets nothing new.
        moved: When it last finished a job, or was given one while idle; on the event loop's clock.
        ready: Done when the worker is ready, with None; or with why it cannot be.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        on_done: Callable[[WorkerLink[TaskT], Done], None],
        on_ready: Callable[[WorkerLink[TaskT]], None],
        on_gone: Callable[[WorkerLink[TaskT]], None],
    ) -> None:
        """Start the process; must be called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._on_done, self._on_ready, self._on_gone = on_done, on_ready, on_gone
        self.jobs: dict[int, TaskT] = {}
        self._open = False
        self.stalled = False
        self.moved = self._loop.time()
        self.ready: asyncio.Future[str | None] = self._loop.create_future()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = [frame(setup)]
        self._pinged = self._heard = self.moved
        self._closed = False
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        command = [sys.executable, "-m", "turnwise.rollout.oracle.worker", str(theirs.fileno()), str(os.getpid())]
        self._process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        self._connecting = self._loop.create_task(self._connect(ours))

    async def _connect(self, end: socket.socket) -> None:
        end.setblocking(False)
        await self._loop.create_connection(lambda: self, sock=end)

    @property
    def open(self) -> bool:
        """Whether it takes jobs."""
        return self._open and not self.stalled and not self._closed

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what was held back."""
        if self._closed:
            transport.close()
            return
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass
        self._transport.writelines(self._unsent)
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Take frames out of what came in."""
        self._received += data
        start = 0
        while len(self._received) - start >= HEAD.size:
            (length,) = HEAD.unpack_from(self._received, start)
            if length > MAX_FRAME:
                self._lost()
                return
            end = start + HEAD.size + length
            if len(self._received) < end:
                break
            self._take(bytes(memoryview(self._received)[start + HEAD.size : end]))
            start = end
        del self._received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        """The worker ended, or was ended."""
        self._lost()

    # -- what the pool asks for --------------------------------------------------------------------

    def send_job(self, number: int, task: TaskT, kind: str, evidence: EvidenceLevel, payload: bytes) -> None:
        """Give it a job."""
        if not self.jobs:
            self.moved = self._loop.time()
            self._heard = self.moved
        self.jobs[number] = task
        self._write(frame(Job(number, kind, evidence, payload)))

    def silent_s(self, now: float) -> float:
        """Return for how long a worker with jobs has not said anything; asks it now and then."""
        if now - self._pinged > _PING_S:
            self._pinged = now
            self._write(frame(Ping(0)))
        return now - self._heard

    def close(self) -> None:
        """Kill the process with everything it started."""
        if self._closed:
            return
        self._closed = True
        self._connecting.cancel()
        if self._transport is not None:
            self._transport.abort()
        if not self.ready.done():
            self.ready.set_result("the worker was ended")
        _kill(self._process)

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            self._unsent.append(data)
        else:
            self._transport.write(data)

    def _take(self, body: bytes) -> None:
        self._heard = self._loop.time()
        message = from_worker.decode(body)
        if isinstance(message, Done):
            self.moved = self._heard
            self._on_done(self, message)
        elif isinstance(message, Ready):
            self._open = message.problem is None
            if not self.ready.done():
                self.ready.set_result(message.problem)
            if self._open:
                self._on_ready(self)
        elif not isinstance(message, Pong):
            self._lost()

    def _lost(self) -> None:
        if not self._closed:
            if not self.ready.done():
                self.ready.set_result(f"a worker ended before it was ready, with exit code {_exit_code(self._process)}")
            self._on_gone(self)


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(0.5)
    except subprocess.TimeoutExpired:
        return None


def _kill(process: subprocess.Popen[bytes]) -> None:
    kill_group(process.pid)
    # Killed processes are gone at once; the short wait keeps them from staying behind as zombies.
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        return
