"""Turn-level advantages for verl: ``turnwise_grpo``, ``turnwise_dr_grpo`` and ``turnwise_rloo``.

Have verl import this module in its trainer, and choose one::

    VERL_USE_EXTERNAL_MODULES=turnwise.rollout.trainers.verl.estimators
    algorithm.adv_estimator=turnwise_dr_grpo

verl's estimators get a batch's token rewards and its mask. A turn is a run of sampled tokens: between two
messages there is always an observation. So turns are found by the mask and never by the rewards, and a
turn whose reward is 0 is a turn. What is computed is :class:`~turnwise.rewards.credit.GroupCredit` at
``level="turn"``; ``algorithm.gamma`` discounts per turn.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

from turnwise.errors import ConfigError
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.install import trainer_module
from turnwise.rollout.trainers.turn_credit import assign_turns
from turnwise.rollout.trainers.verl import REQUIREMENT

Estimator = Literal["grpo", "dr_grpo", "rloo"]
ESTIMATORS: tuple[Estimator, ...] = ("grpo", "dr_grpo", "rloo")
Span = tuple[int, int]


def turn_level_advantages(
    token_level_rewards: Any,
    response_mask: Any,
    config: Any = None,
    index: Sequence[Any] | None = None,
    *,
    estimator: Estimator = "grpo",
    **unused: Any,
) -> tuple[Any, Any]:
    """Return each sampled token's advantage: that of its turn's return-to-go within the group.

    Args:
        token_level_rewards: Tensor (samples, tokens), turn rewards on their tokens.
        response_mask: Tensor (samples, tokens), 1 on sampled tokens.
        config: verl's ``algorithm``; its ``gamma`` discounts per turn.
        index: One group per sample (verl's ``uid``).
        estimator: How a group is compared.
        unused: What else verl hands over.

    Returns:
        The advantages twice, as verl's group estimators do for advantages and returns.

    Raises:
        ConfigError: There are no groups.
    """
    if index is None:
        raise ConfigError("a group-relative estimator needs verl's 'uid': one group per sample")
    gamma = float(getattr(config, "gamma", 1.0)) if config is not None else 1.0
    credit = GroupCredit(estimator=estimator, gamma=gamma, level="turn")
    spans = [spans_of(row) for row in response_mask.tolist()]
    rewards = token_level_rewards.double()
    values = [[float(rewards[row, start:end].sum()) for start, end in turns] for row, turns in enumerate(spans)]
    advantages = trainer_module("torch", "turnwise[torch]").zeros_like(token_level_rewards)
    for row, found in enumerate(assign_turns([str(group) for group in index], values, credit)):
        for (start, end), advantage in zip(spans[row], found.advantages, strict=True):
            advantages[row, start:end] = advantage
    return advantages, advantages


def spans_of(mask: Sequence[int]) -> list[Span]:
    """Return the half-open runs of ones in a mask: the turns."""
    edges = [0, *(int(bool(one)) for one in mask), 0]
    changes = [position for position in range(len(edges) - 1) if edges[position] != edges[position + 1]]
    return list(zip(changes[::2], changes[1::2], strict=True))


def register() -> None:
    """Make the estimators known to verl in this process; doing it again changes nothing."""
    core = trainer_module("verl.trainer.ppo.core_algos", REQUIREMENT)
    for name in ESTIMATORS:
        if f"turnwise_{name}" not in core.ADV_ESTIMATOR_REGISTRY:
            core.register_adv_est(f"turnwise_{name}")(functools.partial(turn_level_advantages, estimator=name))


register()
