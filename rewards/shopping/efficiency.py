"""How few turns a purchase took."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import whole
from turnwise.rewards.outcome import no_outcome_reason
from turnwise.rewards.shopping.facts import read_turns
from turnwise.rewards.validity import invalid_values

NEEDED = 3  # search, open, buy; and a click per wanted option


class ShopEfficiency:
    """1 on the last turn for a purchase in as few turns as the goal needs, down to 0 for one that took ``budget``.

    A goal needs a search, a product to open, a click per wanted option and a purchase; in between the value falls by
    the same amount every turn. Without a purchase it is 0: giving up early is not efficient. It says nothing about what
    was bought, so it belongs below a gate, as in ``shop_gated``.

    Source: turnwise.
    """

    def __init__(self, *, budget: int = 30) -> None:
        """Reward short episodes.

        Args:
            budget: Turns from which on a purchase earns nothing; at least 1.

        Raises:
            ConfigError: ``budget`` is no whole number of at least 1.
        """
        self.name = "shop_efficiency"
        self.budget = whole("budget", budget, low=1)
        self.spec = RewardSpec(
            low=0.0,
            high=1.0,
            placement="last_turn",
            source="turnwise",
            summary="How few turns the purchase took, whatever was bought.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return 0 on every turn but the last; an episode without an outcome has no value."""
        reason = no_outcome_reason(trajectory, "invalid")
        if reason is not None:
            return invalid_values(len(trajectory.turns), reason)
        turns = read_turns(trajectory)
        if isinstance(turns, str):
            return invalid_values(len(trajectory.turns), turns)
        if not turns:
            return ()
        needed = NEEDED + len(turns[-1].milestones.options)
        bought = turns[-1].purchase is not None
        evidence: dict[str, Json] = {"turns": len(turns), "needed": needed, "budget": self.budget, "bought": bought}
        value = _share(len(turns), needed, self.budget) if bought else 0.0
        waiting = RewardValue(value=0.0, evidence={"counted": "on the last turn"})
        return (waiting,) * (len(turns) - 1) + (RewardValue(value=value, evidence=evidence),)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"budget": self.budget}


def _share(turns: int, needed: int, budget: int) -> float:
    if turns <= needed:
        return 1.0
    return max(0.0, (budget - turns) / (budget - needed)) if budget > needed else 0.0
