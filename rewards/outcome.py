"""Rewards for how the episode ended, on its last turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from turnwise.errors import ConfigError, did_you_mean
from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.records import Outcome as OutcomeRecord
from turnwise.rewards.options import OptionError, choice, number, ordered_levels
from turnwise.rewards.validity import failure_reason, invalid_values

TimePolicy = Literal["invalid", "valid"]
_NOTHING_YET = RewardValue(value=0.0)


def no_outcome_reason(trajectory: Trajectory, time: TimePolicy) -> str | None:
    """Return why an episode has no outcome to reward, or None if it has one.

    A failed episode has none. An episode cut by the cap on turns, on tokens or by the context length
    has one: it did not succeed within its means. An episode cut by the wall clock has none by
    default, because a slow machine or a stuck world, not the policy, may have used up the time; with
    ``time="valid"`` it counts like any other.

    Args:
        trajectory: The episode.
        time: What to make of an episode cut by the wall clock.
    """
    reason = failure_reason(trajectory)
    if reason is not None:
        return reason
    ending = trajectory.ending
    if ending.cause == "time" and time == "invalid":
        failure = ending.failure
        during = "" if failure is None else f" ({failure.boundary} {failure.kind}: {failure.message})"
        return f"the episode was cut by the wall clock{during}, which says nothing about the policy"
    if trajectory.outcome is None:
        return "the trajectory has no outcome"
    return None


def _ending(trajectory: Trajectory) -> str:
    return trajectory.ending.cause or trajectory.ending.kind


def _on_last_turn(trajectory: Trajectory, value: RewardValue) -> tuple[RewardValue, ...]:
    return (_NOTHING_YET,) * (len(trajectory.turns) - 1) + (value,) if trajectory.turns else ()


class Outcome:
    """Success as 1 or 0, or the environment's own return, on the last turn.

    All turns of an episode without an outcome are invalid (see :func:`no_outcome_reason`).
    """

    def __init__(
        self,
        *,
        of: Literal["success", "return"] = "success",
        low: float = 0.0,
        high: float = 1.0,
        time: TimePolicy = "invalid",
    ) -> None:
        """Reward how the episode ended.

        Args:
            of: ``"success"`` gives 1 or 0; ``"return"`` the sum of the environment's rewards.
            low: Smallest return to expect; one below is invalid. For ``of="return"``.
            high: Largest return to expect.
            time: Whether an episode cut by the wall clock is ``"invalid"`` or ``"valid"``.

        Raises:
            ConfigError: An option is out of range.
        """
        self.name = "outcome"
        self.of = choice("of", of, ("success", "return"))
        self.time: TimePolicy = choice("time", time, ("invalid", "valid"))
        self.low = number("low", low)
        self.high = number("high", high, low=self.low)
        bounds = (0.0, 1.0) if self.of == "success" else (min(0.0, self.low), max(0.0, self.high))
        self.spec = RewardSpec(
            low=bounds[0],
            high=bounds[1],
            placement="last_turn",
            source="turnwise",
            summary="Success of the episode (1 or 0), or the environment's own return.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return 0 on every turn but the last, which has the outcome."""
        reason = no_outcome_reason(trajectory, self.time)
        outcome = trajectory.outcome
        if reason is not None or outcome is None:
            return invalid_values(len(trajectory.turns), reason or "the trajectory has no outcome")
        value = float(outcome.success) if self.of == "success" else outcome.env_return
        evidence = {"success": outcome.success, "return": outcome.env_return, "ended": _ending(trajectory)}
        return _on_last_turn(trajectory, RewardValue(value=value, evidence=evidence))

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"of": self.of, "low": self.low, "high": self.high, "time": self.time}


class OutcomeLevel:
    """The value of the ordered outcome level that the episode reached, on the last turn.

    Levels and values come from the configuration, or the levels from the world
    (``trajectory.outcome.levels``), evenly spaced over ``[low, high]``. In a world without levels an
    unsolved episode gets ``low`` and a solved one ``high``.

    Source: the four ordered cases of G-RA (arXiv 2508.10548, from secondary notes; the paper's
    values for them are unknown, so the even spacing is ours).
    """

    def __init__(
        self,
        *,
        levels: Mapping[str, float] | None = None,
        low: float = 0.0,
        high: float = 1.0,
        time: TimePolicy = "invalid",
    ) -> None:
        """Reward the level reached.

        Args:
            levels: Level name to value, worst first; None takes the world's levels.
            low: Value of the worst level, when ``levels`` is None.
            high: Value of the best level, when ``levels`` is None.
            time: Whether an episode cut by the wall clock is ``"invalid"`` or ``"valid"``.

        Raises:
            ConfigError: The values do not increase, or an option is out of range.
        """
        self.name = "outcome_level"
        self.levels = None if levels is None else ordered_levels("levels", levels)
        self.low = number("low", low)
        self.high = number("high", high)
        if self.low >= self.high:
            raise OptionError("high", f"must be above low = {self.low:g}, got {self.high:g}")
        self.time: TimePolicy = choice("time", time, ("invalid", "valid"))
        self._spaced: dict[tuple[str, ...], dict[str, float]] = {}
        values = list(self.levels.values()) if self.levels else [self.low, self.high]
        self.spec = RewardSpec(
            low=min(0.0, *values),
            high=max(0.0, *values),
            placement="last_turn",
            source="G-RA, arXiv 2508.10548 (secondary: levels known, values not); spacing by turnwise",
            summary="Value of the ordered outcome level that the episode reached.",
        )

    def level_values(self, levels: Sequence[str]) -> dict[str, float]:
        """Return level name to value, worst first; empty where neither side names levels.

        Args:
            levels: The world's ordered levels, worst first.
        """
        if self.levels is not None:
            return self.levels
        key = tuple(levels)
        if key not in self._spaced:
            top = max(1, len(key) - 1)
            step = (self.high - self.low) / top
            self._spaced[key] = {n: self.high if i == top else self.low + i * step for i, n in enumerate(key)}
        return self._spaced[key]

    def check_levels(self, levels: Sequence[str]) -> None:
        """Check the configuration against a world's levels before anything runs.

        Raises:
            ConfigError: ``levels`` lacks one of the world's levels or orders them differently.
        """
        if self.levels is None:
            return
        for level in levels:
            self._known(level)
        if [name for name in self.levels if name in levels] != list(levels):
            raise ConfigError(
                f"outcome_level orders the levels as {list(self.levels)}, the world as {list(levels)} (worst first)"
            )

    def _known(self, level: str) -> float:
        known = self.levels or {}
        if level not in known:
            raise ConfigError(
                f"the world reports outcome level {level!r}, which 'levels' does not list."
                f"{did_you_mean(level, known)} Add it with a value, or drop 'levels' to take the world's own"
            )
        return known[level]

    def _value(self, outcome: OutcomeRecord) -> tuple[float, str | None]:
        """Return the value and the level's name, or raise."""
        if outcome.level is None:
            if self.levels is not None or outcome.levels:
                named = list(self.levels or outcome.levels)
                raise ConfigError(f"the world reports no outcome level, expected one of {named}")
            return (self.high if outcome.success else self.low), None
        if self.levels is not None:
            return self._known(outcome.level), outcome.level
        values = self.level_values(outcome.levels)
        if outcome.level not in values:
            raise ConfigError(
                f"the world reports outcome level {outcome.level!r}, which is not one of its own."
                f"{did_you_mean(outcome.level, values)}"
            )
        return values[outcome.level], outcome.level

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return 0 on every turn but the last, which has the level's value.

        Raises:
            ConfigError: The episode reached a level that ``levels`` does not list; the message has
                near misses. In a tree this makes the values invalid.
        """
        reason = no_outcome_reason(trajectory, self.time)
        outcome = trajectory.outcome
        if reason is not None or outcome is None:
            return invalid_values(len(trajectory.turns), reason or "the trajectory has no outcome")
        value, level = self._value(outcome)
        evidence: dict[str, Any] = {"level": level, "success": outcome.success, "ended": _ending(trajectory)}
        return _on_last_turn(trajectory, RewardValue(value=value, evidence=evidence))

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        levels = None if self.levels is None else dict(self.levels)
        return {"levels": levels, "low": self.low, "high": self.high, "time": self.time}
