"""TRL's rollouts behind the engine: replicas that get the trainer's weights, worlds in worker processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

ray = pytest.importorskip("ray")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # workers get it too: the engine passes it on

import chaosworld  # noqa: E402

from turnwise import register_env  # noqa: E402
from turnwise.agents.registry import agents  # noqa: E402
from turnwise.rollout import PolicyPool  # noqa: E402
from turnwise.rollout.trainers.stepping import World  # noqa: E402
from turnwise.rollout.trainers.trl.players import PoolPlayer  # noqa: E402

register_env(chaosworld.ENV_ID, "chaosworld:ChaosEnv")
agents.register("weighted-policy", "weightedpolicy:WeightedPolicy")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


class Weights:
    """Stands for a tensor; says where it was asked to be."""

    def __init__(self) -> None:
        self.moved = 0

    def cpu(self) -> str:
        self.moved += 1
        return "on the cpu"


def test_replicas_play_with_the_weights_of_the_step() -> None:
    weights = Weights()
    trainer: Any = SimpleNamespace(
        model=object(),
        state=SimpleNamespace(global_step=5),
        accelerator=SimpleNamespace(get_state_dict=lambda model: {"w": weights}),
    )
    world = World(chaosworld.ENV_ID, agent="trl", tasks="train:3")
    with PolicyPool("weighted-policy") as pool:
        player = PoolPlayer(pool, {"env": chaosworld.ENV_ID, "workers": 1})
        wanted = [(task, sample) for task in reversed(world.tasks) for sample in range(2)]
        requests = [world.request(task, sample=sample) for task, sample in wanted]
        played = player.play(requests, trainer=trainer, seed=1)
        assert [one.id for one in played] == [f"{task}#{sample}" for task, sample in wanted]
        assert {one.policy_version for one in played} == {"5"}
        assert weights.moved == 1
        again = player.play(requests, trainer=trainer, seed=2)
        assert weights.moved == 1  # nothing was learned since
        trainer.state.global_step = 6
        later = player.play(requests, trainer=trainer, seed=2)
        assert {one.policy_version for one in later} == {"6"}
        assert [one.seed for one in again] == [one.seed for one in later]
        assert [one.seed for one in again] != [one.seed for one in played]
