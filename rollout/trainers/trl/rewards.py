"""Reward functions for TRL from a reward tree.

TRL calls ``f(prompts=, completions=, completion_ids=, **columns)`` and takes ``list[float | None]``. None
leaves a completion out; so an invalid reward, a failed episode and a judge that is down never count as 0.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from turnwise.errors import ConfigError, did_you_mean
from turnwise.records import Json, Trajectory
from turnwise.rollout.trainers.rows import TOTAL
from turnwise.rollout.trainers.stepping import World, replay

Scores: TypeAlias = "list[float | None]"
RewardFunction: TypeAlias = Callable[..., Scores]
AsyncRewardFunction: TypeAlias = Callable[..., Coroutine[Any, Any, Scores]]


# -- of episodes that Rollouts played ---------------------------------------------------------------


def episode_reward(*, episode_reward: Sequence[float | None], **columns: Any) -> Scores:
    """Return the rewards of the episodes that :class:`Rollouts` played; None where invalid.

    Logs the share of episodes that were solved and of those that may not be trained on.
    """
    outcomes = [outcome for outcome in columns.get("episode_outcome", ()) if outcome is not None]
    log = columns.get("log_metric")
    if log is not None and outcomes:
        log("turnwise/success", math.fsum(outcomes) / len(outcomes))
    if log is not None and episode_reward:
        log("turnwise/invalid", sum(reward is None for reward in episode_reward) / len(episode_reward))
    return list(episode_reward)


def component_reward(name: str) -> RewardFunction:
    """Return the reward function of one weighted reward of the tree, for TRL's multi-objective options.

    Args:
        name: Its name in the reward configuration. The functions of all weighted names sum to
            :func:`episode_reward`.
    """

    def component(*, reward_components: Sequence[Mapping[str, float] | None], **columns: Any) -> Scores:
        return [_share(name, shares) for shares in reward_components]

    component.__name__ = name
    return component


def _share(name: str, shares: Mapping[str, float] | None) -> float | None:
    if shares is None:
        return None
    if name not in shares:
        raise ConfigError(f"the total has no part {name!r}.{did_you_mean(name, shares)}")
    return shares[name]


# -- of completions that TRL sampled -----------------------------------------------------------------


def make_reward(
    env: str = "turnwise/Household-v0",
    *,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    env_options: Mapping[str, Json] | None = None,
    max_turns: int | None = None,
    rewards: str | Path | Mapping[str, Json] | None = None,
    reward: str = TOTAL,
) -> RewardFunction:
    """Return a reward function that plays a completion in a world and scores it with a reward tree.

    For completions that TRL sampled itself: the assistant messages, or the text, are the agent's
    messages in order. The data set needs a column ``task_id``.

    Args:
        env: Id of a registered environment.
        data: A public data set in its own format; None is the embedded task set.
        split: The split that the tasks are of; None is the world's default.
        env_options: Further keyword arguments of the environment.
        max_turns: Turns after which an episode is truncated.
        rewards: Reward configuration; None is the built-in set.
        reward: Which reward of the tree to return.

    Raises:
        ConfigError: An option is wrong.
    """
    world = _world(env, data, split, env_options, max_turns, rewards, reward)

    def turnwise_reward(*, completions: Sequence[Any], task_id: Sequence[str], **columns: Any) -> Scores:
        return [_score(world, reward, task, completion) for task, completion in zip(task_id, completions, strict=True)]

    turnwise_reward.__name__ = reward
    return turnwise_reward


def make_async_reward(
    env: str = "turnwise/Household-v0",
    *,
    data: str | os.PathLike[str] | None = None,
    split: str | None = None,
    env_options: Mapping[str, Json] | None = None,
    max_turns: int | None = None,
    rewards: str | Path | Mapping[str, Json] | None = None,
    reward: str = TOTAL,
    concurrency: int = 32,
) -> AsyncRewardFunction:
    """Return :func:`make_reward` as an async function, for rewards that wait for a judge.

    Args:
        env: As in :func:`make_reward`, and so are the others.
        data: See there.
        split: See there.
        env_options: See there.
        max_turns: See there.
        rewards: See there.
        reward: See there.
        concurrency: Completions scored at once, at least 1, each in a thread.

    Raises:
        ConfigError: An option is wrong.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise ConfigError(f"concurrency is a whole number of at least 1, got {concurrency!r}")
    world = _world(env, data, split, env_options, max_turns, rewards, reward)

    async def turnwise_reward(*, completions: Sequence[Any], task_id: Sequence[str], **columns: Any) -> Scores:
        room = asyncio.Semaphore(concurrency)

        async def score(task: str, completion: Any) -> float | None:
            async with room:
                return await asyncio.to_thread(_score, world, reward, task, completion)

        return list(await asyncio.gather(*map(score, task_id, completions)))

    turnwise_reward.__name__ = reward
    return turnwise_reward


def _world(
    env: str,
    data: str | os.PathLike[str] | None,
    split: str | None,
    env_options: Mapping[str, Json] | None,
    max_turns: int | None,
    rewards: str | Path | Mapping[str, Json] | None,
    reward: str,
) -> World:
    world = World(
        env, agent="trl", tasks=split, data=data, env_options=env_options, max_turns=max_turns, rewards=rewards
    )
    if reward not in world.rewards.names:
        raise ConfigError(f"the reward tree has no reward {reward!r}.{did_you_mean(reward, world.rewards.names)}")
    return world


def _score(world: World, reward: str, task_id: str, completion: Any) -> float | None:
    return value_of(replay(world, task_id, messages_of(completion)), reward)


def value_of(trajectory: Trajectory, reward: str) -> float | None:
    """Return a trajectory's reward, None where it is invalid or the episode failed."""
    value = trajectory.rewards.get(reward)
    return None if trajectory.failed or value is None else value.value


def messages_of(completion: Any) -> list[str]:
    """Return the agent's messages of a completion: its text, or its assistant messages in order.

    A message that calls tools is one message per call, in the JSON form that every world reads.

    Raises:
        ConfigError: It is neither.
    """
    if isinstance(completion, str):
        return [completion]
    if not isinstance(completion, Sequence) or not all(isinstance(message, Mapping) for message in completion):
        raise ConfigError(f"a completion is text or a list of messages, got {type(completion).__name__}")
    texts: list[str] = []
    for message in completion:
        if message.get("role") == "assistant":
            texts += _texts_of(message)
    return texts


def _texts_of(message: Mapping[str, Any]) -> list[str]:
    calls = message.get("tool_calls") or ()
    content = message.get("content")
    said = content if isinstance(content, str) else ""
    if not calls:
        return [said]
    return [json.dumps({"content": said, "tool_calls": [call]}, ensure_ascii=False) for call in calls]
