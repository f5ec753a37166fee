"""The driver's side of Ray: workers, what each has to do, and what happens when one is lost."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import msgspec

from turnwise.errors import TransportError, error_of
from turnwise.records import Failure
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.cluster import Cluster
from turnwise.rollout.engine.episode import failed
from turnwise.rollout.engine.journal import Recording, parse
from turnwise.rollout.engine.ray_worker import RolloutWorker
from turnwise.rollout.engine.wire import EpisodeEnd, EpisodeRequest, WorkerSpec, encode
from turnwise.rollout.policy.pool import PolicyPool

log = logging.getLogger(__name__)

POLL_S = 1.0  # a worker answers after this long even if no episode finished
SILENT_S = 60.0  # a worker that has not answered for so long is lost
START_S = 180.0  # the same before its first answer: it waits for a CPU, and imports
CLOSE_S = 6.0
AHEAD_S = 0.1  # a worker is given what it finishes in this time beyond what it can play at once
MAX_LOST = 3  # workers that an episode may be lost with
MAX_ROUNDS_LOST = MAX_LOST + 1  # times that all workers are lost without one finished episode between


@dataclass(kw_only=True)
class _Worker:
    """One actor and what it was given."""

    actor: Any
    given: dict[str, EpisodeRequest] = field(default_factory=dict)
    call: Any = None
    called: float = 0.0
    answered: bool = False
    speed: float = 0.0  # episodes a second, lately

    def ahead(self) -> int:
        """Return how many episodes should wait in the worker, so that no slot waits for us."""
        return 1 + int(self.speed * AHEAD_S)


class Fleet:
    """All workers of a run, as a context: on leaving, none is left."""

    def __init__(
        self, spec: WorkerSpec, *, workers: int, address: str | None, policy: PolicyPool | None = None
    ) -> None:
        """Prepare a fleet.

        Args:
            spec: What the workers run.
            workers: Number of Ray actors, at least 1.
            address: See :class:`Cluster`.
            policy: The policy behind the agent, started; None where the agent has no model.
        """
        self._spec = spec
        self._policy = policy
        self._count = workers
        self._cluster = Cluster(address)
        self._ray = self._cluster.ray
        self._workers: list[_Worker] = []
        self._lost: Counter[str] = Counter()
        self._lost_in_a_row = 0
        self._again: deque[EpisodeRequest] = deque()
        self._finished: deque[tuple[EpisodeRequest, Recording]] = deque()
        self._actor_class: Any = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Fleet:
        """Connect to Ray and start the workers."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._cluster)
            stack.callback(self._dismiss_all)
            self._actor_class = self._ray.remote(
                num_cpus=self._cluster.cpus_per_worker(self._count), scheduling_strategy="SPREAD", max_restarts=0
            )(RolloutWorker)
            self._workers = [self._hire() for _ in range(self._count)]
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers with all their processes."""
        self._exit.close()

    def _dismiss_all(self) -> None:
        closing = [worker.actor.close.remote() for worker in self._workers]
        if closing:
            self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for worker in self._workers:
            self._dismiss(worker)

    def _hire(self) -> _Worker:
        handles = () if self._policy is None else self._policy.handles
        return _Worker(actor=self._actor_class.remote(encode(self._spec), handles))

    def _dismiss(self, worker: _Worker) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(worker.actor)

    # -- the run ---------------------------------------------------------------------------------

    def play(self, requests: Iterable[EpisodeRequest]) -> Iterator[tuple[EpisodeRequest, Recording]]:
        """Have episodes played and yield each exactly once, in completion order.

        Raises:
            TurnwiseError: No worker can play this specification, or they keep dying.
        """
        waiting = iter(requests)
        backlog: deque[EpisodeRequest] = deque()
        exhausted = False
        while True:
            enough = sum(2 * self._spec.slots + worker.ahead() for worker in self._workers)
            while not exhausted and len(backlog) <= enough:
                request = next(waiting, None)
                exhausted = request is None
                if request is not None:
                    backlog.append(request)
            backlog.extendleft(self._again)
            self._again.clear()
            if self._policy is not None:
                self._policy.tend()
            for worker in self._workers:
                self._call(worker, backlog)
            calls = [worker.call for worker in self._workers if worker.call is not None]
            if calls:
                answered, _ = self._ray.wait(calls, num_returns=1, timeout=POLL_S)
                self._hear(set(answered))
            elif exhausted and not backlog and not self._again and not self._finished:
                return
            while self._finished:
                yield self._finished.popleft()

    def _call(self, worker: _Worker, backlog: deque[EpisodeRequest]) -> None:
        """Give an idle line to a worker something to do: new episodes, and the question for results."""
        if worker.call is not None:
            return
        # At the end of a run only what fits, so that no episode queues behind another while a slot
        # elsewhere is free.
        slots = self._spec.slots
        ahead = worker.ahead() if len(backlog) > slots * len(self._workers) else 0
        room = slots + ahead - len(worker.given)
        batch = [backlog.popleft() for _ in range(max(0, min(room, len(backlog))))]
        worker.given.update((request.id, request) for request in batch)
        if worker.given:
            message = [(request.id, encode(request)) for request in batch]
            worker.call = worker.actor.exchange.remote(message, POLL_S)
            worker.called = time.monotonic()

    def _hear(self, answered: set[Any]) -> None:
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.call is None:
                continue
            if worker.call in answered:
                self._take(worker)
            elif now - worker.called > (SILENT_S if worker.answered else START_S):
                self._replace(worker, self._silence(worker))

    def _take(self, worker: _Worker) -> None:
        call, worker.call = worker.call, None
        try:
            results, fatal = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            # A task's error ends in the exception; an actor's death begins with the reason.
            lines = str(error).strip().splitlines() or ["no reason given"]
            reason = lines[-1] if isinstance(error, self._ray.exceptions.RayTaskError) else lines[0]
            self._replace(worker, f"a worker was lost ({type(error).__name__}: {reason.strip()[:300]})")
            return
        worker.answered = True
        lately = len(results) / max(time.monotonic() - worker.called, 1e-3)
        worker.speed += 0.3 * (lately - worker.speed)
        for name, data in results:
            request = worker.given.pop(name, None)
            if request is not None:
                self._lost_in_a_row = 0
                self._finished.append((request, parse(data)))
        if fatal is not None:
            self._retire(worker, msgspec.msgpack.decode(fatal, type=Failure))

    def _silence(self, worker: _Worker) -> str:
        if worker.answered:
            return f"a worker did not answer for {SILENT_S:g} s"
        return f"a worker did not start within {START_S:g} s: the cluster may have no free CPU"

    # -- losses ----------------------------------------------------------------------------------

    def _replace(self, worker: _Worker, why: str) -> None:
        """A worker is lost: hire another and give its episodes out again."""
        log.warning("%s; its %d episodes start again", why, len(worker.given))
        self._workers.remove(worker)
        self._dismiss(worker)
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= MAX_ROUNDS_LOST * self._count:
            raise TransportError(f"{self._lost_in_a_row} workers in a row were lost, the last time because {why}")
        for request in worker.given.values():
            self._lost[request.id] += 1
            if self._lost[request.id] < MAX_LOST:
                self._again.append(request)
            else:
                self._finished.append((request, _given_up(why)))
        self._workers.append(self._hire())

    def _retire(self, worker: _Worker, failure: Failure) -> None:
        """A worker can play nothing: the others go on without it, if there are any."""
        self._workers.remove(worker)
        self._dismiss(worker)
        if not self._workers:
            message = f"no worker can play {self._spec.env_id}: {failure.message}"
            raise error_of(failure.boundary, message, kind=failure.kind)
        log.warning("a worker can play nothing and is left out: %s", failure.message)
        self._again.extend(worker.given.values())


def _given_up(why: str) -> Recording:
    message = f"lost with {MAX_LOST} workers, the last time because {why}"
    end = EpisodeEnd(ending=failed("transport", "exit", message, None))
    return parse(entries.pack([(entries.END, encode(end))]))
