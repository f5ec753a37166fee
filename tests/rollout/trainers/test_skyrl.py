"""Rewards paid turn by turn, and the data set, without SkyRL-Gym."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scripted import OPTIONS, clumsy, expert_actions, make_world, play_script

from turnwise.records import replace
from turnwise.rollout.trainers import skyrl
from turnwise.rollout.trainers.install import MissingTrainerError
from turnwise.rollout.trainers.skyrl import LOOK_BACK, OnlineRewards, write_dataset


def prefixes(trajectory: Any) -> list[Any]:
    """The episode as it looked after each turn."""
    found = []
    for count in range(1, len(trajectory.turns) + 1):
        after = trajectory.turns[count].observation if count < len(trajectory.turns) else trajectory.final_observation
        found.append(replace(trajectory, turns=trajectory.turns[:count], final_observation=after))
    return found


def paid(rewards: Any, script: Any = None) -> tuple[list[float], list[float | None]]:
    """What each step pays, and the tree's own turn rewards."""
    world = make_world(rewards=rewards)
    task = world.tasks[0]
    episode = play_script(world, task, script or clumsy(expert_actions(world, task)))
    online = OnlineRewards(world)
    online.begin()
    steps = [online.now(prefix) for prefix in prefixes(episode)[:-1]]
    total = episode.rewards["reward"].value
    assert total is not None
    return [*steps, online.rest(total)], [turn.rewards["reward"].value for turn in episode.turns]


@pytest.mark.parametrize("name", LOOK_BACK)
def test_no_later_turn_changes_what_was_paid(name: str) -> None:
    if name == "redundant_search":
        options: dict[str, Any] = {"env": "turnwise/SearchQA-v0"}
        script = ["search[a city]", "search[a city]", "open[1]", "search[a river]"]
    else:
        options = {}
        script = ["look", "look", "nonsense", "inventory", "look", "inventory"]
    world = make_world(rewards={"version": 1, "rewards": [{"name": name}]}, **options)
    episode = play_script(world, world.tasks[0], script)
    final = [turn.rewards[name].value for turn in episode.turns]
    reward = world.rewards.rewards[0].reward
    for prefix in prefixes(episode):
        assert [value.value for value in reward.score(prefix)] == final[: len(prefix.turns)]
    if name not in ("progress", "redundant_search", "turn_cost"):
        assert len(set(final)) > 1  # the script shows something of it


def test_rewards_that_look_back_are_paid_on_their_turns() -> None:
    rewards = {"version": 1, "rewards": [{"name": "progress"}, {"name": "valid_action", "weight": 0.1}]}
    steps, turns = paid(rewards)
    assert steps == pytest.approx(turns)
    assert len([value for value in steps if value > 0.2]) >= 2


def test_what_needs_the_future_is_paid_at_the_end_and_the_sum_is_the_trees() -> None:
    steps, turns = paid(None)  # the default: a gate that opens with the outcome
    assert sum(steps) == pytest.approx(sum(value or 0.0 for value in turns))
    assert steps[:-1] == [0.0] * (len(steps) - 1)
    assert steps[-1] > 1.0
    mixed, turns = paid(OPTIONS["rewards"])
    assert mixed == pytest.approx(turns)  # the outcome lies on the last turn anyhow


def test_the_data_set_names_tasks_and_no_labels(tmp_path: Path) -> None:
    count = write_dataset(
        tmp_path / "train.parquet", env="turnwise/SearchQA-v0", tasks="train:2", max_turns=5, rewards="direct"
    )
    rows = pq.read_table(tmp_path / "train.parquet").to_pylist()
    assert count == len(rows) == 2
    assert [message["role"] for message in rows[0]["prompt"]] == ["system", "user"]
    assert rows[0]["env_class"] == "turnwise"
    assert rows[0]["reward_spec"] == {"method": "rule", "ground_truth": ""}
    assert json.loads(rows[0]["turnwise"]) == {
        "env": "turnwise/SearchQA-v0",
        "tasks": "train",
        "rewards": "direct",
        "max_turns": 5,
    }
    world = make_world(env="turnwise/SearchQA-v0", tasks="train:2")
    hidden = world.task(rows[0]["extra_info"]["task_id"]).data
    assert str(hidden["answer"]) not in json.dumps(rows[0])


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("skyrl_gym", "skyrl_gym.envs", "skyrl_gym.envs.registration", "skyrl_gym.envs.base_text_env"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(vars(skyrl), "TurnwiseEnv", raising=False)
    with pytest.raises(MissingTrainerError, match=r"pip install 'skyrl-gym>=0.4'"):
        skyrl.register()
    with pytest.raises(MissingTrainerError, match=r"pip install 'skyrl-gym>=0.4'"):
        _ = skyrl.TurnwiseEnv
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = skyrl.Nothing
