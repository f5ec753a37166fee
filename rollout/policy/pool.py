"""``PolicyPool``: the replicas of one policy on a Ray cluster, for one run or for many."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import msgspec

from turnwise.agents.registry import agents as agent_registry
from turnwise.agents.registry import make_policy
from turnwise.errors import ConfigError, PolicyError, TurnwiseError, error_of
from turnwise.records import Failure
from turnwise.rollout.engine.cluster import Cluster
from turnwise.rollout.engine.paths import own_path
from turnwise.rollout.policy.actor import PolicyActor, PolicyKit, RayReplica, lost
from turnwise.rollout.policy.channel import RemoteChannel

log = logging.getLogger(__name__)

LOAD_S = 600.0  # what loading a model may take
CLOSE_S = 5.0
MAX_RESTARTS = 3
MAX_EPISODES = 10_000  # questions that wait in one replica at most; more wait before it


class PolicyPool:
    """One policy, served by replicas that batch the episodes of all workers.

    Used by itself it outlives a run, so that a model is loaded once and its weights can be updated
    between batches::

        with PolicyPool("transformers:./model") as policy:
            for step in range(10):
                for trajectory in Rollout(tasks="train:8", group=4, agent=policy, workers=2):
                    ...
                policy.update("./checkpoint", version=f"{step + 1}")

    An episode stays with one replica. A replica that dies is started again by Ray, with the weights of
    the last update; the messages it was sampling are sampled again.
    """

    def __init__(
        self,
        agent: str,
        *,
        replicas: int = 1,
        address: str | None = None,
        num_gpus: float | None = None,
        num_cpus: float | None = None,
    ) -> None:
        """Check the options; nothing is started yet.

        Args:
            agent: Specification of an agent with a model, such as ``"transformers:PATH"``.
            replicas: Copies of the policy, at least 1.
            address: Address of a Ray cluster to join; see :class:`~turnwise.rollout.Rollout`.
            num_gpus: GPUs of each replica; None takes one where the cluster has enough, else an equal
                share, else none.
            num_cpus: CPUs of each replica; None takes one where the cluster has one to spare.

        Raises:
            ConfigError: The agent has no model, or an option is out of range.
        """
        if isinstance(replicas, bool) or not isinstance(replicas, int) or replicas < 1:
            raise ConfigError(f"replicas is a whole number of at least 1, got {replicas!r}")
        self.spec = make_policy(agent).spec
        self.replicas = replicas
        self.version: str | None = None
        self._cluster = Cluster(address)
        self._num_gpus = num_gpus
        self._num_cpus = num_cpus
        self._handles: list[Any] = []
        self._weights: tuple[Any, str] | None = None
        self._exit = contextlib.ExitStack()
        self._looks: dict[Any, Any] = {}

    @property
    def handles(self) -> tuple[Any, ...]:
        """Ray handles of the replicas.

        Raises:
            PolicyError: The pool is not started.
        """
        if not self._handles:
            raise PolicyError("the policy pool is not started: use it in a 'with' block, or call start()")
        return tuple(self._handles)

    def __enter__(self) -> PolicyPool:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.close()

    def start(self) -> None:
        """Connect to Ray, start the replicas and wait until each has loaded the model; again does nothing.

        Raises:
            TurnwiseError: A replica cannot load it.
        """
        if self._handles:
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._cluster)
            stack.callback(self._dismiss)
            self._handles = self._hire()
            self._each("prepare", timeout=LOAD_S)
            self.version = self._cluster.ray.get(self._handles[0].version.remote())
            self._exit = stack.pop_all()

    def close(self) -> None:
        """End the replicas, and Ray if it was started for them."""
        self._exit.close()

    def update(self, weights: Any, version: str) -> None:
        """Have all replicas take new weights; messages being sampled are finished with the old ones.

        Args:
            weights: What the policy takes: for ``transformers`` a folder as ``save_pretrained`` writes
                it, or a mapping of parameter name to tensor.
            version: What turns are stamped with from now on.

        Raises:
            ConfigError: The policy does not take these weights; all replicas go on with the old ones
                if the first one refuses.
            PolicyError: A replica failed.
        """
        if not isinstance(version, str) or not version:
            raise ConfigError(f"a policy version is text such as 'step-10', got {version!r}")
        if isinstance(weights, os.PathLike):
            weights = os.fspath(weights)
        if isinstance(weights, str) and os.path.exists(weights):
            weights = os.path.abspath(weights)  # replicas run elsewhere
        # The first one alone, so that weights that do not fit change nothing.
        self._each("update", weights, version, among=self.handles[:1], timeout=LOAD_S)
        self._weights = (weights, version)
        self._each("update", weights, version, among=self.handles[1:], timeout=LOAD_S)
        self.version = version

    def channel(self) -> RemoteChannel:
        """Return a way to the first replica, for an agent in this process."""
        return RemoteChannel(RayReplica(self.handles[0]).ask_now)

    def tend(self) -> None:
        """Tell replicas that were restarted which weights are the right ones; never blocks."""
        ray = self._cluster.ray
        for handle in self._handles:
            look = self._looks.get(handle)
            if look is None:
                self._looks[handle] = handle.waits.remote()
                continue
            if not ray.wait([look], timeout=0)[0]:
                continue
            del self._looks[handle]
            with contextlib.suppress(ray.exceptions.RayError):
                if ray.get(look):
                    log.warning("a replica of the policy was restarted")
                    if self._weights is None:
                        handle.resume.remote()
                    else:
                        handle.update.remote(*self._weights)

    def _hire(self) -> list[Any]:
        ray = self._cluster.ray
        resources = ray.cluster_resources()
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        num_gpus = min(1.0, gpus / self.replicas) if self._num_gpus is None else self._num_gpus
        # Workers need CPUs too: a policy that would take the last ones takes none, it is mostly the GPU's work.
        num_cpus = float(cpus >= 2 * self.replicas + 1) if self._num_cpus is None else self._num_cpus
        kit = PolicyKit(
            agent=self.spec,
            agents={name: agent_registry.entry_point(name) for name in agent_registry},
            pythonpath=own_path(),
            threads=max(1, (os.cpu_count() or 1) // self.replicas),
        )
        actor = ray.remote(
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            scheduling_strategy="SPREAD",
            max_restarts=MAX_RESTARTS,
            max_task_retries=MAX_RESTARTS,
            max_concurrency=MAX_EPISODES,
        )(PolicyActor)
        return [actor.remote(kit) for _ in range(self.replicas)]

    def _each(self, method: str, *arguments: Any, among: Sequence[Any] | None = None, timeout: float) -> None:
        ray = self._cluster.ray
        handles = self._handles if among is None else among
        calls = [getattr(handle, method).remote(*arguments) for handle in handles]
        try:
            failures = ray.get(calls, timeout=timeout)
        except ray.exceptions.GetTimeoutError as error:
            raise PolicyError(f"the policy did not answer within {timeout:g} s ({method})", kind="hang") from error
        except ray.exceptions.RayError as error:
            raise _unwrapped(error) from error
        for encoded in failures:
            if encoded is not None:
                failure = msgspec.msgpack.decode(encoded, type=Failure)
                raise error_of(failure.boundary, failure.message, kind=failure.kind)

    def _dismiss(self) -> None:
        ray = self._cluster.ray
        handles, self._handles = self._handles, []
        self._looks.clear()
        closing = [handle.close.remote() for handle in handles]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for handle in handles:
            with contextlib.suppress(Exception):
                ray.kill(handle)


def _unwrapped(error: Exception) -> TurnwiseError:
    """Return our own error inside Ray's, where a constructor raised one."""
    cause = getattr(error, "cause", None) or error.__cause__
    return cause if isinstance(cause, TurnwiseError) else lost(error)
