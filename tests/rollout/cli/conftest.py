"""The toy world as an installed plug-in, the command line in this process, and stored runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import pytest
from typer.testing import CliRunner, Result

import turnwise
from turnwise import registry
from turnwise.records import Ending, Failure, Outcome, Trajectory, Turn, replace
from turnwise.rewards import load_rewards
from turnwise.rollout.cli import app
from turnwise.rollout.engine import contract
from turnwise.rollout.store import RunStore

HERE = Path(__file__).parent
TOY = "toy/Counting-v0"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds the toy world with its entry point."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(HERE / "toyworld.py", folder)
    info = folder / "toyworld-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toyworld\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[turnwise.envs]\n{TOY} = toyworld:Counting\n")
    return folder


@pytest.fixture
def toy(site: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of the toy world, registered in this process and in those it starts."""
    monkeypatch.syspath_prepend(str(site))
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setitem(registry.envs._entries, TOY, "toyworld:Counting")
    turnwise.register_env(TOY, "toyworld:Counting")
    yield TOY
    gymnasium.registry.pop(TOY, None)
    sys.modules.pop("toyworld", None)


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run ``turnwise ARGS`` in this process."""
    runner = CliRunner(env={"COLUMNS": "200"})

    def invoke(*args: object, code: int | None = 0) -> Result:
        result = runner.invoke(app, [str(arg) for arg in args])
        assert code in (None, result.exit_code), f"{result.output}\n{result.exception!r}"
        return result

    return invoke


def play(env_id: str, number: int, messages: list[str]) -> Trajectory:
    """Play messages without the engine, so that these tests do not depend on it."""
    env = gymnasium.make(env_id)
    task = env.unwrapped.tasks.get(f"count-{number}")
    observation, _ = env.reset(seed=number, options={"task_id": task.id})
    turns, over, step = [], False, None
    for message in messages:
        step = contract.read_step(env.step(message), "test")
        facts = contract.read_info(step.info, "test")
        turns.append(
            Turn(
                index=len(turns),
                observation=observation,
                action_text=message,
                action=facts.action,
                action_valid=facts.valid,
                action_error=facts.error,
                env_reward=step.reward,
                progress=facts.progress,
                success=facts.success,
                level=facts.level,
                info=facts.extra,
            )
        )
        observation, over = step.seen.text, step.terminated
        if over:
            break
    env.close()
    last = turns[-1]
    return Trajectory(
        id=f"{task.id}#0",
        env_id=env_id,
        task=task,
        seed=number,
        agent="test",
        turns=tuple(turns),
        final_observation=observation,
        ending=Ending(kind="terminated") if over else Ending(kind="truncated", cause="time"),
        outcome=Outcome(
            success=last.success,
            env_return=sum(t.env_reward for t in turns),
            progress=last.progress,
            level=last.level,
            levels=("idle", "counted", "reached"),
        ),
    )


def broken(trajectory: Trajectory) -> Trajectory:
    """The same episode, failed on its last turn."""
    failure = Failure(boundary="env", kind="hang", message="env.step took longer than 5 s", turn=len(trajectory.turns))
    return replace(trajectory, ending=Ending(kind="failed", failure=failure), outcome=None)


@pytest.fixture
def run(toy: str, tmp_path: Path) -> Path:
    """A stored run: count-0 solved, count-1 with an invalid action, count-2 failed, count-3 cut short."""
    tree = load_rewards()
    played = [
        play(toy, 0, ["add 2", "add 1"]),
        play(toy, 1, ["add 9", "dance wildly", "add 3", "add 1"]),
        broken(play(toy, 2, ["add 2"])),
        play(toy, 3, ["add 1"]),
    ]
    path = tmp_path / "run"
    manifest = {"env": toy, "agent": "test", "tasks": "train:4", "group": 1, "seed": 0, "rewards": tree.describe()}
    with RunStore.create(path, manifest, shard_rows=3) as store:
        for trajectory in played:
            store.append(tree.attach(trajectory))
    return path
