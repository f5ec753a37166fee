"""Our worlds as environments of the real SkyRL-Gym: register, make, init, step, metrics."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import skyrl_gym
from skyrl_gym.envs.registration import registry
from skyrl_gym.metrics import aggregate_for_environment

from turnwise.errors import ConfigError, JudgeError
from turnwise.rollout.trainers import skyrl

REWARDS = {"version": 1, "rewards": [{"name": "progress"}, {"name": "valid_action", "weight": 0.25}]}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    skyrl.register()
    yield
    registry.pop("turnwise", None)


@pytest.fixture
def row(tmp_path: Path) -> dict[str, Any]:
    skyrl.write_dataset(tmp_path / "train.parquet", tasks="train:1", rewards=REWARDS, max_turns=4)
    (found,) = pq.read_table(tmp_path / "train.parquet").to_pylist()
    return dict(found)


def made(row: dict[str, Any], **config: Any) -> Any:
    # As SkyRL's generator does it: everything of the row but prompt and env_class.
    extras = {key: value for key, value in row.items() if key not in ("prompt", "env_class")}
    return skyrl_gym.make(row["env_class"], env_config=config, extras=extras)


def test_registering_again_does_nothing_and_a_taken_name_is_an_error() -> None:
    skyrl.register()
    registry.pop("turnwise")
    skyrl_gym.register(id="turnwise", entry_point="somewhere:Else")
    with pytest.raises(ConfigError, match="SkyRL-Gym knows 'turnwise' as somewhere:Else"):
        skyrl.register()


def test_each_step_pays_its_turns_reward(row: dict[str, Any]) -> None:
    env = made(row)
    messages, info = env.init(row["prompt"])
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages == row["prompt"]
    assert info == {"task_id": row["extra_info"]["task_id"]}
    steps = [env.step(action) for action in ("look", "I wonder", "inventory", "look")]
    assert [step["reward"] for step in steps] == pytest.approx([0.25, 0.0, 0.25, 0.25])
    assert [step["done"] for step in steps] == [False, False, False, True]
    assert "Invalid action" in steps[1]["observations"][0]["content"]
    assert steps[-1]["observations"] == []
    turns = [turn.rewards["reward"].value for turn in env.trajectory().turns]
    assert [step["reward"] for step in steps] == pytest.approx(turns)
    metrics = env.get_metrics()
    assert metrics["reward"] == pytest.approx(0.75)
    assert (metrics["valid"], metrics["turns"], metrics["outcome"]) == (1.0, 4.0, 0.0)
    assert aggregate_for_environment("turnwise", [metrics, metrics])["reward"] == pytest.approx(0.75)
    env.close()


def test_skyrls_configuration_overrides_the_row(row: dict[str, Any]) -> None:
    env = made(row, max_turns=1)
    env.init(row["prompt"])
    assert env.step("look")["done"]


def test_the_generators_own_limit_on_turns_is_kept(row: dict[str, Any]) -> None:
    # SkyRL's generator writes its max_turns into every row and leaves it to the environment to stop.
    env = made({**row, "max_turns": 2})
    env.init(row["prompt"])
    assert not env.step("look")["done"]
    step = env.step("look")
    assert (step["done"], step["reward"]) == (True, pytest.approx(0.25))
    assert env.trajectory().ending.cause == "turns"
    with pytest.raises(ConfigError, match="max_turns is a whole number"):
        made({**row, "max_turns": 0})


def test_an_episode_without_a_reward_is_never_a_zero_by_itself(row: dict[str, Any]) -> None:
    broken = {"version": 1, "rewards": [{"name": "broken", "use": "brokenreward:Broken"}]}
    changed = {**row, "turnwise": json.dumps({**json.loads(row["turnwise"]), "rewards": broken, "max_turns": 1})}
    env = made(changed)
    env.init(row["prompt"])
    with pytest.raises(JudgeError, match="the judge is down"):
        env.step("look")
    chosen = made(changed, fallback=-1.0)
    chosen.init(row["prompt"])
    step = chosen.step("look")
    assert (step["reward"], step["done"]) == (-1.0, True)
    assert "the judge is down" in step["metadata"]["problem"]
    assert chosen.get_metrics()["valid"] == 0.0


def test_an_environment_plays_again_from_the_start(row: dict[str, Any]) -> None:
    env = made(row)
    first, _ = env.init(row["prompt"])
    env.step("look")
    again, _ = env.init(row["prompt"])
    assert first == again
    assert env.turns == 0
    assert env.step("inventory")["reward"] == pytest.approx(0.25)


def test_a_row_without_a_task_is_named(row: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"a row names its task under extra_info.task_id"):
        made({**row, "extra_info": {}})


def test_the_example_runs() -> None:
    example = Path(__file__).resolve().parents[5] / "examples" / "skyrl.py"
    assert runpy.run_path(str(example))["main"]() == pytest.approx([0.1, 0.0, 0.1])
