"""Episodes that a trainer drives: the same record as the engine's, and failures that are no rewards."""

from __future__ import annotations

import fragileworld
import pytest
from scripted import OPTIONS, expert_actions, make_world

from turnwise.errors import ConfigError, EpisodeOverError, UnknownNameError
from turnwise.records import replace, without_timings
from turnwise.registry import register_env
from turnwise.rollout import Rollout
from turnwise.rollout.trainers.stepping import OVER, DrivenEpisode, World, replay


def test_a_driven_episode_is_recorded_as_the_engines() -> None:
    world = make_world()
    task = world.tasks[1]
    run = Rollout(**{**OPTIONS, "tasks": [task]}, agent="expert", workers=0)
    (expected,) = run
    got = replay(world, task, expert_actions(world, task))
    # The engine notes the agent; here it is the trainer.
    assert replace(without_timings(got), agent="expert") == without_timings(expected)
    assert got.agent == "scripted"


def test_an_episode_that_is_not_over_counts_as_cut() -> None:
    episode = DrivenEpisode(make_world())
    with pytest.raises(EpisodeOverError):
        episode.step("look")
    with pytest.raises(EpisodeOverError):
        episode.ungraded()
    episode.begin(episode.world.tasks[0])
    assert not episode.step("look").over
    assert episode.ungraded().rewards == {}
    cut = episode.trajectory(cause="tokens")
    assert (cut.ending.kind, cut.ending.cause) == ("truncated", "tokens")
    assert cut.rewards["reward"].value == pytest.approx(0.1)
    with pytest.raises(EpisodeOverError):
        episode.step("look")
    assert "You are in the middle of a room" in episode.begin(episode.world.tasks[1])
    assert (episode.turns, episode.over) == (0, False)
    episode.close()


def test_the_worlds_own_cap_ends_it() -> None:
    episode = DrivenEpisode(make_world(max_turns=2))
    episode.begin(episode.world.tasks[0])
    assert [episode.step("look").over for _ in range(2)] == [False, True]
    assert episode.trajectory().ending.cause == "turns"
    episode.close()


def test_a_world_that_breaks_fails_the_episode_and_costs_its_environment() -> None:
    register_env(fragileworld.ENV_ID, "fragileworld:FragileEnv")
    log = fragileworld.FragileEnv.log
    log.clear()
    world = World(fragileworld.ENV_ID, agent="t", tasks="train:2", rewards=OPTIONS["rewards"])
    episode = DrivenEpisode(world)
    episode.begin(world.tasks[0])
    episode.step("look")
    assert episode.step("break") == (OVER, True)
    failed = episode.trajectory()
    assert failed.failed
    assert failed.ending.failure is not None
    assert (failed.ending.failure.boundary, failed.ending.failure.turn) == ("env", 1)
    assert "it broke" in failed.ending.failure.message
    assert failed.rewards["reward"].value is None
    assert [turn.action_text for turn in failed.turns] == ["look"]
    assert log == ["made", "closed"]
    episode.begin(world.tasks[0])  # in a new one
    assert not episode.step("look").over
    assert log == ["made", "closed", "made"]


def test_mistakes_are_named() -> None:
    world = make_world()
    with pytest.raises(UnknownNameError, match="unknown task"):
        DrivenEpisode(world).begin("nowhere")
    with pytest.raises(ConfigError, match="a message is a str, got int"):
        replay(world, world.tasks[0], [3])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="takes no option 'speed'"):
        World(agent="t", env_options={"speed": 3})
