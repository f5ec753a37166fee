"""Results by content: a client's retry finds what its first try has computed, or is still computing."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from turnwise.rollout.oracle.bodies import RejectedError
from turnwise.rollout.oracle.schema import EvidenceLevel, Status

_LASTING: frozenset[str] = frozenset({"ok", "invalid"})  # a judge that failed may do better when asked again


class Scored(NamedTuple):
    """A status, and the result as JSON."""

    status: Status
    body: bytes


def content_key(kind: str, evidence: EvidenceLevel, payload: bytes) -> bytes:
    """Return what two requests have in common iff they ask the same."""
    digest = hashlib.sha256(f"{kind} {evidence} ".encode())
    digest.update(payload)
    return digest.digest()


class ResultCache:
    """The latest results, bounded in number and bytes; requests for the same content share one computation."""

    def __init__(self, *, entries: int, size: int) -> None:
        """Keep up to ``entries`` results of together up to ``size`` bytes; 0 entries keep none."""
        self._entries = entries
        self._size = size
        self._used = 0
        self._kept: OrderedDict[bytes, Scored] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Task[Scored]] = {}
        self.hits = 0
        self.shared = 0

    def __len__(self) -> int:
        """Number of results kept."""
        return len(self._kept)

    async def get(self, key: bytes, compute: Callable[[], Awaitable[Scored]], join_s: float) -> Scored:
        """Return the result for a key, computing it if nobody has.

        A computation goes on when the caller that began it leaves: its retry will ask for it.

        Args:
            key: From :func:`content_key`.
            compute: Computes it, and keeps its own deadline.
            join_s: Seconds to wait for a computation that another request began.

        Raises:
            TimeoutError: That was too short.
        """
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            self.hits += 1
            return kept
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(self._compute(key, compute))
            self._under_way[key] = task
            return await asyncio.shield(task)
        self.shared += 1
        return await asyncio.wait_for(asyncio.shield(task), join_s)

    async def _compute(self, key: bytes, compute: Callable[[], Awaitable[Scored]]) -> Scored:
        try:
            scored = await compute()
        finally:
            self._under_way.pop(key, None)
        if scored.status in _LASTING and self._entries and len(scored.body) <= self._size:
            self._kept[key] = scored
            self._used += len(scored.body)
            while len(self._kept) > self._entries or self._used > self._size:
                _, oldest = self._kept.popitem(last=False)
                self._used -= len(oldest.body)
        return scored


class IdempotencyKeys:
    """The latest ``Idempotency-Key`` headers, each with the content that it came with."""

    def __init__(self, entries: int) -> None:
        """Remember up to ``entries`` keys."""
        self._entries = entries
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def check(self, key: str, body: bytes) -> None:
        """Note a key.

        Raises:
            RejectedError: 409 where it came with another body before.
        """
        digest = hashlib.sha256(body).digest()
        known = self._known.setdefault(key, digest)
        self._known.move_to_end(key)
        if known != digest:
            raise RejectedError(409, "key_reused", f"the Idempotency-Key {key[:80]!r} came with another body before")
        while len(self._known) > self._entries:
            self._known.popitem(last=False)
