"""A reward manager for verl that puts turn rewards on their tokens, for agent loops that report them.

Configure::

    reward.reward_manager.source=importlib
    reward.reward_manager.name=TurnRewardManager
    reward.reward_manager.module.path=pkg://turnwise.rollout.trainers.verl.manager

verl asks a manager for a batch's scores at once only where rewards are computed after the rollout; where
they are computed as episodes arrive, it takes one number per episode and this manager gives the sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.verl import REQUIREMENT

_naive: Any = trainer_module("verl.experimental.reward_loop.reward_manager.naive", REQUIREMENT)


class TurnRewardManager(_naive.NaiveRewardManager):  # type: ignore[misc]
    """verl's own manager, except for samples whose agent loop reports ``turn_rewards`` and ``turn_spans``."""

    async def run_single(self, data: Any) -> dict[str, Any]:
        """Return a sample's reward: the sum of its turn rewards, else what verl's manager makes of it."""
        fields = _fields(data[-1:])[0]
        if fields is None:
            scored: dict[str, Any] = await super().run_single(data)
            return scored
        rewards = [float(reward) for reward in fields["turn_rewards"]]
        return {"reward_score": math.fsum(rewards), "reward_extra_info": {"turns": float(len(rewards))}}

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: Sequence[float]) -> Any:
        """Return token rewards: each turn's reward on the last token of its span.

        Args:
            data: The batch; ``tool_extra_fields`` of a sample may hold ``turn_rewards`` and ``turn_spans``,
                half-open and counted from the first response token.
            scores: One number per sample, used where there are no turn rewards.

        Returns:
            float32 of shape (samples, response length).

        Raises:
            ConfigError: Spans and rewards do not fit together or to the response.
        """
        placed = super().assemble_rm_scores(data, scores)
        for row, fields in zip(placed, _fields(data), strict=True):
            if fields is not None:
                row.zero_()
                for end, reward in _ends(fields, len(row)):
                    row[end - 1] += reward
        return placed


def _fields(data: Any) -> list[Mapping[str, Any] | None]:
    """Return what each sample's agent loop reports of turns, or None."""
    given = data.non_tensor_batch.get("tool_extra_fields")
    if given is None:
        return [None] * len(data)
    return [fields if fields is not None and fields.get("turn_rewards") is not None else None for fields in given]


def _ends(fields: Mapping[str, Any], length: int) -> list[tuple[int, float]]:
    spans, rewards = fields.get("turn_spans"), fields["turn_rewards"]
    if spans is None or len(spans) != len(rewards):
        raise ConfigError(f"{len(rewards)} turn_rewards need as many turn_spans, got {spans!r}")
    for start, end in spans:
        if not 0 <= start < end <= length:
            raise ConfigError(f"the turn span {(start, end)} is outside the response of {length} tokens")
    return [(int(end), float(reward)) for (_, end), reward in zip(spans, rewards, strict=True)]
