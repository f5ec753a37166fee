"""The processes of all sessions: forked from one zygote, watched, killed when they pass a deadline."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import msgspec

from turnwise.errors import EnvError, TransportError, TurnwiseError, error_of
from turnwise.records import Failure
from turnwise.rollout.engine import zygote
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.jobs import died, hung
from turnwise.rollout.engine.journal import FIRST_BYTES, Heartbeats, shared_file
from turnwise.rollout.engine.processes import allow_open_files
from turnwise.rollout.engine.watch import Watch
from turnwise.rollout.engine.wire import Phase, WorkerSpec
from turnwise.rollout.engine.zygote_client import ZygoteClient
from turnwise.rollout.envserver.frames import About, Answer, Begin, Question
from turnwise.rollout.envserver.process import SessionProcess

log = logging.getLogger(__name__)

TICK_S = 0.05
GRACE_S = 2.0  # for an environment to close itself
IMPORT_S = 60.0  # what a zygote may take to import everything, if the deadline for a boot is shorter
SLACK_S = 5.0  # on top of a question's deadlines, for a process that does not even begin
MAX_ZYGOTES = 5  # that die in a row without one session
EXTRA_SLOTS = 16  # for processes that are about to leave, and one that looks up tasks


class SessionPool:
    """Gives out environments, each in a process of its own, some of them made ahead."""

    def __init__(self, spec: WorkerSpec, *, sessions: int, spares: int) -> None:
        """Prepare a pool; nothing is started before :meth:`start`.

        Args:
            spec: What every process runs.
            sessions: How many environments may be in use at once.
            spares: How many are made ahead.
        """
        slots = 2 * sessions + spares + EXTRA_SLOTS
        self.spec = spec
        self.deadlines = spec.deadlines
        self._wanted_spares = spares
        self._beats = Heartbeats(slots)
        self._watch = Watch(spec.deadlines, self._beats)
        self._free = deque(range(slots))
        self._processes: dict[int, SessionProcess] = {}
        self._by_pid: dict[int, SessionProcess] = {}
        self._spares: deque[SessionProcess] = deque()
        self._refilling = False
        self._zygote: ZygoteClient | None = None
        self._ready = asyncio.Event()
        self._refused: Failure | None = None
        self._zygotes_lost = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def alive(self) -> bool:
        """Whether sessions can be begun."""
        return self._refused is None and self._ready.is_set() and not self._closing

    # -- what the server calls ---------------------------------------------------------------------

    async def start(self) -> About:
        """Start the zygote and the first environment; returns what the world says about itself.

        Raises:
            TurnwiseError: Its imports, its data or its constructor fail.
        """
        allow_open_files(3 * len(self._free) + 256)
        await self._start_zygote()
        await self._until_ready()
        self._spawn(self._keep_watch())
        first = await self.take()
        about = await first.booted(None)
        self._spares.append(first)
        return about

    async def take(self) -> SessionProcess:
        """Return a process with an environment in it, one made ahead if there is one.

        Raises:
            TurnwiseError: The environment cannot be made.
        """
        await self._until_ready()
        while self._spares:
            spare = self._spares.popleft()
            if not spare.gone:
                break
        else:
            spare = await self._fork()
        self._refill()
        try:
            await spare.booted(self._limit(self.deadlines.boot_s))
        except TurnwiseError:
            spare.hang_up()
            raise
        self._zygotes_lost = 0
        return spare

    async def ask(self, process: SessionProcess, question: Question) -> Answer:
        """Have a question answered within the deadlines.

        Raises:
            TurnwiseError: The process was killed or died, or answered a problem.
        """
        if isinstance(question, Begin):
            self._watch.episode_began(process.slot, time.monotonic())
        deadlines = self.deadlines
        # One question may reset and boot, or step and grade.
        both = [deadlines.boot_s, deadlines.step_s, deadlines.grade_s]
        limit = None if None in both else sum(seconds or 0.0 for seconds in both)
        return await process.ask(question, self._limit(limit))

    def episode_ended(self, process: SessionProcess) -> None:
        """Stop the clock of an episode."""
        self._watch.episode_ended(process.slot)

    def give_back(self, process: SessionProcess) -> None:
        """End a process: it may close its environment, but not for long."""
        if process.slot in self._processes:
            self._watch.episode_ended(process.slot)
            process.hang_up()
            asyncio.get_running_loop().call_later(GRACE_S, self._kill_again, process)

    async def close(self) -> None:
        """Let environments close, kill what does not, and return when all processes are gone."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for process in list(self._processes.values()):
            process.hang_up()
        if self._processes:
            await asyncio.wait([process.dead for process in self._processes.values()], timeout=GRACE_S)
        if self._zygote is not None:
            await self._zygote.close()
        for process in list(self._processes.values()):
            self._bury(process, TransportError("the server was shut down", kind="exit"))
        self._beats.close()

    # -- the zygote --------------------------------------------------------------------------------

    async def _start_zygote(self) -> None:
        client = ZygoteClient(self.spec, self._beats.fd, on_report=self._on_report, on_lost=self._on_zygote_lost)
        self._zygote = client
        await client.start()

    async def _until_ready(self) -> None:
        limit = self.deadlines.boot_s
        try:
            await asyncio.wait_for(self._ready.wait(), None if limit is None else max(limit, IMPORT_S))
        except asyncio.TimeoutError:
            raise EnvError(f"importing what {self.spec.env_id} needs takes too long", kind="boot") from None
        if self._refused is not None:
            raise error_of(self._refused.boundary, self._refused.message, kind=self._refused.kind)

    def _refuse(self, failure: Failure) -> None:
        self._refused = failure
        self._ready.set()

    def _on_zygote_lost(self) -> None:
        if self._closing or self._refused is not None:
            return
        if self._zygote is not None and not self._zygote.was_ready:
            message = f"the process that imports {self.spec.env_id} died; what it printed says why"
            self._refuse(Failure(boundary="env", kind="boot", message=message))
            return
        self._ready.clear()
        self._zygotes_lost += 1
        log.warning("the zygote was killed, and with it all sessions' processes")
        for process in list(self._processes.values()):
            self._bury(process, TransportError("the process from which sessions are forked was killed", kind="exit"))
        self._by_pid.clear()
        self._spares.clear()
        if self._zygotes_lost >= MAX_ZYGOTES:
            self._refuse(Failure(boundary="transport", kind="exit", message=f"{MAX_ZYGOTES} zygotes were killed"))
            return
        self._spawn(self._restart())

    async def _restart(self) -> None:
        try:
            await self._start_zygote()
        except (OSError, subprocess.SubprocessError) as error:
            self._refuse(Failure(boundary="transport", kind="exit", message=f"cannot start a zygote: {error}"))

    def _on_report(self, kind: bytes, first: int, second: int, text: bytes) -> None:
        if kind == zygote.HELLO:
            self._ready.set()
            self._refill()
        elif kind == zygote.REFUSED:
            self._refuse(msgspec.msgpack.decode(text, type=Failure))
        elif kind == zygote.STARTED:
            self._started(first, second)
        elif kind == zygote.UNFORKED:
            process = self._processes.get(first)
            if process is not None:
                self._bury(process, EnvError(f"cannot fork: {text.decode('utf-8', 'replace')}", kind="boot"))
        elif kind == zygote.DIED:
            process = self._by_pid.pop(first, None)
            if process is not None:
                self._bury(process, self._why(process, second))

    # -- processes ---------------------------------------------------------------------------------

    async def _fork(self) -> SessionProcess:
        if self._zygote is None or not self._free:
            raise TransportError("there is no room for another process: try again in a moment", kind="busy")
        slot = self._free.popleft()
        journal = -1
        try:
            journal = shared_file("turnwise-session", FIRST_BYTES)
            ours, theirs = socket.socketpair()
        except OSError as error:
            if journal >= 0:
                os.close(journal)
            self._free.append(slot)
            raise TransportError(f"there is no room for another process: {error}", kind="busy") from error
        process = SessionProcess(slot, journal, self._kill)
        self._processes[slot] = process
        ours.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: process, sock=ours)
        self._beats.booting(slot)
        self._zygote.fork(slot, theirs.detach(), journal)
        return process

    def _started(self, slot: int, pid: int) -> None:
        process = self._processes.get(slot)
        if process is None:
            return
        process.pid = pid
        self._by_pid[pid] = process
        if self._closing or process.cut is not None:
            self._kill(process)

    def _kill(self, process: SessionProcess) -> None:
        if process.cut is None:
            phase, turn, _ = self._beats.of(process.slot)
            late = self.deadlines.of(phase) < math.inf
            process.cut = hung(self.deadlines, phase, turn) if late else failed("env", "exit", "it was killed", None)
        if process.pid and self._zygote is not None:
            self._zygote.kill(process.pid)

    def _kill_again(self, process: SessionProcess) -> None:
        if process.pid in self._by_pid and self._by_pid[process.pid] is process:
            self._kill(process)

    def _why(self, process: SessionProcess, status: int) -> TurnwiseError:
        phase, turn, _ = self._beats.of(process.slot)
        failure = (process.cut or died(status, phase, turn)).failure
        if failure is None:
            return EnvError("the process was killed", kind="exit")
        return error_of(failure.boundary, failure.message, kind=failure.kind)

    def _bury(self, process: SessionProcess, error: TurnwiseError) -> None:
        """A process is gone: tell whoever waits for it, and free its place."""
        self._watch.episode_ended(process.slot)
        self._beats.rows["phase"][process.slot] = Phase.IDLE
        if self._processes.pop(process.slot, None) is process:
            self._free.append(process.slot)
            process.died(error, keep=self.spec.reward_config is not None)

    def _refill(self) -> None:
        if not self._closing and not self._refilling and len(self._spares) < self._wanted_spares:
            self._refilling = True
            self._spawn(self._make_spares())

    async def _make_spares(self) -> None:
        try:
            while self.alive and len(self._spares) < self._wanted_spares:
                self._spares.append(await self._fork())
        except TransportError as error:
            log.debug("no spare: %s", error)  # the next session will say so
        finally:
            self._refilling = False

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for slot, ending in self._watch.overdue(time.monotonic()):
                process = self._processes.get(slot)
                if process is not None and process.cut is None:
                    process.cut = ending
                    self._kill(process)

    def _limit(self, seconds: float | None) -> float | None:
        return None if seconds is None else seconds + SLACK_S

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
