"""GRPO, Dr.GRPO, RLOO and returns-to-go on worked numbers and by their laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from turnwise.errors import ConfigError
from turnwise.rewards.credit import dr_grpo, grpo, return_to_go, rloo

ESTIMATORS = [grpo, dr_grpo, rloo]
R = [1.0, 0.0, 0.0, 1.0]


def test_worked_numbers_of_the_catalogue() -> None:
    np.testing.assert_allclose(rloo(R), [0.6667, -0.6667, -0.6667, 0.6667], atol=5e-5)
    np.testing.assert_allclose(grpo(R), [0.8660, -0.8660, -0.8660, 0.8660], atol=5e-5)
    np.testing.assert_allclose(dr_grpo(R), [0.5, -0.5, -0.5, 0.5])


def test_unbiased_and_biased_deviation_and_eps() -> None:
    np.testing.assert_allclose(grpo(R, std="unbiased", eps=0.0), np.array([1, -1, -1, 1]) * 0.5 / np.sqrt(1 / 3))
    np.testing.assert_allclose(grpo(R, std="biased", eps=0.0), [1.0, -1.0, -1.0, 1.0])
    np.testing.assert_allclose(grpo(R, std="biased", eps=0.5), [0.5, -0.5, -0.5, 0.5])
    np.testing.assert_allclose(grpo(R), np.array([0.5, -0.5, -0.5, 0.5]) / (np.std(R, ddof=1) + 1e-6), rtol=1e-12)


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([0.85, 0.775, 0.0, 0.7], [0.6850, 0.4939, -1.4816, 0.3027]),  # C-GRPO, released branch
        ([0.90, 0.80, 0.0, 0.7], [0.7348, 0.4899, -1.4697, 0.2449]),  # C-GRPO, normalised form
    ],
)
def test_further_grpo_numbers_of_the_catalogue(rewards: list[float], advantages: list[float]) -> None:
    np.testing.assert_allclose(grpo(rewards), advantages, atol=5e-5)


def test_a_further_rloo_number_of_the_catalogue() -> None:
    np.testing.assert_allclose(rloo([2, 1.7071, 0.5, -1]), [1.5976, 1.2071, -0.4024, -2.4024], atol=1e-4)


@pytest.mark.parametrize("estimate", ESTIMATORS)
@pytest.mark.parametrize("group", [[], [3.7], [0.1] * 3, [0.1 + 0.2, 0.3], [-1e9] * 5])
def test_groups_of_one_and_equal_groups_give_exactly_zero(estimate: Any, group: list[float]) -> None:
    assert estimate(group).tolist() == [0.0] * len(group)


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_equal_groups_are_zero_for_every_eps(eps: float) -> None:
    assert grpo([0.1 + 0.2, 0.3, 0.3], eps=eps).tolist() == [0.0] * 3


@pytest.mark.parametrize("estimate", ESTIMATORS)
def test_invalid_members_have_no_part_in_anything(estimate: Any) -> None:
    valid = [True, False, True, True, False]
    with_invalid = estimate([1.0, 99.0, 0.0, 0.5, -99.0], valid=valid)
    assert with_invalid[[1, 4]].tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(with_invalid[[0, 2, 3]], estimate([1.0, 0.0, 0.5]))
    assert estimate([1.0, np.nan], valid=[True, False]).tolist() == [0.0, 0.0]


def test_columns_are_compared_apart_and_scaled_together() -> None:
    returns = [[1.0, 5.0], [0.0, 5.0 + 1e-4]]
    centred = [[0.5, -5e-5], [-0.5, 5e-5]]
    np.testing.assert_allclose(dr_grpo(returns), centred, rtol=1e-9)
    pooled = np.sqrt(np.square(centred).sum() / 2)
    np.testing.assert_allclose(grpo(returns, eps=0.0), np.asarray(centred) / pooled, rtol=1e-9)
    assert dr_grpo([[1.0, 2.0], [0.0, 2.0]])[:, 1].tolist() == [0.0, 0.0]


groups = hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-100, 100).map(lambda x: round(x, 6)))


@pytest.mark.parametrize("estimate", ESTIMATORS)
@settings(deadline=None)
@given(group=groups, shift=st.floats(-100, 100), seed=st.integers(0, 99))
def test_laws(estimate: Any, group: np.ndarray[Any, Any], shift: float, seed: int) -> None:
    advantages = estimate(group)
    assert np.isfinite(advantages).all()
    assert advantages.sum() == pytest.approx(0.0, abs=1e-6)
    order = np.random.default_rng(seed).permutation(len(group))
    np.testing.assert_allclose(estimate(group[order]), advantages[order], atol=1e-6)
    np.testing.assert_allclose(estimate(group + shift), advantages, atol=1e-3)
    assert (np.argsort(group, kind="stable") == np.argsort(np.round(advantages, 12), kind="stable")).all() or len(
        set(group)
    ) < len(group)


@settings(deadline=None)
@given(group=groups)
def test_the_estimators_differ_by_a_factor_only(group: np.ndarray[Any, Any]) -> None:
    n = len(group)
    factor = n / (n - 1) if n > 1 else 1.0
    np.testing.assert_allclose(rloo(group), dr_grpo(group) * factor, atol=1e-9)
    if n > 1:
        others = (group.sum() - group) / (n - 1)
        np.testing.assert_allclose(rloo(group), group - others, atol=1e-9)
        scale = np.std(group, ddof=1) + 1e-6
        np.testing.assert_allclose(grpo(group) * scale, dr_grpo(group), atol=1e-6)


def test_return_to_go() -> None:
    returns, known = return_to_go([1.0, 0.0, 2.0], gamma=0.5)
    assert returns.tolist() == [1.5, 1.0, 2.0]
    assert known.all()
    assert return_to_go([1.0, 0.0, 2.0])[0].tolist() == [3.0, 2.0, 2.0]
    assert return_to_go([1.0, 0.0, 2.0], gamma=0.0)[0].tolist() == [1.0, 0.0, 2.0]
    assert return_to_go([])[0].shape == (0,)
    np.testing.assert_allclose(return_to_go([0, 0, 10], gamma=0.95)[0], [9.025, 9.5, 10])  # GiGPO's example


def test_an_invalid_turn_hides_every_return_that_contains_it() -> None:
    returns, known = return_to_go([1.0, None, 2.0, 3.0])
    assert known.tolist() == [False, False, True, True]
    assert returns.tolist() == [0.0, 0.0, 5.0, 3.0]
    assert return_to_go([1.0, None, 2.0], gamma=0.0)[1].tolist() == [True, False, True]


@settings(deadline=None)
@given(rewards=st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=10), gamma=st.floats(0.01, 1))
def test_return_to_go_is_its_definition(rewards: list[float | None], gamma: float) -> None:
    returns, known = return_to_go(rewards, gamma=gamma)
    for t in range(len(rewards)):
        rest = rewards[t:]
        assert known[t] == (None not in rest)
        expected = sum(gamma**k * r for k, r in enumerate(rest) if r is not None) if known[t] else 0.0
        assert returns[t] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grpo(R, std="n-1"), r"'unbiased' \(n-1\) or 'biased' \(n\), got 'n-1'"),  # type: ignore[arg-type]
        (lambda: grpo(R, eps=-1.0), "eps must be a number of at least 0, got -1.0"),
        (lambda: grpo(R, eps=float("nan")), "eps must be"),
        (lambda: dr_grpo([1.0, np.nan]), "finite where they are valid"),
        (lambda: rloo(R, valid=[True]), r"got \(4,\) and \(1,\)"),
        (lambda: dr_grpo(3.0), r"\(n,\) or \(n, turns\)"),
        (lambda: return_to_go([1.0], gamma=1.5), r"gamma must be a number in \[0, 1\], got 1.5"),
        (lambda: return_to_go([1.0], gamma=True), "gamma must be"),
        (lambda: return_to_go([float("inf")]), "pass None for an invalid one"),
    ],
)
def test_bad_input_is_explained(call: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        call()
