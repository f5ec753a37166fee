"""What TextWorld 1.7.0 said in 50 recorded episodes of 25 ALFWorld games, and what we say."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from turnwise.envs.household import HouseholdEnv
from turnwise.envs.household.game import Game


@pytest.fixture(scope="module")
def alfworld(shared_data: Path) -> Path:
    return shared_data / "alfworld"


@pytest.fixture(scope="module")
def episodes(alfworld: Path) -> list[dict[str, Any]]:
    with gzip.open(alfworld / "transcripts.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _env(alfworld: Path, episode: dict[str, Any]) -> HouseholdEnv:
    return HouseholdEnv(data=str(alfworld / episode["game"]), max_turns=1000, strict=True)


def _said(command: str, feedback: str) -> str:
    """The answer to ``help`` is in our own words."""
    return "" if command == "help" else feedback


def test_the_recording_is_whole(episodes: list[dict[str, Any]]) -> None:
    assert len(episodes) == 50
    assert sum(len(episode["steps"]) for episode in episodes) == 1151


def test_the_engine_says_what_textworld_said(alfworld: Path, episodes: list[dict[str, Any]]) -> None:
    for episode in episodes:
        env = _env(alfworld, episode)
        env.reset(seed=0)
        game = Game(env.game.scene)
        assert (game.intro, game.admissible()) == (episode["initial"], episode["initial_admissible"])
        for number, step in enumerate(episode["steps"]):
            command = step["command"]
            feedback = game.step(command)
            got = (_said(command, feedback), game.admissible(), game.won, game.score)
            want = (_said(command, step["feedback"]), step["admissible"], step["won"], step["score"])
            assert got == want, f"{episode['game']}, step {number}: {command!r}"


def test_the_strict_environment_says_what_textworld_said(alfworld: Path, episodes: list[dict[str, Any]]) -> None:
    for episode in episodes:
        env = _env(alfworld, episode)
        observation, info = env.reset(seed=0)
        assert (observation, info["admissible_actions"]) == (episode["initial"], episode["initial_admissible"])
        for number, step in enumerate(episode["steps"]):
            command = step["command"]
            observation, reward, terminated, truncated, info = env.step(command)
            got = (_said(command, observation), info["admissible_actions"], info["success"], reward, terminated)
            want = (_said(command, step["feedback"]), step["admissible"], step["won"], step["score"], step["done"])
            assert got == want, f"{episode['game']}, step {number}: {command!r}"
            assert not truncated


def test_the_default_environment_says_the_same_of_admissible_commands(
    alfworld: Path, episodes: list[dict[str, Any]]
) -> None:
    env = HouseholdEnv(data=str(alfworld / "generated"), max_turns=1000)
    for episode in episodes:
        if not episode["game"].startswith("generated/"):
            continue
        task_id = str(Path(episode["game"]).parent.relative_to("generated"))
        observation, info = env.reset(seed=0, options={"task_id": task_id})
        assert observation == episode["initial"]
        for step in episode["steps"]:
            known, before = step["command"].strip() in info["admissible_actions"], env.state()
            observation, _, _, _, info = env.step(step["command"])
            assert info["action_valid"] or not known
            if known and step["command"] != "help":
                assert observation == step["feedback"]
            if not known:  # "GO TO  fridge 1" is understood here, not there
                _, info = env.restore(before)
            assert info["admissible_actions"] == step["admissible"]


def test_every_recorded_goal_is_understood(alfworld: Path) -> None:
    for split_free_tree, count in (("generated", 24), ("real", 1)):
        env = HouseholdEnv(data=str(alfworld / split_free_tree))
        assert len(env.tasks) == count
        for task_id in env.tasks.ids():
            env.reset(seed=0, options={"task_id": task_id})
            spec = env.game.scene.goal.spec
            assert spec is not None
            assert env.task.type == spec.task_type
            if count > 1:
                assert task_id.startswith(spec.task_type)
