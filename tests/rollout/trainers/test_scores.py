"""A graded episode as numbers with constant keys; a failure is an error or a fallback that is counted."""

from __future__ import annotations

import math

import pytest
from scripted import OPTIONS, clumsy, expert_actions, make_world, play_script

from turnwise.errors import ConfigError, EnvError, JudgeError
from turnwise.records import Ending, Failure, RewardValue, replace
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.scores import problem_of, scores, world_of
from turnwise.rollout.trainers.spoken import SpokenEpisode
from turnwise.rollout.trainers.turn_credit import assign_turns

WORLD = make_world()
TASK = WORLD.tasks[0]
EXPERT = expert_actions(WORLD, TASK)
FAILED = Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="it hung"))


def test_keys_are_the_same_whatever_the_episode_came_to() -> None:
    played = [play_script(WORLD, TASK, script) for script in (EXPERT, clumsy(EXPERT), ["nonsense"] * 12)]
    found = [scores(one, WORLD.rewards) for one in played]
    broken = replace(played[0], ending=FAILED, outcome=None, rewards={})
    found.append(scores(broken, WORLD.rewards, fallback=-1.0))
    assert {tuple(one) for one in found} == {tuple(found[0])}
    for one in found[:3]:
        parts = [value for name, value in one.items() if name.startswith("component/")]
        assert math.fsum(parts) == pytest.approx(one["reward"])
    assert [one["valid"] for one in found] == [1.0, 1.0, 1.0, 0.0]
    assert found[-1]["reward"] == -1.0
    assert all(isinstance(value, float) and math.isfinite(value) for one in found for value in one.values())


def test_a_failure_is_never_a_zero() -> None:
    played = play_script(WORLD, TASK, EXPERT)
    broken = replace(played, ending=FAILED, outcome=None)
    with pytest.raises(EnvError, match="it hung"):
        scores(broken, WORLD.rewards)
    unjudged = replace(played, rewards={"reward": RewardValue(invalid="judge: down")})
    with pytest.raises(JudgeError, match="judge: down"):
        scores(unjudged, WORLD.rewards)
    assert isinstance(problem_of(unjudged), JudgeError)
    assert isinstance(problem_of(broken), EnvError)
    assert problem_of(played) is None


def test_a_world_is_made_once_per_process() -> None:
    assert world_of(OPTIONS, agent="a") is world_of(dict(reversed(OPTIONS.items())), agent="a")
    assert world_of(OPTIONS, agent="a") is not world_of(OPTIONS, agent="b")
    with pytest.raises(ConfigError, match=r"no options of a world: \['env', 'max_trns'\]"):
        world_of({"env": "turnwise/Household-v0", "max_trns": 3}, agent="a")
    with pytest.raises(ConfigError, match="are JSON values"):
        world_of({"env": object()}, agent="a")  # type: ignore[dict-item]


@pytest.mark.parametrize("cut", range(1, 8))
def test_gains_add_up_wherever_an_episode_is_cut(cut: int) -> None:
    episode = SpokenEpisode(WORLD)
    episode.begin(TASK)
    gained = [episode.say(text).gained for text in EXPERT[:cut]]
    whole = scores(play_script(WORLD, TASK, EXPERT[:cut]), WORLD.rewards)
    for name in ("reward", "component/outcome", "component/progress", "component/valid_action"):
        assert math.fsum(one[name] for one in gained) == pytest.approx(whole[name])
    episode.close()


def test_without_scores_on_every_turn_the_last_one_has_all() -> None:
    episode = SpokenEpisode(WORLD, score_every_turn=False)
    episode.begin(TASK)
    gained = [episode.say(text).gained["reward"] for text in EXPERT]
    assert gained[:-1] == [0.0] * (len(EXPERT) - 1)
    assert gained[-1] == pytest.approx(2.2)


def test_turn_credit_of_plain_numbers_is_that_of_trajectories() -> None:
    played = [
        play_script(WORLD, TASK, script, sample=i) for i, script in enumerate([EXPERT, clumsy(EXPERT), EXPERT[:2]])
    ]
    credit = GroupCredit(estimator="rloo", level="turn", gamma=0.9)
    values = [[turn.rewards["reward"].value for turn in one.turns] for one in played]
    found = assign_turns(["b", "a", "b", "b"], [values[0], values[0], values[1], values[2]], credit)
    assert [one.advantages for one in (found[0], *found[2:])] == [one.advantages for one in credit.assign(played)]
    assert set(found[1].advantages) == {0.0}, "a sample alone in its group has nothing to be compared with"
    left_out = assign_turns(["a", "a", "a"], [values[0], None, values[1]], credit)
    assert left_out[1].advantages == ()
    assert [one.advantages for one in (left_out[0], left_out[2])] == [
        one.advantages for one in credit.assign(played[:2])
    ]
