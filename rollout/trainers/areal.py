"""AReaL 1.0: an agent that plays our worlds over AReaL's proxy and returns a reward for every response.

What survives of turn rewards: every one. AReaL takes ``{completion id: reward}``, one for each message; with
``export_style="individual"`` each message is a training sequence of its own with its own reward. AReaL then
adds later rewards to earlier ones (``turn_discount``), which makes them returns-to-go: give it turn rewards,
not returns. With ``export_style="concat"`` only the last message's number is used.

This adapter is written from AReaL's source of 2026-08-22 and not run against AReaL, whose pins exclude this
project's torch. What is tested is our side: that each response's id gets its turn's reward.

Configure the rollout with ``workflow="turnwise.rollout.trainers.areal.WorldAgent"`` and
``workflow_kwargs={"world": {"env": "turnwise/Household-v0", "rewards": "gated"}}``; a dataset's rows hold the
``task_id``. A failed episode raises, and AReaL rejects the trajectory; it is never a reward of 0.

Install: ``pip install areal==1.0.4 'turnwise[llm]'``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError
from turnwise.records import Json, Trajectory
from turnwise.rollout.trainers.dialogue import OwnThread
from turnwise.rollout.trainers.scores import problem_of, world_of
from turnwise.rollout.trainers.stepping import DrivenEpisode


def response_rewards(trajectory: Trajectory, response_ids: Sequence[str]) -> dict[str, float]:
    """Return each response's reward: that of the turn it was the message of.

    Args:
        trajectory: A graded episode.
        response_ids: The id of each turn's response, in order.

    Raises:
        TurnwiseError: The episode failed or has no reward.
        ConfigError: There are not as many ids as turns, or one is there twice.
    """
    problem = problem_of(trajectory)
    if problem is not None:
        raise problem
    if len(response_ids) != len(trajectory.turns) or len(set(response_ids)) != len(response_ids):
        raise ConfigError(
            f"{trajectory.id} has {len(trajectory.turns)} turns, which need a response id each, "
            f"got {list(response_ids)}"
        )
    values = [turn.rewards["reward"].value for turn in trajectory.turns]
    return {name: value for name, value in zip(response_ids, values, strict=True) if value is not None}


class WorldAgent:
    """An agent in AReaL's sense: ``run`` plays an episode with an OpenAI client and returns its rewards."""

    def __init__(self, *, world: Mapping[str, Json], model: str = "default", **sampling: Any) -> None:
        """Describe the episodes; AReaL makes this once and runs it for every row.

        Args:
            world: Options of the :class:`~turnwise.rollout.trainers.stepping.World`.
            model: Name of the model at the proxy.
            sampling: Passed on to every chat completion, such as ``temperature``.
        """
        self._options = dict(world)
        self._model = model
        self._sampling = sampling

    async def run(self, data: Mapping[str, Any], **extra: Any) -> dict[str, float]:
        """Play the episode of a row.

        Args:
            data: The row, with its ``task_id`` and optionally the ``sample``, a number within the group.
            extra: ``base_url``, ``api_key`` and ``http_client`` of AReaL's proxy.

        Returns:
            The id of each chat completion and its turn's reward.

        Raises:
            ConfigError: The row names no task.
            TurnwiseError: The episode failed or has no reward; AReaL rejects it.
        """
        task_id = data.get("task_id")
        if not isinstance(task_id, str):
            raise ConfigError(f"each row needs its 'task_id', got the keys {sorted(data)}")
        client = extra.get("client") or _client(extra)
        episode, aside = DrivenEpisode(world_of(self._options, agent="areal")), OwnThread()
        ids: list[str] = []
        try:
            seen = await aside(episode.begin, task_id, sample=int(data.get("sample", 0)))
            messages: list[dict[str, str]] = [{"role": "system", "content": episode.system_prompt}]
            while not episode.over:
                messages.append({"role": "user", "content": seen})
                reply = await client.chat.completions.create(model=self._model, messages=messages, **self._sampling)
                ids.append(str(reply.id))
                text = reply.choices[0].message.content or ""
                # As the proxy holds it, so that it knows the next request for a continuation of this one.
                messages.append({"role": "assistant", "content": text})
                seen = (await aside(episode.step, text)).observation
            return response_rewards(await aside(episode.trajectory), ids)
        finally:
            await aside(episode.close)
            aside.close()


def _client(extra: Mapping[str, Any]) -> Any:
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise MissingExtraError("openai", "llm") from error
    return AsyncOpenAI(
        base_url=extra.get("base_url") or os.environ.get("OPENAI_BASE_URL"),
        api_key=extra.get("api_key") or os.environ.get("OPENAI_API_KEY"),
        http_client=extra.get("http_client"),
        max_retries=0,  # a request that is sent twice is two responses to AReaL
    )
