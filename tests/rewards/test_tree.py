"""The tree: named vectors, totals, attaching, and rewards that misbehave."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError, EnvError
from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, from_json, to_json
from turnwise.rewards import RewardTree, WeightedReward, WeightedSum, load_rewards, preset_names
from turnwise.rewards.format import Format
from turnwise.rewards.outcome import Outcome, OutcomeLevel

Episode = Any


class Scripted:
    """Returns or raises what it was made with."""

    def __init__(self, result: Any, *, low: float = -10.0, high: float = 10.0) -> None:
        self.name = "scripted"
        self.spec = RewardSpec(low=low, high=high, placement="turn", source="test", summary="as told")
        self.result = result

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result() if callable(self.result) else self.result

    def describe(self) -> dict[str, Json]:
        return {}


def given_values(values: Sequence[float | None]) -> tuple[RewardValue, ...]:
    return tuple(RewardValue(invalid="judge down") if v is None else RewardValue(value=v) for v in values)


def tree_of(*parts: tuple[Any, float]) -> RewardTree:
    return RewardTree([WeightedReward(reward, weight, f"r{i}") for i, (reward, weight) in enumerate(parts)])


def test_the_built_in_set_scores_every_turn(episode: Episode) -> None:
    tree = load_rewards()
    trajectory = episode(4, level="treated", ending="turns")
    vectors = tree.score(trajectory)
    assert tuple(vectors) == tree.names == ("outcome", "format", "valid_action", "progress", "gated", "reward")
    assert all(len(values) == 4 for values in vectors.values())
    assert vectors["reward"][-1].value == vectors["gated"][-1].value == pytest.approx(2 / 3)
    assert vectors["reward"][-1].evidence == {"parts": {"gated": pytest.approx(2 / 3)}}


def test_the_built_in_set_pays_nothing_for_dawdling(episode: Episode) -> None:
    quick, slow = (load_rewards().attach(episode([{"progress": 1.0}] * n)) for n in (2, 40))
    assert slow.rewards["reward"].value == pytest.approx(quick.rewards["reward"].value)


def test_attaching_fills_turns_and_trajectory_and_leaves_the_input_alone(episode: Episode) -> None:
    trajectory = episode([{"progress": 0.5}, {"progress": 1.0}])
    before = to_json(trajectory)
    tree = load_rewards()
    attached = tree.attach(trajectory)
    assert to_json(trajectory) == before
    assert trajectory.rewards == {} == trajectory.turns[0].rewards
    assert set(attached.rewards) == set(tree.names)
    for name in tree.names:
        turn_sum = sum(turn.rewards[name].value for turn in attached.turns)
        assert attached.rewards[name].value == pytest.approx(turn_sum)
    assert attached.rewards["gated"].evidence["passed"] is True
    assert from_json(to_json(attached)) == attached


def test_attaching_again_replaces_earlier_rewards(episode: Episode) -> None:
    once = load_rewards().attach(episode(2))
    again = load_rewards("gated").attach(once)
    assert set(again.rewards) == set(again.turns[0].rewards) == {"gated", "reward"}
    assert load_rewards().attach(again) == once


@pytest.mark.parametrize("preset", ["default", "gated", "direct", "gate_negative"])
@pytest.mark.parametrize("ending", ["failed", "time"])
def test_a_failure_is_never_a_zero(episode: Episode, preset: str, ending: str) -> None:
    attached = load_rewards(preset).attach(episode(3, ending=ending))
    assert attached.rewards["reward"].value is None
    assert attached.turns[-1].rewards["reward"].value is None
    text = "sandbox exit: the container died" if ending == "failed" else "wall clock"
    assert text in (attached.rewards["reward"].invalid or "")


def test_turn_rewards_of_a_failed_episode_stay_but_their_total_is_only_a_part(episode: Episode) -> None:
    attached = load_rewards().attach(episode(3, ending="failed"))
    assert [turn.rewards["format"].value for turn in attached.turns] == [1.0, 1.0, 1.0]
    assert attached.rewards["format"].value is None
    assert attached.rewards["format"].evidence == {"partial": 3.0}
    assert attached.rewards["outcome"].evidence == {}


@pytest.mark.parametrize("ending", ["won", "turns", "time", "failed"])
def test_an_episode_without_turns_has_no_reward(episode: Episode, ending: str) -> None:
    attached = load_rewards().attach(episode(0, ending=ending))
    assert all(value.value is None and value.invalid for value in attached.rewards.values())


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ValueError("boom"), "judge: reward 'r0': ValueError: boom"),
        (EnvError("no grader"), "env: reward 'r0': no grader"),
        (lambda: RewardValue(value=math.nan), "must be finite, got nan"),
        (given_values([1.0]), "one value per turn: got 1 for 2"),
        (given_values([1.0, 2.0, 3.0]), "one value per turn: got 3 for 2"),
        (None, "must return a tuple of RewardValue, got NoneType"),
        ((1.0, 2.0), "must return a tuple of RewardValue"),
        (
            (RewardValue(value=0.0, evidence={"x": object()}), RewardValue(value=0.0)),
            "reward 'r0': a RewardValue cannot be written as JSON",
        ),
    ],
)
def test_a_broken_reward_costs_its_own_values_only(episode: Episode, result: Any, reason: str) -> None:
    tree = tree_of((Scripted(result), 0.0), (Format(), 1.0))
    attached = tree.attach(episode(2))
    for turn in attached.turns:
        assert turn.rewards["r0"].value is None
        assert reason in (turn.rewards["r0"].invalid or "")
        assert turn.rewards["reward"].value == 1.0
    assert reason in (attached.rewards["r0"].invalid or "")
    assert attached.rewards["reward"].value == 2.0


def test_a_broken_reward_that_counts_makes_the_total_unknown(episode: Episode) -> None:
    attached = tree_of((Scripted(ValueError("boom")), 1.0), (Format(), 1.0)).attach(episode(2))
    assert attached.rewards["reward"].value is None
    assert attached.rewards["reward"].invalid == "r0: judge: reward 'r0': ValueError: boom"
    assert attached.rewards["reward"].evidence == {"parts": {"r1": 2.0}}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_interrupts_are_not_swallowed(episode: Episode, error: BaseException) -> None:
    with pytest.raises(type(error)):
        tree_of((Scripted(error), 1.0)).score(episode(1))


@pytest.mark.parametrize("value", [1.5, -0.5])
def test_a_value_outside_the_declared_range_is_invalid_on_its_turn(episode: Episode, value: float) -> None:
    reward = Scripted(given_values([0.5, value]), low=0.0, high=1.0)
    first, second = tree_of((reward, 1.0)).score(episode(2))["r0"]
    assert first.value == 0.5
    assert second.value is None
    assert "outside its declared range [0, 1]" in (second.invalid or "")
    total = tree_of((reward, 1.0)).attach(episode(2)).rewards["r0"]
    assert (total.invalid or "").startswith("turn 1: judge: reward 'r0': gave")


def test_infinity_is_invalid_even_in_an_unbounded_range(episode: Episode) -> None:
    smuggled = RewardValue(value=1.0)
    msgspec.structs.force_setattr(smuggled, "value", math.inf)
    reward = Scripted((smuggled,), low=-math.inf, high=math.inf)
    assert tree_of((reward, 1.0)).score(episode(1))["r0"][0].value is None


def test_numpy_scalars_become_floats(episode: Episode) -> None:
    reward = Scripted((RewardValue(value=np.float32(0.5)),))  # type: ignore[arg-type]
    attached = tree_of((reward, 1.0)).attach(episode(1))
    assert type(attached.turns[0].rewards["r0"].value) is float
    assert from_json(to_json(attached)) == attached


def test_unknown_levels_make_the_values_invalid_and_the_run_goes_on(episode: Episode) -> None:
    tree = tree_of((OutcomeLevel(levels={"lost": 0, "wonn": 1}), 1.0))
    value = tree.attach(episode(1)).rewards["reward"]
    assert "Did you mean 'wonn'" in (value.invalid or "")


def test_levels_are_checked_before_the_run_also_inside_composites() -> None:
    inner = WeightedSum(rewards=[WeightedReward(OutcomeLevel(levels={"lost": 0, "wonn": 1}), 1.0, "level")])
    tree = tree_of((inner, 1.0))
    with pytest.raises(ConfigError, match=r"reward 'level'.*Did you mean 'wonn'"):
        tree.check_levels(("lost", "won"))
    tree.check_levels(("lost", "wonn"))
    load_rewards().check_levels(())


def test_names_are_distinct_and_the_total_is_reserved() -> None:
    with pytest.raises(ConfigError, match="is taken by"):
        RewardTree([WeightedReward(Format()), WeightedReward(Format())])
    with pytest.raises(ConfigError, match="weighted total"):
        RewardTree([WeightedReward(Format(), name="reward")])
    with pytest.raises(ConfigError, match="nothing to train on"):
        RewardTree([WeightedReward(Format(), 0.0)])


@pytest.mark.parametrize("preset", preset_names())
def test_describe_is_json_and_reads_back(preset: str, episode: Episode) -> None:
    tree = load_rewards(preset)
    told = json.loads(json.dumps(tree.describe(), allow_nan=False))
    again = load_rewards(told)
    assert again.describe() == tree.describe()
    trajectory = episode(3, level="acted")
    assert again.score(trajectory) == tree.score(trajectory)


def test_the_text_shows_weights_ranges_and_gates() -> None:
    text = str(load_rewards())
    for part in ("outcome  logged only  [0, 1], last turn", "gated  x 1", "gate: total >= 0.5", "format  x 0.02"):
        assert part in text
    renamed = str(RewardTree([WeightedReward(Outcome(of="return"), 2.0, "env")]))
    assert "env = outcome  x 2" in renamed
    assert "of: return" in renamed


def test_a_python_tree_names_what_it_is_made_of() -> None:
    tree = RewardTree([WeightedReward(Format(), 1.0, "tidy"), WeightedReward(Scripted(()), 1.0)])
    uses = [entry["use"] for entry in tree.describe()["rewards"]]
    assert uses[0] == "format"
    assert uses[1].endswith(":Scripted")


maybe = st.one_of(st.none(), st.floats(-5, 5))


@settings(deadline=None)
@given(
    rows=st.integers(1, 5).flatmap(
        lambda turns: st.lists(
            st.tuples(st.lists(maybe, min_size=turns, max_size=turns), st.sampled_from((-1.5, 0.0, 0.5, 2.0))),
            min_size=1,
            max_size=4,
        )
    )
)
def test_components_sum_to_the_total(episode: Episode, rows: list[tuple[list[float | None], float]]) -> None:
    counted = [(Scripted(given_values(values)), weight) for values, weight in rows]
    tree = tree_of(*counted, (Format(), 1.0))
    attached = tree.attach(episode(len(rows[0][0])))
    weights = {part.name: part.weight for part in tree.rewards if part.weight != 0.0}
    for scope in (attached, *attached.turns):
        total = scope.rewards["reward"]
        parts = {name: scope.rewards[name].value for name in weights}
        if None in parts.values():
            assert total.value is None
            assert total.invalid
        else:
            expected = sum(weights[name] * value for name, value in parts.items())
            assert total.value == pytest.approx(expected, abs=1e-9)
            assert sum(total.evidence["parts"].values()) == pytest.approx(expected, abs=1e-9)
        assert tree.spec.low <= (total.value or 0.0) <= tree.spec.high or scope is attached
