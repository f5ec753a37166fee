"""Worker processes, fed from one queue; a job that hangs or crashes costs its own answer and nothing else.

A worker with one thread gets a few jobs at once, so that it never waits for the next. One that makes no progress for
``stall_s`` is stalled: what waits behind its job goes to others, and another worker takes its place until it is done
or its job's deadline has passed, when it is killed. In a worker with many threads a job that hangs costs one thread;
when a quarter of them hang, it is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from turnwise.errors import ConfigError, JudgeError
from turnwise.rollout.oracle.frames import Done, Setup
from turnwise.rollout.oracle.schema import EvidenceLevel
from turnwise.rollout.oracle.settings import ServeSettings
from turnwise.rollout.oracle.worker_link import WorkerLink

_PIPELINE = 4
_LIVES = 2  # of a job in workers that die
_WATCH_S = 0.1
_SILENCE_S = 10.0  # without an answer to a ping: some thread holds the interpreter


@dataclass(eq=False)
class Task:
    """A job on its way."""

    kind: str
    evidence: EvidenceLevel
    payload: bytes
    deadline: float
    answer: asyncio.Future[Done]
    lives: int = _LIVES
    workers: int = 0  # how many have it now

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.answer.done()


@dataclass
class PoolCounts:
    """What happened so far, for /metrics."""

    started: int = 0
    killed: int = 0
    died: int = 0
    stalled: int = 0


@dataclass
class WorkerPool:
    """The workers of one server; lives on one event loop.

    Attributes:
        setup: What each worker's oracle is made of.
        settings: Limits.
        counts: What happened so far.
    """

    setup: Setup
    settings: ServeSettings
    counts: PoolCounts = field(default_factory=PoolCounts)
    _links: list[WorkerLink[Task]] = field(default_factory=list)
    _queue: deque[Task] = field(default_factory=deque)
    _watch: asyncio.Task[None] | None = None
    _numbers: int = 0
    _failures: int = 0

    @property
    def alive(self) -> int:
        """Workers that run."""
        return len(self._links)

    @property
    def waiting(self) -> int:
        """Jobs that no worker has yet."""
        return len(self._queue)

    async def start(self) -> None:
        """Start the workers and wait until they can score.

        Raises:
            ConfigError: The rewards cannot be made in a worker.
        """
        links = [self._spawn() for _ in range(self.settings.worker_count)]
        problems = await asyncio.gather(*(link.ready for link in links))
        if any(problems):
            await self.stop()
            raise ConfigError(next(problem for problem in problems if problem))
        self._watch = asyncio.create_task(self._keep_watch())

    async def stop(self) -> None:
        """End the workers; what was not scored is a failure."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
            self._watch = None
        left = list(self._queue)
        for link in list(self._links):
            self._links.remove(link)
            left += link.jobs.values()
            link.close()
        for task in left:
            if not task.over:
                task.answer.set_exception(JudgeError("the oracle is shutting down"))
        self._queue.clear()

    async def score(self, kind: str, payload: bytes, evidence: EvidenceLevel, deadline_s: float) -> Done:
        """Score a payload.

        Raises:
            TimeoutError: The deadline passed.
            JudgeError: Its worker died, more than once.
        """
        loop = asyncio.get_running_loop()
        task = Task(kind, evidence, payload, loop.time() + deadline_s, loop.create_future())
        self._queue.append(task)
        self._feed()
        timer = loop.call_later(deadline_s, _time_out, task)
        try:
            return await task.answer
        finally:
            timer.cancel()

    # -- giving out --------------------------------------------------------------------------------

    @property
    def _width(self) -> int:
        return _PIPELINE if self.setup.threads == 1 else self.setup.threads

    def _feed(self) -> None:
        while self._queue:
            task = self._queue[0]
            if task.over:
                self._queue.popleft()
                continue
            free = [link for link in self._links if link.open and len(link.jobs) < self._width]
            if not free:
                return
            link = min(free, key=lambda one: len(one.jobs))
            self._queue.popleft()
            self._numbers += 1
            task.workers += 1
            link.send_job(self._numbers, task, task.kind, task.evidence, task.payload)

    def _done(self, link: WorkerLink[Task], done: Done) -> None:
        task = link.jobs.pop(done.number, None)
        link.stalled = False
        if task is not None:
            task.workers -= 1
            if not task.over:
                task.answer.set_result(done)
        self._feed()

    # -- workers come and go -----------------------------------------------------------------------

    def _spawn(self) -> WorkerLink[Task]:
        self.counts.started += 1
        link: WorkerLink[Task] = WorkerLink(self.setup, on_done=self._done, on_ready=self._ready, on_gone=self._gone)
        self._links.append(link)
        return link

    def _ready(self, link: WorkerLink[Task]) -> None:
        self._failures = 0
        self._feed()

    def _gone(self, link: WorkerLink[Task]) -> None:
        """A worker ended by itself."""
        if link not in self._links:
            return
        self.counts.died += 1
        if not link.open:
            self._failures += 1
        self._drop(link, guilty=next(iter(link.jobs), None) if self.setup.threads == 1 else -1)

    def _kill(self, link: WorkerLink[Task], guilty: int | None) -> None:
        self.counts.killed += 1
        self._drop(link, guilty)

    def _drop(self, link: WorkerLink[Task], guilty: int | None) -> None:
        """Take a worker out; its jobs go back, the guilty one (or, with -1, each) with a life less."""
        self._links.remove(link)
        link.close()
        for number, task in reversed(link.jobs.items()):
            task.workers -= 1
            if guilty in (number, -1):
                task.lives -= 1
            if task.over or task.workers > 0:
                continue
            if task.lives <= 0:
                task.answer.set_exception(JudgeError("the process that scored it died, twice", kind="exit"))
            else:
                self._queue.appendleft(task)
        link.jobs.clear()
        self._refill()
        self._feed()

    def _refill(self) -> None:
        useful = sum(not link.stalled for link in self._links)
        # A worker that cannot even start would be started for ever.
        wanted = self.settings.worker_count if self._failures < 3 else 1
        while useful < wanted and len(self._links) < self.settings.most_workers and self._failures < 10:
            self._spawn()
            useful += 1

    # -- watching ----------------------------------------------------------------------------------

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            now = asyncio.get_running_loop().time()
            for link in list(self._links):
                if link in self._links and link.open:
                    (self._watch_one if self.setup.threads == 1 else self._watch_many)(link, now)
            self._refill()
            self._retire()
            self._feed()

    def _watch_one(self, link: WorkerLink[Task], now: float) -> None:
        number, task = next(iter(link.jobs.items()), (None, None))
        if number is None or task is None or now - link.moved < self.settings.stall_s:
            return
        if task.over:
            self._kill(link, number)
            return
        if not link.stalled:
            link.stalled = True
            self.counts.stalled += 1
            for behind in list(link.jobs)[1:]:
                moved = link.jobs[behind]
                if moved.workers == 1 and not moved.over:
                    self._queue.appendleft(moved)

    def _watch_many(self, link: WorkerLink[Task], now: float) -> None:
        overdue = sum(task.over for task in link.jobs.values())
        if overdue >= max(1, self.setup.threads // 4) and not link.stalled:
            link.stalled = True
            self.counts.stalled += 1
        crowded = len(self._links) > self.settings.worker_count + 1
        if link.stalled and (overdue == len(link.jobs) or crowded):
            self._kill(link, None)
        elif link.jobs and link.silent_s(now) > _SILENCE_S:
            self._kill(link, -1)

    def _retire(self) -> None:
        """End a worker that took the place of a stalled one, when that one is back."""
        useful = [link for link in self._links if not link.stalled]
        idle = [link for link in useful if link.open and not link.jobs]
        if len(useful) > self.settings.worker_count and idle and not self._queue:
            self._links.remove(idle[-1])
            idle[-1].close()


def _time_out(task: Task) -> None:
    if not task.over:
        task.answer.set_exception(TimeoutError())


def own_path() -> list[str]:
    """Return where this process finds modules, for workers: rewards may be in the current folder."""
    return [entry if entry else str(Path.cwd()) for entry in sys.path]
