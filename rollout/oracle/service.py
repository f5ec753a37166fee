"""The served oracle without HTTP: limits, cache, workers and counters, on one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from turnwise import registry
from turnwise.errors import JudgeError
from turnwise.protocols import Credit
from turnwise.records import Json
from turnwise.rewards.config import read_config
from turnwise.rollout.oracle.bodies import RejectedError, decode, within
from turnwise.rollout.oracle.cache import IdempotencyKeys, ResultCache, Scored, content_key
from turnwise.rollout.oracle.credit import assign
from turnwise.rollout.oracle.frames import Setup
from turnwise.rollout.oracle.kinds import encode_result
from turnwise.rollout.oracle.metrics import Metrics
from turnwise.rollout.oracle.pool import WorkerPool, own_path
from turnwise.rollout.oracle.schema import EvidenceLevel, ItemResult, Status
from turnwise.rollout.oracle.scorer import Oracle
from turnwise.rollout.oracle.settings import ServeSettings

_STATUSES: dict[str, Status] = {"ok": "ok", "judge_failed": "judge_failed", "invalid": "invalid", "timeout": "timeout"}


class OracleService:
    """Scores payloads in worker processes.

    Attributes:
        oracle: The same oracle in this process, for what needs no scoring; nothing is scored with it.
        settings: Limits.
        metrics: Counters.
        pool: The workers.
        cache: Results by content.
        keys: Idempotency keys.
    """

    def __init__(
        self,
        rewards: str | Path | Mapping[str, Json] | None = None,
        *,
        env: str | None = None,
        env_options: Mapping[str, Json] | None = None,
        tokenizer: str | None = None,
        match: str = "exact",
        settings: ServeSettings | None = None,
    ) -> None:
        """Check the configuration; workers start with :meth:`start`.

        Args:
            rewards: The configuration, as :func:`turnwise.rewards.load_rewards` takes it.
            env: As in :class:`turnwise.rollout.oracle.Oracle`.
            env_options: As there.
            tokenizer: As there.
            match: As there.
            settings: Limits and deadlines.

        Raises:
            ConfigError: Something in it is wrong.
            MissingExtraError: prometheus-client is not installed.
        """
        self.settings = settings or ServeSettings()
        self.oracle = Oracle(rewards, env=env, env_options=env_options, match=match, threads=self.settings.threads)
        setup = Setup(
            path=own_path(),
            rewards=None if rewards is None else dict(read_config(rewards)[1]),
            registered=_registered(),
            env=env,
            env_options=dict(env_options or {}),
            tokenizer=None if tokenizer is None else str(Path(tokenizer).absolute()),
            match=match,
            threads=self.oracle.threads,
        )
        self.pool = WorkerPool(setup, self.settings)
        self.cache = ResultCache(entries=self.settings.cache_entries, size=self.settings.cache_bytes)
        self.keys = IdempotencyKeys(self.settings.cache_entries or 1)
        self.metrics = Metrics()
        self.pending = 0
        self._started = False
        self._show_gauges()

    async def start(self) -> None:
        """Start the workers, if they have not been started.

        Raises:
            ConfigError: They cannot make the rewards.
        """
        if not self._started:
            self._started = True
            await self.pool.start()

    async def stop(self) -> None:
        """End the workers."""
        await self.pool.stop()

    # -- scoring -----------------------------------------------------------------------------------

    def admit(self, items: int) -> None:
        """Take in a request.

        Raises:
            RejectedError: 413 for more items than a request may have, 429 while too many are pending.
        """
        limits = self.settings
        if items > limits.max_items:
            raise RejectedError(413, "too_many_items", f"a request may have {limits.max_items} items, got {items}")
        if self.pending + items > max(limits.max_pending, items if not self.pending else 0):
            raise RejectedError(
                429, "busy", f"{self.pending} items are pending, at most {limits.max_pending}: try again later"
            )

    async def score(
        self,
        kind: str,
        payload: bytes,
        *,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
        inside: str = "",
        item_id: str = "",
    ) -> Scored:
        """Score one payload; a judge that fails or hangs is a status.

        Args:
            kind: What the payload is.
            payload: The payload.
            evidence: How much evidence to return.
            deadline_s: Seconds to answer in; the settings' at most.
            inside: Where the payload stands in its request, for errors.
            item_id: The item's id, for the result where the payload is not looked at.

        Raises:
            RejectedError: The payload cannot be read.
        """
        limit = self.settings.deadline_s
        seconds = limit if deadline_s is None else min(limit, deadline_s)
        self.pending += 1
        try:
            compute = partial(self._compute, kind, payload, evidence, seconds, item_id)
            if not self.settings.cache_entries:
                return await compute()
            key = content_key(kind, evidence, payload)
            return await self.cache.get(key, compute, seconds)
        except asyncio.TimeoutError:
            return self._timeout(item_id, seconds)
        except RejectedError as error:
            raise within(error, inside) from error
        finally:
            self.pending -= 1

    async def score_all(
        self,
        kind: str,
        payloads: Sequence[bytes],
        *,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
        inside: str = "items",
        ids: Sequence[str] = (),
    ) -> list[Scored]:
        """Score several payloads at once, in order.

        Raises:
            RejectedError: One cannot be read; the place says which.
        """
        score = partial(self.score, kind, evidence=evidence, deadline_s=deadline_s)
        names = list(ids) or [""] * len(payloads)
        if len(payloads) == 1:
            return [await score(payloads[0], inside=f"{inside}[0]" if inside else "", item_id=names[0])]
        tasks = [
            asyncio.ensure_future(score(payload, inside=f"{inside}[{place}]", item_id=names[place]))
            for place, payload in enumerate(payloads)
        ]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _compute(
        self, kind: str, payload: bytes, evidence: EvidenceLevel, seconds: float, item_id: str
    ) -> Scored:
        try:
            done = await self.pool.score(kind, payload, evidence, seconds)
        except TimeoutError:
            return self._timeout(item_id, seconds)
        except JudgeError as error:
            return self.lost(item_id, "judge_failed", f"judge: {error}")
        if done.http == 500:
            return self.lost(item_id, "judge_failed", done.body.decode())
        if done.http:
            raise RejectedError(done.http, done.status, done.body.decode(), place=done.place)
        return Scored(_STATUSES[done.status], done.body)

    def _timeout(self, item_id: str, seconds: float) -> Scored:
        return self.lost(item_id, "timeout", f"judge: it took longer than {seconds:g} s")

    def lost(self, item_id: str, status: Status, reason: str) -> Scored:
        """Return the result of an item that no worker has answered."""
        return Scored(status, encode_result(self.oracle.shape.without_reward(item_id, status, reason)))

    async def with_credit(
        self, scored: Sequence[Scored], groups: Sequence[str], lengths: Sequence[int], credit: Credit
    ) -> list[Scored]:
        """Return the results with advantages.

        Raises:
            ConfigError: The rule does not fit the rewards.
        """
        results = [decode(ItemResult, one.body) for one in scored]
        assigned = await asyncio.to_thread(assign, results, groups, lengths, credit, self.oracle.shape)
        return [Scored(result.status, encode_result(result)) for result in assigned]

    def _show_gauges(self) -> None:
        show, counts = self.metrics.gauge, self.pool.counts
        show("pending_items", "Items waiting or being scored", lambda: self.pending)
        show("queued_items", "Items that no worker has yet", lambda: self.pool.waiting)
        show("workers", "Worker processes", lambda: self.pool.alive)
        show("workers_started", "Worker processes started so far", lambda: counts.started)
        show("workers_killed", "Worker processes killed because they hung", lambda: counts.killed)
        show("workers_died", "Worker processes that died by themselves", lambda: counts.died)
        show("workers_stalled", "How often a worker made no progress", lambda: counts.stalled)
        show("cached_results", "Results kept by content", lambda: len(self.cache))
        show("cache_hits", "Items answered from the cache", lambda: self.cache.hits)
        show("cache_shared", "Items that joined a computation under way", lambda: self.cache.shared)


def _registered() -> dict[str, str]:
    envs = {f"env {name}": registry.envs.entry_point(name) for name in registry.envs}
    return envs | {f"reward {name}": registry.rewards.entry_point(name) for name in registry.rewards}
