"""The closed forms against the enumeration of every world that the facts read leave possible."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import JudgeError
from turnwise.rewards.gain.posterior import Knowledge, posterior

World = dict[tuple[str, str], Any]
Slots = dict[tuple[str, str], list[Any]]


def knows(read: World | None = None, *, unrecorded: Iterable[str] = (), **numbers: Mapping[str, Any]) -> Knowledge:
    given_numbers: dict[str, Any] = {"objects": {}, "subjects": {}, "years": {}, "terms": {}, **numbers}
    return Knowledge(unrecorded=frozenset(unrecorded), read=read or {}, **given_numbers)


def enumerated(
    slots: Slots, read: World, answer: Callable[[World], Hashable], possible: Callable[[World], bool] = lambda _: True
) -> dict[Hashable, Fraction]:
    """Return the share of each answer among all worlds that agree with what was read."""
    found: Counter[Hashable] = Counter()
    for values in itertools.product(*(slots[key] if key not in read else [read[key]] for key in slots)):
        world = dict(zip(slots, values, strict=True))
        if possible(world):
            found[answer(world)] += 1
    total = sum(found.values())
    return {value: Fraction(number, total) for value, number in found.items()}


def same(chance: Callable[[Any], float], exact: Mapping[Any, Fraction], candidates: Iterable[Any]) -> None:
    candidates = list(candidates)
    for candidate in candidates:
        assert chance(candidate) == pytest.approx(float(exact.get(candidate, 0)), abs=1e-12), candidate
    assert math.fsum(map(chance, candidates)) == pytest.approx(1.0)


def some_of(world: World, data: st.DataObject) -> World:
    keys = data.draw(st.lists(st.sampled_from(sorted(world)), unique=True))
    return {key: world[key] for key in keys}


def a_world(slots: Slots, data: st.DataObject) -> World:
    return {key: data.draw(st.sampled_from(values)) for key, values in slots.items()}


PEOPLE, CITIES = ["p0", "p1", "p2"], ["c0", "c1"]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans(), st.booleans())
def test_a_chain_is_what_enumeration_says(data: st.DataObject, lost: bool, unknown: bool) -> None:
    none: list[Any] = [None]
    slots: Slots = {("x", "author"): PEOPLE + none * lost}
    slots |= {(person, "home"): CITIES + none * unknown for person in PEOPLE}
    truth = a_world(slots, data)
    read = some_of(truth, data)
    # A fact of somebody who was not named yet waits.
    author = read.get(("x", "author"))
    counts = {key: value for key, value in read.items() if key[0] in ("x", author)}

    def answer(world: World) -> Hashable:
        return world.get((world["x", "author"], "home"))

    unrecorded = ["author"] * lost + ["home"] * unknown
    known = knows(read, objects={"author": 3, "home": 2}, unrecorded=unrecorded)
    chance = posterior(known, ["hop", "home", ["hop", "author", ["entity", "x"]]])
    same(chance, enumerated(slots, counts, answer), [*CITIES, None])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_intersection_is_what_enumeration_says(data: st.DataObject) -> None:
    works, presses = ["w0", "w1", "w2"], ["q0", "q1", "q2"]
    slots: Slots = {("x", "opened_by"): CITIES, ("y", "sold_by"): presses}
    slots |= {(work, "author"): CITIES for work in works} | {(work, "press"): presses for work in works}

    def fitting(world: World) -> list[str]:
        ends = world["x", "opened_by"], world["y", "sold_by"]
        return [work for work in works if (world[work, "author"], world[work, "press"]) == ends]

    truth = a_world(slots, data)
    truth |= {("w1", "author"): truth["x", "opened_by"], ("w1", "press"): truth["y", "sold_by"]}
    for work in ("w0", "w2"):
        if work in fitting(truth):
            truth[work, "author"] = next(city for city in CITIES if city != truth["x", "opened_by"])
    read = some_of({key: truth[key] for key in truth if key[0] in ("x", "y", "w1")}, data)
    counts = dict(read)
    for chain, relation in ((("x", "opened_by"), "author"), (("y", "sold_by"), "press")):
        if chain not in read:
            counts.pop(("w1", relation), None)
    known = knows(
        read, objects={"author": 2, "opened_by": 2, "press": 3, "sold_by": 3}, subjects={"author": 3, "press": 3}
    )
    arms = [["inverse", "author", ["hop", "opened_by", ["entity", "x"]]]]
    arms += [["inverse", "press", ["hop", "sold_by", ["entity", "y"]]]]
    exact = enumerated(slots, counts, lambda w: fitting(w)[0], lambda w: len(fitting(w)) == 1)
    same(posterior(known, ["and", *arms]), exact, works)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.booleans())
def test_a_count_is_what_enumeration_says(data: st.DataObject, early: bool) -> None:
    works, years = ["w0", "w1", "w2", "w3"], [1700, 1701, 1702]
    slots: Slots = {("x", "opened_by"): CITIES} | {(work, "author"): CITIES for work in works}
    if early:
        slots |= {(work, "year"): years for work in works}

    def number(world: World) -> int:
        mine = [work for work in works if world[work, "author"] == world["x", "opened_by"]]
        return sum(not early or world[work, "year"] < 1702 for work in mine)

    truth = a_world(slots, data)
    truth |= {("w0", "author"): truth["x", "opened_by"]} | ({("w0", "year"): 1700} if early else {})
    mine = ["x", *(work for work in works if truth[work, "author"] == truth["x", "opened_by"])]
    read = some_of({key: truth[key] for key in truth if key[0] in mine}, data)
    begun = ("x", "opened_by") in read
    counts = {key: o for key, o in read.items() if key[0] == "x" or (begun and (key[0], "author") in read)}
    known = knows(
        read,
        objects={"author": 2, "opened_by": 2},
        subjects={"author": 4},
        years={"year": (1700, 1702)} if early else {},
    )
    form: Any = ["inverse", "author", ["hop", "opened_by", ["entity", "x"]]]
    chance = posterior(known, ["count", ["before", "year", form, 1702] if early else form])
    same(chance, enumerated(slots, counts, number), range(5))
    assert chance(-1) == chance(None) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_comparison_is_what_enumeration_says(data: st.DataObject) -> None:
    years = [1700, 1701, 1702, 1703]
    slots: Slots = {("x", "author"): PEOPLE, ("y", "author"): PEOPLE} | {(p, "born"): years for p in PEOPLE}

    def possible(world: World) -> bool:
        one, other = world["x", "author"], world["y", "author"]
        return one != other and world[one, "born"] != world[other, "born"]

    def answer(world: World) -> Hashable:
        return min((world["x", "author"], world["y", "author"]), key=lambda person: world[person, "born"])

    truth = a_world(slots, data)
    truth["y", "author"] = next(p for p in PEOPLE if p != truth["x", "author"])
    born = data.draw(st.permutations(years))
    truth |= {(person, "born"): year for person, year in zip(PEOPLE, born, strict=False)}
    read = some_of(truth, data)
    ends = [read.get((start, "author")) for start in "xy"]
    counts = {key: value for key, value in read.items() if key[0] in ("x", "y", *ends)}
    known = knows(read, objects={"author": 3}, years={"born": (1700, 1703)})
    chains = [["hop", "author", ["entity", start]] for start in "xy"]
    same(posterior(known, ["earlier", "born", *chains]), enumerated(slots, counts, answer, possible), PEOPLE)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_span_of_years_is_what_enumeration_says(data: st.DataObject) -> None:
    slots: Slots = {("x", "appeared"): list(range(1700, 1706)), ("y", "born"): list(range(1698, 1703))}

    def span(world: World) -> int:
        return int(world["x", "appeared"] - world["y", "born"])

    truth = data.draw(st.builds(lambda: a_world(slots, data)).filter(lambda world: span(world) > 0))
    read = some_of(truth, data)
    known = knows(read, years={"appeared": (1700, 1705), "born": (1698, 1702)})
    chance = posterior(known, ["difference", ["hop", "appeared", ["entity", "x"]], ["hop", "born", ["entity", "y"]]])
    same(chance, enumerated(slots, read, span, lambda w: span(w) > 0), range(1, 9))
    assert chance(-1) == 0.0


def test_a_director_at_a_time_that_is_not_known_yet_has_a_share_of_the_years() -> None:
    form = ["during", ["hop", "organised_by", ["entity", "e"]], ["hop", "year", ["entity", "e"]]]
    people = ["p0", "p1", "p2", "p3"]
    numbers: dict[str, Any] = {
        "objects": {"organised_by": 5, "directed_by": 4},
        "years": {"year": (1700, 1709)},
        "terms": {"s": ((1695, 1703, "p1"), (1704, 1705, "p2"))},
    }

    def chances(read: World) -> list[float]:
        return [posterior(knows(read, **numbers), form)(person) for person in people]

    assert chances({}) == [0.25] * 4  # the organisation is not known: its page says nothing yet
    # Four of ten years are p1's, two are p2's, and the four others anybody's.
    assert chances({("e", "organised_by"): "s"}) == pytest.approx([0.1, 0.5, 0.3, 0.1])
    assert chances({("e", "organised_by"): "s", ("e", "year"): 1704}) == [0.0, 0.0, 1.0, 0.0]
    assert chances({("e", "organised_by"): "s", ("e", "year"): 1708}) == [0.25] * 4


def test_an_entity_that_the_question_names_is_not_its_answer() -> None:
    # "Who studied where x studied and was born where y was born?": x fits one half, but is not asked for.
    arms = [
        ["inverse", "school", ["hop", "school", ["entity", "x"]]],
        ["inverse", "home", ["hop", "home", ["entity", "y"]]],
    ]
    known = knows({("x", "school"): "s"}, objects={"school": 10, "home": 10}, subjects={"school": 50, "home": 50})
    assert posterior(known, ["and", *arms])("z") == pytest.approx(1 / 50)


@pytest.mark.parametrize("form", [["guess", 1], [], ["hop", "unheard", ["entity", "x"]]])
def test_what_is_no_question_has_no_beliefs(form: Any) -> None:
    with pytest.raises(JudgeError, match="no exact beliefs for the form"):
        posterior(knows(), form)("x")
