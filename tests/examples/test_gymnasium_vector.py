"""Worlds in plain Gymnasium and in its vector environments: the same text, with nothing of ours between."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

import turnwise

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gymnasium_vector.py"
WORLDS = ("turnwise/Household-v0", "turnwise/SearchQA-v0")
SEEDS = [3, 1, 2]
ACTIONS = [("look", "no action at all", "search[a city]"), ("inventory", "look", "find[river]"), ("look",) * 3]


def make(world: str) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(world, max_turns=2)


def alone(world: str, place: int) -> list[Any]:
    """What one environment says by itself; the turn after the end begins the next episode."""
    env = make(world)
    observation, info = env.reset(seed=SEEDS[place])
    seen: list[Any] = [(observation, 0.0, False, info["task_id"])]
    over = False
    for actions in ACTIONS:
        if over:
            observation, info = env.reset()
            over = False
            seen.append((observation, 0.0, False, info["task_id"]))
            continue
        observation, reward, terminated, truncated, info = env.step(actions[place])
        over = terminated or truncated
        seen.append((observation, float(reward), over, info["task_id"]))
    env.close()
    return seen


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_side_by_side_is_as_alone(kind: Any, world: str) -> None:
    options = {"shared_memory": False} if kind is AsyncVectorEnv else {}
    envs = kind([lambda: make(world)] * 3, autoreset_mode=AutoresetMode.NEXT_STEP, **options)
    try:
        observations, infos = envs.reset(seed=SEEDS)
        seen = [[(observations[i], 0.0, False, infos["task_id"][i])] for i in range(3)]
        for actions in ACTIONS:
            observations, rewards, terminations, truncations, infos = envs.step(actions)
            for i in range(3):
                over = bool(terminations[i] or truncations[i])
                seen[i].append((observations[i], float(rewards[i]), over, infos["task_id"][i]))
    finally:
        envs.close()
    for place in range(3):
        assert seen[place] == alone(world, place)
    assert any(over for _, _, over, _ in seen[0])


def test_a_named_task_is_played_by_all() -> None:
    world = WORLDS[0]
    task = turnwise.make_task_set(world).ids()[5]
    envs = SyncVectorEnv([lambda: make(world)] * 2)
    _, infos = envs.reset(seed=1, options={"task_id": task})
    assert list(infos["task_id"]) == [task, task]
    envs.close()


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"]()
    printed = capsys.readouterr().out
    assert "SyncVectorEnv: 3 environments" in printed
    assert "AsyncVectorEnv: 3 environments" in printed
