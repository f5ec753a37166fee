"""The supervisor: keeps the slots of one worker busy and kills what passes its deadline.

One per worker, on that worker's event loop, which it never blocks. Each slot is a process of its own,
so a world that hangs, dies or eats its memory costs its own episode and no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from turnwise.errors import Boundary
from turnwise.records import Ending, Failure
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine import zygote
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.jobs import Job, died
from turnwise.rollout.engine.journal import Heartbeats, read_journal
from turnwise.rollout.engine.processes import allow_open_files, describe_exit
from turnwise.rollout.engine.slot_child import DONE, LEAVING, READY, UNBOOTABLE
from turnwise.rollout.engine.slots import Slot, SlotState, SlotTable
from turnwise.rollout.engine.watch import Watch
from turnwise.rollout.engine.wire import EpisodeEnd, Phase, WorkerSpec
from turnwise.rollout.engine.zygote_client import ZygoteClient
from turnwise.rollout.policy.gateway import Gateway, Replica

log = logging.getLogger(__name__)

TICK_S = 0.05
LINGER_S = 0.02  # after the first result: short episodes come back in batches, and a call is not free
GRACE_S = 2.0
IMPORT_S = 60.0  # what a zygote may take to import everything, if the deadline for a boot is shorter
MAX_LOST = 3  # times an episode may be lost with a process that is not its own
MAX_ZYGOTES = 5  # that die in a row without one finished episode


class Supervisor:
    """Runs the episodes of one worker in child processes."""

    def __init__(self, spec: WorkerSpec, policy: Sequence[Replica] = ()) -> None:
        """Prepare a worker; nothing is started before :meth:`start`.

        Args:
            spec: What its episodes are.
            policy: Replicas of the policy behind the agent; none where the agent has no model.
        """
        self.spec = spec
        self._gateway = Gateway(policy) if policy else None
        self.fatal: Failure | None = None
        self._slots = SlotTable(spec.slots, self._heard)
        self._queue: deque[Job] = deque()
        self._results: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()
        self._beats = Heartbeats(spec.slots)
        self._watch = Watch(spec.deadlines, self._beats)
        self._zygote: ZygoteClient | None = None
        self._zygotes_lost = 0
        self._boots_failed = 0
        self._boot_after = 0.0
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the worker calls -------------------------------------------------------------------

    async def start(self) -> None:
        """Start the gateway, the zygote and the watch."""
        allow_open_files((3 if self._gateway is None else 4) * self.spec.slots + 256)
        if self._gateway is not None:
            await self._gateway.start()
            self.spec = msgspec.structs.replace(self.spec, policy_socket=self._gateway.path)
        self._spawn(self._keep_watch())
        await self._start_zygote()

    def submit(self, requests: Iterable[tuple[str, bytes]]) -> None:
        """Queue episodes, each an id and an encoded request."""
        self._queue.extend(Job(id=name, request=request) for name, request in requests)
        self._dispatch()

    async def collect(self, max_wait: float) -> list[tuple[str, bytes]]:
        """Return the finished episodes, each an id and its journal entries.

        Waits until there is one, at most ``max_wait`` seconds, or until there is a :attr:`fatal`.
        """
        if not self._results and self.fatal is None:
            self._news.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._news.wait(), max_wait)
                await asyncio.sleep(LINGER_S)
        results, self._results = self._results, []
        return results

    async def close(self) -> None:
        """Let idle children close their environments, kill the others, and return when all are gone."""
        self._closing = True
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        for slot in self._slots.listed(SlotState.READY):
            self._slots.hang_up(slot)
        for slot in self._slots.listed(SlotState.BUSY, SlotState.BOOTING):
            self._kill(slot)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._slots.all_gone.wait(), GRACE_S)
        if self._zygote is not None:
            await self._zygote.close()
        if self._gateway is not None:
            await self._gateway.close()
        for slot in self._slots.all:
            self._vacate(slot)
        self._beats.close()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- the zygote ------------------------------------------------------------------------------

    async def _start_zygote(self) -> None:
        client = ZygoteClient(self.spec, self._beats.fd, on_report=self._on_report, on_lost=self._on_zygote_lost)
        self._zygote = client
        await client.start()
        limit = self.spec.deadlines.boot_s
        if limit is not None:
            limit = max(limit, IMPORT_S)
            asyncio.get_running_loop().call_later(limit, self._expect_ready, client, limit)

    def _expect_ready(self, client: ZygoteClient, limit: float) -> None:
        if client is self._zygote and not client.ready and not self._closing:
            self._give_up("env", f"importing what {self.spec.env_id} needs took more than {limit:g} s")

    def _on_zygote_lost(self) -> None:
        if self._closing or self.fatal is not None:
            return
        if self._zygote is not None and not self._zygote.was_ready:
            self._give_up("env", f"the process that imports {self.spec.env_id} died; what it printed says why")
            return
        self._zygotes_lost += 1
        log.warning("the zygote was killed: what it was playing starts again")
        for slot in self._slots.all:
            self._slots.listen(slot)  # it may have finished its episode just before
            if slot.job is not None and slot.cut is not None:
                self._end_cut(slot.job, slot.cut, read_journal(slot.journal))
            elif slot.job is not None:
                self._requeue(slot.job, "the zygote was killed")
            self._vacate(slot)
        self._slots.all_died()
        if self._zygotes_lost >= MAX_ZYGOTES:
            self._give_up("transport", f"{MAX_ZYGOTES} zygotes in a row were killed", kind="exit")
            return
        self._spawn(self._restart_zygote())

    async def _restart_zygote(self) -> None:
        try:
            await self._start_zygote()
        except (OSError, subprocess.SubprocessError) as error:
            self._give_up("transport", f"cannot start a zygote: {error}", kind="exit")

    def _on_report(self, kind: bytes, first: int, second: int, text: bytes) -> None:
        if kind == zygote.HELLO:
            self._dispatch()
        elif kind == zygote.REFUSED:
            failure = msgspec.msgpack.decode(text, type=Failure)
            self._give_up(failure.boundary, failure.message)
        elif kind == zygote.STARTED:
            slot = self._slots.all[first]
            self._slots.started(slot, second)
            if self._closing:
                self._kill(slot)
        elif kind == zygote.UNFORKED:
            self._vacate(self._slots.all[first])
            self._boot_failed("env", f"cannot fork: {text.decode('utf-8', 'replace')}")
        elif kind == zygote.DIED:
            dead = self._slots.died(first)
            if dead is not None:
                self._bury(dead, second)

    # -- slots -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give jobs to ready slots, and start as many children as the rest of the queue needs."""
        client = self._zygote
        if self._closing or self.fatal is not None or client is None or not client.ready:
            return
        while self._queue and (ready := self._slots.first(SlotState.READY)) is not None:
            position = self._slots.suits(ready, self._queue)
            job = self._queue[position]
            del self._queue[position]
            self._give(ready, job)
        missing = len(self._queue) - self._slots.count(SlotState.BOOTING)
        if missing > 0 and time.monotonic() >= self._boot_after:
            try:
                for slot in self._slots.listed(SlotState.EMPTY)[:missing]:
                    socket_fd = self._slots.open(slot)
                    self._beats.booting(slot.index)
                    client.fork(slot.index, socket_fd, slot.journal)
            except OSError as error:
                self._boot_failed("transport", f"no room for {len(self._slots.all)} slots on this machine: {error}")

    def _give(self, slot: Slot, job: Job) -> None:
        self._slots.give(slot, job)
        if job.end is None:
            self._watch.episode_began(slot.index, time.monotonic())
        if slot.sock is not None:
            self._send(slot.sock, job.message())

    def _send(self, sock: socket.socket, data: bytes) -> None:
        try:
            sent = sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it died: the zygote will say how
        if sent < len(data):
            self._spawn(_send_rest(sock, data[sent:]))

    def _heard(self, slot: Slot, word: bytes) -> None:
        if word == READY and slot.state is SlotState.BOOTING:
            self._boots_failed = 0
            self._slots.move(slot, SlotState.READY if slot.cut is None else SlotState.LEAVING)
        elif word in (DONE, LEAVING) and slot.job is not None:
            job, slot.job = slot.job, None
            self._watch.episode_ended(slot.index)
            # A kill may be on its way already: then it gets no further episode.
            staying = word == DONE and slot.cut is None
            self._slots.move(slot, SlotState.READY if staying else SlotState.LEAVING)
            self._zygotes_lost = 0
            self._finish(job, job.kept + read_journal(slot.journal))
        elif word == UNBOOTABLE and slot.state is SlotState.BOOTING:
            self._slots.move(slot, SlotState.LEAVING)
            recorded = entries.parse(read_journal(slot.journal)).failure or b""
            failure = msgspec.msgpack.decode(recorded, type=Failure)
            self._boot_failed(failure.boundary, failure.message)
        self._dispatch()

    def _finish(self, job: Job, result: bytes) -> None:
        self._results.append((job.id, result))
        self._news.set()

    def _kill(self, slot: Slot) -> None:
        if slot.pid and self._zygote is not None:
            self._zygote.kill(slot.pid)

    def _vacate(self, slot: Slot) -> None:
        self._slots.vacate(slot)
        self._watch.episode_ended(slot.index)
        self._beats.rows["phase"][slot.index] = Phase.IDLE

    # -- deaths ----------------------------------------------------------------------------------

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            for index, ending in self._watch.overdue(time.monotonic()):
                slot = self._slots.all[index]
                if slot.cut is None and slot.pid:
                    slot.cut = ending
                    self._kill(slot)

    def _bury(self, slot: Slot, status: int) -> None:
        """A child is gone: settle its episode and free the slot."""
        self._slots.listen(slot)  # it may have finished its episode just before
        phase, turn, _ = self._beats.of(slot.index)
        job, state = slot.job, slot.state
        ending = slot.cut or died(status, phase, turn)
        if job is not None and slot.cut is None and phase is Phase.IDLE:
            self._requeue(job, f"its process {describe_exit(status)} before it began")
        elif job is not None:
            self._end_cut(job, ending, read_journal(slot.journal))
        self._vacate(slot)
        if state is SlotState.BOOTING and ending.failure is not None:
            self._boot_failed(ending.failure.boundary, ending.failure.message)
        self._dispatch()

    def _end_cut(self, job: Job, ending: Ending, recorded: bytes) -> None:
        """Settle an episode whose process was killed or died: what is left to do is its rewards."""
        if job.end is not None:  # it was only being graded, and keeps the first failure it had
            if job.end.ending.kind != "failed":
                job.end = msgspec.structs.replace(job.end, ending=ending)
            self._finish(job, job.ungraded())
            return
        job.cut_off(ending, entries.parse(recorded))
        if ending.failure is not None and ending.failure.boundary == "judge":
            self._finish(job, job.ungraded())
        else:
            self._queue.appendleft(job)

    def _requeue(self, job: Job, why: str) -> None:
        """Play an episode again that was lost through no fault of its own, a few times."""
        job.lost += 1
        if job.lost < MAX_LOST:
            self._queue.appendleft(job)
            return
        if job.end is None:
            message = f"lost {MAX_LOST} times with processes that were not its own, the last time because {why}"
            job.end = EpisodeEnd(ending=failed("transport", "exit", message, None))
        self._finish(job, job.ungraded())

    def _boot_failed(self, boundary: Boundary, reason: str) -> None:
        """Try again after a pause; give up when as many in a row failed as all slots can at once, and two more."""
        if self._closing or self.fatal is not None:
            return
        self._boots_failed += 1
        alive = self._slots.listed(SlotState.READY, SlotState.BUSY)
        if not alive and self._boots_failed >= min(len(self._slots.all), len(self._queue)) + 2:
            self._give_up(boundary, f"{self._boots_failed} attempts in a row failed, the last one: {reason}")
            return
        pause = min(0.05 * 2.0 ** min(self._boots_failed, 10), 2.0)
        self._boot_after = time.monotonic() + pause
        asyncio.get_running_loop().call_later(pause + 0.001, self._dispatch)

    def _give_up(self, boundary: Boundary, reason: str, *, kind: str = "boot") -> None:
        """Stop: no episode of this specification can be played here."""
        self.fatal = Failure(boundary=boundary, kind=kind, message=reason)
        for job in self._queue:
            if job.end is not None:  # played and cut off, only its rewards are missing
                self._finish(job, job.ungraded())
        self._queue.clear()
        self._news.set()


async def _send_rest(sock: socket.socket, data: bytes) -> None:
    try:
        await asyncio.get_running_loop().sock_sendall(sock, data)
    except OSError:
        return  # it died: the zygote will say how
