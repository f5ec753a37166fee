"""Which job a free slot gets."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from turnwise.rollout.engine.jobs import Job
from turnwise.rollout.engine.slots import SlotState, SlotTable


def jobs(*names: str) -> deque[Job]:
    return deque(Job(id=name, request=b"") for name in names)


def table(*tasks: str) -> SlotTable:
    """Make slots that have just played these tasks."""
    made = SlotTable(len(tasks), lambda slot, word: None)
    for slot, task in zip(made.all, tasks, strict=True):
        made.give(slot, Job(id=f"{task}#0", request=b""))
        made.move(slot, SlotState.READY)
    return made


def test_a_slot_goes_on_with_its_task() -> None:
    slots = table("a", "b")
    queue = jobs("a#1", "a#2", "b#1", "c#0")
    assert slots.suits(slots.all[0], queue) == 0
    assert slots.suits(slots.all[1], queue) == 2


def test_a_slot_without_its_task_takes_what_is_nobodys() -> None:
    slots = table("a", "b", "x")
    assert slots.suits(slots.all[2], jobs("a#1", "b#1", "c#0", "d#0")) == 2
    assert slots.suits(slots.all[2], jobs("a#1", "b#1")) == 0


def test_what_a_dead_slot_played_is_nobodys() -> None:
    slots = table("a", "b", "x")
    slots.vacate(slots.all[1])
    assert slots.suits(slots.all[2], jobs("a#1", "b#1")) == 1


@given(tasks=st.lists(st.integers(0, 5), min_size=1, max_size=60), count=st.integers(1, 4), data=st.data())
def test_every_job_is_given_once(tasks: list[int], count: int, data: st.DataObject) -> None:
    slots = SlotTable(count, lambda slot, word: None)
    queue = jobs(*(f"{task}#{number}" for number, task in enumerate(tasks)))
    expected = sorted(job.id for job in queue)
    played = []
    while queue:
        slot = slots.all[data.draw(st.integers(0, count - 1))]
        if slot.job is not None and data.draw(st.booleans()):
            slots.vacate(slot)
        position = slots.suits(slot, queue)
        job = queue[position]
        del queue[position]
        slots.give(slot, job)
        slots.move(slot, SlotState.READY)
        played.append(job.id)
    assert sorted(played) == expected
    assert all(n > 0 for n in slots._tasks.values())
