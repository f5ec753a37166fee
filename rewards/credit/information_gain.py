"""IGPO's credit: gains and outcomes normalised over the group, then discounted over the turns.

With ``x`` the values of a group and one mask for gains and one for outcomes (from the record, never
``x != 0``):

================= ====================================================================================
``separate``      ``z = (x - mean) / (std + 1e-6)``, gains and outcomes each by their own mean and std;
                  ``A[t] = z[t] + gamma * A[t+1]``. The paper's form and the default.
``joint``         the same with one mean and std over both. An outcome far below the rest drags the mean
                  down, so that a *negative* gain can come out positive; the released code's default.
``return_to_go``  ``G[t] = x[t] + gamma * G[t+1]`` first, then minus the group's mean at the same turn: the
                  first snapshot of the code, by turns instead of tokens.
================= ====================================================================================

``std = sqrt(mean((x - mean)**2) + 1e-8)``, over the population.

``separate`` and ``joint`` subtract one baseline per turn that is left, and how many are left the policy
decides: the gradient is biased where it can choose when to stop (verl issue 7244). ``return_to_go``
subtracts one baseline from a return; :func:`unbiased_turn_credit` is the same with a baseline that
leaves the trajectory itself out.

Source: IGPO (arXiv 2510.14967) and its released code, in the versions named above.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import TurnAdvantages
from turnwise.records import Trajectory
from turnwise.rewards.credit.estimators import check_eps, dr_grpo
from turnwise.rewards.credit.group import GroupCredit, check_group, reward_of
from turnwise.rewards.credit.returns import Bools, Floats, check_gamma, return_to_go

Normalisation = Literal["separate", "joint", "return_to_go"]
NORMALISATIONS: tuple[Normalisation, ...] = ("separate", "joint", "return_to_go")
_VARIANCE_FLOOR = 1e-8  # of the released code


def z_scores(values: ArrayLike, *, valid: ArrayLike | None = None, eps: float = 1e-6) -> Floats:
    """Return ``(x - mean) / (std + eps)`` with ``std = sqrt(mean((x - mean)**2) + 1e-8)``.

    Args:
        values: Shape (n,).
        valid: Which entries count, same shape; all by default.
        eps: Added to the deviation.

    Returns:
        float64 of shape (n,); exactly 0.0 for invalid entries, for a single one, and where all are equal.

    Raises:
        ConfigError: Shapes differ, or a valid value is not finite.
    """
    check_eps(eps)
    deviations = dr_grpo(values, valid=valid)
    count = deviations.size if valid is None else int(np.count_nonzero(valid))
    if count == 0:
        return deviations
    scores: Floats = deviations / (np.sqrt(np.square(deviations).sum() / count + _VARIANCE_FLOOR) + eps)
    return scores


def normalise_gains(
    values: ArrayLike,
    *,
    outcome: ArrayLike,
    valid: ArrayLike | None = None,
    mode: Literal["separate", "joint"] = "separate",
    eps: float = 1e-6,
) -> Floats:
    """Return the z-scores of a group's gains and outcomes.

    Args:
        values: All turns of the group in a row, shape (n,).
        outcome: Which of them are outcomes, same shape; the others are gains.
        valid: Which entries count, same shape; all by default.
        mode: ``"separate"`` or ``"joint"``.
        eps: Added to the deviation.

    Returns:
        float64 of shape (n,), 0.0 where not valid.

    Raises:
        ConfigError: Shapes differ, or a valid value is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    ends: Bools = np.asarray(outcome, dtype=np.bool_)
    known: Bools = np.ones(x.shape, dtype=np.bool_) if valid is None else np.asarray(valid, dtype=np.bool_)
    if x.ndim != 1 or not x.shape == ends.shape == known.shape:
        raise ConfigError(f"values, outcome and valid must all be (n,), got {x.shape}, {ends.shape}, {known.shape}")
    if mode not in ("separate", "joint"):
        raise unknown_name("mode", str(mode), ("separate", "joint"))
    if mode == "joint":
        return z_scores(x, valid=known, eps=eps)
    # Each is 0 where the other counts.
    both: Floats = z_scores(x, valid=known & ~ends, eps=eps) + z_scores(x, valid=known & ends, eps=eps)
    return both


class InformationGainCredit:
    """Advantages from information gains and outcomes, as IGPO computes them (keeps the Credit protocol).

    Left out of every mean and deviation: failed trajectories and invalid values. A turn is masked when
    its advantage contains an invalid value: those up to it, as in
    :class:`~turnwise.rewards.credit.GroupCredit` per turn.
    """

    def __init__(
        self,
        *,
        normalise: Normalisation = "separate",
        reward: str = "information_gain",
        roles: str | None = None,
        gamma: float = 1.0,
        gain_weight: float = 1.0,
        outcome_weight: float = 1.0,
        eps: float = 1e-6,
    ) -> None:
        """Choose the normalisation.

        Args:
            normalise: ``"separate"``, ``"joint"`` or ``"return_to_go"``.
            reward: Name of the attached reward to use.
            roles: Name of the attached reward whose evidence says under ``role`` which turn has a
                ``"gain"`` and which the ``"outcome"``; None is ``reward`` itself.
            gamma: Discount per turn, in [0, 1].
            gain_weight: Factor on gains before they are normalised.
            outcome_weight: Factor on outcomes before they are normalised.
            eps: Added to the deviation.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        if normalise not in NORMALISATIONS:
            raise unknown_name("normalisation", str(normalise), NORMALISATIONS)
        for name, weight in (("gain_weight", gain_weight), ("outcome_weight", outcome_weight)):
            if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not np.isfinite(weight):
                raise ConfigError(f"{name} must be a finite number, got {weight!r}")
        self.normalise: Normalisation = normalise
        self.reward = reward
        self.roles = roles if roles is not None else reward
        self.gamma = check_gamma(gamma)
        self.gain_weight = float(gain_weight)
        self.outcome_weight = float(outcome_weight)
        self.eps = check_eps(eps)

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        """Return the advantages of each trajectory's turns.

        Args:
            group: Trajectories of one task, with the reward attached. Their order does not matter to
                the values.

        Raises:
            ConfigError: The trajectories are of several tasks, one is there twice, the reward was not
                attached, or a turn does not say its role.
        """
        check_group(group)
        outcomes = [self._outcome_mask(trajectory) for trajectory in group]
        values = [self._weighted(trajectory, mask) for trajectory, mask in zip(group, outcomes, strict=True)]
        if self.normalise == "return_to_go":
            return GroupCredit(estimator="dr_grpo", gamma=self.gamma, level="turn").assign_values(group, values)
        usable = [not trajectory.failed for trajectory in group]
        flat = [v for row, use in zip(values, usable, strict=True) if use for v in row]
        ends = [o for row, use in zip(outcomes, usable, strict=True) if use for o in row]
        scores = normalise_gains(
            [0.0 if v is None else v for v in flat],
            outcome=ends,
            valid=[v is not None for v in flat],
            mode=self.normalise,
            eps=self.eps,
        )
        remaining = iter(scores.tolist())
        assigned = []
        for trajectory, row, use in zip(group, values, usable, strict=True):
            z = [None if v is None else s for v, s in ((v, next(remaining)) for v in row)] if use else [None] * len(row)
            advantages, known = return_to_go(z, gamma=self.gamma)
            assigned.append(
                TurnAdvantages(
                    trajectory_id=trajectory.id,
                    advantages=tuple(advantages.tolist()),
                    mask=tuple(known.tolist()),
                )
            )
        return tuple(assigned)

    def _outcome_mask(self, trajectory: Trajectory) -> list[bool]:
        """Return for each turn whether its value is the outcome, as the record says."""
        mask = []
        for position in range(len(trajectory.turns)):
            role = reward_of(trajectory, position, self.roles).evidence.get("role")
            if role not in ("gain", "outcome"):
                raise ConfigError(
                    f"turn {position} of {trajectory.id!r}: the evidence of reward {self.roles!r} says under 'role' "
                    f"{role!r}, expected 'gain' or 'outcome'. Attach information_gain, and name it with roles=..."
                )
            mask.append(role == "outcome")
        return mask

    def _weighted(self, trajectory: Trajectory, outcome: Sequence[bool]) -> list[float | None]:
        row: list[float | None] = []
        for position, ends in enumerate(outcome):
            value = reward_of(trajectory, position, self.reward).value
            weight = self.outcome_weight if ends else self.gain_weight
            row.append(None if value is None else weight * value)
        return row


def unbiased_turn_credit(*, reward: str = "information_gain", gamma: float = 1.0) -> GroupCredit:
    """Return the turn-level credit whose gradient is unbiased also where the policy decides when to stop.

    The return-to-go of raw rewards, minus the mean of the *other* trajectories' at the same turn (each
    continued by its last one); nothing is divided by. See :mod:`turnwise.rewards.credit.group`.

    Args:
        reward: Name of the attached reward to use.
        gamma: Discount per turn, in [0, 1]; 1 for the undiscounted objective.
    """
    return GroupCredit(estimator="rloo", reward=reward, gamma=gamma, level="turn")
