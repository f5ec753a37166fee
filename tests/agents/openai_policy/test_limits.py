"""The clock's tests wait for nothing: time is jumped over."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.agents.openai_policy.limits import LONGEST_PAUSE_S, Backoff, TokenBucket


def passes(bucket: TokenBucket, clock: Any, count: int) -> list[tuple[int, float]]:
    """Let that many ask at once; returns who passed when."""
    passed: list[tuple[int, float]] = []

    async def one(number: int) -> None:
        await bucket.take()
        passed.append((number, clock.now() - 1000.0))

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(count)))

    asyncio.run(all_of_them())
    return passed


def test_a_bucket_lets_a_second_s_worth_through_and_then_one_at_a_time_in_order(clock: Any) -> None:
    passed = passes(TokenBucket(2.0, clock), clock, 5)
    assert [number for number, _ in passed] == [0, 1, 2, 3, 4]
    assert [when for _, when in passed] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.5])


def test_a_slow_bucket_holds_one(clock: Any) -> None:
    assert [when for _, when in passes(TokenBucket(0.25, clock), clock, 3)] == pytest.approx([0.0, 4.0, 8.0])


def test_no_rate_is_no_limit(clock: Any) -> None:
    assert {when for _, when in passes(TokenBucket(0.0, clock), clock, 50)} == {0.0}
    assert clock.slept == []


def test_somebody_who_gives_up_takes_no_pass(clock: Any) -> None:
    bucket = TokenBucket(1.0, clock)

    async def scene() -> float:
        await bucket.take()
        quitter = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.wait({quitter})
        assert quitter.cancelled()
        await bucket.take()
        return clock.now() - 1000.0

    assert asyncio.run(scene()) == pytest.approx(1.0)


@settings(deadline=None)
@given(rate=st.floats(0.01, 1e4), count=st.integers(1, 40))
def test_no_window_holds_more_than_the_rate_allows(make_clock: Any, rate: float, count: int) -> None:
    clock = make_clock()
    times = [when for _, when in passes(TokenBucket(rate, clock), clock, count)]
    for first in range(count):
        for last in range(first, count):
            allowed = max(1.0, rate) + rate * (times[last] - times[first])
            assert last - first + 1 <= allowed + 1e-6


def test_pauses_double_up_to_a_bound_and_differ_by_chance() -> None:
    backoff = Backoff(0.5, np.random.default_rng(3))
    pauses = [backoff.pause(attempt) for attempt in range(12)]
    for attempt, pause in enumerate(pauses):
        longest = min(0.5 * 2**attempt, LONGEST_PAUSE_S)
        assert longest / 2 <= pause <= longest
    assert len({pause / min(0.5 * 2**attempt, LONGEST_PAUSE_S) for attempt, pause in enumerate(pauses)}) == 12
    assert pauses == [again.pause(n) for again in [Backoff(0.5, np.random.default_rng(3))] for n in range(12)]
    assert backoff.pause(10_000) <= LONGEST_PAUSE_S


def test_what_the_server_asks_for_is_done_but_not_for_ever() -> None:
    backoff = Backoff(0.5)
    assert backoff.pause(0, 7.0) == 7.0
    assert backoff.pause(0, 0.0) == 0.0
    assert backoff.pause(0, 86_400.0) == LONGEST_PAUSE_S
