"""Deadlines, with a clock of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from turnwise.rollout.engine.journal import Heartbeats
from turnwise.rollout.engine.watch import Watch
from turnwise.rollout.engine.wire import PHASE_BOUNDARY, Deadlines, Phase

LIMITS = Deadlines(boot_s=1.0, step_s=2.0, act_s=3.0, episode_s=10.0, grade_s=4.0)


@pytest.fixture
def beats() -> Iterator[Heartbeats]:
    table = Heartbeats(3)
    yield table
    table.close()


def beat(beats: Heartbeats, slot: int, phase: Phase, since: float, turn: int = 0) -> None:
    beats.rows["phase"][slot] = phase
    beats.rows["since"][slot] = since
    beats.rows["turn"][slot] = turn


@pytest.mark.parametrize(
    ("phase", "limit"),
    [(Phase.BOOT, 1), (Phase.RESET, 1), (Phase.ENV, 2), (Phase.POLICY, 3), (Phase.JUDGE, 4), (Phase.CLOSE, 1)],
)
def test_each_phase_has_its_deadline(beats: Heartbeats, phase: Phase, limit: float) -> None:
    watch = Watch(LIMITS, beats)
    beat(beats, 1, phase, 100.0, turn=5)
    assert watch.overdue(100.0 + limit) == []
    assert watch.overdue(100.1 + limit) == [], "one look is not enough"
    [(slot, ending)] = watch.overdue(100.15 + limit)
    assert slot == 1
    assert ending.kind == "failed"
    assert ending.failure is not None
    assert (ending.failure.boundary, ending.failure.kind, ending.failure.turn) == (PHASE_BOUNDARY[phase], "hang", 5)


def test_progress_between_two_looks_acquits(beats: Heartbeats) -> None:
    watch = Watch(LIMITS, beats)
    beat(beats, 0, Phase.ENV, 100.0)
    assert watch.overdue(102.1) == []
    beat(beats, 0, Phase.ENV, 102.05, turn=1)
    assert watch.overdue(102.2) == []
    beat(beats, 0, Phase.IDLE, 102.3)
    assert watch.overdue(1000.0) == []


def test_an_episode_has_a_deadline_of_its_own(beats: Heartbeats) -> None:
    watch = Watch(LIMITS, beats)
    watch.episode_began(2, 100.0)
    for now in range(100, 111):
        beat(beats, 2, Phase.ENV, now - 0.5, turn=now)
        assert watch.overdue(float(now)) == []
    beat(beats, 2, Phase.ENV, 110.5, turn=7)
    [(slot, ending)] = watch.overdue(111.0)
    assert (slot, ending.kind, ending.cause) == (2, "truncated", "time")
    assert ending.failure is not None
    assert ending.failure.turn == 7


@pytest.mark.parametrize("phase", [Phase.JUDGE, Phase.CLOSE])
def test_grading_is_no_part_of_the_episode(beats: Heartbeats, phase: Phase) -> None:
    watch = Watch(LIMITS, beats)
    watch.episode_began(0, 100.0)
    beat(beats, 0, phase, 199.9)
    assert watch.overdue(200.0) == []
    watch.episode_ended(0)
    beat(beats, 0, Phase.IDLE, 199.9)
    assert watch.overdue(1e6) == []


def test_deadlines_can_be_off(beats: Heartbeats) -> None:
    off = Deadlines(boot_s=None, step_s=None, act_s=None, episode_s=None, grade_s=None)
    watch = Watch(off, beats)
    watch.episode_began(0, 0.0)
    for phase in Phase:
        beat(beats, 0, phase, 0.0)
        assert watch.overdue(1e9) == []
        assert watch.overdue(1e9) == []
