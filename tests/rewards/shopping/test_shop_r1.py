"""Shop-R1: the worked numbers, and the references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.records import Action, Trajectory, replace
from turnwise.rewards.shopping.actions import (
    FORMAT,
    ShopAction,
    action_parts,
    best_reference,
    common_subsequence,
    read_action,
    rouge_l,
)
from turnwise.rewards.shopping.shop_r1 import ShopR1

Make = Callable[..., Any]


def numbers(values: Any) -> list[float | None]:
    return [value.value for value in values]


def earned(said: ShopAction, reference: ShopAction, difficulty: float = 1000.0) -> float:
    return FORMAT + sum(action_parts(said, reference, difficulty=difficulty).values())


# -- the formula -----------------------------------------------------------------------------------


def test_the_worked_numbers() -> None:
    """Terminate .8; click with ROUGE-L .8: 801.0; type_and_submit with .5 and .25: 251.05."""
    assert earned(ShopAction("terminate"), ShopAction("terminate")) == pytest.approx(0.8)
    said, reference = ShopAction("click", "red kettle"), ShopAction("click", "red steel kettle")
    assert rouge_l(said.name, reference.name) == pytest.approx(0.8)
    assert earned(said, reference) == pytest.approx(801.0)
    said = ShopAction("type_and_submit", "search box", "steel mug with lid")
    reference = ShopAction("type_and_submit", "search field", "big steel garden hose")
    assert (rouge_l(said.name, reference.name), rouge_l(said.text, reference.text)) == (0.5, 0.25)
    assert earned(said, reference) == pytest.approx(251.05)


def test_the_factor_is_an_option() -> None:
    said, reference = ShopAction("click", "red kettle"), ShopAction("click", "red steel kettle")
    assert earned(said, reference, difficulty=1.0) == pytest.approx(1.8)
    assert earned(said, reference, difficulty=0.0) == pytest.approx(1.0)


def test_nothing_below_the_type_counts_without_it() -> None:
    assert action_parts(ShopAction("click", "a"), ShopAction("type_and_submit", "a", "a"), difficulty=1000.0) == {}
    assert earned(ShopAction("click", ""), ShopAction("click", "red")) == pytest.approx(0.8)
    assert earned(ShopAction("type_and_submit", "", ""), ShopAction("type_and_submit", "a", "b")) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("one", "two", "score"),
    [("", "a", 0.0), ("?", "?", 0.0), ("A, b!", "a B", 1.0), ("a b c d", "d c b a", 0.25), ("a b c", "a c", 0.8)],
)
def test_rouge_l(one: str, two: str, score: float) -> None:
    assert rouge_l(one, two) == rouge_l(two, one) == pytest.approx(score)


TEXTS = st.lists(st.sampled_from("abc"), max_size=12).map(tuple)


@settings(deadline=None)
@given(one=TEXTS, two=TEXTS)
def test_the_subsequence_is_that_of_the_textbook(one: tuple[str, ...], two: tuple[str, ...]) -> None:
    table = [[0] * (len(two) + 1) for _ in range(len(one) + 1)]
    for i, first in enumerate(one):
        for j, second in enumerate(two):
            best = max(table[i][j + 1], table[i + 1][j])
            table[i + 1][j + 1] = table[i][j] + 1 if first == second else best
    assert common_subsequence(one, two) == table[-1][-1]


def test_a_message_of_a_megabyte_is_compared_in_no_time() -> None:
    assert rouge_l("steel kettle " * 80_000, "steel kettle") == pytest.approx(4 / 160_002)


def test_commands() -> None:
    assert read_action("search[a [b] c]") == ShopAction("type_and_submit", "search", "a [b] c")
    assert read_action(" click[Buy Now] ") == ShopAction("click", "Buy Now")
    assert read_action("terminate") == ShopAction("terminate")
    assert [read_action(command) for command in ("", "look", "go[a]", "click[a")] == [None] * 4


def test_the_nearest_of_several_references_counts() -> None:
    references = {f"click[{name}]": ShopAction("click", name) for name in ("dark red", "light blue")}
    assert best_reference(ShopAction("click", "blue"), references, difficulty=1.0)[0] == "click[light blue]"


# -- references from the goal ----------------------------------------------------------------------


def test_the_shortest_way_earns_everything_on_every_turn(perfect: Trajectory) -> None:
    values = ShopR1().score(perfect)
    assert numbers(values) == [pytest.approx(1001.1)] + [pytest.approx(1001.0)] * 4
    shown = [value.evidence["reference"] for value in values]
    assert shown == ["search[electric kettle]", "click[b1]", "click[large]", "click[red]", "click[buy now]"]
    assert values[0].evidence["parts"]["text_alike"] == 1000.0


def references(trip: Make, *states: dict[str, Any]) -> list[str]:
    """What the situation after ``states`` asks for, as the evidence of a message that is no action shows it."""
    steps = [*(("click[x]", state) for state in states), ("", states[-1])]
    return str(ShopR1().score(trip(steps, ending="turns"))[-1].evidence["reference"]).split("|")


def test_every_situation_has_its_reference(trip: Make, state: Make) -> None:
    assert references(trip, state(page="search")) == ["search[electric kettle]"]
    assert references(trip, state(listed=["B7"])) == ["search[electric kettle]"]
    assert references(trip, state(listed=["B7", "B1"])) == ["click[b1]"]
    assert references(trip, state(page="item", asin="B7")) == ["search[electric kettle]"]
    assert references(trip, state(page="item", asin="B1")) == ["click[red]"]
    assert references(trip, state(page="sub", asin="B1")) == ["click[< prev]"]
    half = state(page="item", asin="B1", options={"color": "Red"}, reached=[0])
    assert references(trip, half) == ["click[large]"]
    # Going back clears what was chosen, although the milestone stays.
    assert references(trip, half, state(page="item", asin="B1", reached=[0])) == ["click[red]"]


def test_a_way_back_from_another_product_is_fine(trip: Make, state: Make) -> None:
    wrong = state(page="item", asin="B7")
    for way in ("click[back to search]", "click[< prev]", "search[Steel Electric Kettle for Tea]"):
        values = ShopR1(difficulty=1.0).score(trip([("click[b7]", wrong), (way, state(page="search"))], ending="turns"))
        assert numbers(values)[-1] == pytest.approx(2.1 if way.startswith("search") else 2.0)


def test_a_value_that_the_shop_took_for_the_option_is_not_asked_for_again(trip: Make, state: Make) -> None:
    alike = state(page="item", asin="B1", options={"size": "x-large"}, reached=[1])
    both = state(page="item", asin="B1", options={"size": "x-large", "color": "red"}, reached=[0, 1])
    assert references(trip, state(page="item", asin="B1"), alike) == ["click[red]"]
    assert references(trip, state(page="item", asin="B1"), alike, both) == ["click[buy now]"]


def test_a_value_that_is_one_wanted_option_is_not_taken_for_another(trip: Make, state: Make) -> None:
    both_at_once = state(page="item", asin="B1", options={"color": "red"}, reached=[0, 1])
    assert references(trip, state(page="item", asin="B1"), both_at_once) == ["click[large]"]


def test_malformed_and_misplaced_actions(trip: Make, state: Make) -> None:
    start = state(page="search")
    malformed, misplaced, wrong = ShopR1().score(
        trip([("", start), ("click[buy now]", start), ("search[sofa]", start)], ending="turns")
    )
    assert (malformed.value, misplaced.value) == (0.0, 0.5)
    assert wrong.value == pytest.approx(0.5 + 0.3 + 0.1 + 0.1 + 0.1)


def test_only_json_where_that_is_asked_for(perfect: Trajectory) -> None:
    assert numbers(ShopR1(form="json", difficulty=0.0).score(perfect))[1] == pytest.approx(0.5)
    turns = tuple(replace(turn, action=replace(turn.action, form="json")) for turn in perfect.turns)
    assert numbers(ShopR1(form="json", difficulty=0.0).score(replace(perfect, turns=turns)))[1] == pytest.approx(1.0)


def test_actions_that_name_nothing_do_not_apply(perfect: Trajectory) -> None:
    turn = perfect.turns[0]
    action = replace(turn.action, name="click_at", arguments={"x": "3", "y": "4"})
    values = ShopR1().score(replace(perfect, turns=(replace(turn, action=action),)))
    assert str(values[0].invalid).startswith("does not apply: 'click_at'")


# -- demonstrations --------------------------------------------------------------------------------


def test_in_a_browser_counts_what_the_turn_came_to(perfect: Trajectory) -> None:
    pressed = Action(name="click", arguments={"element": "12"}, command="click[12]")
    turns = [replace(turn, action=pressed, info={**turn.info, "moves": [turn.action_text]}) for turn in perfect.turns]
    there = ShopR1().score(replace(perfect, turns=tuple(turns)))
    assert [value.value for value in there] == [value.value for value in ShopR1().score(perfect)]
    scrolled = replace(perfect, turns=(replace(turns[0], info={**turns[0].info, "moves": []}), *turns[1:]))
    assert ShopR1().score(scrolled)[0].value is None


def test_a_demonstration_is_followed_turn_by_turn(trip: Make, state: Make) -> None:
    steps = [("search[a b]", state()), ("click[c]", state()), ("click[d]", state())]
    data = {"demonstration": ["search[a b]", "terminate"]}
    reward = ShopR1(reference="demonstration", difficulty=10.0)
    one, two, three = reward.score(trip(steps, ending="turns", data=data))
    assert (one.value, two.value) == (pytest.approx(11.1), 0.5)
    assert three.invalid == "the demonstration ends before this turn"


@pytest.mark.parametrize(
    "data", [{}, {"demonstration": "search[a]"}, {"demonstration": ["look"]}, {"demonstration": [3]}]
)
def test_no_demonstration_is_no_zero(trip: Make, state: Make, data: dict[str, Any]) -> None:
    (value,) = ShopR1(reference="demonstration").score(trip([("click[a]", state())], data=data))
    assert value.value is None
    assert "demonstration" in str(value.invalid)


@pytest.mark.parametrize("data", [{}, {"goal": "kettle"}, {"goal": {"asin": 3}}])
def test_no_goal_is_no_zero(trip: Make, state: Make, data: dict[str, Any]) -> None:
    (value,) = ShopR1().score(trip([("click[a]", state())], data=data))
    assert "goal" in str(value.invalid)


def test_options_are_checked_and_the_source_is_named() -> None:
    for wrong in ({"difficulty": -1}, {"reference": "human"}, {"form": "xml"}):
        with pytest.raises(ConfigError):
            ShopR1(**wrong)  # type: ignore[arg-type]
    assert "secondary" in ShopR1().spec.source
    assert ShopR1().spec.high == pytest.approx(1001.1)
    assert ShopR1().describe() == {"difficulty": 1000.0, "reference": "goal", "form": "any"}
