"""Milestones of a shopping trip, on the turn that first reaches them."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import OptionError, number
from turnwise.rewards.shopping.facts import Reached, read_turns
from turnwise.rewards.validity import invalid_values


class ShopMilestones:
    """The share of a task's milestones that the turn reached for the first time.

    The milestones are: a page of results lists the wanted product (the query hits); the wanted product is opened; each
    wanted option is chosen on its page; a purchase earns the full reward. Each weighs what the options say, divided by
    the weight of all that the task has, so that an episode that reaches everything earns 1. Nothing is paid twice, and
    going back costs nothing.

    Source: turnwise. It differs from ``progress`` in its weights, and in that a perfect purchase of another product
    that happens to fit earns the purchase only.
    """

    def __init__(self, *, listed: float = 1.0, opened: float = 1.0, option: float = 1.0, bought: float = 1.0) -> None:
        """Weigh the milestones.

        Args:
            listed: Weight of the first page that lists the wanted product, at least 0 as all of them.
            opened: Weight of opening it.
            option: Weight of each wanted option.
            bought: Weight of a purchase with the full reward.

        Raises:
            ConfigError: A weight is negative, or all are 0.
        """
        self.name = "shop_milestones"
        self.listed = number("listed", listed, low=0.0)
        self.opened = number("opened", opened, low=0.0)
        self.option = number("option", option, low=0.0)
        self.bought = number("bought", bought, low=0.0)
        if not any((self.listed, self.opened, self.option, self.bought)):
            raise OptionError("bought", "every weight is 0, so nothing would ever be earned: give one a weight")
        self.spec = RewardSpec(
            low=0.0,
            high=1.0,
            placement="turn",
            source="turnwise",
            summary="Share of the shopping milestones that the turn reached for the first time.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        turns = read_turns(trajectory)
        if isinstance(turns, str):
            return invalid_values(len(trajectory.turns), turns)
        reached: set[str] = set()
        values = []
        for turn in turns:
            weights = self._weights(turn.milestones)
            whole = sum(weights.values())
            if whole == 0.0:
                return invalid_values(len(turns), "the task has no milestone with a weight: its goal has no options")
            new = [name for name in _names(turn.milestones) if name not in reached]
            reached.update(new)
            share = sum(weights[name] for name in new) / whole
            values.append(RewardValue(value=share, evidence={"new": new, "reached": len(reached), "of": len(weights)}))
        return tuple(values)

    def _weights(self, milestones: Reached) -> dict[str, float]:
        """Return the weight of each milestone that the task has."""
        options = {f"option {i}": self.option for i in range(len(milestones.options))}
        return {"listed": self.listed, "opened": self.opened, **options, "bought": self.bought}

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"listed": self.listed, "opened": self.opened, "option": self.option, "bought": self.bought}


def _names(milestones: Reached) -> list[str]:
    """Return the names of the milestones that are reached."""
    named = {"listed": milestones.listed, "opened": milestones.opened}
    named |= {f"option {i}": chosen for i, chosen in enumerate(milestones.options)}
    named["bought"] = milestones.bought
    return [name for name, holds in named.items() if holds]
