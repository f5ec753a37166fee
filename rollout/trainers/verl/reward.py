"""A reward function for verl (``reward.custom_reward_function``), for rollouts of other agent loops.

Configure::

    reward.custom_reward_function.path=pkg://turnwise.rollout.trainers.verl.reward
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.rewards=gated
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.records import Json
from turnwise.rollout.trainers.scores import scores, world_of
from turnwise.rollout.trainers.stepping import replay


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    fallback: float | None = None,
    reward_router_address: Any = None,
    reward_model_tokenizer: Any = None,
    **world: Json,
) -> dict[str, float]:
    """Play the messages in the world that they answer, and return the reward tree's verdict.

    Only the total survives: verl puts it on the last token. For rewards on every turn's tokens let
    :class:`~turnwise.rollout.trainers.verl.loop.TurnwiseLoop` play the episodes.

    Args:
        data_source: The dataset's column; the id of the world where ``env`` is not given.
        solution_str: What was generated: one message, where ``extra_info`` has none.
        ground_truth: The dataset's column; not used, as the world knows its own.
        extra_info: ``task_id``, and optionally ``messages``: the agent's messages in order.
        fallback: Score of an episode that failed, counted as ``valid`` 0; None raises, and verl drops
            the task's group.
        reward_router_address: Given by verl; not used.
        reward_model_tokenizer: Given by verl; not used.
        world: Options of the :class:`~turnwise.rollout.trainers.stepping.World` (``reward_kwargs``).

    Returns:
        ``score``, and the numbers of :func:`~turnwise.rollout.trainers.scores.scores`: the same keys for
        every sample, as verl demands.

    Raises:
        ConfigError: There is no task id, or an option is wrong.
        TurnwiseError: The episode failed or has no reward, and there is no fallback.
    """
    info = extra_info or {}
    task_id = info.get("task_id")
    if not isinstance(task_id, str):
        raise ConfigError(f"extra_info needs the 'task_id' of the sample, got the keys {sorted(info)}")
    played = world_of({"env": data_source, **world}, agent="verl")
    trajectory = replay(played, task_id, _messages(info.get("messages"), solution_str))
    numbers = scores(trajectory, played.rewards, fallback=fallback)
    return {"score": numbers["reward"], **numbers}


def _messages(given: Any, solution: str) -> Sequence[str]:
    if given is None or len(given) == 0:
        return [solution]
    return [str(message) for message in given]
