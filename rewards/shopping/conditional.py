"""ChatShopBuddy's order of rewards: being efficient counts only once the right thing was bought."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json
from turnwise.rewards.compose import WeightedReward
from turnwise.rewards.gate import Gate
from turnwise.rewards.gated import Gated, Priority
from turnwise.rewards.options import number
from turnwise.rewards.shopping.efficiency import ShopEfficiency
from turnwise.rewards.shopping.purchase import ShopPurchase


class ShopGated(Gated):
    """Product correctness first; efficiency counts only where it holds.

    ::

        R = purchase * r + [r >= correct] * efficiency * e

    with ``r`` the reward of the purchase (:class:`~turnwise.rewards.shopping.purchase.ShopPurchase`) and ``e`` how few
    turns it took (:class:`~turnwise.rewards.shopping.efficiency.ShopEfficiency`). The gate is that of ``gated``: what
    it withholds counts 0 and is named in the evidence, and a purchase that is not known decides nothing. For other
    rewards or more levels, write them out with ``gated``.

    Source: the conditional gating of ChatShopBuddy (arXiv 2603.06065), of which only the ABSTRACT was read: it says
    that rewards of lower priority (persuasiveness, tool efficiency) count only if those of higher priority (product
    correctness) hold. It gives no formula; the rewards, the threshold and the weights here are ours, and there is
    nothing for persuasiveness, since nobody is talked to in this shop.
    """

    def __init__(
        self, *, correct: float = 1.0, purchase: float = 1.0, efficiency: float = 0.2, budget: int = 30
    ) -> None:
        """Gate efficiency by correctness.

        Args:
            correct: Reward of the purchase, in [0, 1], from which on it counts as correct.
            purchase: Weight of the purchase; 0 where something else counts it already.
            efficiency: Weight of efficiency.
            budget: Turns from which on a purchase is not efficient at all.

        Raises:
            ConfigError: An option is out of range.
        """
        self.correct = number("correct", correct, low=0.0, high=1.0)
        self.purchase = number("purchase", purchase, low=0.0)
        self.efficiency = number("efficiency", efficiency, low=0.0)
        below = ShopEfficiency(budget=budget)
        self.budget = below.budget
        super().__init__(
            priorities=(
                Priority((WeightedReward(ShopPurchase(), self.purchase),), Gate(self.correct)),
                Priority((WeightedReward(below, self.efficiency),)),
            )
        )
        self.name = "shop_gated"
        self.spec = RewardSpec(
            low=0.0,
            high=self.purchase + self.efficiency,
            placement="turn",
            source="ChatShopBuddy, arXiv 2603.06065 (abstract only: the order is theirs, formula and weights ours)",
            summary="The purchase's reward, and efficiency only where the purchase is correct.",
        )

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {
            "correct": self.correct,
            "purchase": self.purchase,
            "efficiency": self.efficiency,
            "budget": self.budget,
        }
