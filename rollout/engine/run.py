"""``Rollout``: what users call."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from turnwise.agents.registry import has_policy
from turnwise.errors import ConfigError
from turnwise.policy import Channel
from turnwise.records import Json, Trajectory
from turnwise.rollout.engine.fleet import Fleet
from turnwise.rollout.engine.journal import Recording
from turnwise.rollout.engine.local import play_here
from turnwise.rollout.engine.plan import make_plan
from turnwise.rollout.engine.wire import DEFAULT_MEMORY_LIMIT, Deadlines, EpisodeRequest, assemble
from turnwise.rollout.policy.pool import PolicyPool
from turnwise.rollout.store import RunStore
from turnwise.rollout.store.layout import MANIFEST
from turnwise.rollout.store.manifest import Status
from turnwise.rollout.summary import RunSummary

DEFAULT_SLOTS = 2
DEFAULT_MODEL_SLOTS = 8
MAX_SHOWN = 120


class Rollout:
    """Parallel episodes with rewards on every turn.

    Iterating plays what is missing and yields each trajectory as it completes::

        for trajectory in Rollout("turnwise/Household-v0", tasks="train:64", group=4, workers=2):
            print(trajectory.id, trajectory.rewards)

    Leaving the loop early, by ``break``, an exception or Ctrl-C, ends all processes. A failed
    episode is a trajectory too: it says at which boundary it failed and why, and has no outcome.
    """

    def __init__(
        self,
        env: str = "turnwise/Household-v0",
        *,
        tasks: str | Sequence[str] | None = None,
        data: str | os.PathLike[str] | None = None,
        env_options: Mapping[str, Json] | None = None,
        max_turns: int | None = None,
        group: int = 1,
        agent: str | PolicyPool = "expert",
        rewards: str | Path | Mapping[str, Json] | None = None,
        seed: int = 0,
        workers: int = 1,
        slots: int | None = None,
        replicas: int = 1,
        address: str | None = None,
        deadlines: Deadlines | None = None,
        memory_limit: int | None = DEFAULT_MEMORY_LIMIT,
        out: str | os.PathLike[str] | None = None,
    ) -> None:
        """Check the options and resolve the tasks; nothing is started yet.

        The trajectories depend on ``env``, ``tasks``, ``data``, ``env_options``, ``max_turns``,
        ``group``, ``agent``, ``rewards`` and ``seed`` only, not on the number of workers or slots.

        Args:
            env: Id of a registered environment.
            tasks: ``"SPLIT"``, ``"SPLIT:N"`` (the first N), ``"SPLIT:A-B"`` (from A up to, not
                including, B, 0-based), or a list of task ids. None is the whole ``train`` split.
            data: A public data set in its own format; None is the embedded task set.
            env_options: Further keyword arguments of the environment, JSON-compatible.
            max_turns: Turns after which an episode is truncated; None is the world's default.
            group: Episodes per task, at least 1.
            agent: Specification of the agent, such as ``"noisy-expert:0.2"`` or
                ``"transformers:PATH"``; or a started :class:`~turnwise.rollout.policy.PolicyPool`,
                which outlives the run.
            rewards: Reward configuration: a preset's name, a YAML file or a mapping; None is the
                built-in set.
            seed: Seed of the run, at least 0; each episode's own seed derives from it.
            workers: Ray actors. 0 plays in this process without Ray, for debugging; deadlines and
                memory limits are not enforced then.
            slots: Episodes at once per worker, each in a process of its own; None is 2, and 8 for
                agents with a model, which answers many at once. Raise it for environments or agents
                that mostly wait.
            replicas: Copies of the model, for agents that have one. Worker processes never load it.
            address: Address of a Ray cluster to join, or ``"auto"``; None uses the connection that
                this process has, else ``$RAY_ADDRESS``, else starts Ray on this machine.
            deadlines: When an episode's process is killed; see :class:`Deadlines`.
            memory_limit: Bytes that one episode's process may allocate; beyond, the episode fails
                with kind ``"memory"``. None for no limit.
            out: Directory to store the run in. If it holds a part of the same run already, only the
                rest is played.

        Raises:
            ConfigError: An option is wrong, or ``out`` holds another run.
            MissingExtraError: Something optional is not installed.
        """
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise ConfigError(f"workers is a whole number of at least 0, got {workers!r}")
        pool = agent if isinstance(agent, PolicyPool) else None
        agent = agent if isinstance(agent, str) else _spec_of(agent)
        modelled = has_policy(agent)
        if slots is None:
            slots = DEFAULT_MODEL_SLOTS if modelled else DEFAULT_SLOTS
        if isinstance(slots, bool) or not isinstance(slots, int) or slots < 1:
            raise ConfigError(f"slots is a whole number of at least 1 or None, got {slots!r}")
        self.workers = workers
        self.plan = make_plan(
            env=env,
            tasks=tasks,
            data=data,
            env_options=env_options or {},
            max_turns=max_turns,
            group=group,
            agent=agent,
            rewards=rewards,
            seed=seed,
            workers=workers,
            slots=slots,
            deadlines=deadlines or Deadlines(),
            memory_limit=memory_limit,
        )
        self._policy = PolicyPool(agent, replicas=replicas, address=address) if modelled and pool is None else pool
        self._lasting = pool is not None
        self._address = address
        self.out = None if out is None else Path(out)
        self.stored = _stored(self.out, self.plan.config)

    @property
    def total(self) -> int:
        """Number of episodes in the whole run, those that are stored already included."""
        return self.plan.total

    def run(self) -> RunSummary:
        """Play what is missing and return the summary of the whole run."""
        summary = RunSummary()
        if self.out is not None and self.stored:
            for trajectory in RunStore.open(self.out).trajectories():
                summary.add(trajectory)
        summary.start()
        for trajectory in self:
            summary.add(trajectory)
        summary.stop()
        return summary

    def __iter__(self) -> Generator[Trajectory, None, None]:
        """Play what is missing and yield each trajectory once, in completion order."""
        store = None if self.out is None else _open_store(self.out, self.plan.config)
        status: Status | None = None
        try:
            with contextlib.closing(self._play(store.ids() if store else set())) as played:
                for request, recording in played:
                    trajectory = assemble(self.plan.spec, request, *recording.decoded())
                    if store is not None:
                        for png in recording.images:
                            store.images.put(png)
                        store.append(trajectory)
                    yield trajectory
            status = "complete"
        finally:
            if store is not None:
                store.close(status)
                self.stored = frozenset(store.ids())

    def _play(self, done: set[str]) -> Generator[tuple[EpisodeRequest, Recording], None, None]:
        if len(done) >= self.total:
            return
        requests = self.plan.requests(done)
        if self.workers == 0:
            yield from play_here(self.plan.spec, requests, channel=self._channel())
            return
        with contextlib.ExitStack() as stack:
            if self._policy is not None and not self._lasting:
                stack.enter_context(self._policy)
            spec, address = self.plan.spec, self._address
            fleet = stack.enter_context(Fleet(spec, workers=self.workers, address=address, policy=self._policy))
            yield from fleet.play(requests)

    def _channel(self) -> Channel | None:
        """Return the way to a policy that the caller has started; else one in this process is used."""
        return self._policy.channel() if self._policy is not None and self._lasting else None


def _spec_of(agent: object) -> str:
    if isinstance(agent, PolicyPool):
        return agent.spec
    raise ConfigError(f"an agent is named by text such as 'expert', or a PolicyPool, got {type(agent).__name__}")


def _stored(out: Path | None, config: Mapping[str, Json]) -> frozenset[str]:
    """Return the ids that ``out`` holds already, after a check that it is the same run."""
    if out is None or not (out / MANIFEST).exists():
        return frozenset()
    store = RunStore.open(out)
    _check_same(store, config)
    return frozenset(store.ids())


def _open_store(out: Path, config: Mapping[str, Json]) -> RunStore:
    if not (out / MANIFEST).exists():
        return RunStore.create(out, config)
    store = RunStore.open(out, "a")
    try:
        _check_same(store, config)
    except ConfigError:
        store.close()
        raise
    return store


def _check_same(store: RunStore, config: Mapping[str, Json]) -> None:
    """A run is resumed only by the configuration that it was started with."""
    manifest = store.manifest
    differ = [key for key, value in config.items() if manifest.get(key) != value]
    if differ:
        changes = "; ".join(f"{key} was {_short(manifest.get(key))}, now {_short(config[key])}" for key in differ)
        raise ConfigError(f"{store.path} holds another run: {changes}. Choose another directory, or use what it had")


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "..."
