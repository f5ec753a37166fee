from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.rewards.carr import Rubrics, connected

SIX = (("E0",), ("E0", "E1", "E2"), ("E1", "E0"), ("E1",), ("E3", "E0"), ("E4", "E5"))


def test_the_worked_example_reaches_three_of_six() -> None:
    supported = [0, 1, 3, 5]  # T, T, F, T, F, T
    assert connected(SIX, supported) == {0, 1, 3}


def test_an_entity_is_a_bridge_only_in_a_supported_rubric() -> None:
    slots = (("E0", "E1"), ("E1", "E2"), ("E2",))
    assert connected(slots, [0, 1, 2]) == {0, 1, 2}
    assert connected(slots, [0, 2]) == {0}
    assert connected(slots, [1, 2]) == frozenset()


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3), min_size=1, max_size=8).flatmap(
        lambda slots: st.tuples(st.just(slots), st.sets(st.integers(0, len(slots) - 1)))
    )
)
def test_connectivity_equals_growing_a_component(case: tuple[list[list[int]], set[int]]) -> None:
    numbers, supported = case
    slots = [[f"E{n}" for n in ids] for ids in numbers]
    entities, reached = {"E0"}, set[int]()
    while True:
        new = {i for i in supported if entities & set(slots[i])} - reached
        if not new:
            break
        reached |= new
        entities |= {slot for i in new for slot in slots[i]}
    assert connected(slots, sorted(supported)) == reached


def test_filling_leaves_out_what_has_no_name() -> None:
    rubrics = Rubrics.read(["<E0> is in <E1>.", "<E1> is old, <E1> is grey.", "<E10> is near <E0>."])
    assert rubrics.ids == ("E0", "E1", "E10")
    filled = rubrics.fill({"E0": "A", "E1": None, "E10": "C"})
    assert filled == {2: "C is near A."}
    assert rubrics.fill({"E0": "A", "E1": r"\1<E0>", "E10": "C"})[1] == r"\1<E0> is old, \1<E0> is grey."


@pytest.mark.parametrize(
    ("rubrics", "message"),
    [
        (["<E0> is.", "Nothing here."], r"rubrics\[1\] has no placeholder"),
        (["<e0> is."], r"rubrics\[0\] has no placeholder"),
        (["<E1> is."], "no rubric has <E0>"),
        ([], "is empty"),
        ("<E0> is.", "list of statements"),
        (None, "list of statements"),
        ([3], r"rubrics\[0\] must be text"),
    ],
)
def test_bad_rubrics_are_errors_when_they_are_loaded(rubrics: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rubrics.read(rubrics)
