"""C-GRPO: outcome and rubric rewards mixed over the group, then compared as in GRPO.

With ``out`` the outcome and ``rub`` the rubric reward of trajectory ``i``, ``hat = rub / max over the group``
(``rub`` itself where that maximum is 0) and ``a`` the rubrics' share:

=================== ==========================================================================================
``outcome_gated``   ``(1-a) * out + a * out * hat``: rubrics count only with a right answer. The paper's rule
                    as a public reproduction states it (secondary: the equation itself could not be read).
``released``        ``out if out == 0 else (1-a) * out + a * rub``: what the released code does with the flags
                    its scripts set; there the normalised value is computed and thrown away, so that a right
                    answer gets at most ``(1-a) + a * rub``.
``mixed``           ``(1-a) * out + a * hat``: the released code without flags.
``negative_only``   ``out if out > 0 else a * hat``: the released code's other flag.
=================== ==========================================================================================

The released code takes the maximum over the whole group, wrong answers included, and so does this by default;
``maximum="correct"`` takes it over the trajectories with an outcome above 0. (Which one the paper means is not
known.) Source: arXiv 2601.06021 and THUDM/CaRR, ``slime/rollout/sglang_rollout.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import TurnAdvantages
from turnwise.records import Trajectory
from turnwise.rewards.credit.estimators import Std
from turnwise.rewards.credit.group import GroupCredit, Level, check_group, reward_of
from turnwise.rewards.credit.returns import Bools, Floats

Form = Literal["outcome_gated", "released", "mixed", "negative_only"]
Maximum = Literal["group", "correct"]
FORMS: tuple[Form, ...] = ("outcome_gated", "released", "mixed", "negative_only")
_MAXIMA: tuple[Maximum, ...] = ("group", "correct")


def mix_rewards(
    outcome: ArrayLike,
    rubric: ArrayLike,
    *,
    ratio: float = 0.3,
    form: Form = "outcome_gated",
    maximum: Maximum = "group",
) -> Floats:
    """Return the mixed rewards of a group.

    Args:
        outcome: Shape (n,), NaN where unknown.
        rubric: Shape (n,), NaN where unknown; unknown ones have no part in the maximum.
        ratio: The rubrics' share ``a``, in [0, 1].
        form: Which mixture.
        maximum: Over which trajectories the rubric rewards are normalised.

    Returns:
        float64 of shape (n,). NaN where the mixture needs what is unknown: with an outcome of 0,
        ``outcome_gated`` and ``released`` do not need the rubric reward.

    Raises:
        ConfigError: Shapes differ, or an option is unknown or out of range.
    """
    out, rub = np.asarray(outcome, dtype=np.float64), np.asarray(rubric, dtype=np.float64)
    on_outcome, on_rubric = mixing_factors(out, rub, ratio=ratio, form=form, maximum=maximum)
    parts = np.where(on_outcome == 0.0, 0.0, on_outcome * out), np.where(on_rubric == 0.0, 0.0, on_rubric * rub)
    mixed: Floats = parts[0] + parts[1]
    return mixed


def mixing_factors(out: Floats, rub: Floats, *, ratio: float, form: Form, maximum: Maximum) -> tuple[Floats, Floats]:
    """Return what each trajectory's outcome and rubric reward are multiplied with, shapes (n,).

    All forms are linear in a trajectory's own rewards once its outcome and the group's maximum are known, so the
    factors serve turns as well as totals. They are NaN where an outcome that decides them is.

    Raises:
        ConfigError: As :func:`mix_rewards`.
    """
    if out.ndim != 1 or out.shape != rub.shape:
        raise ConfigError(f"outcome and rubric must both be (n,), got {out.shape} and {rub.shape}")
    if np.isinf(out).any() or np.isinf(rub).any():
        raise ConfigError("outcome and rubric rewards must be finite, or NaN where unknown")
    check_mix(ratio, form, maximum)
    ones = np.where(np.isnan(out), np.nan, 1.0)
    scale = _scale(rub[~np.isnan(rub) & ((out > 0.0) | (maximum == "group"))])
    if form == "outcome_gated":
        return (1.0 - ratio) * ones, ratio * out * scale
    if form == "released":
        return np.where(out == 0.0, ones, (1.0 - ratio) * ones), np.where(out == 0.0, 0.0, ratio * ones)
    if form == "mixed":
        return (1.0 - ratio) * ones, np.full(out.shape, ratio * scale)
    return np.where(out > 0.0, ones, 0.0 * ones), np.where(out > 0.0, 0.0, ratio * scale * ones)


def _scale(rubrics: Floats) -> float:
    highest = float(rubrics.max(initial=0.0))
    return 1.0 / highest if highest > 0.0 else 1.0


def check_mix(ratio: float, form: str, maximum: str) -> None:
    """Check the options of a mixture.

    Raises:
        ConfigError: One is unknown or out of range.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0.0 <= ratio <= 1.0:
        raise ConfigError(f"ratio must be a number in [0, 1], got {ratio!r}")
    if form not in FORMS:
        raise unknown_name("form", str(form), FORMS)
    if maximum not in _MAXIMA:
        raise unknown_name("maximum", str(maximum), _MAXIMA)


class CGRPO:
    """Advantages from outcomes and rubric rewards, mixed over the group (keeps the Credit protocol).

    The mixture is made turn by turn: each turn's outcome and rubric values times the factors of its trajectory, so
    a rubric reward that is placed on turns stays there; with ``level="trajectory"``, as in the paper, only the sum
    counts. Failed trajectories and those whose mixture is unknown are masked and have no part in any statistic.
    """

    def __init__(
        self,
        *,
        outcome: str = "outcome",
        rubric: str = "citation_rubric",
        ratio: float = 0.3,
        form: Form = "outcome_gated",
        maximum: Maximum = "group",
        estimator: Literal["grpo", "dr_grpo", "rloo"] = "grpo",
        gamma: float = 1.0,
        level: Level = "trajectory",
        std: Std = "unbiased",
        eps: float = 1e-6,
    ) -> None:
        """Choose the mixture and the estimator.

        Args:
            outcome: Name of the attached outcome reward.
            rubric: Name of the attached rubric reward, with the rubrics alone in it (``ratio=1``).
            ratio: The rubrics' share ``a``; 0.3 in the released scripts.
            form: Which mixture; see the module's description.
            maximum: Over which trajectories rubric rewards are normalised, ``"group"`` or ``"correct"``.
            estimator: As in :class:`~turnwise.rewards.credit.GroupCredit`, and so the rest.
            gamma: Discount per turn, in [0, 1].
            level: ``"trajectory"`` or ``"turn"``.
            std: ``"unbiased"`` or ``"biased"``.
            eps: Added to the deviation.

        Raises:
            ConfigError: An option is unknown or out of range.
        """
        check_mix(ratio, form, maximum)
        self.outcome, self.rubric = outcome, rubric
        self.ratio = float(ratio)
        self.form: Form = form
        self.maximum: Maximum = maximum
        self.compare = GroupCredit(estimator=estimator, gamma=gamma, level=level, std=std, eps=eps)

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        """Return the advantages of each trajectory's turns.

        Args:
            group: Trajectories of one task, with both rewards attached.

        Raises:
            ConfigError: The trajectories are of several tasks, one is there twice, or a reward was not attached.
        """
        return self.compare.assign_values(group, self.mix(group))

    def mix(self, group: Sequence[Trajectory]) -> list[list[float | None]]:
        """Return each trajectory's mixed reward per turn, None where it is unknown.

        Raises:
            ConfigError: As :meth:`assign`.
        """
        check_group(group)
        outcomes, rubrics = (
            [_values(trajectory, name) for trajectory in group] for name in (self.outcome, self.rubric)
        )
        factors: tuple[Floats, Floats] = mixing_factors(
            np.array([_total(row, t) for row, t in zip(outcomes, group, strict=True)]),
            np.array([_total(row, t) for row, t in zip(rubrics, group, strict=True)]),
            ratio=self.ratio,
            form=self.form,
            maximum=self.maximum,
        )
        mixed: list[list[float | None]] = []
        for i in range(len(group)):
            row = _scaled(factors[0][i], outcomes[i]) + _scaled(factors[1][i], rubrics[i])
            unknown: Bools = np.isnan(row)
            mixed.append([None if bad else float(value) for value, bad in zip(row, unknown, strict=True)])
        return mixed


def _values(trajectory: Trajectory, name: str) -> Floats:
    rewards = (reward_of(trajectory, position, name) for position in range(len(trajectory.turns)))
    return np.array([np.nan if reward.value is None else reward.value for reward in rewards], dtype=np.float64)


def _total(values: Floats, trajectory: Trajectory) -> float:
    return float("nan") if trajectory.failed or not len(values) else float(values.sum())


def _scaled(factor: float, values: Floats) -> Floats:
    # 0 times what is unknown is 0 here: what does not count need not be known.
    return np.zeros_like(values) if factor == 0.0 else factor * values
