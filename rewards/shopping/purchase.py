"""What the purchase was worth, whole or in parts that add up, on the turn that bought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import choice
from turnwise.rewards.shopping.facts import Bought, ShopTurn, Wanted, read_goal, read_turns
from turnwise.rewards.validity import invalid_values

Part = Literal["total", "type", "attributes", "options", "price"]
PARTS: tuple[Part, ...] = ("type", "attributes", "options", "price")
_SUMMARIES = {"total": "The reward of the purchase, on the turn that bought.", "type": "What the wrong type costs."}


class ShopPurchase:
    """The purchase's reward, or one part of it, on the turn that bought; 0 on all other turns.

    WebShop's reward (Yao et al. 2022, section 2.3) is a product, ``r_type * fit`` with
    ``fit = w_att * r_att + w_option * r_option + w_price * r_price``. The parts are the terms of ``fit``, and
    ``type`` is what the wrong type takes away: ``(r_type - 1) * fit``, never above 0. The four add up to the total.
    """

    def __init__(self, *, part: Part = "total") -> None:
        """Reward the purchase.

        Args:
            part: ``"total"``, or ``"type"``, ``"attributes"``, ``"options"`` or ``"price"``.

        Raises:
            ConfigError: There is no such part.
        """
        self.name = "shop_purchase"
        self.part: Part = choice("part", part, ("total", *PARTS))
        self.spec = RewardSpec(
            low=-1.0 if self.part == "type" else 0.0,
            high=0.0 if self.part == "type" else 1.0,
            placement="turn",
            source="WebShop, Yao et al. 2022, section 2.3; its decomposition into a sum by turnwise",
            summary=_SUMMARIES.get(self.part, f"What the {self.part} earned, were the type right."),
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        turns = read_turns(trajectory)
        if isinstance(turns, str):
            return invalid_values(len(trajectory.turns), turns)
        goal = read_goal(trajectory)
        wanted = None if isinstance(goal, str) else goal
        return tuple(self._value(turn, wanted) for turn in turns)

    def _value(self, turn: ShopTurn, wanted: Wanted | None) -> RewardValue:
        bought = turn.purchase
        if bought is None:
            return RewardValue(value=0.0, evidence={"bought": None})
        parts = parts_of(bought)
        value = bought.total if self.part == "total" else parts[self.part]
        evidence: dict[str, Json] = {"bought": bought.asin, **_evidence(self.part, bought, wanted)}
        if self.part == "total":
            evidence["parts"] = parts
        return RewardValue(value=value, evidence=evidence)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"part": self.part}


def parts_of(bought: Bought) -> dict[str, float]:
    """Return the parts of a purchase's reward by name; they add up to its total."""
    terms = {
        "attributes": _term(bought.w_att, bought.r_att),
        "options": _term(bought.w_option, bought.r_option),
        "price": _term(bought.w_price, bought.r_price),
    }
    return {"type": 0.0 if bought.r_type == 1.0 else (bought.r_type - 1.0) * sum(terms.values()), **terms}


def _term(weight: float | None, share: float | None) -> float:
    return 0.0 if weight is None or share is None else weight * share


def _evidence(part: Part, bought: Bought, wanted: Wanted | None) -> dict[str, Json]:
    """Return what a part rests on."""
    if part in ("total", "type"):
        asked = {} if wanted is None else {"wanted": wanted.asin}
        return {"r_type": bought.r_type, **asked}
    if part == "price":
        ceiling = None if wanted is None else wanted.price_upper
        return {"price": bought.price, "ceiling": ceiling, "within": bought.r_price}
    names = () if wanted is None else wanted.attributes if part == "attributes" else wanted.options
    matched = bought.attributes_matched if part == "attributes" else bought.options_matched
    return _split(names, matched)


def _split(names: Sequence[str], matched: Sequence[bool]) -> dict[str, Json]:
    """Return which of what was asked for is there and which is missing; numbers where the names are not known."""
    if len(names) != len(matched):
        return {"met": sum(matched), "missed": len(matched) - sum(matched)}
    pairs = list(zip(names, matched, strict=True))
    return {"met": [name for name, holds in pairs if holds], "missed": [name for name, holds in pairs if not holds]}
