"""Credit over a group: returns per trajectory or per turn, compared with the rest of the group.

**Per trajectory** every turn gets the advantage of its trajectory's return.

**Per turn** a turn's return-to-go ``G[i, t]`` is compared with what the group's trajectories still
earned from turn ``t`` on. A trajectory that ended before ``t`` is represented by its last return,
``H[j, t] = G[j, min(t, T_j - 1)]``, and the baseline is the mean of ``H[:, t]``. This is ours; the
reasons are:

* *Unbiased where the policy decides when to stop.* Normalising each turn's **reward** per turn index
  and summing what is left subtracts as many baselines as the trajectory has turns left, which its own
  actions decide, so the gradient is biased (verl issue 7244). Here a baseline is subtracted once,
  from a return, and depends on the turn index and on the other trajectories only. That makes ``rloo``
  unbiased, and ``dr_grpo`` the same times ``(n-1)/n``; ``grpo`` keeps the bias that dividing by the
  group's own deviation has everywhere. A test enumerates a small episode in full to show it.
* *Every trajectory counts in every baseline*, so late turns that only one trajectory reached are not
  compared with nothing.
* *It contains the trajectory level*: with the reward on the last turn and ``gamma=1`` both agree, so
  a group of solved episodes of different lengths gets exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from turnwise.errors import ConfigError, did_you_mean, unknown_name
from turnwise.protocols import TurnAdvantages
from turnwise.records import RewardValue, Trajectory
from turnwise.rewards.credit.estimators import Std, check_std, dr_grpo, grpo, rloo
from turnwise.rewards.credit.returns import Bools, Floats, check_gamma, plain, return_to_go

Level = Literal["trajectory", "turn"]
ESTIMATORS = ("grpo", "dr_grpo", "rloo")


class GroupCredit:
    """Advantages of the turns of a group, by one of the group-relative estimators.

    Left out of every statistic, and masked: failed trajectories, trajectories without turns, and
    whatever contains an invalid reward (per trajectory the whole trajectory, since its return is
    unknown; per turn the turns up to the invalid one).
    """

    def __init__(
        self,
        *,
        estimator: Literal["grpo", "dr_grpo", "rloo"] = "grpo",
        reward: str = "reward",
        gamma: float = 1.0,
        level: Level = "trajectory",
        std: Std = "unbiased",
        eps: float = 1e-6,
    ) -> None:
        """Choose how a group is compared.

        Args:
            estimator: ``"grpo"``, ``"dr_grpo"`` or ``"rloo"``.
            reward: Name of the attached reward to use; ``"reward"`` is the tree's weighted total.
            gamma: Discount per turn, in [0, 1].
            level: ``"trajectory"`` compares whole returns, ``"turn"`` returns-to-go.
            std: ``"unbiased"`` (n-1) or ``"biased"`` (n); for GRPO.
            eps: Added to the deviation; for GRPO.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        if estimator not in ESTIMATORS:
            raise unknown_name("estimator", str(estimator), ESTIMATORS)
        if level not in ("trajectory", "turn"):
            raise unknown_name("level", str(level), ("trajectory", "turn"))
        check_std(std, eps)
        self.estimator = estimator
        self.reward = reward
        self.gamma = check_gamma(gamma)
        self.level: Level = level
        self.std: Std = std
        self.eps = eps

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        """Return the advantages of each trajectory's turns.

        Args:
            group: Trajectories of one task, with rewards attached. The order does not matter to the
                values.

        Returns:
            One :class:`~turnwise.protocols.TurnAdvantages` per trajectory, in the group's order.

        Raises:
            ConfigError: The trajectories are of several tasks, one is there twice, or the reward
                was not attached.
        """
        check_group(group)
        return self.assign_values(group, [self._rewards(trajectory) for trajectory in group])

    def assign_values(
        self, group: Sequence[Trajectory], values: Sequence[Sequence[float | None]]
    ) -> tuple[TurnAdvantages, ...]:
        """Return the advantages for rewards that are given instead of attached.

        Args:
            group: The trajectories.
            values: For each trajectory one reward per turn; None where it is invalid.
        """
        returns = [return_to_go(row, gamma=self.gamma) for row in values]
        usable = [i for i, trajectory in enumerate(group) if not trajectory.failed and trajectory.turns]
        columns = max((len(group[i].turns) for i in usable), default=0) if self.level == "turn" else 1
        held, known = _held([returns[i] for i in usable], columns)
        compared = self._estimate(held, known)
        rows = {i: (compared[row], known[row]) for row, i in enumerate(usable)}
        return tuple(self._spread(trajectory, rows.get(i)) for i, trajectory in enumerate(group))

    def _rewards(self, trajectory: Trajectory) -> list[float | None]:
        return plain([reward_of(trajectory, position, self.reward) for position in range(len(trajectory.turns))])

    def _estimate(self, returns: Floats, valid: Bools) -> Floats:
        if self.estimator == "grpo":
            return grpo(returns, valid=valid, std=self.std, eps=self.eps)
        return dr_grpo(returns, valid=valid) if self.estimator == "dr_grpo" else rloo(returns, valid=valid)

    def _spread(self, trajectory: Trajectory, row: tuple[Floats, Bools] | None) -> TurnAdvantages:
        turns = len(trajectory.turns)
        if row is None:
            return TurnAdvantages(trajectory_id=trajectory.id, advantages=(0.0,) * turns, mask=(False,) * turns)
        values, known = row
        column = [t if self.level == "turn" else 0 for t in range(turns)]
        return TurnAdvantages(
            trajectory_id=trajectory.id,
            advantages=tuple(float(values[c]) for c in column),
            mask=tuple(bool(known[c]) for c in column),
        )


def _held(returns: Sequence[tuple[Floats, Bools]], columns: int) -> tuple[Floats, Bools]:
    """Stack returns into (n, columns), each trajectory continued by the return of its last turn."""
    held = np.zeros((len(returns), columns), dtype=np.float64)
    known = np.zeros((len(returns), columns), dtype=np.bool_)
    for row, (values, valid) in enumerate(returns):
        index = np.minimum(np.arange(columns), len(values) - 1)
        held[row], known[row] = values[index], valid[index]
    return held, known


def check_group(group: Sequence[Trajectory]) -> None:
    """Check that trajectories are a group.

    Raises:
        ConfigError: They are of several tasks, or one is there twice.
    """
    keys = sorted({(trajectory.env_id, trajectory.group) for trajectory in group})
    if len(keys) > 1:
        raise ConfigError(
            f"a group holds trajectories of one task, got {len(keys)} tasks: {keys[0]} and {keys[1]}"
            f"{', ...' if len(keys) > 2 else ''}. Group by (env_id, task.id) first"
        )
    seen: set[str] = set()
    for trajectory in group:
        if trajectory.id in seen:
            raise ConfigError(f"trajectory {trajectory.id!r} is in the group twice")
        seen.add(trajectory.id)


def reward_of(trajectory: Trajectory, position: int, name: str) -> RewardValue:
    """Return the attached reward of a turn.

    Raises:
        ConfigError: None was attached under this name; the message lists near misses.
    """
    rewards = trajectory.turns[position].rewards
    if name not in rewards:
        known = did_you_mean(name, rewards) if rewards else " It has none: attach some with RewardTree.attach()."
        raise ConfigError(f"turn {position} of {trajectory.id!r} has no reward {name!r}.{known}")
    return rewards[name]
