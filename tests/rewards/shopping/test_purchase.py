"""The purchase and its parts, efficiency, and the gate between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import Trajectory
from turnwise.rewards import RewardTree, WeightedReward, load_rewards
from turnwise.rewards.shopping.conditional import ShopGated
from turnwise.rewards.shopping.efficiency import ShopEfficiency
from turnwise.rewards.shopping.facts import Bought
from turnwise.rewards.shopping.purchase import PARTS, ShopPurchase, parts_of
from turnwise.rewards.validity import total

Make = Callable[..., Any]


def numbers(values: Any) -> list[float | None]:
    return [value.value for value in values]


@pytest.fixture
def bought(trip: Make, state: Make, purchase: Make) -> Make:
    """An episode of so many turns, the last one a purchase with these parts."""

    def make(turns: int = 5, ending: str = "over", **changes: Any) -> Trajectory:
        steps = [("click[a]", state(page="item"))] * (turns - 1)
        return trip([*steps, ("click[buy now]", state(page="done", purchase=purchase(**changes)))], ending=ending)

    return make


def test_the_parts_stand_on_the_turn_that_bought(bought: Make) -> None:
    trajectory = bought(
        3, r_type=0.5, r_att=0.0, r_option=0.5, attributes_matched=[False], options_matched=[True, False]
    )
    found = {part: ShopPurchase(part=part).score(trajectory) for part in PARTS}
    assert {part: numbers(values)[-1] for part, values in found.items()} == {
        "type": -0.25,
        "attributes": 0.0,
        "options": 0.25,
        "price": 0.25,
    }
    assert all(numbers(values)[:2] == [0.0, 0.0] for values in found.values())
    assert numbers(ShopPurchase().score(trajectory)) == [0.0, 0.0, 0.25]
    assert found["attributes"][-1].evidence == {"bought": "B1", "met": [], "missed": ["steel"]}
    assert found["options"][-1].evidence == {"bought": "B1", "met": ["red"], "missed": ["large"]}
    assert found["price"][-1].evidence == {"bought": "B1", "price": 34.5, "ceiling": 40.0, "within": True}
    assert found["type"][-1].evidence == {"bought": "B1", "r_type": 0.5, "wanted": "B1"}
    assert found["type"][0].evidence == {"bought": None}


SHARES = st.integers(0, 4).map(lambda n: n / 4)


@settings(deadline=None)
@given(
    r_type=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    r_att=st.none() | SHARES,
    r_option=st.none() | SHARES,
    r_price=st.none() | st.booleans(),
    size=st.integers(3, 9),
)
def test_the_parts_add_up_and_keep_their_ranges(
    purchase: Make, r_type: float, r_att: float | None, r_option: float | None, r_price: bool | None, size: int
) -> None:
    weights = {
        "w_att": (size - 2) / size if r_att is not None else 0.0,
        "w_option": 1 / size if r_option is not None else None,
        "w_price": 1 / size if r_price is not None else None,
    }
    made = purchase(r_type=r_type, r_att=r_att, r_option=r_option, r_price=r_price, **weights)
    names = Bought.__struct_fields__
    parts = parts_of(Bought(**{name: made[name] for name in names}))
    assert sum(parts.values()) == pytest.approx(made["total"], abs=1e-12)
    for name, value in parts.items():
        spec = ShopPurchase(part=name).spec  # type: ignore[arg-type]
        assert spec.low - 1e-12 <= value <= spec.high + 1e-12


def test_without_a_purchase_there_is_nothing_to_pay(trip: Make, state: Make) -> None:
    for ending in ("turns", "failed"):
        assert numbers(ShopPurchase().score(trip([("click[a]", state())], ending=ending))) == [0.0]
    (value,) = ShopPurchase().score(trip([("click[a]", {})]))
    assert str(value.invalid).startswith("does not apply")


def test_parts_without_names_are_counted(trip: Make, state: Make, purchase: Make) -> None:
    trajectory = trip([("click[buy now]", state(purchase=purchase()))], data={})
    assert ShopPurchase(part="options").score(trajectory)[0].evidence == {"bought": "B1", "met": 2, "missed": 0}


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="'total' or 'type'"):
        ShopPurchase(part="colour")  # type: ignore[arg-type]


# -- efficiency ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("turns", "share"), [(1, 1.0), (5, 1.0), (10, 0.8), (20, 0.4), (30, 0.0), (40, 0.0)])
def test_efficiency_falls_from_what_is_needed_to_the_budget(bought: Make, turns: int, share: float) -> None:
    values = ShopEfficiency(budget=30).score(bought(turns))
    assert numbers(values) == [0.0] * (turns - 1) + [pytest.approx(share)]
    assert values[-1].evidence == {"turns": turns, "needed": 5, "budget": 30, "bought": True}


def test_a_budget_below_what_is_needed_leaves_nothing_in_between(bought: Make) -> None:
    assert numbers(ShopEfficiency(budget=3).score(bought(5)))[-1] == 1.0
    assert numbers(ShopEfficiency(budget=3).score(bought(6)))[-1] == 0.0


def test_giving_up_is_not_efficient_and_a_failure_has_no_value(trip: Make, state: Make) -> None:
    steps = [("click[a]", state())]
    assert numbers(ShopEfficiency().score(trip(steps, ending="turns"))) == [0.0]
    (value,) = ShopEfficiency().score(trip(steps, ending="failed"))
    assert "step took 30 s" in str(value.invalid)
    with pytest.raises(ConfigError):
        ShopEfficiency(budget=0)


# -- the gate --------------------------------------------------------------------------------------


def test_efficiency_counts_only_where_the_purchase_is_correct(bought: Make) -> None:
    reward = ShopGated()
    right, wrong = reward.score(bought(5)), reward.score(bought(5, r_att=0.0))
    assert numbers(right)[-1] == pytest.approx(1.2)
    assert numbers(wrong)[-1] == pytest.approx(0.75)
    assert wrong[-1].evidence["withheld"] == {"shop_efficiency": pytest.approx(0.2)}
    assert wrong[-1].evidence["episode"]["passed"] is False
    loose = ShopGated(correct=0.75, purchase=0.0, efficiency=0.5)
    assert numbers(loose.score(bought(5, r_att=0.0)))[-1] == pytest.approx(0.5)


def test_a_failed_episode_is_not_a_wrong_purchase(trip: Make, state: Make) -> None:
    trajectory = trip([("click[a]", state())], ending="failed")
    assert total(ShopGated().score(trajectory), trajectory).value is None


def test_the_gate_says_what_it_is_from_and_can_be_configured(bought: Make) -> None:
    options = {"correct": 0.5, "purchase": 0.0, "efficiency": 0.3, "budget": 20}
    tree = load_rewards({"version": 1, "rewards": [{"name": "shop_gated", "options": options}]})
    assert tree.describe()["rewards"][0]["options"] == options
    assert load_rewards(tree.describe()).describe() == tree.describe()
    assert "shop_efficiency" in str(tree)
    assert "abstract only" in ShopGated().spec.source
    assert tree.totals(bought(5))["reward"].value == pytest.approx(0.3)
    for wrong in ({"correct": 1.5}, {"efficiency": -1}, {"budget": 1.5}):
        with pytest.raises(ConfigError):
            ShopGated(**wrong)  # type: ignore[arg-type]


def test_the_four_parts_sum_to_the_purchase_in_a_tree(bought: Make) -> None:
    parts = tuple(WeightedReward(ShopPurchase(part=part), name=part) for part in PARTS)
    tree = RewardTree((*parts, WeightedReward(ShopPurchase(), 0.0)))
    for changes in ({}, {"r_type": 0.1}, {"r_price": False, "r_option": 0.5}):
        totals = tree.totals(bought(4, **changes))
        assert totals["reward"].value == pytest.approx(totals["shop_purchase"].value)
