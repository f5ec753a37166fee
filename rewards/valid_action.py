"""Whether the world carried the action out."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.options import number
from turnwise.rewards.validity import cut


class ValidAction:
    """``good`` on a turn whose action the world carried out, else ``bad``."""

    def __init__(self, *, good: float = 1.0, bad: float = 0.0) -> None:
        """Reward actions that were carried out.

        Args:
            good: Value of a turn whose action was carried out.
            bad: Value of a turn whose action was malformed or impossible.

        Raises:
            ConfigError: An option is not a finite number.
        """
        self.name = "valid_action"
        self.good = number("good", good)
        self.bad = number("bad", bad)
        self.spec = RewardSpec(
            low=min(self.good, self.bad),
            high=max(self.good, self.bad),
            placement="turn",
            source="turnwise",
            summary="Whether the world carried the action out.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        return tuple(self._value(turn) for turn in trajectory.turns)

    def _value(self, turn: Turn) -> RewardValue:
        if turn.action_valid:
            return RewardValue(value=self.good)
        evidence: dict[str, Json] = {"error": cut(turn.action_error or "not carried out")}
        if turn.action is not None:
            evidence["command"] = cut(turn.action.command)
        return RewardValue(value=self.bad, evidence=evidence)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"good": self.good, "bad": self.bad}
