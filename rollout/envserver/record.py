"""A scored episode as a client may have it: without the task's hidden data, and without what quotes them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from turnwise.records import Json, RewardValue, Trajectory


def public_record(trajectory: Trajectory) -> bytes:
    """Return a trajectory as JSON.

    Left out are ``task.data``, each turn's ``info`` and the rewards' evidence: graders and worlds write the
    right answer there.
    """
    failure, outcome = trajectory.ending.failure, trajectory.outcome
    return msgspec.json.encode(
        {
            "id": trajectory.id,
            "env_id": trajectory.env_id,
            "task_id": trajectory.task.id,
            "seed": trajectory.seed,
            "status": trajectory.ending.kind,
            "truncation": trajectory.ending.cause,
            "failure": None if failure is None else msgspec.to_builtins(failure),
            "outcome": None if outcome is None else msgspec.to_builtins(outcome),
            "rewards": _values(trajectory.rewards),
            "turns": [
                {
                    "index": turn.index,
                    "observation": turn.observation,
                    "action_text": turn.action_text,
                    "action_valid": turn.action_valid,
                    "action_error": turn.action_error,
                    "env_reward": turn.env_reward,
                    "progress": turn.progress,
                    "success": turn.success,
                    "level": turn.level,
                    "rewards": _values(turn.rewards),
                }
                for turn in trajectory.turns
            ],
            "final_observation": trajectory.final_observation,
        }
    )


def _values(rewards: Mapping[str, RewardValue]) -> dict[str, Json]:
    """A reward's value, or None with the reason: never a 0 for what could not be scored."""
    return {name: {"value": reward.value, "invalid": reward.invalid} for name, reward in rewards.items()}
