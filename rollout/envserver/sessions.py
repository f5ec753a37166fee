"""Sessions: who plays what, how many at once, and for how long without a word."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from turnwise.errors import ConfigError, EpisodeOverError, TransportError, TurnwiseError, did_you_mean
from turnwise.records import Ending, Failure, Json, Task
from turnwise.rollout.engine.wire import EpisodeEnd, EpisodeRequest, assemble, decode_turn
from turnwise.rollout.envserver.frames import About, Act, Answer, Begin, Look, Shown, Tasks
from turnwise.rollout.envserver.pool import SessionPool
from turnwise.rollout.envserver.process import SessionProcess
from turnwise.rollout.envserver.record import public_record

log = logging.getLogger(__name__)

MAX_SEED = 2**63
KEPT_RECORDS = 256  # of closed sessions
MAX_ID_CHARS = 1_024
MAX_EPISODE_ID_CHARS = 255
_RESET_FIELDS = ("seed", "episode_id", "task_id", "task")


class CapacityError(TransportError):
    """The server has as many sessions as it may have."""


class FactoryError(TransportError):
    """A session has no environment: it cannot be made."""


class SessionClosedError(TransportError):
    """The session is over: closed by its client, or after too long without a request."""


class Session:
    """One client's environment, made when it is first needed and made again after a failure.

    Attributes:
        id: Its public name.
        episode_id: What the client calls its episode.
        last: What the last reset or turn came to, or None.
        record: The finished episode with its rewards as JSON, where the server scores.
    """

    def __init__(self, pool: SessionPool, on_close: Callable[[Session], None]) -> None:
        """Open a session; nothing is started.

        Args:
            pool: Where environments come from.
            on_close: Is told when it is closed.
        """
        self.id = secrets.token_hex(8)
        self.episode_id: str | None = None
        self.last: Shown | None = None
        self.record: bytes | None = None
        self.env_return = 0.0
        self.failure: TurnwiseError | None = None
        self.closed = False
        self.when_reaped: Callable[[], None] = lambda: None
        self._pool = pool
        self._on_close = on_close
        self._process: SessionProcess | None = None
        self._lock = asyncio.Lock()
        self._used = time.monotonic()
        self._waiting = 0

    def idle_for(self, now: float) -> float:
        """Return the seconds since the last request; 0 while there is one."""
        return 0.0 if self._waiting else now - self._used

    async def reset(self, fields: dict[str, Json]) -> Shown:
        """Begin an episode.

        Args:
            fields: ``seed``, ``task_id`` (or ``task``, an id or what the task routes return) and ``episode_id``,
                all optional.

        Raises:
            ConfigError: A field is wrong; the message says how.
            TurnwiseError: The environment failed.
        """
        question, episode_id = read_reset(fields)
        self._waiting += 1
        try:
            async with self._lock:
                self._check_open()
                self.failure, self.record, self.last = None, None, None
                process = await self._with_process()
                shown = await self._ask(process, question)
                self.env_return = 0.0
                self.episode_id = episode_id or f"{shown.task_id}#{shown.seed}"
                return shown
        finally:
            self._done_waiting()

    async def step(self, text: str) -> Shown:
        """Play a turn.

        Raises:
            EpisodeOverError: No episode is being played.
            TurnwiseError: The environment failed.
        """
        self._waiting += 1
        try:
            async with self._lock:
                self._check_open()
                if self._process is None or self.last is None or self.last.done:
                    raise EpisodeOverError("no episode is being played in this session: reset first")
                shown = await self._ask(self._process, Act(text=text))
                self.env_return += shown.reward
                return shown
        finally:
            self._done_waiting()

    async def look(self, question: Look) -> list[dict[str, Json]]:
        """Name tasks.

        Raises:
            TurnwiseError: The environment failed.
        """
        self._waiting += 1
        try:
            async with self._lock:
                answer = await self._put(await self._with_process(), question)
                return answer.tasks if isinstance(answer, Tasks) else []
        finally:
            self._done_waiting()

    def close(self) -> None:
        """End the session; its environment may close itself."""
        if self.closed:
            return
        self.closed = True
        self._drop()
        self._on_close(self)

    # -- inside ------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise SessionClosedError("the session is closed: open another one", kind="closed")

    def _done_waiting(self) -> None:
        self._waiting -= 1
        self._used = time.monotonic()

    async def _with_process(self) -> SessionProcess:
        if self._process is None or self._process.gone:
            self._drop()
            try:
                process = await self._pool.take()
            except TurnwiseError as error:
                raise FactoryError(f"the environment cannot be made: {error}", kind=error.kind) from error
            if self.closed:
                self._pool.give_back(process)
                self._check_open()
            self._process = process
        return self._process

    async def _ask(self, process: SessionProcess, question: Begin | Act) -> Shown:
        answer = await self._put(process, question)
        if not isinstance(answer, Shown):
            raise TransportError(f"a session's process answered a {type(answer).__name__}")
        self.last = answer
        if answer.done:
            self.record = answer.record
            self._pool.episode_ended(process)
        return answer

    async def _put(self, process: SessionProcess, question: Begin | Act | Look) -> Answer:
        try:
            return await self._pool.ask(process, question)
        except ConfigError:
            self._pool.episode_ended(process)  # none was begun, or none is played any more
            raise
        except TurnwiseError as error:
            if not isinstance(question, Look):
                self._fail(process, error)
            self._drop()
            raise
        except asyncio.CancelledError:
            self._drop()
            raise

    def _fail(self, process: SessionProcess, error: TurnwiseError) -> None:
        """Keep what was played of an episode that failed: it has no rewards, and is no 0."""
        self.failure = error
        last, self.last = self.last, None
        if self._pool.spec.reward_config is None or last is None:
            return
        turns = [decode_turn(turn) for turn in process.recording().turns]
        task = Task(id=last.task_id, split="", instruction=last.instruction)
        request = EpisodeRequest(id=f"{last.task_id}#0", task=task, sample=0, seed=last.seed)
        failure = Failure(boundary=error.boundary, kind=error.kind, message=str(error), turn=len(turns))
        timed_out = error.kind == "deadline"
        ending = Ending(
            kind="truncated" if timed_out else "failed", cause="time" if timed_out else None, failure=failure
        )
        end = EpisodeEnd(ending=ending, final_observation=last.text)
        self.record = public_record(assemble(self._pool.spec, request, turns, end))

    def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            self._pool.give_back(process)


def read_reset(fields: dict[str, Json]) -> tuple[Begin, str | None]:
    """Check what a client sends with a reset.

    Returns:
        The question for the session's process, and the client's name for the episode or None.

    Raises:
        ConfigError: A field is unknown or of the wrong kind.
    """
    for name in fields:
        if name not in _RESET_FIELDS:
            raise ConfigError(f"reset takes no {name[:64]!r}.{did_you_mean(name[:64], _RESET_FIELDS)}")
    seed, episode_id = fields.get("seed"), fields.get("episode_id")
    task, task_id = fields.get("task"), fields.get("task_id")
    if seed is None:
        seed = secrets.randbelow(2**32)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < MAX_SEED:
        raise ConfigError(f"seed is a whole number from 0 to 2**63 - 1 or null, got {_quote(seed)}")
    if not (episode_id is None or (isinstance(episode_id, str) and len(episode_id) <= MAX_EPISODE_ID_CHARS)):
        raise ConfigError(f"episode_id is a text of at most {MAX_EPISODE_ID_CHARS} characters or null")
    if task is not None:
        if task_id is not None:
            raise ConfigError("pass task_id or task, not both")
        task_id = task.get("id") if isinstance(task, dict) else task
    if task_id is None and task is None:
        return Begin(seed=seed), episode_id
    if not (isinstance(task_id, str) and 0 < len(task_id) <= MAX_ID_CHARS):
        raise ConfigError(f"task_id is a text of at most {MAX_ID_CHARS} characters, got {_quote(task_id)}")
    return Begin(seed=seed, task_id=task_id), episode_id


def _quote(value: Json) -> str:
    return repr(value)[:100]


class Sessions:
    """All sessions of a server, and the reaper of idle ones."""

    def __init__(self, pool: SessionPool, *, limit: int, idle_s: float | None) -> None:
        """Allow sessions.

        Args:
            pool: Where their environments come from.
            limit: How many at once.
            idle_s: Seconds without a request after which one is closed; None never does.
        """
        self.pool = pool
        self.limit = limit
        self.about = About(description="", system_prompt="", tools=[], split="", tasks=0)
        self._idle_s = idle_s
        self._open: dict[str, Session] = {}
        self._records: OrderedDict[str, bytes] = OrderedDict()
        self._librarian: Session | None = None
        self._reaper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the pool and the reaper.

        Raises:
            TurnwiseError: The world cannot be made.
        """
        self.about = await self.pool.start()
        if self._idle_s is not None:
            self._reaper = asyncio.get_running_loop().create_task(self._reap(self._idle_s))

    async def close(self) -> None:
        """Close all sessions and end all processes."""
        if self._reaper is not None:
            self._reaper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reaper
        for session in list(self._open.values()):
            session.close()
        if self._librarian is not None:
            self._librarian.close()
        await self.pool.close()

    def __len__(self) -> int:
        """Number of open sessions."""
        return len(self._open)

    def open(self) -> Session:
        """Open a session.

        Raises:
            CapacityError: There are as many as there may be.
        """
        if len(self._open) >= self.limit:
            raise CapacityError(f"all {self.limit} sessions are in use: try again later", kind="capacity")
        session = Session(self.pool, self._forget)
        self._open[session.id] = session
        return session

    def record(self, session_id: str) -> bytes | None:
        """Return the finished episode of a session, open or closed not long ago."""
        session = self._open.get(session_id)
        return self._records.get(session_id) if session is None else session.record

    async def look(self, question: Look) -> list[dict[str, Json]]:
        """Name tasks of the split; they are read in a process of their own, which counts as no session.

        Raises:
            TurnwiseError: The environment failed.
        """
        if self._librarian is None:
            self._librarian = Session(self.pool, lambda _: None)
        return await self._librarian.look(question)

    def _forget(self, session: Session) -> None:
        self._open.pop(session.id, None)
        if session.record is not None:
            self._records[session.id] = session.record
            while len(self._records) > KEPT_RECORDS:
                self._records.popitem(last=False)

    async def _reap(self, idle_s: float) -> None:
        while True:
            await asyncio.sleep(min(idle_s / 4, 5.0))
            now = time.monotonic()
            for session in [s for s in self._open.values() if s.idle_for(now) > idle_s]:
                log.info("session %s had no request for %g s: closed", session.id, idle_s)
                session.close()
                session.when_reaped()
            if self._librarian is not None and self._librarian.idle_for(now) > idle_s:
                self._librarian.close()
                self._librarian = None
