"""The Ray actor of one replica of a policy, and the worker's view of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnwise.agents.registry import agents as agent_registry
from turnwise.agents.registry import make_policy
from turnwise.errors import PolicyError, TurnwiseError, attribute_to
from turnwise.policy import Policy
from turnwise.records import Failure, Record
from turnwise.rollout.policy.frames import answer, encode, problem_of

_encode_failure = msgspec.msgpack.Encoder().encode


class PolicyKit(Record, frozen=True, kw_only=True):
    """What a replica is made from.

    Attributes:
        agent: The agent's specification.
        agents: The agent registry, name to import string, so that what the driver registered exists.
        pythonpath: Directories that the driver's ``sys.path`` has beyond the installation's.
        threads: Threads that a model on a CPU may use.
    """

    agent: str
    agents: Mapping[str, str]
    pythonpath: tuple[str, ...]
    threads: int


class PolicyActor:
    """An asynchronous Ray actor around one policy; ``ray.remote`` is applied by the pool.

    Ray restarts it when it dies, with the weights it was first made from. Where others were set since,
    it asks nobody to guess: questions wait until the pool has told it (:meth:`update` or :meth:`resume`).
    """

    def __init__(self, kit: PolicyKit) -> None:
        """Make the policy; nothing is loaded yet."""
        import ray

        sys.path += [entry for entry in kit.pythonpath if entry not in sys.path]
        for name, entry_point in kit.agents.items():
            agent_registry.register(name, entry_point)
        _limit_threads(kit.threads)
        self._policy: Policy = make_policy(kit.agent)
        self._current = asyncio.Event()
        self._restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        if not self._restarted:
            self._current.set()

    async def prepare(self) -> bytes | None:
        """Load the model; returns an encoded :class:`Failure` if that cannot be done."""
        return await self._tried("loading the policy", self._policy.prepare())

    async def ask(self, data: bytes) -> bytes:
        """Answer an encoded question."""
        await self._current.wait()
        return await answer(self._policy, data)

    async def waits(self) -> bool:
        """Whether it was restarted and waits to hear which weights are the right ones."""
        return not self._current.is_set()

    async def resume(self) -> None:
        """The weights that it was made from are the right ones."""
        self._current.set()

    async def update(self, weights: Any, version: str) -> bytes | None:
        """Take new weights; returns an encoded :class:`Failure` if it cannot."""
        failure = await self._tried("taking new weights", self._policy.update(weights, version))
        if failure is None:
            self._current.set()
        return failure

    async def version(self) -> str | None:
        """Return the version of the weights."""
        return self._policy.version

    async def close(self) -> None:
        """Free the model."""
        await self._policy.close()

    async def _tried(self, doing: str, call: Any) -> bytes | None:
        try:
            with attribute_to("policy", doing):
                await call
        except TurnwiseError as error:
            return _encode_failure(Failure(boundary=error.boundary, kind=error.kind, message=str(error)))
        return None


def _limit_threads(threads: int) -> None:
    """Ray sets one thread per CPU that an actor asks for, which would starve a model that has them all."""
    import os

    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)


class RayReplica:
    """A replica behind a Ray actor handle (keeps the Replica protocol)."""

    def __init__(self, handle: Any) -> None:
        """Ask ``handle``."""
        import ray

        self._ray = ray
        self._handle = handle

    async def ask(self, data: bytes) -> bytes:
        """Return the answer to a question; giving up the wait cancels it over there too.

        Raises:
            PolicyError: The replica is gone for good.
        """
        reference = self._handle.ask.remote(data)
        try:
            reply: bytes = await reference
        except asyncio.CancelledError:
            self._ray.cancel(reference)
            raise
        except self._ray.exceptions.RayError as error:
            raise lost(error) from error
        return reply

    def ask_now(self, data: bytes) -> bytes:
        """The same, blocking."""
        try:
            reply: bytes = self._ray.get(self._handle.ask.remote(data))
        except self._ray.exceptions.RayError as error:
            return encode(problem_of(lost(error)))
        return reply


def lost(error: Exception) -> PolicyError:
    """Return the error for a replica that Ray can no longer reach."""
    lines = str(error).strip().splitlines() or ["no reason given"]
    return PolicyError(f"the policy was lost ({type(error).__name__}: {lines[0][:300]})", kind="exit")


def replicas_of(handles: Sequence[Any]) -> tuple[RayReplica, ...]:
    """Return the replicas behind Ray actor handles."""
    return tuple(RayReplica(handle) for handle in handles)
