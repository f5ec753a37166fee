"""The rooms and the games made in them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.household.catalog import OBJECT_TYPES, OPENABLE, ROOMS, STOCK
from turnwise.envs.household.draws import Draws
from turnwise.envs.household.generator import TREATMENTS, Recipe, build, goals_in
from turnwise.envs.household.instructions import TEMPLATES, parse_instruction
from turnwise.envs.household.layouts import LAYOUTS_PER_ROOM, coordinate, get_layout, room_layouts
from turnwise.envs.household.pddl import parse_problem, write_problem
from turnwise.envs.household.problem import Problem
from turnwise.envs.household.tasktypes import TASK_TYPES
from turnwise.errors import UnknownNameError

ALL_LAYOUTS = [layout for room in ROOMS for layout in room_layouts(room)]


def pairs(problem: Problem, predicate: str) -> list[tuple[str, ...]]:
    return [fact[1:] for fact in problem.facts if fact[0] == predicate]


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    layout = draw(st.sampled_from(ALL_LAYOUTS))
    task_type = draw(st.sampled_from([kind for kind in TASK_TYPES if goals_in(layout.name, kind)]))
    goal = draw(st.sampled_from(goals_in(layout.name, task_type)))
    stream = (9, draw(st.integers(0, 2**32)))
    return Recipe(task_type, layout.name, *goal, template=draw(st.integers(0, 1)), stream=stream)


@pytest.mark.parametrize("room", ROOMS)
def test_each_room_has_at_least_thirty_different_layouts(room: str) -> None:
    layouts = room_layouts(room)
    assert len(layouts) == LAYOUTS_PER_ROOM >= 30
    assert len({tuple(sorted(layout.counts.items())) for layout in layouts}) == len(layouts)
    assert len({layout.name for layout in layouts}) == len(layouts)


@pytest.mark.parametrize("layout", ALL_LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_consistent(layout) -> None:
    ids = [receptacle.id for receptacle in layout.receptacles]
    assert len(set(ids)) == len(ids)
    assert layout.start not in {receptacle.location for receptacle in layout.receptacles}
    assert all(name == name.lower() for name in ids)
    devices = {"kitchen": {"SinkBasin", "Microwave", "Fridge"}, "bathroom": {"SinkBasin"}}.get(layout.room, set())
    assert devices <= set(layout.counts)


def test_some_receptacles_share_a_spot() -> None:
    shared = Counter()
    for layout in ALL_LAYOUTS:
        spots = Counter(receptacle.location for receptacle in layout.receptacles)
        shared.update(r.type for r in layout.receptacles if spots[r.location] > 1)
    assert {"Cabinet", "Drawer", "CounterTop"} <= set(shared)


def test_an_unknown_layout_names_near_misses() -> None:
    with pytest.raises(UnknownNameError, match="kitchen07"):
        get_layout("kitchen7")


def test_every_stocked_object_has_a_place_in_its_room() -> None:
    for room, stock in STOCK.items():
        kinds = {kind for layout in room_layouts(room) for kind in layout.counts}
        for name in stock:
            assert kinds & set(OBJECT_TYPES[name].fits), (room, name)


def test_coordinates_are_spelled_as_in_real_games() -> None:
    assert coordinate(-0.5) == "_minus_00_dot_50"
    assert coordinate(12.345) == "_plus_12_dot_35" or coordinate(12.345) == "_plus_12_dot_34"
    assert coordinate(0.0) == coordinate(-0.001) == "_plus_00_dot_00"


@given(recipe=recipes())
@settings(max_examples=150, deadline=None)
def test_a_game_is_consistent(recipe: Recipe) -> None:
    problem = build(recipe)
    declared = dict(problem.objects)
    assert len(declared) == len(problem.objects)
    assert len(set(problem.facts)) == len(problem.facts)
    for fact in problem.facts:
        assert all(argument in declared for argument in fact[1:]), fact

    receptacle_type = dict(pairs(problem, "receptacletype"))
    spot = dict(pairs(problem, "receptacleatlocation"))
    object_type = dict(pairs(problem, "objecttype"))
    inside = dict(pairs(problem, "inreceptacle"))
    can_contain = set(pairs(problem, "cancontain"))
    assert set(inside) == set(object_type) == set(dict(pairs(problem, "objectatlocation")))
    for thing, place in inside.items():
        assert (receptacle_type[place], object_type[thing]) in can_contain
        assert dict(pairs(problem, "objectatlocation"))[thing] == spot[place]
    openable = {place for (place,) in pairs(problem, "openable")}
    assert openable == {p for p, kind in receptacle_type.items() if kind in {f"{o.lower()}type" for o in OPENABLE}}


@given(recipe=recipes())
@settings(max_examples=150, deadline=None)
def test_a_game_holds_what_its_task_needs_and_is_not_solved(recipe: Recipe) -> None:
    problem = build(recipe)
    target, place = f"{recipe.target.lower()}type", f"{recipe.receptacle.lower()}type"
    receptacle_type = dict(pairs(problem, "receptacletype"))
    targets = [thing for thing, kind in pairs(problem, "objecttype") if kind == target]
    inside = dict(pairs(problem, "inreceptacle"))
    assert len(targets) >= (2 if recipe.task_type == "pick_two_obj_and_place" else 1)
    assert all((thing,) in pairs(problem, "pickupable") for thing in targets)
    if recipe.lamp:
        lamps = [thing for thing, kind in pairs(problem, "objecttype") if kind == f"{recipe.lamp.lower()}type"]
        assert lamps
        assert all((lamp,) in pairs(problem, "toggleable") for lamp in lamps)
        assert all((lamp,) not in pairs(problem, "pickupable") for lamp in lamps)
    else:
        assert place in receptacle_type.values()
        assert (place, target) in pairs(problem, "cancontain")
    if recipe.task_type in TREATMENTS:
        needed, treated, device = TREATMENTS[recipe.task_type]
        assert f"{device.lower()}type" in receptacle_type.values()
        assert all((thing,) in pairs(problem, needed) for thing in targets)
        assert not pairs(problem, treated)
    elif not recipe.lamp:
        assert not [thing for thing in targets if receptacle_type[inside[thing]] == place]


@given(recipe=recipes())
@settings(max_examples=30, deadline=None)
def test_a_game_survives_being_written_and_read(recipe: Recipe) -> None:
    problem = build(recipe)
    again = parse_problem(write_problem(problem, "p"), instruction=problem.instruction)
    assert again == problem


@pytest.mark.parametrize("task_type", TASK_TYPES)
@pytest.mark.parametrize("template", [0, 1])
def test_instructions_can_be_read_back(task_type: str, template: int) -> None:
    look = task_type == "look_at_obj_in_light"
    recipe = Recipe(
        task_type, "kitchen01", "SoapBar", "" if look else "SinkBasin", "DeskLamp" if look else "", template, (0,)
    )
    request = parse_instruction(recipe.instruction)
    assert request is not None
    assert (request.task_type, request.target) == (task_type, "soapbar")
    assert request.receptacle == ("" if look else "sinkbasin")
    assert request.lamp == ("desklamp" if look else "")


def test_there_are_two_instructions_for_each_task_type() -> None:
    assert set(TEMPLATES) == set(TASK_TYPES)
    assert len({text for texts in TEMPLATES.values() for text in texts}) == 12


def test_free_wording_is_not_misread() -> None:
    assert parse_instruction("Heat a potato and place it in the sink.") is None


def test_draws_are_pinned() -> None:
    """The stream that all the games hang on; if this changes, every embedded task changes."""
    draws = Draws(1, 2)
    assert [draws.below(1000) for _ in range(5)] == [290, 115, 413, 456, 984]
    assert Draws(1, 2).random() != Draws(1, 3).random()
    assert sorted(draws.shuffled(range(50))) == list(range(50))
