"""Small trajectories for the tests of the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from turnwise import Ending, Failure, Outcome, RewardValue, Task, Trajectory, Turn
from turnwise.rollout.store import RunStore


def trajectory(number: int = 0, *, turns: int = 2, failed: bool = False, text: str = "look") -> Trajectory:
    """A trajectory of ``turns`` turns whose id is ``task-<number>#0``."""
    played = tuple(
        Turn(
            index=i,
            observation=f"room {i}",
            action_text=text,
            rewards={"format": RewardValue(value=1.0, evidence={"form": "native"})},
        )
        for i in range(turns)
    )
    failure = Failure(boundary="env", kind="hang", message="step 1 took too long", turn=turns)
    return Trajectory(
        id=f"task-{number}#0",
        env_id="turnwise/Test-v0",
        task=Task(id=f"task-{number}", split="train", instruction="go home"),
        seed=number,
        agent="random",
        turns=played,
        final_observation="the end",
        ending=Ending(kind="failed", failure=failure) if failed else Ending(kind="terminated"),
        outcome=None if failed else Outcome(success=True, env_return=1.0),
    )


@pytest.fixture
def make() -> Callable[..., Trajectory]:
    return trajectory


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run of ten trajectories in shards of four."""
    path = tmp_path / "run"
    with RunStore.create(path, {"env": "turnwise/Test-v0"}, shard_rows=4) as store:
        for number in range(10):
            store.append(trajectory(number, failed=number == 3))
    return path
