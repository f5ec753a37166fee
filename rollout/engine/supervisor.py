"""The supervisor: keeps the slots of one worker busy and kills what passes its deadline.

One per worker, on that worker's event loop, which it never blocks. Each slot is a process of its own,
so a world that hangs, dies or eats its memory costs its own episode and no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from collections import deque
from collections.abc import Iterable

import msgspec
import numpy as np

from turnwise.records import Ending, Failure
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine import zygote
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.jobs import Job, Slot, SlotState, cut_off, died, hung, out_of_time
from turnwise.rollout.engine.journal import Heartbeats, read_journal, shared_file
from turnwise.rollout.engine.processes import allow_open_files, describe_exit
from turnwise.rollout.engine.slot_child import DONE, LEAVING, READY, UNBOOTABLE
from turnwise.rollout.engine.wire import EpisodeEnd, Phase, WorkerSpec
from turnwise.rollout.engine.zygote_client import ZygoteClient

log = logging.getLogger(__name__)

TICK_S = 0.05
GRACE_S = 2.0
MAX_LOST = 3  # times an episode may be lost with a process that is not its own
MAX_ZYGOTES = 5  # in a row without one finished episode
_EPISODE_PHASES = (Phase.IDLE, Phase.RESET, Phase.POLICY, Phase.ENV)


class Supervisor:
    """Runs the episodes of one worker in child processes."""

    def __init__(self, spec: WorkerSpec) -> None:
        """Prepare a worker for ``spec``; nothing is started before :meth:`start`."""
        self.spec = spec
        self.fatal: Failure | None = None
        self._slots = [Slot(index=i) for i in range(spec.slots)]
        self._by_pid: dict[int, Slot] = {}
        self._queue: deque[Job] = deque()
        self._results: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()
        self._beats = Heartbeats(spec.slots)
        self._limits = np.array([spec.deadlines.of(phase) for phase in Phase])
        self._began = np.full(spec.slots, math.inf)
        self._suspects: dict[int, tuple[Phase, int, float]] = {}
        self._zygote: ZygoteClient | None = None
        self._zygote_ready = False
        self._zygotes_lost = 0
        self._boots_failed = 0
        self._boot_pause_until = 0.0
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what the worker calls -------------------------------------------------------------------

    async def start(self) -> None:
        """Start the zygote and the watch."""
        allow_open_files(3 * self.spec.slots + 256)
        self._spawn(self._watch())
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
            try:
                await asyncio.wait_for(self._news.wait(), max_wait)
            except asyncio.TimeoutError:
                return []
        results, self._results = self._results, []
        return results

    async def close(self) -> None:
        """Let idle children close their environments, kill the others, and return when all are gone."""
        self._closing = True
        self._queue.clear()
        for task in self._tasks:
            task.cancel()
        for slot in self._slots:
            if slot.state is SlotState.READY:
                self._hang_up(slot)
            elif slot.state in (SlotState.BUSY, SlotState.BOOTING) and slot.pid and self._zygote:
                self._zygote.kill(slot.pid)
        deadline = time.monotonic() + GRACE_S
        while self._by_pid and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        if self._zygote is not None:
            await self._zygote.close()
        for slot in self._slots:
            self._vacate(slot)
        self._beats.close()

    # -- the zygote ------------------------------------------------------------------------------

    def _spawn(self, coroutine: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_zygote(self) -> None:
        self._zygote_ready = False
        client = ZygoteClient(self.spec, self._beats.fd, on_report=self._on_report, on_lost=self._on_zygote_lost)
        self._zygote = client
        await client.start()
        self._spawn(self._expect_hello(client))

    async def _expect_hello(self, client: ZygoteClient) -> None:
        limit = self.spec.deadlines.boot_s
        if limit is None:
            return
        await asyncio.sleep(limit)
        if client is self._zygote and not self._zygote_ready:
            self._give_up(Failure(boundary="env", kind="boot", message=f"importing took more than {limit:g} s"))
            await client.close()

    def _on_zygote_lost(self, how: str) -> None:
        if self._closing or self.fatal is not None:
            return
        if not self._zygote_ready:
            message = f"the process that imports {self.spec.env_id} {how}; what it printed says why"
            self._give_up(Failure(boundary="env", kind="boot", message=message))
            return
        self._zygotes_lost += 1
        log.warning("a zygote %s: its episodes start again", how)
        for slot in self._slots:
            job = slot.job
            was_ours = slot.cut is not None  # it passed a deadline just before
            if job is not None and was_ours:
                self._end_cut(slot, slot.cut or failed("env", "hang", "", None), read_journal(slot.journal))
            elif job is not None:
                self._requeue(job, f"its zygote {how}")
            self._vacate(slot)
        self._by_pid.clear()
        if self._zygotes_lost >= MAX_ZYGOTES:
            self._give_up(Failure(boundary="transport", kind="exit", message=f"{MAX_ZYGOTES} zygotes died in a row"))
            return
        self._spawn(self._start_zygote())

    def _requeue(self, job: Job, why: str) -> None:
        job.lost += 1
        if job.lost < MAX_LOST:
            self._queue.appendleft(job)
            return
        message = f"lost {MAX_LOST} times with processes that were not its own, the last time because {why}"
        self._finish(job, job.ungraded(EpisodeEnd(ending=failed("transport", "exit", message, None))))

    def _give_up(self, failure: Failure) -> None:
        """Stop: no episode of this specification can be played here."""
        self.fatal = failure
        for job in self._queue:
            if job.end is not None:  # played and cut off, only its rewards are missing
                self._finish(job, job.ungraded(job.end))
        self._queue.clear()
        self._news.set()

    def _on_report(self, kind: bytes, first: int, second: int, text: bytes) -> None:
        if kind == zygote.HELLO:
            self._zygote_ready = True
            self._dispatch()
        elif kind == zygote.REFUSED:
            self._give_up(msgspec.msgpack.decode(text, type=Failure))
        elif kind == zygote.STARTED:
            slot = self._slots[first]
            slot.pid = second
            self._by_pid[second] = slot
            if self._closing and self._zygote is not None:
                self._zygote.kill(second)
        elif kind == zygote.UNFORKED:
            self._boot_failed(self._slots[first], f"cannot fork: {text.decode('utf-8', 'replace')}")
        elif kind == zygote.DIED and first in self._by_pid:
            self._bury(self._by_pid.pop(first), second)

    # -- slots -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give jobs to ready slots, and start as many children as the rest of the queue needs."""
        if self._closing or self.fatal is not None or not self._zygote_ready:
            return
        for slot in self._slots:
            if not self._queue:
                return
            if slot.state is SlotState.READY:
                self._give(slot, self._queue.popleft())
        coming = sum(slot.state is SlotState.BOOTING for slot in self._slots)
        if len(self._queue) > coming and time.monotonic() >= self._boot_pause_until:
            empty = [slot for slot in self._slots if slot.state is SlotState.EMPTY]
            for slot in empty[: len(self._queue) - coming]:
                self._boot(slot)

    def _boot(self, slot: Slot) -> None:
        assert self._zygote is not None  # noqa: S101 - for the type checker
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        slot.sock, slot.journal = ours, shared_file("turnwise-journal", entries.FIRST_BYTES)
        slot.state = SlotState.BOOTING
        self._beats.booting(slot.index)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable, slot)
        self._zygote.fork(slot.index, theirs.detach(), slot.journal)

    def _give(self, slot: Slot, job: Job) -> None:
        assert slot.sock is not None  # noqa: S101 - for the type checker
        slot.job, slot.state = job, SlotState.BUSY
        if job.end is None:
            self._began[slot.index] = time.monotonic()
        message = job.message()
        try:
            sent = slot.sock.send(message)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it died: the zygote will say how
        if sent < len(message):
            self._spawn(self._send_rest(slot.sock, message[sent:]))

    async def _send_rest(self, sock: socket.socket, data: bytes) -> None:
        try:
            await asyncio.get_running_loop().sock_sendall(sock, data)
        except OSError:
            return  # as above

    def _readable(self, slot: Slot) -> None:
        if slot.sock is None:
            return
        try:
            news = slot.sock.recv(64)
        except BlockingIOError:
            return
        except OSError:
            news = b""
        if not news:
            # It is dying, or a grandchild closed it. The zygote reports the death; stop polling the socket.
            asyncio.get_running_loop().remove_reader(slot.sock.fileno())
        for i in range(len(news)):
            self._heard(slot, news[i : i + 1])

    def _heard(self, slot: Slot, word: bytes) -> None:
        if word == READY and slot.state is SlotState.BOOTING:
            self._boots_failed = 0
            slot.state = SlotState.READY
        elif word in (DONE, LEAVING) and slot.job is not None:
            job, slot.job = slot.job, None
            self._began[slot.index] = math.inf
            slot.state = SlotState.READY if word == DONE else SlotState.LEAVING
            self._zygotes_lost = 0
            self._finish(job, job.result(read_journal(slot.journal)))
        elif word == UNBOOTABLE and slot.state is SlotState.BOOTING:
            slot.state = SlotState.LEAVING
            recorded = entries.parse(read_journal(slot.journal)).failure
            failure = msgspec.msgpack.decode(recorded, type=Failure) if recorded else None
            self._count_boot_failure(failure)
        self._dispatch()

    def _finish(self, job: Job, result: bytes) -> None:
        self._results.append((job.id, result))
        self._news.set()

    def _hang_up(self, slot: Slot) -> None:
        if slot.sock is not None:
            asyncio.get_running_loop().remove_reader(slot.sock.fileno())
            slot.sock.close()
            slot.sock = None

    def _vacate(self, slot: Slot) -> None:
        self._hang_up(slot)
        if slot.journal >= 0:
            os.close(slot.journal)
        slot.state, slot.pid, slot.journal, slot.job, slot.cut = SlotState.EMPTY, 0, -1, None, None
        self._began[slot.index] = math.inf
        self._beats.rows["phase"][slot.index] = Phase.IDLE
        self._suspects.pop(slot.index, None)

    # -- deaths ----------------------------------------------------------------------------------

    def _bury(self, slot: Slot, status: int) -> None:
        """A child is gone: settle its episode and free the slot."""
        if slot.sock is not None:
            self._readable(slot)  # it may have finished its episode just before
        phase, turn, _ = self._beats.of(slot.index)
        job, cut, state = slot.job, slot.cut, slot.state
        if job is not None:
            if cut is None and phase is Phase.IDLE:
                self._requeue(job, f"its process {describe_exit(status)} before it began")
            else:
                self._end_cut(slot, cut or died(status, phase, turn), read_journal(slot.journal))
        self._vacate(slot)
        if state is SlotState.BOOTING:
            self._count_boot_failure(cut.failure if cut else died(status, phase, turn).failure)
        self._dispatch()

    def _end_cut(self, slot: Slot, ending: Ending, recorded: bytes) -> None:
        """Settle an episode whose process was killed or died: what is left is its rewards."""
        job = slot.job
        if job is None:
            return
        if job.end is not None:  # it was being graded only
            first = job.end.ending
            end = msgspec.structs.replace(job.end, ending=first if first.kind == "failed" else ending)
            self._finish(job, job.ungraded(end))
            return
        recording = entries.parse(recorded)
        kept = [(entries.IMAGE, image) for image in recording.images]
        job.kept = entries.pack(kept + [(entries.TURN, turn) for turn in recording.turns])
        job.end = cut_off(ending, recording)
        if ending.failure is not None and ending.failure.boundary == "judge":
            self._finish(job, job.ungraded(job.end))
        else:
            self._queue.appendleft(job)

    def _boot_failed(self, slot: Slot, message: str) -> None:
        self._vacate(slot)
        self._count_boot_failure(Failure(boundary="env", kind="boot", message=message))
        self._dispatch()

    def _count_boot_failure(self, failure: Failure | None) -> None:
        """After as many failures in a row as all slots at once can give, and two more: give up."""
        if self._closing:
            return
        self._boots_failed += 1
        if self._boots_failed >= min(self.spec.slots, len(self._queue)) + 2:
            reason = failure.message if failure else "it said nothing"
            boundary = failure.boundary if failure else "env"
            message = f"no episode can begin: {self._boots_failed} attempts in a row failed, the last one: {reason}"
            self._give_up(Failure(boundary=boundary, kind="boot", message=message))
            return
        pause = min(0.05 * 2.0**self._boots_failed, 2.0)
        self._boot_pause_until = time.monotonic() + pause
        asyncio.get_running_loop().call_later(pause + 0.001, self._dispatch)

    # -- deadlines -------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._kill_overdue(time.monotonic())

    def _kill_overdue(self, now: float) -> None:
        rows = self._beats.rows
        late = now - rows["since"] > self._limits[rows["phase"]]
        if self.spec.deadlines.episode_s is not None:
            late |= now - self._began > self.spec.deadlines.episode_s
        suspects, self._suspects = self._suspects, {}
        for index in np.flatnonzero(late):
            slot = self._slots[int(index)]
            if slot.cut is None and slot.pid and slot.state is not SlotState.EMPTY:
                self._accuse(slot, now, suspects)

    def _accuse(self, slot: Slot, now: float, suspects: dict[int, tuple[Phase, int, float]]) -> None:
        """Kill a slot's process if it is late at a second look: one look may see a row half written."""
        beat = phase, turn, since = self._beats.of(slot.index)
        if suspects.get(slot.index) != beat:
            self._suspects[slot.index] = beat
            return
        limits = self.spec.deadlines
        if now - since > limits.of(phase):
            slot.cut = hung(limits, phase, turn)
        elif phase in _EPISODE_PHASES:
            slot.cut = out_of_time(limits, phase, turn)
        else:
            return
        log.info("killing %s: %s", slot.job.id if slot.job else "an idle child", slot.cut.failure)
        if self._zygote is not None:
            self._zygote.kill(slot.pid)
