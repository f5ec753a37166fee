"""Milestones of a shopping trip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import Trajectory
from turnwise.rewards.shopping.milestones import ShopMilestones

Make = Callable[..., Any]
NAMES = ("listed", "opened", 0, 1, "bought")


def numbers(values: Any) -> list[float | None]:
    return [value.value for value in values]


def test_each_milestone_pays_on_the_turn_that_reaches_it(perfect: Trajectory) -> None:
    values = ShopMilestones().score(perfect)
    assert numbers(values) == [0.2] * 5
    assert [value.evidence["new"] for value in values] == [
        ["listed"],
        ["opened"],
        ["option 1"],
        ["option 0"],
        ["bought"],
    ]
    assert values[-1].evidence["reached"] == values[-1].evidence["of"] == 5


def test_the_weights_are_shares_of_all_that_the_task_has(perfect: Trajectory) -> None:
    reward = ShopMilestones(listed=1, opened=0, option=2, bought=5)
    assert numbers(reward.score(perfect)) == [0.1, 0.0, 0.2, 0.2, 0.5]
    assert reward.describe() == {"listed": 1.0, "opened": 0.0, "option": 2.0, "bought": 5.0}


def test_nothing_is_paid_twice_and_going_back_costs_nothing(trip: Make, state: Make) -> None:
    steps = [
        ("search[a]", state(reached=["listed"])),
        ("click[back to search]", state(page="search", reached=["listed"])),
        ("search[a]", state(reached=["listed"])),
    ]
    assert numbers(ShopMilestones().score(trip(steps, ending="turns"))) == [0.2, 0.0, 0.0]


def test_turns_that_were_played_stay_valid_in_a_failed_episode(trip: Make, state: Make) -> None:
    values = ShopMilestones().score(trip([("search[a]", state(reached=["listed"]))], ending="failed"))
    assert numbers(values) == [0.2]


def test_what_is_no_shop_has_no_value(trip: Make, state: Make) -> None:
    assert ShopMilestones().score(trip([], ending="turns")) == ()
    (value,) = ShopMilestones().score(trip([("click[a]", {"admissible": 3})]))
    assert str(value.invalid).startswith("does not apply: turn 0 reports no milestones")
    odd = state() | {"milestones": {"listed": "yes"}}
    one, two = ShopMilestones().score(trip([("click[a]", state()), ("click[a]", odd)]))
    assert one.invalid == two.invalid
    assert "turn 1 does not report what a web shop does" in str(one.invalid)


def test_a_task_without_weighted_milestones_has_no_value(trip: Make, state: Make) -> None:
    bare = state() | {"milestones": {"listed": True, "opened": False, "options": [], "bought": False}}
    (value,) = ShopMilestones(listed=0, opened=0, bought=0).score(trip([("search[a]", bare)]))
    assert "no milestone with a weight" in str(value.invalid)


@pytest.mark.parametrize(
    "options", [{"listed": -1}, {"option": True}, dict.fromkeys(("listed", "opened", "option", "bought"), 0)]
)
def test_wrong_weights_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ShopMilestones(**options)


@settings(deadline=None)
@given(sets=st.lists(st.sets(st.sampled_from(NAMES)), min_size=1, max_size=8))
def test_the_sum_is_the_share_reached(trip: Make, state: Make, sets: list[set[Any]]) -> None:
    reached: set[Any] = set()
    steps = []
    for more in sets:
        reached |= more
        steps.append(("click[a]", state(reached=reached)))
    values = numbers(ShopMilestones().score(trip(steps, ending="turns")))
    assert sum(value or 0.0 for value in values) == pytest.approx(len(reached) / 5)
