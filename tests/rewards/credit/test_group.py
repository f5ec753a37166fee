"""``GroupCredit``: what is left out, what agrees with what, and that the turn baseline is unbiased."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.protocols import Credit
from turnwise.records import replace
from turnwise.rewards import load_rewards
from turnwise.rewards.credit import ESTIMATORS, GroupCredit, dr_grpo, grpo

Make = Any


def group_of(rewarded: Make, *rows: list[float | None], **fields: Any) -> list[Any]:
    return [rewarded(row, sample=i, **fields) for i, row in enumerate(rows)]


def advantages(credit: GroupCredit, group: list[Any]) -> list[tuple[float, ...]]:
    return [a.advantages for a in credit.assign(group)]


def test_it_is_a_credit() -> None:
    assert isinstance(GroupCredit(), Credit)


def test_every_turn_gets_its_trajectorys_advantage(rewarded: Make) -> None:
    group = group_of(rewarded, [0.0, 1.0], [0.0], [0.0, 0.0, 0.0], [1.0])
    expected = grpo([1.0, 0.0, 0.0, 1.0])
    for assigned, value, trajectory in zip(GroupCredit().assign(group), expected, group, strict=True):
        assert assigned.trajectory_id == trajectory.id
        assert assigned.advantages == (value,) * len(trajectory.turns)
        assert all(assigned.mask)
    np.testing.assert_allclose(expected, [0.8660, -0.8660, -0.8660, 0.8660], atol=5e-5)


@pytest.mark.parametrize("std", ["unbiased", "biased"])
@pytest.mark.parametrize("eps", [1e-6, 1e-4])
def test_std_and_eps_reach_the_estimator(rewarded: Make, std: Any, eps: float) -> None:
    group = group_of(rewarded, [1.0], [0.0], [0.5])
    got = [a[0] for a in advantages(GroupCredit(std=std, eps=eps), group)]
    assert got == grpo([1.0, 0.0, 0.5], std=std, eps=eps).tolist()


@pytest.mark.parametrize("level", ["trajectory", "turn"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_failed_and_invalid_trajectories_have_no_part(
    rewarded: Make, episode: Make, estimator: Any, level: Any
) -> None:
    credit = GroupCredit(estimator=estimator, level=level)
    good = group_of(rewarded, [0.25, 1.0], [0.25, 0.0])
    failed = rewarded([5.0, 5.0, 5.0], ending="failed", sample=2)
    unknown = rewarded([0.0, None], sample=3)
    empty = episode(0, sample=4)
    mixed = credit.assign([failed, good[0], unknown, good[1], empty])
    assert [mixed[1], mixed[3]] == list(credit.assign(good))
    for left_out, turns in ((0, 3), (2, 2), (4, 0)):
        assert mixed[left_out].advantages == (0.0,) * turns
        assert mixed[left_out].mask == (False,) * turns


def test_per_turn_an_invalid_reward_hides_only_the_turns_before_it(rewarded: Make) -> None:
    group = group_of(rewarded, [None, 1.0], [0.5, 0.0])
    first, second = GroupCredit(estimator="dr_grpo", level="turn").assign(group)
    assert first.mask == (False, True)
    assert second.mask == (True, True)
    assert first.advantages == (0.0, 0.5)
    assert second.advantages == (0.0, -0.5), "alone at turn 0, so no advantage over anybody there"
    whole, _ = GroupCredit(estimator="dr_grpo", level="trajectory").assign(group)
    assert whole.mask == (False, False)


@pytest.mark.parametrize("level", ["trajectory", "turn"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "rows",
    [
        [[0.1, 0.2]],
        [[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]],
        [[0.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0]],  # all solved, at different lengths
    ],
)
def test_groups_of_one_and_equal_groups_give_exactly_zero(
    rewarded: Make, estimator: Any, level: Any, rows: list[list[float | None]]
) -> None:
    for assigned in GroupCredit(estimator=estimator, level=level).assign(group_of(rewarded, *rows)):
        assert set(assigned.advantages) == {0.0}
        assert all(assigned.mask)


def test_per_turn_returns_to_go_are_compared(rewarded: Make) -> None:
    group = group_of(rewarded, [1.0, 0.0, 2.0], [0.0, 1.0])
    # G: [3, 2, 2] and [1, 1]; the second is represented by 1 at turn 2
    assert advantages(GroupCredit(estimator="dr_grpo", level="turn"), group) == [(1.0, 0.5, 0.5), (-1.0, -0.5)]
    assert advantages(GroupCredit(estimator="rloo", level="turn"), group) == [(2.0, 1.0, 1.0), (-2.0, -1.0)]
    # gamma 1/2: G = [1.5, 1, 2] and [.5, 1]
    half = GroupCredit(estimator="dr_grpo", level="turn", gamma=0.5)
    assert advantages(half, group) == [(0.5, 0.0, 0.5), (-0.5, 0.0)]
    whole = GroupCredit(estimator="dr_grpo", gamma=0.5)
    assert advantages(whole, group) == [(0.5, 0.5, 0.5), (-0.5, -0.5)]


outcomes = st.lists(st.tuples(st.integers(1, 5), st.sampled_from((0.0, 0.3, 1.0))), min_size=1, max_size=6)


@settings(deadline=None)
@given(outcomes=outcomes, estimator=st.sampled_from(ESTIMATORS))
def test_with_the_reward_on_the_last_turn_both_levels_agree(
    rewarded: Make, outcomes: list[tuple[int, float]], estimator: Any
) -> None:
    group = group_of(rewarded, *([0.0] * (turns - 1) + [reward] for turns, reward in outcomes))
    per_turn = advantages(GroupCredit(estimator=estimator, level="turn"), group)
    whole = advantages(GroupCredit(estimator=estimator), group)
    for a, b in zip(per_turn, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


row = st.lists(st.one_of(st.none(), st.floats(-5, 5).map(lambda x: round(x, 4))), min_size=1, max_size=5)


@settings(deadline=None)
@given(
    rows=st.lists(row, min_size=1, max_size=6),
    estimator=st.sampled_from(ESTIMATORS),
    level=st.sampled_from(("trajectory", "turn")),
    seed=st.integers(0, 99),
)
def test_order_does_not_matter_and_masked_turns_are_zero(
    rewarded: Make, rows: list[list[float | None]], estimator: Any, level: Any, seed: int
) -> None:
    credit = GroupCredit(estimator=estimator, level=level)
    group = group_of(rewarded, *rows)
    assigned = credit.assign(group)
    order = np.random.default_rng(seed).permutation(len(group))
    for position, original in enumerate(credit.assign([group[i] for i in order])):
        np.testing.assert_allclose(original.advantages, assigned[order[position]].advantages, atol=1e-6)
    for values, result in zip(rows, assigned, strict=True):
        assert len(result.advantages) == len(result.mask) == len(values)
        for turn, (advantage, usable) in enumerate(zip(result.advantages, result.mask, strict=True)):
            assert math.isfinite(advantage)
            assert usable == (None not in (values if level == "trajectory" else values[turn:]))
            assert usable or advantage == 0.0
            assert usable or values[turn] is None or None in values


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=5))
def test_dr_grpo_sums_to_zero_per_turn_and_ignores_a_shift(rewarded: Make, rows: list[list[float]]) -> None:
    credit = GroupCredit(estimator="dr_grpo", level="turn")
    assigned = np.array(advantages(credit, group_of(rewarded, *rows)))
    np.testing.assert_allclose(assigned.sum(axis=0), 0.0, atol=1e-9)
    shifted = np.array(advantages(credit, group_of(rewarded, *([r + 7.0 for r in values] for values in rows))))
    np.testing.assert_allclose(shifted, assigned, atol=1e-9)


# A tiny episode whose policy decides when to stop: P(go on) = p, at most three turns. Going on pays
# HOP each time, stopping (or reaching the end) pays GOAL[turn]. All groups of two are enumerated.
HOP, GOAL = 0.5, (1.0, 0.2, 0.8)
PATHS = {1: (False,), 2: (True, False), 3: (True, True)}


def path_rewards(length: int) -> list[float | None]:
    rewards: list[float | None] = [HOP if on else GOAL[turn] for turn, on in enumerate(PATHS[length])]
    if length == 3:
        rewards[-1] = HOP
        rewards.append(GOAL[2])
    return rewards


def probability(length: int, p: float) -> float:
    return math.prod(p if on else 1 - p for on in PATHS[length])


def score_of(length: int, p: float) -> list[float]:
    """d log pi / d logit(p) of each turn; the forced last turn has none."""
    return [1 - p if on else -p for on in PATHS[length]] + ([0.0] if length == 3 else [])


def true_gradient(p: float) -> float:
    return sum(
        probability(n, p) * sum(score_of(n, p)) * sum(r for r in path_rewards(n) if r is not None) for n in PATHS
    )


def expected_gradient(p: float, size: int, estimate: Any) -> float:
    gradient = 0.0
    for lengths in itertools.product(PATHS, repeat=size):
        weight = math.prod(probability(n, p) for n in lengths)
        for n, values in zip(lengths, estimate(lengths), strict=True):
            gradient += weight * sum(s * a for s, a in zip(score_of(n, p), values, strict=True)) / size
    return gradient


def per_index_normalised(lengths: tuple[int, ...]) -> list[list[float]]:
    """The biased construction: centre each turn's reward at its index, then sum what is left."""
    rows = [[r for r in path_rewards(n) if r is not None] for n in lengths]
    centred = []
    for i, row in enumerate(rows):
        others = [[other[t] for j, other in enumerate(rows) if j != i and t < len(other)] for t in range(len(row))]
        centred.append([r - (sum(o) / len(o) if o else 0.0) for r, o in zip(row, others, strict=True)])
    return [[sum(row[t:]) for t in range(len(row))] for row in centred]


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_the_turn_baseline_is_unbiased_when_the_policy_decides_when_to_stop(
    rewarded: Make, p: float, size: int
) -> None:
    def estimate(name: Any) -> Any:
        credit = GroupCredit(estimator=name, level="turn")
        return lambda lengths: advantages(credit, group_of(rewarded, *map(path_rewards, lengths)))

    truth = true_gradient(p)
    assert expected_gradient(p, size, estimate("rloo")) == pytest.approx(truth, abs=1e-12)
    assert expected_gradient(p, size, estimate("dr_grpo")) == pytest.approx(truth * (size - 1) / size, abs=1e-12)
    assert abs(expected_gradient(p, size, per_index_normalised) - truth) > 0.01


def test_it_works_on_what_a_tree_attached(episode: Make) -> None:
    tree = load_rewards()
    levels = ("won", "acted", "treated")
    group = [tree.attach(episode(2, level=level, sample=i)) for i, level in enumerate(levels)]
    expected = dr_grpo([t.rewards["reward"].value for t in group])
    got = [a[0] for a in advantages(GroupCredit(estimator="dr_grpo"), group)]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    successes = [a[0] for a in advantages(GroupCredit(estimator="dr_grpo", reward="outcome"), group)]
    np.testing.assert_allclose(successes, dr_grpo([1.0, 0.0, 0.0]))


def test_an_empty_group_has_no_advantages() -> None:
    assert GroupCredit().assign([]) == ()


def test_groups_that_are_none_are_refused(rewarded: Make, episode: Make) -> None:
    one, other = rewarded([1.0]), rewarded([0.0], task="task-2")
    with pytest.raises(ConfigError, match=r"got 2 tasks.*Group by"):
        GroupCredit().assign([one, other])
    with pytest.raises(ConfigError, match="got 2 tasks"):
        GroupCredit().assign([one, replace(one, id="x", env_id="turnwise/Other-v0")])
    with pytest.raises(ConfigError, match="in the group twice"):
        GroupCredit().assign([one, one])
    with pytest.raises(ConfigError, match=r"no reward 'reward'\. It has none: attach some"):
        GroupCredit().assign([episode(1)])
    with pytest.raises(ConfigError, match=r"no reward 'rewrd'\. Did you mean 'reward'"):
        GroupCredit(reward="rewrd").assign([one])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "gpro"}, "Did you mean 'grpo'"),
        ({"level": "step"}, "unknown level 'step'"),
        ({"std": "population"}, "std must be"),
        ({"eps": "1e-6"}, "eps must be"),
        ({"gamma": 2}, "gamma must be"),
    ],
)
def test_bad_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GroupCredit(**options)
