"""The static tables of a game: names, numbers and abilities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.envs.household.problem import Problem
from turnwise.envs.household.scene import Scene, entity_names, listing
from turnwise.errors import ConfigError


def names_in(scene: Scene, mask: int) -> set[str]:
    return {name for number, name in enumerate(scene.object_names) if mask >> number & 1}


def test_entities_of_a_name_are_numbered_downwards_in_the_order_of_their_ids() -> None:
    assert entity_names({"mug_bar_2", "mug_bar_10", "mug_bar__plus_1", "bed_bar_1"}) == {
        "mug_bar_10": "mug 3",
        "mug_bar_2": "mug 2",
        "mug_bar__plus_1": "mug 1",
        "bed_bar_1": "bed 1",
    }


def test_basins_have_a_name_of_their_own() -> None:
    names = entity_names({"sink_bar_1_bar_sinkbasin", "sink_bar_2", "bathtub_bar_1_bar_bathtubbasin"})
    assert sorted(names.values()) == ["bathtubbasin 1", "sink 1", "sinkbasin 1"]


def test_an_id_without_a_place_has_no_number() -> None:
    assert entity_names({"agent1"}) == {"agent1": "agent1 "}


@given(st.sets(st.tuples(st.sampled_from(["mug", "cup", "sink"]), st.integers(0, 30)), min_size=1))
def test_names_are_unique_and_numbers_have_no_gaps(things: set[tuple[str, int]]) -> None:
    names = entity_names({f"{kind}_bar_{number}" for kind, number in things})
    for kind in {kind for kind, _ in things}:
        numbers = sorted(int(name.split()[1]) for name in names.values() if name.split()[0] == kind)
        assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("things", "text"),
    [([], "nothing"), (["a"], "a"), (["a", "b"], "a, and b"), (["a", "b", "c"], "a, b, and c")],
)
def test_listings(things: list[str], text: str) -> None:
    assert listing(things) == text


def test_the_tables_of_the_small_kitchen(make_problem: Callable[..., Problem]) -> None:
    scene = Scene(make_problem())
    assert scene.receptacle_names == (
        "cabinet 2", "cabinet 1", "fridge 1", "microwave 1", "shelf 1", "sinkbasin 1",
    )  # fmt: skip
    assert scene.objects == (*sorted(scene.objects[:-1]), "candle"), "without facts, last"
    assert names_in(scene, scene.of_object_type["potatotype"]) == {"potato 1", "potato 2"}
    assert names_in(scene, scene.pickupable) == {"potato 1", "potato 2", "knife 1", "mug 1", "box 1"}
    assert names_in(scene, scene.knives) == {"knife 1"}
    accepted = dict(zip(scene.receptacle_names, (names_in(scene, mask) for mask in scene.accepts), strict=True))
    assert accepted["shelf 1"] == {"potato 1", "potato 2", "knife 1", "mug 1"}
    assert accepted["microwave 1"] == {"potato 1", "potato 2"}
    cabinet = scene.receptacle_names.index("cabinet 1")
    assert [scene.receptacle_names[r] for r in scene.receptacles_at[scene.receptacle_location[cabinet]]] == [
        "cabinet 2", "cabinet 1", "shelf 1",
    ]  # fmt: skip


def test_going_where_one_is_is_not_offered(make_problem: Callable[..., Problem]) -> None:
    scene = Scene(make_problem())
    here = scene.receptacle_location[scene.receptacle_names.index("shelf 1")]
    assert scene.goto_commands[here] == ("go to fridge 1", "go to microwave 1", "go to sinkbasin 1")
    assert len(scene.goto_commands[scene.initial.location]) == 6


@pytest.mark.parametrize(
    ("add", "complaint"),
    [
        ("(atLocation agent1 loc_bar_1)", "one agent at one location"),
        ("(receptacleAtLocation Shelf_bar_1 loc_bar_2)", "two locations"),
        ("(inReceptacle Shelf_bar_1 Potato_bar_1)", r"takes \(object, receptacle\)"),
        ("(opened Fridge_bar_1 Shelf_bar_1)", r"takes \(receptacle\)"),
    ],
)
def test_facts_that_make_no_game_are_refused(make_problem: Callable[..., Problem], add: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Scene(make_problem(add=add))


def test_unknown_predicates_are_let_be(make_problem: Callable[..., Problem]) -> None:
    assert Scene(make_problem(add="(glows Lamp_bar_1)")).initial == Scene(make_problem()).initial
