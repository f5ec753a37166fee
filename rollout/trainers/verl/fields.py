"""An episode as the fields of verl's agent loop output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from turnwise.errors import ConfigError
from turnwise.rollout.trainers.rows import TrainingRow


def output_fields(row: TrainingRow, *, extra_fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the keyword arguments of verl's ``AgentLoopOutput``, and ``token_rewards`` for ours.

    Args:
        row: A valid row.
        extra_fields: What else verl is to store with it.

    Raises:
        ConfigError: The row has no reward.
    """
    if row.reward is None:
        raise ConfigError(f"{row.id} has no reward ({row.why}): verl can only leave it out")
    return {
        "prompt_ids": list(row.prompt_ids),
        "response_ids": list(row.response_ids),
        "response_mask": list(row.loss_mask),
        "response_logprobs": list(row.logprobs) or None,
        "reward_score": row.reward,
        "num_turns": 2 * len(row.turn_spans) + 1,
        "extra_fields": {
            "turn_spans": [list(span) for span in row.turn_spans],
            "turn_rewards": list(row.turn_rewards),
            **(extra_fields or {}),
        },
        "token_rewards": list(row.token_rewards),
    }
