"""Milestones and outcome levels, from single pages."""

from __future__ import annotations

from dataclasses import replace

from turnwise.envs.webshop.goal import Goal
from turnwise.envs.webshop.milestones import OUTCOME_LEVELS, Milestones, level_of, none_of, reached
from turnwise.envs.webshop.reward import PurchaseReward
from turnwise.envs.webshop.shop import START, Page

GOAL = Goal(
    asin="B1",
    category="garden",
    query="kettle",
    name="Kettle",
    product_category="",
    instruction_text="",
    attributes=("steel",),
    goal_options=("red", "large"),
)
RESULTS = Page("results", "kettle", 1, tuple(range(25)))
ITEM = RESULTS._replace(kind="item", row=12)
FULL = PurchaseReward(
    total=1.0,
    r_type=1.0,
    query_match=True,
    category_match=True,
    title_score=1.0,
    r_att=1.0,
    w_att=0.25,
    r_option=1.0,
    w_option=0.5,
    r_price=True,
    w_price=0.25,
    attributes=(True,),
    options=(True, True),
)
TARGET = 12


def go(before: Milestones, page: Page, target: int | None = TARGET, bought: PurchaseReward | None = None) -> Milestones:
    return reached(before, page, target, GOAL, bought, "compat")


def test_only_the_page_that_lists_the_product_counts() -> None:
    none = none_of(GOAL)
    assert go(none, RESULTS) == none
    assert go(none, RESULTS._replace(number=2)).listed
    assert not go(none, RESULTS._replace(number=2)).opened


def test_options_count_on_the_wanted_product_only_and_stay() -> None:
    before = go(none_of(GOAL), RESULTS._replace(number=2))
    assert go(before, ITEM._replace(row=3, options=(("color", "red"),))) == before
    red = go(before, ITEM._replace(options=(("color", "red"),)))
    assert (red.opened, red.options, red.progress) == (True, (True, False), 3 / 5)
    assert go(red, ITEM._replace(options=(("color", "blue"), ("size", "large")))).options == (True, True)
    assert go(red, START) == red


def test_the_full_reward_counts_however_it_was_earned() -> None:
    for target in (TARGET, 3, None):
        done = go(none_of(GOAL), ITEM._replace(kind="done"), target, FULL)
        assert (done.bought, done.progress) == (True, 1.0)
    part = go(none_of(GOAL), ITEM._replace(kind="done"), TARGET, replace(FULL, total=0.75))
    assert (part.bought, part.progress) == (False, 1 / 5)


def test_levels() -> None:
    found = [None, replace(FULL, total=0.1, r_type=0.5), replace(FULL, total=0.75), FULL]
    assert tuple(level_of(bought) for bought in found) == OUTCOME_LEVELS
