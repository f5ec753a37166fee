"""``outcome`` and ``outcome_level``: what counts as an outcome, and where it is put."""

from __future__ import annotations

from typing import Any

import pytest

from turnwise.errors import ConfigError
from turnwise.records import replace
from turnwise.rewards.outcome import Outcome, OutcomeLevel

Episode = Any


def numbers(values: Any) -> list[float | None]:
    return [value.value for value in values]


def test_success_is_one_on_the_last_turn(episode: Episode) -> None:
    assert numbers(Outcome().score(episode(3))) == [0.0, 0.0, 1.0]
    assert numbers(Outcome().score(episode(3, level="acted"))) == [0.0, 0.0, 0.0]
    assert Outcome().score(episode(3))[-1].evidence == {"success": True, "return": 1.0, "ended": "terminated"}


def test_the_environments_return_can_be_used_instead(episode: Episode) -> None:
    trajectory = episode(2)
    trajectory = replace(trajectory, outcome=replace(trajectory.outcome, env_return=0.25))
    assert numbers(Outcome(of="return").score(trajectory)) == [0.0, 0.25]


@pytest.mark.parametrize("ending", ["turns", "tokens", "context"])
def test_truncation_by_the_agents_own_means_is_a_valid_failure_to_solve(episode: Episode, ending: str) -> None:
    assert numbers(Outcome().score(episode(2, ending=ending, level="acted"))) == [0.0, 0.0]
    assert numbers(OutcomeLevel().score(episode(2, ending=ending, level="acted"))) == [0.0, pytest.approx(1 / 3)]


@pytest.mark.parametrize("reward", [Outcome, OutcomeLevel])
def test_the_wall_clock_says_nothing_about_the_policy_unless_asked_to(episode: Episode, reward: Any) -> None:
    cut = episode(2, ending="time", level="acted")
    values = reward().score(cut)
    assert numbers(values) == [None, None]
    assert "wall clock" in values[-1].invalid
    assert "env hang: step took 30 s" in values[-1].invalid
    assert None not in numbers(reward(time="valid").score(cut))


@pytest.mark.parametrize("reward", [Outcome, OutcomeLevel])
def test_a_failed_episode_has_no_outcome_and_says_where_it_failed(episode: Episode, reward: Any) -> None:
    values = reward().score(episode(4, ending="failed"))
    assert numbers(values) == [None] * 4
    assert all(v.invalid == "the episode failed at turn 3: sandbox exit: the container died" for v in values)


@pytest.mark.parametrize("reward", [Outcome, OutcomeLevel])
def test_an_episode_without_turns_has_no_values(episode: Episode, reward: Any) -> None:
    assert reward().score(episode(0)) == ()
    assert reward().score(episode(0, ending="failed")) == ()


@pytest.mark.parametrize(("level", "value"), [("untouched", 0.0), ("acted", 1 / 3), ("treated", 2 / 3), ("won", 1.0)])
def test_the_worlds_levels_are_spaced_evenly_by_default(episode: Episode, level: str, value: float) -> None:
    last = OutcomeLevel().score(episode(2, level=level))[-1]
    assert last.value == pytest.approx(value)
    assert last.evidence["level"] == level


def test_the_ends_of_the_even_spacing_are_met_exactly(episode: Episode) -> None:
    reward = OutcomeLevel(low=-0.1, high=0.7)
    assert reward.score(episode(1, level="untouched"))[0].value == -0.1
    assert reward.score(episode(1, level="won"))[0].value == 0.7


def test_levels_can_be_given_values(episode: Episode) -> None:
    reward = OutcomeLevel(levels={"untouched": -1, "acted": 0, "treated": 0.5, "won": 1})
    assert [reward.score(episode(1, level=name))[0].value for name in reward.levels or ()] == [-1.0, 0.0, 0.5, 1.0]
    assert (reward.spec.low, reward.spec.high) == (-1.0, 1.0)


def test_a_world_without_levels_falls_back_to_success(episode: Episode) -> None:
    assert numbers(OutcomeLevel().score(episode(2, levels=(), success=True))) == [0.0, 1.0]
    assert numbers(OutcomeLevel().score(episode(2, levels=(), success=False))) == [0.0, 0.0]


def test_an_unknown_level_is_an_error_with_near_misses(episode: Episode) -> None:
    reward = OutcomeLevel(levels={"untouched": 0, "acted": 1, "treatd": 2, "won": 3})
    with pytest.raises(ConfigError, match=r"'treated'.*Did you mean 'treatd'"):
        reward.score(episode(1, level="treated"))
    with pytest.raises(ConfigError, match="'treated'"):
        reward.check_levels(("untouched", "acted", "treated", "won"))


def test_levels_in_another_order_than_the_worlds_are_found_before_the_run() -> None:
    reward = OutcomeLevel(levels={"won": 0, "lost": 1})
    with pytest.raises(ConfigError, match="orders the levels"):
        reward.check_levels(("lost", "won"))
    reward.check_levels(("won", "lost"))


def test_configured_levels_need_a_world_with_levels(episode: Episode) -> None:
    with pytest.raises(ConfigError, match="reports no outcome level"):
        OutcomeLevel(levels={"lost": 0, "won": 1}).score(episode(1, levels=(), success=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": {"a": 1, "b": 1}}, "increase"),
        ({"levels": {"a": 1}}, "at least two"),
        ({"levels": {"a": float("nan"), "b": 1}}, "finite"),
        ({"levels": ["a", "b"]}, "map level names"),
        ({"levels": {False: 0, "yes": 1}}, "in quotes"),
        ({"low": 1.0, "high": 1.0}, "above low"),
        ({"time": "ignore"}, "'invalid'"),
    ],
)
def test_bad_options_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OutcomeLevel(**options)
