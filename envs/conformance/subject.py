"""The environment under check: how to make it, and how to play it while keeping notes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import data_equivalence

from turnwise.env import TurnEnv
from turnwise.envs.conformance.rule import Broken, short

Policy = Callable[[Any, Mapping[str, Any]], str]


@dataclass(frozen=True)
class Step:
    """One turn as it was seen: copies, so that reused buffers show."""

    message: str
    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    info: dict[str, Any]


@dataclass(frozen=True)
class Played:
    """A played episode: what ``reset`` returned, then the turns."""

    observation: Any
    info: dict[str, Any]
    steps: tuple[Step, ...]

    @property
    def messages(self) -> tuple[str, ...]:
        """What the agent said."""
        return tuple(step.message for step in self.steps)

    @property
    def seen(self) -> list[tuple[Any, dict[str, Any]]]:
        """All observations with their info, from ``reset`` on."""
        return [(self.observation, self.info), *((step.observation, step.info) for step in self.steps)]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What the rules look at.

    Attributes:
        name: How the report calls it.
        spec: Gymnasium spec that the environments are made from.
        options: Keyword arguments of every environment (``data``, ``split``, ...).
        episodes: How many tasks to sample.
        seed: Seed of all choices of the check.
    """

    name: str
    spec: EnvSpec
    options: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 10
    seed: int = 0

    @contextmanager
    def make(self, **options: Any) -> Iterator[TurnEnv[Any]]:
        """Make an environment with further options; closes it at the end."""
        made = gymnasium.make(self.spec, **{**self.options, **options}).unwrapped
        if not isinstance(made, TurnEnv):
            raise Broken(
                f"{type(made).__name__} is not a turnwise.env.TurnEnv: subclass it, its hooks are the contract"
            )
        try:
            yield made
        finally:
            made.close()

    def generator(self, *key: int) -> np.random.Generator:
        """Return a generator of the check's own, one per ``key``."""
        return np.random.default_rng([self.seed, *key])

    def task_ids(self, env: TurnEnv[Any]) -> list[str]:
        """Return the sampled tasks, in the task set's order."""
        ids = env.tasks.ids()
        count = min(self.episodes, len(ids))
        return [ids[int(i)] for i in sorted(self.generator(1).choice(len(ids), size=count, replace=False))]


def play(
    env: TurnEnv[Any],
    policy: Policy | Sequence[str],
    *,
    seed: int,
    task_id: str | None = None,
    turns: int | None = None,
) -> Played:
    """Play an episode to its end, or for at most ``turns`` turns.

    Args:
        env: The environment.
        policy: Answers an observation; or the messages to send, in order.
        seed: Seed of the episode.
        task_id: The task, or None to let the seed choose.
        turns: Upper bound on the turns, or None for the environment's own.
    """
    options = None if task_id is None else {"task_id": task_id}
    observation, info = env.reset(seed=seed, options=options)
    first = (copy.deepcopy(observation), copy.deepcopy(info))
    return Played(*first, proceed(env, policy, observation, info, turns=turns))


def proceed(
    env: TurnEnv[Any],
    policy: Policy | Sequence[str],
    observation: Any = None,
    info: Mapping[str, Any] | None = None,
    *,
    turns: int | None = None,
) -> tuple[Step, ...]:
    """Play on from where the environment stands; see :func:`play`."""
    if not callable(policy):
        messages, turns = iter(policy), len(policy) if turns is None else min(turns, len(policy))
        return proceed(env, lambda observation, info: next(messages), turns=turns)
    # One more than the cap, so that an environment that does not cut shows, and the check still ends.
    limit = env.max_turns + 1 if turns is None else turns
    info = info or {}
    steps: list[Step] = []
    while len(steps) < limit:
        message = policy(observation, info)
        observation, reward, terminated, truncated, info = env.step(message)
        kept = (copy.deepcopy(observation), reward, terminated, truncated, copy.deepcopy(info))
        steps.append(Step(message, *kept))
        if terminated or truncated:
            break
    return tuple(steps)


def play_expert(
    env: TurnEnv[Any],
    *,
    seed: int,
    task_id: str | None = None,
    kind: str | None = None,
    turns: int | None = None,
) -> Played:
    """Play an episode with one of the environment's own experts; see :func:`play`."""
    asked: list[Any] = []

    def policy(observation: Any, info: Mapping[str, Any]) -> str:
        if not asked:
            asked.append(env.expert(kind))
        return str(asked[0].act(observation, info))

    return play(env, policy, seed=seed, task_id=task_id, turns=turns)


def text_of(observation: Any) -> str:
    """Return the text of an observation (pixel worlds give a dict with ``text``)."""
    if isinstance(observation, dict):
        observation = observation.get("text", "")
    return observation if isinstance(observation, str) else ""


def difference(first: Played, second: Played) -> str | None:
    """Return the first difference between two episodes, or None."""
    for turn, ((observation, info), (other, other_info)) in enumerate(zip(first.seen, second.seen, strict=False)):
        where = f"turn {turn - 1}" if turn else "reset"
        if not data_equivalence(observation, other, exact=True):
            return f"{where}: observation {short(observation)} against {short(other)}"
        for key in sorted({*info, *other_info}):
            if key not in info or key not in other_info or not data_equivalence(info[key], other_info[key], exact=True):
                return f"{where}: info[{key!r}] {short(info.get(key))} against {short(other_info.get(key))}"
    return steps_difference(first.steps, second.steps)


def steps_difference(first: Sequence[Step], second: Sequence[Step]) -> str | None:
    """Return the first difference between two runs of turns, or None."""
    for turn, (one, two) in enumerate(zip(first, second, strict=False)):
        for what in ("observation", "reward", "terminated", "truncated", "info"):
            mine, other = getattr(one, what), getattr(two, what)
            if not data_equivalence(mine, other, exact=True):
                return f"turn {turn}: {what} {short(mine)} against {short(other)}"
    if len(first) != len(second):
        return f"one run has {len(first)} turns, the other {len(second)}"
    return None
