"""How far a customer has come towards what is wanted."""

from __future__ import annotations

from typing import NamedTuple

from turnwise.envs.webshop.goal import Goal
from turnwise.envs.webshop.reward import PurchaseReward, RewardMode, option_matches
from turnwise.envs.webshop.shop import Page
from turnwise.records import Json

# Nothing bought; bought something of another kind; of the right kind, but not all as asked; exactly as asked.
OUTCOME_LEVELS = ("no_purchase", "wrong_type", "partial", "perfect")


class Milestones(NamedTuple):
    """What has been reached; never lost again.

    Attributes:
        listed: Whether a page of results listed the wanted product.
        opened: Whether it was opened.
        options: Per wanted option, whether it was chosen on that product's page.
        bought: Whether a purchase earned the full reward.
    """

    listed: bool
    opened: bool
    options: tuple[bool, ...]
    bought: bool

    @property
    def progress(self) -> float:
        """The share of milestones reached; 1 when the full reward was earned, in whichever way."""
        if self.bought:
            return 1.0
        return (self.listed + self.opened + sum(self.options)) / (len(self.options) + 3)

    def as_json(self) -> dict[str, Json]:
        """Return it JSON-compatible."""
        return {"listed": self.listed, "opened": self.opened, "options": list(self.options), "bought": self.bought}


def none_of(goal: Goal) -> Milestones:
    """Return the milestones of an episode that begins."""
    return Milestones(False, False, (False,) * len(goal.option_values), False)


def reached(
    before: Milestones, page: Page, target: int | None, goal: Goal, bought: PurchaseReward | None, mode: RewardMode
) -> Milestones:
    """Return the milestones after a page was reached.

    Args:
        before: Those before it.
        page: The page.
        target: Row of the wanted product, or None where the shop does not sell it.
        goal: What is wanted.
        bought: What the purchase was worth, or None before it.
        mode: How options are compared.
    """
    perfect = bought is not None and level_of(bought) == OUTCOME_LEVELS[-1]
    if target is None:
        return before if not perfect else before._replace(bought=True)
    listed = before.listed or target in page.listed
    if page.row != target:
        if listed == before.listed and not perfect:
            return before
        return before._replace(listed=listed, bought=perfect)
    options = before.options
    if page.options and not all(options):
        now = option_matches([value for _, value in page.options], goal.option_values, mode=mode)
        options = tuple(one or two for one, two in zip(options, now, strict=True))
    return Milestones(listed, True, options, perfect)


def level_of(bought: PurchaseReward | None) -> str:
    """Return the outcome level of a purchase, or of none."""
    if bought is None:
        return OUTCOME_LEVELS[0]
    if bought.total >= 1.0:
        return OUTCOME_LEVELS[3]
    return OUTCOME_LEVELS[2 if bought.r_type >= 1.0 else 1]
