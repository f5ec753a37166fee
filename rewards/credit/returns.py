"""Returns: what a turn still earned, from rewards of which some are unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from turnwise.errors import ConfigError
from turnwise.records import RewardValue

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def check_gamma(gamma: float) -> float:
    """Return the discount.

    Raises:
        ConfigError: It is no number in [0, 1].
    """
    if isinstance(gamma, bool) or not isinstance(gamma, (int, float)) or not 0.0 <= gamma <= 1.0:
        raise ConfigError(f"gamma must be a number in [0, 1], got {gamma!r}")
    return float(gamma)


def return_to_go(rewards: Sequence[float | None], *, gamma: float = 1.0) -> tuple[Floats, Bools]:
    """Return ``G[t] = sum_{k>=t} gamma**(k-t) * rewards[k]`` and where it is known.

    Discounting comes before any normalisation: a baseline is subtracted from a return once, not from
    every reward in it (see :mod:`turnwise.rewards.credit.group`).

    Args:
        rewards: One reward per turn; None where it is invalid.
        gamma: Discount per turn, in [0, 1].

    Returns:
        ``returns`` float64 and ``known`` bool, both of shape (turns,). A return is unknown when any
        reward it contains is, so an invalid turn hides the return of all turns up to it (with
        ``gamma=0`` only its own); ``returns`` is 0.0 there.

    Raises:
        ConfigError: ``gamma`` is out of range, or a reward is not finite.
    """
    discount = check_gamma(gamma)
    returns = np.zeros(len(rewards), dtype=np.float64)
    known = np.zeros(len(rewards), dtype=np.bool_)
    rest: float | None = 0.0
    for turn in range(len(rewards) - 1, -1, -1):
        reward = rewards[turn]
        if reward is not None and not math.isfinite(reward):
            raise ConfigError(f"the reward of turn {turn} must be finite, got {reward!r}: pass None for an invalid one")
        if discount == 0.0:
            rest = 0.0
        rest = None if reward is None or rest is None else reward + discount * rest
        if rest is not None:
            returns[turn], known[turn] = rest, True
    return returns, known


def plain(values: Sequence[RewardValue]) -> list[float | None]:
    """Return the numbers of reward values, None where invalid."""
    return [value.value for value in values]
