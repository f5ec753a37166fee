"""Training data for Tinker: ids, targets, log-probabilities, advantages and mask, one number per token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.rows import TrainingRow
from turnwise.rollout.trainers.tinker import REQUIREMENT

ADVANTAGE = "turnwise/advantage"
REWARD = "turnwise/reward"


def datum_fields(row: TrainingRow) -> dict[str, list[Any]]:
    """Return an episode as the lists of a Tinker datum.

    Position ``i`` of every list but ``input_tokens`` is about the id that follows input ``i``.

    Args:
        row: A row with log-probabilities, and with advantages.

    Raises:
        ConfigError: It has none.
    """
    if not row.logprobs or not row.advantages:
        lacks = "log-probabilities" if not row.logprobs else "advantages: make rows with credit=..."
        raise ConfigError(f"{row.id} cannot be a Tinker datum: it has no {lacks}")
    ids = [*row.prompt_ids, *row.response_ids]
    head = len(row.prompt_ids)
    return {
        "input_tokens": ids[:-1],
        "target_tokens": ids[1:],
        "logprobs": ([0.0] * head + list(row.logprobs))[1:],
        "advantages": ([0.0] * head + list(row.advantages))[1:],
        "mask": ([0.0] * head + [float(mask) for mask in row.loss_mask])[1:],
    }


def to_datum(row: TrainingRow) -> Any:
    """Return an episode as a ``tinker.Datum``, for episodes that turnwise played itself."""
    tinker, torch = trainer_module("tinker", REQUIREMENT), trainer_module("torch", "turnwise[torch]")
    fields = datum_fields(row)
    inputs = fields.pop("input_tokens")
    tensors = {name: tinker.TensorData.from_torch(torch.tensor(values)) for name, values in fields.items()}
    return tinker.Datum(model_input=tinker.ModelInput.from_ints(inputs), loss_fn_inputs=tensors)


def assemble_turn_data(
    trajectory_groups_P: Sequence[Any],  # noqa: N803 - the cookbook passes it by this name
    advantages_P: Sequence[Any],  # noqa: N803
    include_provenance: bool = True,
) -> tuple[list[Any], list[dict[str, int]]]:
    """Build datums as the cookbook's ``assemble_training_data``, with each turn's own advantage on its tokens.

    Args:
        trajectory_groups_P: Groups as rolled out; those of other environments keep one advantage per episode.
        advantages_P: Per group one number per episode.
        include_provenance: Passed on to the cookbook.

    Returns:
        The datums, and for each the numbers of its group and trajectory.

    Raises:
        ConfigError: An episode's observations do not continue one another.
    """
    processing = trainer_module("tinker_cookbook.rl.data_processing", REQUIREMENT)
    data: list[Any] = []
    places: list[dict[str, int]] = []
    for i_group, (group, advantages) in enumerate(zip(trajectory_groups_P, advantages_P, strict=True)):
        for i_traj, (trajectory, advantage) in enumerate(zip(group.trajectories_G, advantages, strict=True)):
            made = processing.trajectory_to_data(trajectory, float(advantage), include_provenance=include_provenance)
            if any(ADVANTAGE in transition.metrics for transition in trajectory.transitions):
                _write_advantages(made, trajectory)
            data += made
            places += [{"group_idx": i_group, "traj_idx": i_traj} for _ in made]
    return data, places


def _write_advantages(data: Sequence[Any], trajectory: Any) -> None:
    if len(data) > 1:
        raise ConfigError(f"an episode of ours is one sequence, the cookbook made {len(data)} of it")
    tinker, torch = trainer_module("tinker", REQUIREMENT), trainer_module("torch", "turnwise[torch]")
    per_token: list[float] = []
    for transition in trajectory.transitions:
        per_token += [0.0] * (transition.ob.length - len(per_token))
        per_token += [float(transition.metrics.get(ADVANTAGE, 0.0))] * len(transition.ac.tokens)
    for datum in data:
        datum.loss_fn_inputs["advantages"] = tinker.TensorData.from_torch(torch.tensor(per_token[1:]))
