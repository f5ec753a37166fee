"""The Ray actor: one supervisor, spoken to in batches of whole episodes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from turnwise.rollout.engine.supervisor import Supervisor
from turnwise.rollout.engine.wire import decode_spec, encode
from turnwise.rollout.policy.actor import replicas_of


class RolloutWorker:
    """An asynchronous Ray actor around a :class:`Supervisor`; ``ray.remote`` is applied by the fleet."""

    def __init__(self, spec: bytes, policy: Sequence[Any] = ()) -> None:
        """Take what it is to play; the first call starts the supervisor.

        Args:
            spec: The encoded specification.
            policy: Ray handles of the policy's replicas, for agents with a model.
        """
        self._spec = decode_spec(spec)
        self._policy = policy
        self._supervisor: Supervisor | None = None
        self._starting = asyncio.Lock()

    async def exchange(
        self, requests: list[tuple[str, bytes]], max_wait: float
    ) -> tuple[list[tuple[str, bytes]], bytes | None]:
        """Take new episodes and return finished ones: the only call while a run goes on.

        Args:
            requests: Ids and encoded requests.
            max_wait: Seconds to wait for the first finished episode.

        Returns:
            Ids and journal entries; and an encoded failure once this worker can play nothing.
        """
        async with self._starting:
            if self._supervisor is None:
                self._supervisor = Supervisor(self._spec, replicas_of(self._policy))
                await self._supervisor.start()
        self._supervisor.submit(requests)
        results = await self._supervisor.collect(max_wait)
        fatal = self._supervisor.fatal
        return results, None if fatal is None else encode(fatal)

    async def pid(self) -> int:
        """Return this actor's process id."""
        return os.getpid()

    async def close(self) -> None:
        """End all processes of this worker."""
        if self._supervisor is not None:
            await self._supervisor.close()
