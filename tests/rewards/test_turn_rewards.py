"""The rewards of single turns: format, valid_action, progress, repeat_penalty, turn_cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.rewards.format import Format
from turnwise.rewards.progress import Progress
from turnwise.rewards.repeat_penalty import RepeatPenalty
from turnwise.rewards.turn_cost import TurnCost
from turnwise.rewards.valid_action import ValidAction

Episode = Any
REWARDS = [Format, ValidAction, Progress, RepeatPenalty, TurnCost]


def numbers(values: Any) -> list[float | None]:
    return [value.value for value in values]


@pytest.mark.parametrize("reward", REWARDS)
def test_turns_that_happened_stay_valid_in_a_failed_episode(episode: Episode, reward: Any) -> None:
    values = reward().score(episode(4, ending="failed"))
    assert len(values) == 4
    assert None not in numbers(values)


@pytest.mark.parametrize("reward", REWARDS)
def test_an_episode_without_turns_has_no_values(episode: Episode, reward: Any) -> None:
    assert reward().score(episode(0)) == ()


def test_format_asks_whether_the_message_was_an_action(episode: Episode) -> None:
    malformed = {"action": None, "action_valid": False, "action_error": "x" * 100_000}
    impossible = {"action_valid": False}
    trajectory = episode([{}, malformed, impossible])
    assert numbers(Format().score(trajectory)) == [1.0, 0.0, 1.0]
    assert numbers(Format(good=0, bad=-0.5).score(trajectory)) == [0.0, -0.5, 0.0]
    good, bad, _ = Format().score(trajectory)
    assert good.evidence == {"form": "native"}
    assert len(bad.evidence["error"]) <= 200


def test_valid_action_asks_whether_it_was_carried_out(episode: Episode) -> None:
    trajectory = episode([{}, {"action": None, "action_valid": False}, {"action_valid": False, "action_error": "no"}])
    assert numbers(ValidAction().score(trajectory)) == [1.0, 0.0, 0.0]
    assert ValidAction().score(trajectory)[2].evidence == {"error": "no", "command": "go to desk 2"}
    assert numbers(ValidAction(bad=-1).score(trajectory)) == [1.0, -1.0, -1.0]


def test_progress_is_what_the_turn_added(episode: Episode) -> None:
    trajectory = episode([{"progress": p} for p in (0.25, 0.25, 0.75, 0.5, 0.75)])
    assert numbers(Progress().score(trajectory)) == [0.25, 0.0, 0.5, -0.25, 0.25]
    assert numbers(Progress(losses="ignore").score(trajectory)) == [0.25, 0.0, 0.5, 0.0, 0.0]
    assert Progress().score(trajectory)[2].evidence == {"from": 0.25, "to": 0.75}


def test_progress_names_the_subgoals_that_changed_where_the_world_reports_them(episode: Episode) -> None:
    reports = [{"found": 1.0, "taken": 0.0}, {"found": 1.0, "taken": 0.5}, {"found": 1.0, "taken": 0.5}]
    shares = (0.5, 0.75, 0.75)
    steps = [{"progress": p, "info": {"subgoals": r}} for p, r in zip(shares, reports, strict=True)]
    evidence = [value.evidence for value in Progress().score(episode(steps))]
    assert evidence[0] == {"from": 0.0, "to": 0.5, "subgoals": {"found": 1.0}}
    assert evidence[1] == {"from": 0.5, "to": 0.75, "subgoals": {"taken": 0.5}}
    assert evidence[2] == {"at": 0.75}
    assert Progress().score(episode([{"progress": 0.5, "info": {"subgoals": "odd"}}]))[0].value == 0.5


@settings(deadline=None)
@given(shares=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_progress_telescopes(episode: Episode, shares: list[float]) -> None:
    trajectory = episode([{"progress": p} for p in shares])
    assert sum(v.value for v in Progress().score(trajectory)) == pytest.approx(shares[-1])
    kept = [v.value for v in Progress(losses="ignore").score(trajectory)]
    assert sum(kept) == pytest.approx(max(shares))
    assert min(kept) >= 0.0


def turns(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"observation": seen, "command": command, "action_text": command} for seen, command in pairs]


def test_the_same_choice_in_the_same_situation_is_a_repeat(episode: Episode) -> None:
    trajectory = episode(turns(("hall", "east"), ("wall", "look"), ("hall", "east"), ("hall", "west")))
    values = RepeatPenalty(penalty=0.5).score(trajectory)
    assert numbers(values) == [0.0, 0.0, -0.5, 0.0]
    assert values[2].evidence == {"repeats_turn": 0, "because": "same observation"}


def test_the_same_action_again_without_visible_effect_is_a_repeat(episode: Episode) -> None:
    trajectory = episode(turns(("hall", "push"), ("Nothing happens.", "push"), ("Nothing happens.", "wait")))
    values = RepeatPenalty().score(trajectory)
    assert numbers(values) == [0.0, -1.0, 0.0]
    assert values[1].evidence == {"repeats_turn": 0, "because": "no effect"}


def test_the_last_turns_effect_is_read_from_the_final_observation(episode: Episode) -> None:
    steps = turns(("hall", "push"), ("Nothing happens.", "push"))
    assert numbers(RepeatPenalty().score(episode(steps, final_observation="Nothing happens."))) == [0.0, -1.0]
    assert numbers(RepeatPenalty().score(episode(steps, final_observation="It moves."))) == [0.0, 0.0]
    failed = episode(steps, final_observation="Nothing happens.", ending="failed")
    assert numbers(RepeatPenalty().score(failed)) == [0.0, 0.0], "nobody saw what the last action did"


def test_the_same_action_in_a_changed_situation_is_no_repeat(episode: Episode) -> None:
    trajectory = episode(
        turns(("hall", "go desk"), ("desk", "take mug"), ("holding mug", "go desk"), ("desk, mug", "x"))
    )
    assert numbers(RepeatPenalty().score(trajectory)) == [0.0] * 4


def test_the_window_bounds_how_far_back_a_repeat_is_looked_for(episode: Episode) -> None:
    steps = turns(("hall", "east"), ("a", "1"), ("b", "2"), ("hall", "east"))
    assert numbers(RepeatPenalty(window=3).score(episode(steps)))[3] == -1.0
    assert numbers(RepeatPenalty(window=2).score(episode(steps)))[3] == 0.0
    assert numbers(RepeatPenalty(window=None).score(episode(steps)))[3] == -1.0


def test_malformed_messages_repeat_by_their_text(episode: Episode) -> None:
    steps = [{"observation": "hall", "action": None, "action_text": text} for text in ("mumble", " mumble\n", "other")]
    assert numbers(RepeatPenalty().score(episode(steps))) == [0.0, -1.0, 0.0]


def test_equal_text_over_another_image_is_another_situation(episode: Episode) -> None:
    steps = [{"observation": "screen", "command": "click", "image": image} for image in ("a", "b", "b")]
    assert numbers(RepeatPenalty().score(episode(steps))) == [0.0, -1.0, -1.0]
    assert numbers(RepeatPenalty().score(episode([{**s, "image": str(i)} for i, s in enumerate(steps)]))) == [0.0] * 3


def test_turns_cost_after_the_free_ones(episode: Episode) -> None:
    assert numbers(TurnCost(cost=0.1).score(episode(3))) == [-0.1] * 3
    assert numbers(TurnCost(cost=0.1, free=2).score(episode(3))) == [0.0, 0.0, -0.1]


@pytest.mark.parametrize("reward", REWARDS)
def test_values_are_in_the_declared_range_and_evidence_is_json(episode: Episode, reward: Any) -> None:
    trajectory = episode([{"progress": 0.5}, {"progress": 0.25, "action": None, "action_valid": False}, {}])
    made = reward()
    for value in made.score(trajectory):
        assert made.spec.low <= value.value <= made.spec.high
        json.dumps(value.evidence, allow_nan=False)
    assert json.loads(json.dumps(made.describe())) == made.describe()
    assert type(made)(**made.describe()).describe() == made.describe()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RepeatPenalty(penalty=-1), "'penalty': must be at least 0, got -1"),
        (lambda: RepeatPenalty(window=0), "'window': must be at least 1"),
        (lambda: RepeatPenalty(window=2.5), "'window': must be a whole number"),  # type: ignore[arg-type]
        (lambda: TurnCost(cost=float("inf")), "'cost': must be finite"),
        (lambda: TurnCost(free=True), "'free': must be a whole number, got True"),
        (lambda: Format(good="1e-3"), "got the text '1e-3': write 0.001"),  # type: ignore[arg-type]
        (lambda: ValidAction(bad=None), "'bad': must be a number, got None"),  # type: ignore[arg-type]
        (lambda: Progress(losses="ignored"), "must be 'count' or 'ignore', got 'ignored'"),  # type: ignore[arg-type]
    ],
)
def test_bad_options_are_explained(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
