"""Turns to tokens: boundaries come from the record, never from the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.protocols import TurnAdvantages
from turnwise.records import RewardValue, TokenSequence, replace
from turnwise.rewards.credit import expand_to_tokens, place_on_boundaries, turn_boundaries, turn_of_token

Make = Any
SPANS = [(2, 4), (5, 8), (9, 10)]


def assigned(trajectory: Any, values: tuple[float, ...], mask: tuple[bool, ...] | None = None) -> TurnAdvantages:
    return TurnAdvantages(trajectory_id=trajectory.id, advantages=values, mask=mask or (True,) * len(values))


def test_sampled_tokens_get_their_turns_advantage(tokenised: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    advantages, mask = expand_to_tokens(assigned(trajectory, (1.0, -2.0, 0.5)), trajectory)
    assert advantages.dtype == np.float32
    assert advantages.tolist() == [0, 0, 1, 1, 0, -2, -2, -2, 0, 0.5, 0]
    assert mask.tolist() == [bool(m) for m in trajectory.tokens.loss_mask]


def test_a_turn_whose_advantage_is_zero_keeps_its_tokens(tokenised: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    advantages, mask = expand_to_tokens(assigned(trajectory, (0.0, 0.0, 0.0)), trajectory)
    assert not advantages.any()
    assert mask.sum() == 6


def test_masked_turns_are_masked_on_their_tokens(tokenised: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    advantages, mask = expand_to_tokens(assigned(trajectory, (1.0, 9.0, 0.5), (True, False, True)), trajectory)
    assert not mask[5:8].any()
    assert not advantages[5:8].any()
    assert mask[2:4].all()
    assert mask[9]


def test_tokens_inside_a_span_that_were_not_sampled_are_masked(tokenised: Make) -> None:
    trajectory = tokenised([(0, 4)], 4)
    forced = TokenSequence(ids=(0, 1, 2, 3), loss_mask=(1, 0, 1, 0))
    trajectory = replace(trajectory, tokens=forced)
    advantages, mask = expand_to_tokens(assigned(trajectory, (2.0,)), trajectory)
    assert mask.tolist() == [True, False, True, False]
    assert advantages.tolist() == [2.0, 0.0, 2.0, 0.0]
    assert turn_boundaries(trajectory).tolist() == [False, False, True, False]


def values_of(numbers: list[float | None]) -> list[RewardValue]:
    return [RewardValue(invalid="judge down") if n is None else RewardValue(value=n) for n in numbers]


def test_rewards_sit_on_the_last_sampled_token_of_their_turn(tokenised: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    rewards, boundaries, valid = place_on_boundaries(values_of([0.5, 0.0, None]), trajectory)
    assert np.flatnonzero(boundaries).tolist() == [3, 7, 9]
    assert np.flatnonzero(valid).tolist() == [3, 7], "a reward of 0 keeps its boundary, an invalid one is marked"
    assert rewards.tolist() == [0, 0, 0, 0.5, 0, 0, 0, 0, 0, 0, 0]


def test_a_turn_without_sampled_tokens_cannot_hold_a_reward(tokenised: Make) -> None:
    trajectory = tokenised([(2, 2), (3, 5)], 5)
    rewards, boundaries, _ = place_on_boundaries(values_of([0.0, 1.0]), trajectory)
    assert boundaries.sum() == 1
    assert rewards.sum() == 1.0
    for lost in (1.0, None):
        with pytest.raises(ConfigError, match=r"turn 0 .* sampled no token"):
            place_on_boundaries(values_of([lost, 1.0]), trajectory)


layouts = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4), st.floats(-4, 4)), min_size=1, max_size=6)


@settings(deadline=None)
@given(layout=layouts, tail=st.integers(0, 3), usable=st.lists(st.booleans(), min_size=6, max_size=6))
def test_expansion_by_its_laws(
    tokenised: Make, layout: list[tuple[int, int, float]], tail: int, usable: list[bool]
) -> None:
    spans, position = [], 0
    for gap, length, _ in layout:
        spans.append((position + gap, position + gap + length))
        position += gap + length
    trajectory = tokenised(spans, position + tail)
    numbers = tuple(float(np.float32(value)) for _, _, value in layout)
    use = tuple(usable[: len(numbers)])
    sampled = np.asarray(trajectory.tokens.loss_mask, dtype=bool)
    advantages, mask = expand_to_tokens(assigned(trajectory, numbers, use), trajectory)
    assert not (mask & ~sampled).any()
    assert not advantages[~mask].any()
    boundaries = turn_boundaries(trajectory)
    assert boundaries.sum() == len(numbers)
    assert not (boundaries & ~sampled).any()
    expected = [value if ok else 0.0 for value, ok in zip(numbers, use, strict=True)]
    assert advantages[boundaries].tolist() == expected
    rewards, placed, valid = place_on_boundaries(values_of(list(numbers)), trajectory)
    assert (placed == boundaries).all()
    assert (valid == boundaries).all()
    assert rewards[placed].sum() == pytest.approx(sum(numbers), abs=1e-4)
    assert not rewards[~placed].any()
    assert turn_of_token(trajectory)[sampled].tolist() == sorted(turn_of_token(trajectory)[sampled].tolist())


def test_incomplete_tokens_are_refused(tokenised: Make, episode: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    values = assigned(trajectory, (1.0, 2.0, 3.0))
    with pytest.raises(ConfigError, match="has no tokens: its agent 'test' records none"):
        expand_to_tokens(assigned(episode(1), (1.0,)), episode(1))
    without = replace(trajectory, turns=(replace(trajectory.turns[0], token_span=None), *trajectory.turns[1:]))
    with pytest.raises(ConfigError, match=r"turn 0 .* has no token_span"):
        expand_to_tokens(values, without)
    overlap = replace(trajectory, turns=(replace(trajectory.turns[0], token_span=(2, 6)), *trajectory.turns[1:]))
    with pytest.raises(ConfigError, match=r"turn 1 .* spans \(5, 8\), but the turn before it ends at 6"):
        expand_to_tokens(values, overlap)
    stray = replace(trajectory, tokens=replace(trajectory.tokens, loss_mask=(1,) * 11))
    with pytest.raises(ConfigError, match=r"5 sampled tokens .* the first at 0"):
        turn_of_token(stray)


def test_advantages_of_something_else_are_refused(tokenised: Make) -> None:
    trajectory = tokenised(SPANS, 11)
    with pytest.raises(ConfigError, match="do not belong to trajectory"):
        expand_to_tokens(TurnAdvantages(trajectory_id="x#0", advantages=(), mask=()), trajectory)
    with pytest.raises(ConfigError, match="has 3 turns, got 1 advantages"):
        expand_to_tokens(assigned(trajectory, (1.0,)), trajectory)
    with pytest.raises(ConfigError, match="has 3 turns, got 1 rewards"):
        place_on_boundaries(values_of([1.0]), trajectory)
