"""A graded episode as the numbers of a trainer's reward function: the same keys for every episode of a run."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError, JudgeError, TurnwiseError, error_of
from turnwise.records import Json, Trajectory
from turnwise.rewards.tree import RewardTree
from turnwise.rollout.trainers.rows import TOTAL, shares
from turnwise.rollout.trainers.stepping import World

_worlds: dict[tuple[str, str], World] = {}
_lock = threading.Lock()


def world_of(options: Mapping[str, Json], *, agent: str) -> World:
    """Return the world of these options, made once per process: trainers ask for it again and again.

    Args:
        options: Keyword arguments of :class:`~turnwise.rollout.trainers.stepping.World`: JSON values, or a
            configuration library's mappings and lists of such.
        agent: Whose messages these are, for the records.

    Raises:
        ConfigError: An option is unknown or wrong.
    """
    try:
        plain = {str(name): _plain(value) for name, value in options.items()}
        key = (agent, json.dumps(plain, sort_keys=True))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the options of a world are JSON values: {error}") from error
    with _lock:
        if key not in _worlds:
            try:
                _worlds[key] = World(agent=agent, **plain)
            except TypeError as error:
                raise ConfigError(f"these are no options of a world: {sorted(options)} ({error})") from error
        return _worlds[key]


def _plain(value: Any) -> Json:
    """Return the JSON value behind a configuration library's own mappings and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def problem_of(trajectory: Trajectory) -> TurnwiseError | None:
    """Return why an episode has no reward, as an error of the boundary that is to blame; None if it has one."""
    failure, total = trajectory.ending.failure, trajectory.rewards.get(TOTAL)
    if trajectory.failed and failure is not None:
        return error_of(failure.boundary, f"{trajectory.id}: {failure.message}", kind=failure.kind)
    if total is None or total.value is None:
        return JudgeError(f"{trajectory.id} has no reward: {'none is attached' if total is None else total.invalid}")
    return None


def scores(trajectory: Trajectory, tree: RewardTree, *, fallback: float | None = None) -> dict[str, float]:
    """Return an episode's reward and what else a trainer may log, all of it finite numbers.

    Args:
        trajectory: A graded episode.
        tree: What it was graded with, for the names of the components.
        fallback: Reward of an episode that has none, then with ``valid`` 0.0; None makes that an error.

    Returns:
        ``reward``; ``valid`` (1.0 or 0.0); ``outcome`` (1.0 where the task was solved); ``progress``;
        ``turns``; and for each reward of the tree that has a weight ``component/NAME``. The components
        sum to the reward where ``valid`` is 1.0.

    Raises:
        TurnwiseError: The episode has no reward, and there is no fallback.
    """
    problem = problem_of(trajectory)
    if problem is not None and fallback is None:
        raise problem
    total = trajectory.rewards.get(TOTAL)
    found = {} if problem is not None else shares(total)
    outcome = trajectory.outcome
    numbers: dict[str, Any] = {
        "reward": fallback if problem is not None or total is None else total.value,
        "valid": problem is None,
        "outcome": outcome is not None and outcome.success,
        "progress": 0.0 if outcome is None else outcome.progress,
        "turns": len(trajectory.turns),
    }
    parts = {f"component/{part.name}": found.get(part.name, 0.0) for part in tree.rewards if part.weight != 0.0}
    return {name: float(number) for name, number in {**numbers, **parts}.items()}
