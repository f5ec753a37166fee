"""NeMo-Gym's sessions: which task is being played, and what the agent has said so far.

A session holds no world. Each step plays the episode again from its start in a worker, so that a step can be retried,
a world that hangs is killed with its worker, and a thousand sessions cost a thousand lists of texts.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from turnwise.rollout.oracle.settings import ServeSettings


@dataclass
class Session:
    """One episode.

    Attributes:
        id: Its name, which only its client knows.
        task_id: The task, or "" without a world.
        seed: Seed of the episode.
        messages: What the agent has said.
        last: Digest of the latest step's request, and the reply to it.
        over: Whether the episode has ended.
        used: When it was last asked for, on the clock of ``time.monotonic``.
        lock: Held while a step is under way.
    """

    id: str
    task_id: str = ""
    seed: int = 0
    messages: list[str] = field(default_factory=list)
    last: tuple[bytes, bytes] | None = None
    over: bool = False
    used: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    """The sessions of one server, the latest used ones."""

    def __init__(self, settings: ServeSettings) -> None:
        """Keep up to ``settings.max_sessions``, each for ``settings.session_idle_s`` after its last use."""
        self._most = settings.max_sessions
        self._idle_s = settings.session_idle_s
        self._known: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        """Number of sessions kept."""
        return len(self._known)

    def begin(self, task_id: str, seed: int) -> Session:
        """Make a session."""
        session = Session(id=secrets.token_urlsafe(24), task_id=task_id, seed=seed, used=time.monotonic())
        self._known[session.id] = session
        self._forget()
        return session

    def get(self, session_id: str | None) -> Session | None:
        """Return a session, or None where there is none (any more)."""
        self._forget()
        session = self._known.get(session_id or "")
        if session is not None:
            session.used = time.monotonic()
            self._known.move_to_end(session.id)
        return session

    def _forget(self) -> None:
        oldest = time.monotonic() - self._idle_s
        while self._known:
            first = next(iter(self._known.values()))
            if len(self._known) <= self._most and first.used >= oldest:
                return
            del self._known[first.id]
