"""IGPO's credit: the worked numbers of shared/rewards.md (P1.b), and what it leaves out."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.protocols import Credit
from turnwise.records import RewardValue
from turnwise.rewards.credit import (
    NORMALISATIONS,
    InformationGainCredit,
    expand_to_tokens,
    normalise_gains,
    place_on_boundaries,
    unbiased_turn_credit,
)

Make = Any
NAME = "information_gain"
# Two rollouts of one question; s is the mean log-probability of the answer per context.
S1, S2 = (-1.5, -1.0, -0.3), (-1.5, -1.7)
LOG = ([0.5, 0.7, 0.8], [-0.2, -2.0])
PROB = ([*np.diff(np.exp(S1)), 0.8], [*np.diff(np.exp(S2)), -2.0])


def gained(rows: Any, make: Make, **fields: Any) -> list[Any]:
    """A group; each row holds gains and, at its end, the outcome. None is an invalid value."""
    group = []
    for sample, row in enumerate(rows):
        turns = []
        for position, value in enumerate(row):
            role = {"role": "outcome" if position == len(row) - 1 else "gain"}
            given_value = (
                RewardValue(invalid="judge down", evidence=role)
                if value is None
                else RewardValue(value=float(value), evidence=role)
            )
            turns.append({"rewards": {NAME: given_value}})
        group.append(make(turns, sample=sample, **fields))
    return group


def advantages(credit: Any, group: list[Any]) -> list[list[float]]:
    return [list(a.advantages) for a in credit.assign(group)]


def close(got: list[list[float]], expected: list[list[float]]) -> None:
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=6e-5)


def test_it_is_a_credit() -> None:
    assert isinstance(InformationGainCredit(), Credit)


WORKED = [
    (
        "separate",
        LOG,
        1.0,
        [[0.4319, 0.9503, 1.0], [-1.3822, -1.0]],
        [[2.3822, 1.9503, 1.0], [-2.3822, -1.0]],
    ),
    (
        "joint",
        PROB,
        1.0,
        [[0.2985, 0.5339, 0.9745], [0.1074, -1.9143]],
        [[1.8069, 1.5084, 0.9745], [-1.8069, -1.9143]],
    ),
    (
        "separate",
        PROB,
        0.9,
        [[-0.0848, 1.2649, 1.0], [-1.1802, -1.0]],
        [[1.8637, 2.1649, 1.0], [-2.0802, -1.0]],
    ),
]


@pytest.mark.parametrize(("mode", "values", "gamma", "z", "expected"), WORKED)
def test_the_worked_numbers(episode: Make, mode: Any, values: Any, gamma: float, z: Any, expected: Any) -> None:
    flat = [v for row in values for v in row]
    scores = normalise_gains(flat, outcome=[False, False, True, False, True], mode=mode).tolist()
    close([scores[:3], scores[3:]], z)
    credit = InformationGainCredit(normalise=mode, gamma=gamma)
    close(advantages(credit, gained(values, episode)), expected)


def test_joint_normalisation_turns_a_negative_gain_positive_and_separate_does_not() -> None:
    flat = [v for row in PROB for v in row]
    ends = [False, False, True, False, True]
    assert flat[3] == pytest.approx(-0.0404, abs=5e-5)
    assert normalise_gains(flat, outcome=ends, mode="joint")[3] == pytest.approx(0.1074, abs=5e-5)
    assert normalise_gains(flat, outcome=ends, mode="separate")[3] < -1.0


def test_return_to_go_gives_the_first_snapshots_numbers(tokenised: Make) -> None:
    group = []
    for sample, (gain, end) in enumerate([(0.2, 0.8), (-0.1, -2.0)]):
        made = tokenised([(0, 2), (2, 4)], 4, sample=sample)
        values = (
            RewardValue(value=gain, evidence={"role": "gain"}),
            RewardValue(value=end, evidence={"role": "outcome"}),
        )
        group.append(rewarded_with(made, values))
    rewards = [place_on_boundaries([t.rewards[NAME] for t in g.turns], g)[0].tolist() for g in group]
    close(rewards, [[0, 0.2, 0, 0.8], [0, -0.1, 0, -2]])
    assigned = InformationGainCredit(normalise="return_to_go").assign(group)
    per_token = [expand_to_tokens(a, g)[0].tolist() for a, g in zip(assigned, group, strict=True)]
    close(per_token, [[1.55, 1.55, 1.4, 1.4], [-1.55, -1.55, -1.4, -1.4]])


def rewarded_with(trajectory: Any, values: Any) -> Any:
    from turnwise.records import replace

    turns = tuple(replace(t, rewards={NAME: v}) for t, v in zip(trajectory.turns, values, strict=True))
    return replace(trajectory, turns=turns)


@pytest.mark.parametrize("mode", NORMALISATIONS)
def test_turns_whose_value_is_exactly_zero_keep_their_place(episode: Make, mode: Any) -> None:
    # The released code finds turns by "!= 0": here it would lose r1's first turn and r2's outcome.
    group = gained([[0.0, 0.5, 1.0], [0.2, 0.0]], episode)
    assigned = InformationGainCredit(normalise=mode).assign(group)
    assert [a.mask for a in assigned] == [(True,) * 3, (True,) * 2]
    assert all(len(set(a.advantages)) == len(a.advantages) for a in assigned)
    assert assigned[0].advantages[0] != 0.0


def test_a_group_with_equal_outcomes_still_learns_from_its_gains(episode: Make) -> None:
    first, second = advantages(InformationGainCredit(), gained([[0.1, 1.0], [0.3, 1.0]], episode))
    assert first[1] == second[1] == 0.0
    assert first[0] < 0.0 < second[0]


@pytest.mark.parametrize("mode", NORMALISATIONS)
def test_failed_and_invalid_have_no_part(episode: Make, mode: Any) -> None:
    credit = InformationGainCredit(normalise=mode)
    good = gained([[0.1, 0.4, 1.0], [0.3, 0.0, 0.0]], episode)
    (failed,) = gained([[9.0, 9.0]], episode, ending="failed")
    failed = type(failed)(**{**{f: getattr(failed, f) for f in failed.__struct_fields__}, "id": "task-1#9"})
    alone = advantages(credit, good)
    together = credit.assign([*good, failed])
    assert [list(a.advantages) for a in together[:2]] == alone
    assert together[2].mask == (False, False)
    assert together[2].advantages == (0.0, 0.0)

    broken = gained([[0.1, None, 1.0], [0.3, 0.0, 0.0]], episode)
    masks = [a.mask for a in credit.assign(broken)]
    assert masks[0] == (False, False, True)


@given(
    rows=st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=5), min_size=1, max_size=5),
    mode=st.sampled_from(NORMALISATIONS),
    gamma=st.floats(0, 1),
)
def test_order_does_not_matter_and_nothing_is_nan(episode: Make, rows: Any, mode: Any, gamma: float) -> None:
    credit = InformationGainCredit(normalise=mode, gamma=gamma)
    group = gained(rows, episode)
    forth, back = advantages(credit, group), advantages(credit, group[::-1])[::-1]
    for a, b in zip(forth, back, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_single_trajectory_has_no_outcome_advantage(episode: Make) -> None:
    assert advantages(InformationGainCredit(), gained([[0.5, 1.0]], episode)) == [[0.0, 0.0]]


def test_the_role_comes_from_the_record_or_is_an_error(episode: Make, rewarded: Make) -> None:
    with pytest.raises(ConfigError, match="role"):
        InformationGainCredit(reward="reward").assign([rewarded([1.0, 0.0])])
    (made,) = gained([[0.5, 1.0]], episode)
    from turnwise.records import replace

    doubled = tuple(
        replace(t, rewards={**t.rewards, "reward": RewardValue(value=2 * t.rewards[NAME].value)}) for t in made.turns
    )
    other = replace(made, turns=doubled, id="task-1#1")
    with_total = [replace(made, turns=doubled), other]
    assert InformationGainCredit(reward="reward", roles=NAME).assign(with_total)[0].mask == (True, True)
    with pytest.raises(ConfigError, match="normalisation"):
        InformationGainCredit(normalise="jont")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="gamma"):
        InformationGainCredit(gamma=2.0)


def test_weights_multiply_before_normalisation(episode: Make) -> None:
    plain_group = gained([[1.0, 0.5], [0.0, 0.1]], episode)
    scaled = gained([[2.0, 0.25], [0.0, 0.05]], episode)
    credit = InformationGainCredit(normalise="joint", gain_weight=2.0, outcome_weight=0.5)
    close(advantages(credit, plain_group), advantages(InformationGainCredit(normalise="joint"), scaled))


# -- the bias of verl issue 7244 -------------------------------------------------------------------

STOP = 0.4  # probability of stopping after the first turn
GAINS = {(True,): (0.0, 1.0), (False,): (0.0, 0.3, 1.0)}  # rewards by "stopped at once"; the outcome last


def expected_gradient(credit: Any, make: Make, n: int = 3) -> float:
    """The exact expectation over all groups of size n of sum_i A[i, 0] * d/dtheta log pi(first choice)."""
    score = {(True,): 1.0 - STOP, (False,): -STOP}  # of a logistic policy
    total = 0.0
    for choices in itertools.product(GAINS, repeat=n):
        probability = np.prod([STOP if c == (True,) else 1.0 - STOP for c in choices])
        assigned = credit.assign(gained([GAINS[c] for c in choices], make))
        total += probability * sum(a.advantages[0] * score[c] for a, c in zip(assigned, choices, strict=True)) / n
    return float(total)


def test_only_the_unbiased_credit_has_the_policys_gradient(episode: Make) -> None:
    # J = STOP * 1.0 + (1 - STOP) * 1.3, so dJ/dtheta = STOP * (1 - STOP) * (1.0 - 1.3).
    exact = STOP * (1.0 - STOP) * (sum(GAINS[True,]) - sum(GAINS[False,]))
    assert expected_gradient(unbiased_turn_credit(reward=NAME), episode) == pytest.approx(exact, abs=1e-9)
    shrunk = expected_gradient(InformationGainCredit(normalise="return_to_go"), episode)
    assert shrunk == pytest.approx(exact * 2 / 3, abs=1e-9)
    # Every outcome is 1.0 and stopping early only loses the gain of 0.3; joint normalisation subtracts a
    # positive mean once more from the longer trajectory and so teaches to stop.
    assert exact < 0.0 < expected_gradient(InformationGainCredit(normalise="joint"), episode)
