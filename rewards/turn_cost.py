"""A price per turn."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import number, whole


class TurnCost:
    """``-cost`` on every turn after the first ``free`` ones."""

    def __init__(self, *, cost: float = 0.01, free: int = 0) -> None:
        """Charge for turns.

        Args:
            cost: Price of one turn, as a positive number.
            free: How many turns cost nothing.

        Raises:
            ConfigError: An option is out of range.
        """
        self.name = "turn_cost"
        self.cost = number("cost", cost, low=0.0)
        self.free = whole("free", free, low=0)
        self.spec = RewardSpec(
            low=0.0 - self.cost, high=0.0, placement="turn", source="turnwise", summary="A fixed price per turn."
        )
        self._charged = RewardValue(value=0.0 - self.cost)
        self._gratis = RewardValue(value=0.0, evidence={"free": self.free})

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        return tuple(self._gratis if turn.index < self.free else self._charged for turn in trajectory.turns)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"cost": self.cost, "free": self.free}
