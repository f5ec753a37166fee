"""G-RA: the worked example, any number of gates, and what never happens to an invalid reward."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards import Gate, Gated, Priority, WeightedReward, WeightedSum
from turnwise.rewards.format import Format
from turnwise.rewards.outcome import OutcomeLevel
from turnwise.rewards.validity import total

Episode = Any
LEVELS = {"untouched": -1.0, "acted": 0.0, "treated": 0.5, "won": 1.0}


class Given:
    """A reward that says what it was told to; None is invalid."""

    def __init__(self, values: Sequence[float | None], name: str = "given") -> None:
        self.name = name
        self.values = values
        self.spec = RewardSpec(low=-1e6, high=1e6, placement="turn", source="test", summary="as told")

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        return tuple(RewardValue(invalid="judge down") if v is None else RewardValue(value=v) for v in self.values)

    def describe(self) -> dict[str, Json]:
        return {"values": list(self.values)}


def two_levels(steps: Sequence[float | None], *, gate: Gate, levels: Any = LEVELS, **options: Any) -> Gated:
    high = Priority((WeightedReward(OutcomeLevel(levels=levels)),), gate)
    return Gated(priorities=[high, Priority((WeightedReward(Given(steps)),))], **options)


def sum_of(reward: Gated, trajectory: Trajectory) -> RewardValue:
    return total(reward.score(trajectory), trajectory)


@pytest.mark.parametrize(
    ("level", "steps", "direct", "gated"),
    [("untouched", 8, -0.2, -1.0), ("acted", 8, 0.8, 0.0), ("treated", 8, 1.3, 1.3), ("won", 4, 1.4, 1.4)],
)
def test_the_worked_example_of_the_catalogue(
    episode: Episode, level: str, steps: int, direct: float, gated: float
) -> None:
    trajectory = episode(steps, level=level)
    for mode, expected in (("direct", direct), ("gated", gated)):
        reward = two_levels([0.1] * steps, gate=Gate(0.5), mode=mode)
        assert sum_of(reward, trajectory).value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("at", "below"), [("acted", "untouched"), ("treated", "acted"), ("won", "treated")])
def test_at_least_a_level_is_more_than_the_level_below(episode: Episode, level: str, at: str, below: str) -> None:
    trajectory = episode(3, level=level)
    steps = [0.1, -0.2, 0.3]
    by_name = [Gate(at, ">="), Gate(below, ">")]
    by_number = [Gate(LEVELS[at], ">="), Gate(LEVELS[below], ">")]
    totals = {sum_of(two_levels(steps, gate=gate), trajectory).value for gate in by_name + by_number}
    assert len(totals) == 1


def test_the_evidence_says_level_threshold_comparison_verdict_and_what_was_withheld(episode: Episode) -> None:
    trajectory = episode(3, level="acted")
    values = two_levels([0.1, -0.2, 0.3], gate=Gate("treated")).score(trajectory)
    gate = {
        "reward": "outcome_level",
        "level": "acted",
        "value": 0.0,
        "threshold": 0.5,
        "threshold_level": "treated",
        "comparison": ">=",
        "passed": False,
    }
    told = values[-1].evidence["episode"]
    assert told == {"mode": "gated", "passed": False, "gates": [gate], "withheld": {"given": pytest.approx(0.4)}}
    assert values[0].evidence == {"passed": False, "withheld": {"given": 0.1}}
    assert values[1].evidence == {"passed": False, "parts": {"given": -0.2}}, "a penalty is not withheld"
    assert total(values, trajectory).evidence == told
    json.dumps([v.evidence for v in values], allow_nan=False)


def test_penalties_are_gated_away_only_on_request(episode: Episode) -> None:
    trajectory = episode(3, level="untouched")
    steps = [0.1, -0.2, -0.3]
    assert sum_of(two_levels(steps, gate=Gate(0.5)), trajectory).value == pytest.approx(-1.5)
    assert sum_of(two_levels(steps, gate=Gate(0.5), gate_negative=True), trajectory).value == pytest.approx(-1.0)


def test_penalties_inside_a_sum_are_not_hidden_by_bonuses_beside_them(episode: Episode) -> None:
    bonus, penalty = WeightedReward(Given([0.3], "bonus")), WeightedReward(Given([-0.1], "penalty"))
    high = Priority((WeightedReward(OutcomeLevel(levels=LEVELS)),), Gate(0.5))
    reward = Gated(priorities=[high, Priority((WeightedReward(WeightedSum(rewards=[bonus, penalty])),))])
    values = reward.score(episode(1, level="acted"))
    assert values[0].value == pytest.approx(-0.1)
    assert values[0].evidence["withheld"] == {"sum/bonus": 0.3}


@pytest.mark.parametrize(
    ("level", "manners", "expected"),
    [
        ("won", [1.0, 1.0], 1.0 + 2.0 + 20.0),  # both gates pass
        ("won", [1.0, 0.0], 1.0 + 1.0),  # the second fails: the third priority is withheld
        ("acted", [1.0, 1.0], 0.0),  # the first fails: everything below is withheld, whatever the second says
    ],
)
def test_three_priorities(episode: Episode, level: str, manners: list[float], expected: float) -> None:
    reward = Gated(
        priorities=[
            Priority((WeightedReward(OutcomeLevel(levels=LEVELS)),), Gate("treated")),
            Priority((WeightedReward(Given(manners, "manners")),), Gate(1.0, ">")),
            Priority((WeightedReward(Given([10.0, 10.0], "style")),)),
        ]
    )
    assert sum_of(reward, episode(2, level=level)).value == pytest.approx(expected)


def test_an_undecided_gate_below_a_failed_one_still_withholds(episode: Episode) -> None:
    reward = Gated(
        priorities=[
            Priority((WeightedReward(OutcomeLevel(levels=LEVELS)),), Gate("won")),
            Priority((WeightedReward(Given([None, 1.0], "judge")),), Gate(1.0)),
            Priority((WeightedReward(Given([10.0, 10.0], "style")),)),
        ],
        gate_negative=True,
    )
    assert sum_of(reward, episode(2, level="acted")).value == 0.0


@pytest.mark.parametrize("gate_negative", [False, True])
@pytest.mark.parametrize("ending", ["failed", "time"])
def test_without_an_outcome_the_gated_rewards_are_unknown_not_zero(
    episode: Episode, ending: str, gate_negative: bool
) -> None:
    trajectory = episode(4, ending=ending)
    reward = two_levels([0.1, 0.2, -0.1, 0.0], gate=Gate(0.5), gate_negative=gate_negative)
    values = reward.score(trajectory)
    assert [v.value for v in values] == [None] * 4
    assert all("outcome_level" in (v.invalid or "") for v in values)
    assert values[-1].evidence["episode"]["passed"] is None
    assert sum_of(reward, trajectory).value is None


def test_an_invalid_gate_that_is_not_itself_counted_makes_the_rest_invalid(episode: Episode) -> None:
    reward = Gated(
        priorities=[
            Priority((WeightedReward(Given([None, 1.0], "judge"), 0.0),), Gate(0.5)),
            Priority((WeightedReward(Given([0.1, 0.2])),)),
        ]
    )
    values = reward.score(episode(2))
    assert [v.value for v in values] == [None, None]
    assert "gate above is undecided: judge: turn 0: judge down" in (values[1].invalid or "")


def test_a_gate_of_weight_zero_gates_without_being_counted(episode: Episode) -> None:
    reward = Gated(
        priorities=[
            Priority((WeightedReward(OutcomeLevel(levels=LEVELS), 0.0),), Gate("won")),
            Priority((WeightedReward(Given([0.1, 0.2])),)),
        ]
    )
    assert sum_of(reward, episode(2, level="won")).value == pytest.approx(0.3)
    assert sum_of(reward, episode(2, level="treated")).value == 0.0


def test_a_gate_may_look_at_a_sum(episode: Episode) -> None:
    parts = [WeightedReward(Given([1.0, 0.0], "a"), 2.0), WeightedReward(Given([0.0, 1.0], "b"), -1.0)]
    gated = WeightedReward(WeightedSum(rewards=parts), 3.0)
    for threshold, expected in ((1.0, 3.0 + 5.0), (1.5, 3.0)):
        reward = Gated(priorities=[Priority((gated,), Gate(threshold)), Priority((WeightedReward(Given([5.0, 0.0])),))])
        assert sum_of(reward, episode(2)).value == pytest.approx(expected), "gate before weight"


def test_a_sum_of_one_is_gated_by_its_weighted_total(episode: Episode) -> None:
    doubled = WeightedReward(WeightedSum(rewards=[WeightedReward(Given([1.0], "a"), 2.0)]))
    reward = Gated(priorities=[Priority((doubled,), Gate(1.5)), Priority((WeightedReward(Given([5.0])),))])
    assert sum_of(reward, episode(1)).value == pytest.approx(7.0)


@pytest.mark.parametrize("levels", [("lost", "won"), ("a", "b", "c"), ("a", "b", "c", "d", "e"), ()])
@pytest.mark.parametrize("success", [True, False])
def test_the_default_works_in_every_world(episode: Episode, levels: tuple[str, ...], success: bool) -> None:
    level = (levels[-1] if success else levels[0]) if levels else None
    trajectory = episode(2, levels=levels, level=level, success=success)
    values = Gated().score(trajectory)
    assert values[-1].evidence["episode"]["passed"] is success
    assert sum_of(Gated(), trajectory).valid


def test_a_threshold_that_this_world_does_not_have_is_an_error(episode: Episode) -> None:
    reward = two_levels([0.1], gate=Gate("treated"), levels=None)
    with pytest.raises(ConfigError, match=r"'treated'.*Did you mean 'treaded'"):
        reward.score(episode(1, levels=("lost", "treaded", "won")))
    with pytest.raises(ConfigError, match="does not have"):
        reward.check_levels(())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gated(priorities=[]), "at least one priority"),
        (lambda: Gated(mode="ungated"), "must be 'gated' or 'direct'"),  # type: ignore[arg-type]
        (lambda: Gated(gate_negative=1), "must be true or false, got 1"),  # type: ignore[arg-type]
        (lambda: Gate(float("nan")), "finite"),
        (lambda: Gate(0.5, "=>"), "must be '>=' or '>', got '=>'"),  # type: ignore[arg-type]
        (lambda: Priority((WeightedReward(Format()),), Gate("won")), "'format' has none, so give a number"),
        (lambda: Priority((WeightedReward(OutcomeLevel(levels=LEVELS)),), Gate("wonn")), "Did you mean 'won'"),
        (lambda: Priority((WeightedReward(Format()), WeightedReward(Format())), Gate(1)), "put them in a 'sum'"),
        (lambda: Priority(()), "at least one reward"),
        (
            lambda: Gated(priorities=[Priority((WeightedReward(Format()),)), Priority((WeightedReward(Format()),))]),
            r"priorities\[1\].rewards\[0\].*'format' is taken by priorities\[0\].rewards\[0\]",
        ),
    ],
)
def test_bad_gates_are_explained(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


small = st.floats(-2, 2, allow_nan=False)
levels = st.sampled_from(tuple(LEVELS))
gates = st.builds(Gate, st.one_of(levels, st.floats(-1.5, 1.5)), st.sampled_from((">=", ">")))


@settings(deadline=None)
@given(steps=st.lists(st.floats(0, 2), min_size=1, max_size=8), level=levels, gate=gates, hide=st.booleans())
def test_gating_never_adds_to_non_negative_rewards(
    episode: Episode, steps: list[float], level: str, gate: Gate, hide: bool
) -> None:
    trajectory = episode(len(steps), level=level)
    gated = sum_of(two_levels(steps, gate=gate, gate_negative=hide), trajectory).value
    direct = sum_of(two_levels(steps, gate=gate, mode="direct"), trajectory).value
    assert gated is not None
    assert direct is not None
    assert gated <= direct + 1e-12


@settings(deadline=None)
@given(steps=st.lists(small, min_size=1, max_size=8), level=levels, gate=gates, hide=st.booleans())
def test_a_passed_gate_changes_nothing_and_a_failed_one_only_what_it_withheld(
    episode: Episode, steps: list[float], level: str, gate: Gate, hide: bool
) -> None:
    trajectory = episode(len(steps), level=level)
    gated = two_levels(steps, gate=gate, gate_negative=hide).score(trajectory)
    direct = two_levels(steps, gate=gate, mode="direct").score(trajectory)
    told = gated[-1].evidence["episode"]
    if told["passed"]:
        assert [v.value for v in gated] == [v.value for v in direct]
        assert told["withheld"] == {}
    for with_gate, without in zip(gated, direct, strict=True):
        held = sum(with_gate.evidence.get("withheld", {}).values())
        assert with_gate.value + held == pytest.approx(without.value)
        assert hide or held >= 0.0


maybe = st.one_of(st.none(), small)


@settings(deadline=None)
@given(
    steps=st.lists(maybe, min_size=1, max_size=6),
    high=st.lists(maybe, min_size=6, max_size=6),
    threshold=small,
    hide=st.booleans(),
)
def test_an_invalid_value_never_becomes_a_number(
    episode: Episode, steps: list[float | None], high: list[float | None], threshold: float, hide: bool
) -> None:
    trajectory = episode(len(steps))
    high = high[: len(steps)]
    top = Priority((WeightedReward(Given(high, "high")),), Gate(threshold))
    reward = Gated(priorities=[top, Priority((WeightedReward(Given(steps)),))], gate_negative=hide)
    values = reward.score(trajectory)
    failed = values[-1].evidence["episode"]["passed"] is False
    for own, low, value in zip(high, steps, values, strict=True):
        if own is None or None in high:
            assert value.value is None, "the gate is undecided, so everything below it is unknown"
        elif low is None and not (failed and hide):
            assert value.value is None
        else:
            assert value.value is not None
    assert len(values) == len(steps)
    if None in high:
        assert sum_of(reward, trajectory).value is None
