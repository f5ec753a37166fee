"""Turn advantages on the tokens of TRL's GRPO: the two-dimensional ``advantages`` that its loss accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from turnwise.errors import ConfigError
from turnwise.rollout.trainers.install import trainer_module

if TYPE_CHECKING:
    from torch import Tensor

REQUIREMENT = "trl>=1.16"
ADVANTAGES = "token_advantages"


class TurnAdvantages:
    """Mix into ``GRPOTrainer``, before it: the advantages of :class:`Rollouts` replace TRL's own.

    TRL gives every token of a completion the advantage of the whole; its loss also takes one per token
    (shape ``(B, T)``). Here each token gets the advantage of the turn that sampled it. Tokens of
    observations, of turns whose reward is invalid and of failed episodes get 0 and stay masked. The
    reward functions are then for the logs: they no longer decide the gradient, and ``scale_rewards``
    does nothing, since the credit rule given to :class:`Rollouts` has normalised already.
    """

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        # Rollouts' columns have been merged into the rows by now.
        output["advantages"] = advantages_of(inputs, output)
        return output


def advantages_of(rows: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> Tensor:
    """Return advantages of shape (B, T), float32, 0.0 wherever the loss is masked.

    Args:
        rows: One per completion, each with ``token_advantages``: one value per completion id.
        output: TRL's batch: ``completion_mask`` and, for rollouts, ``tool_mask``, both of shape (B, T).

    Raises:
        ConfigError: A row has no ``token_advantages``, or a wrong number.
    """
    import torch

    mask = output["completion_mask"]
    advantages = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
    ids = output["completion_ids"]
    for place, row in enumerate(rows):
        values = row.get(ADVANTAGES)
        if values is None:
            raise ConfigError(
                f"a row has no {ADVANTAGES!r}: turn advantages come from rollout_func=Rollouts(..., credit=...), "
                f"got the columns {sorted(row)}"
            )
        if len(values) > ids.shape[1]:
            raise ConfigError(f"{len(values)} advantages for a completion of at most {ids.shape[1]} ids")
        advantages[place, : len(values)] = torch.as_tensor(values, dtype=torch.float32, device=mask.device)
    trained = mask if "tool_mask" not in output else mask * output["tool_mask"]
    placed: Tensor = advantages * trained
    return placed


def turn_grpo_trainer() -> Any:
    """Return ``GRPOTrainer`` with :class:`TurnAdvantages` mixed in; imports TRL.

    Raises:
        MissingTrainerError: TRL is not installed.
    """
    trl = trainer_module("trl", REQUIREMENT)

    class TurnGRPOTrainer(TurnAdvantages, trl.GRPOTrainer):  # type: ignore[name-defined,misc]
        """TRL's GRPO with an advantage per turn."""

    return TurnGRPOTrainer
