"""``turnwise replay``: recorded actions, executed again."""

from __future__ import annotations

import json

import pytest

from turnwise.records import replace
from turnwise.rollout.replay import replay_all
from turnwise.rollout.store import RunStore


def test_an_unchanged_world_answers_as_it_did(cli, run) -> None:
    text = cli("replay", run).output
    # count-2 failed in its second turn: the one turn it has is replayed.
    assert "4 of 4 trajectories replayed the same, 8 turns" in text
    assert json.loads(cli("replay", run, "--json").stdout)["same"] is True


def test_chosen_trajectories_only(cli, run) -> None:
    assert "1 of 1 trajectories replayed the same, 2 turns" in cli("replay", run, "count-0").output
    assert "unknown trajectory" in cli("replay", run, "count-9#0", code=2).stderr


def test_a_changed_observation_is_reported(cli, run, monkeypatch) -> None:
    monkeypatch.setenv("TOY_DRIFT", "!")
    result = cli("replay", run, code=1)
    assert "0 of 4 trajectories replayed the same" in result.stdout
    assert "observation" in result.stdout
    found = json.loads(cli("replay", run, "count-0", "--json", code=1).stdout)
    assert found["same"] is False
    whats = [(d["turn"], d["what"]) for d in found["differing"][0]["differences"]]
    assert whats == [(0, "observation"), (1, "observation"), (None, "final_observation")]
    first = found["differing"][0]["differences"][0]
    assert first["replayed"] == first["recorded"] + "!"


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("env_reward", 0.25, "env_reward"),
        ("action_valid", False, "action_valid"),
        ("action_error", "no", "action_error"),
        ("progress", 0.1, "progress"),
        ("success", True, "success"),
        ("level", "reached", "level"),
        ("info", {"total": 9}, "info"),
    ],
)
def test_every_fact_of_a_turn_is_compared(run, field, value, what) -> None:
    trajectory = RunStore.open(run).get("count-0#0")
    turn = replace(trajectory.turns[0], **{field: value})
    (result,) = replay_all([replace(trajectory, turns=(turn, trajectory.turns[1]))])
    assert [(d.turn, d.what) for d in result.differences] == [(0, what)]


def test_another_seed_is_another_episode(run) -> None:
    trajectory = RunStore.open(run).get("count-0#0")
    found = [bool(result.differences) for result in replay_all([replace(trajectory, seed=s) for s in range(1, 8)])]
    assert any(found)


def test_a_changed_ending_is_reported(run) -> None:
    trajectory = RunStore.open(run).get("count-1#0")
    cut = replace(trajectory, turns=trajectory.turns[:3], final_observation=trajectory.turns[3].observation)
    (result,) = replay_all([cut])
    assert [(d.what, d.recorded, d.replayed) for d in result.differences] == [("ending", "terminated", "goes on")]

    longer = (*trajectory.turns, replace(trajectory.turns[3], index=4, observation=trajectory.final_observation))
    (result,) = replay_all([replace(trajectory, turns=longer)])
    assert [(d.turn, d.what, d.replayed) for d in result.differences] == [(4, "ending", "terminated")]


def test_a_world_that_raises_is_a_difference_not_a_crash(run, monkeypatch) -> None:
    monkeypatch.setenv("TOY_BREAK", "count-1")
    results = list(replay_all(RunStore.open(run).trajectories()))
    (broken,) = [result for result in results if result.differences]
    assert broken.trajectory_id == "count-1#0"
    # The first action was malformed, so its second step is the second well-formed one.
    assert [(d.turn, d.what) for d in broken.differences] == [(2, "failure")]
    assert "the abacus broke" in broken.differences[0].replayed


def test_an_episode_that_failed_before_its_first_turn_has_nothing_to_replay(run) -> None:
    trajectory = RunStore.open(run).get("count-2#0")
    (result,) = replay_all([replace(trajectory, turns=(), final_observation="")])
    assert (result.turns, result.differences) == (0, ())
