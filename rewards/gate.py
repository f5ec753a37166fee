"""The gate itself: a threshold on one reward's total that decides whether others count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from turnwise.errors import ConfigError, did_you_mean
from turnwise.protocols import Reward
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import OptionError, choice, number

Comparison = Literal[">=", ">"]
COMPARISONS: tuple[Comparison, ...] = (">=", ">")


@runtime_checkable
class HasLevels(Protocol):
    """A reward whose values stand for ordered outcome levels."""

    def level_values(self, levels: Sequence[str]) -> dict[str, float]:
        """Return level name to value, worst first, given the world's levels."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What a gate decided about one trajectory.

    Attributes:
        passed: Whether the total clears the threshold; None when the total is invalid.
        evidence: Reward, level reached, value, threshold, comparison and ``passed``.
        reason: Why nothing was decided, or None.
    """

    passed: bool | None
    evidence: dict[str, Json]
    reason: str | None = None


@dataclass(frozen=True)
class Gate:
    """A threshold on a reward's total over the trajectory.

    ``>=`` with the threshold on one level is the same as ``>`` with the threshold on the level below.

    Attributes:
        threshold: A number, or the name of an outcome level for a reward that has levels.
        comparison: ``">="`` or ``">"``.
    """

    threshold: float | str
    comparison: Comparison = ">="

    def __post_init__(self) -> None:
        choice("comparison", self.comparison, COMPARISONS)
        if not isinstance(self.threshold, str):
            number("threshold", self.threshold)

    def check(self, reward: Reward) -> None:
        """Check that ``reward`` can be gated by this threshold.

        Raises:
            OptionError: The threshold names a level that the reward does not have.
        """
        if not isinstance(self.threshold, str):
            return
        if not isinstance(reward, HasLevels):
            raise OptionError(
                "threshold",
                f"the level {self.threshold!r} needs a reward with outcome levels, such as outcome_level: "
                f"{reward.name!r} has none, so give a number",
            )
        configured = reward.level_values(())
        if configured and self.threshold not in configured:
            raise OptionError(
                "threshold", f"unknown level {self.threshold!r}.{did_you_mean(self.threshold, configured)}"
            )

    def check_levels(self, reward: Reward, levels: Sequence[str]) -> None:
        """Check the threshold against a world's levels.

        Raises:
            ConfigError: The threshold names a level that neither side knows.
        """
        self._threshold(reward, levels)

    def _threshold(self, reward: Reward, levels: Sequence[str]) -> float:
        if not isinstance(self.threshold, str):
            return self.threshold
        values = reward.level_values(levels) if isinstance(reward, HasLevels) else {}
        if self.threshold not in values:
            raise ConfigError(
                f"the gate's threshold is the level {self.threshold!r}, which this world does not have."
                f"{did_you_mean(self.threshold, values)} Use one of its levels or a number"
            )
        return values[self.threshold]

    def judge(self, name: str, reward: Reward, total: RewardValue, trajectory: Trajectory) -> Verdict:
        """Decide whether a trajectory passes.

        Args:
            name: What to call the reward in the evidence.
            reward: The reward that the gate looks at.
            total: Its total over the trajectory, before any weight.
            trajectory: The trajectory.

        Raises:
            ConfigError: The threshold names a level that the world does not have.
        """
        levels = trajectory.outcome.levels if trajectory.outcome is not None else ()
        evidence: dict[str, Json] = {"reward": name, "comparison": self.comparison}
        if isinstance(reward, HasLevels) and trajectory.outcome is not None:
            evidence["level"] = trajectory.outcome.level
        if isinstance(self.threshold, str):
            evidence["threshold_level"] = self.threshold
        if total.value is None:
            evidence.update(value=None, passed=None)
            if not isinstance(self.threshold, str):
                evidence["threshold"] = self.threshold
            return Verdict(None, evidence, f"{name}: {total.invalid}")
        threshold = self._threshold(reward, levels)
        passed = total.value >= threshold if self.comparison == ">=" else total.value > threshold
        evidence.update(value=total.value, threshold=threshold, passed=passed)
        return Verdict(passed, evidence)

    def __str__(self) -> str:
        """Return ``">= 0.5"``."""
        shown = self.threshold if isinstance(self.threshold, str) else f"{self.threshold:g}"
        return f"{self.comparison} {shown}"
