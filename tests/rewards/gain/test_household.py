"""Exact beliefs in the household, from the texts alone."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import pytest

import turnwise  # noqa: F401 - registers the worlds
from turnwise.errors import JudgeError
from turnwise.protocols import BeliefRequest, BeliefScorer
from turnwise.records import Ending, Outcome, Task, Trajectory, Turn
from turnwise.rewards import load_rewards
from turnwise.rewards.gain.household import HouseholdBeliefs
from turnwise.rewards.information_gain import InformationGain

ROOM = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a cabinet 1, a fridge 1, a shelf 2, and a shelf 1.\n\nYour task is to: {}."
)


def told(instruction: str, *texts: str, kind: str = "", data: dict[str, Any] | None = None) -> Trajectory:
    """An episode in which each turn was answered with a text."""
    seen = [ROOM.format(instruction), *texts]
    return Trajectory(
        id="t#0",
        env_id="turnwise/Household-v0",
        task=Task(id="t", split="train", instruction=instruction, type=kind, data=data or {}),
        seed=0,
        agent="test",
        ending=Ending(kind="truncated", cause="turns"),
        outcome=Outcome(success=False, env_return=0.0),
        turns=tuple(Turn(index=i, observation=text, action_text="x") for i, text in enumerate(seen[:-1])),
        final_observation=seen[-1],
    )


def chances(trajectory: Trajectory) -> list[float]:
    request = BeliefRequest(trajectory=trajectory, turns=len(trajectory.turns))
    return [belief.probability for belief in HouseholdBeliefs().beliefs(request)]


def test_each_place_that_was_read_in_vain_is_excluded_once() -> None:
    made = told(
        "put a mug in shelf",
        "You arrive at shelf 1. On the shelf 1, you see a plate 1, and a vase 2.",
        "You arrive at fridge 1. The fridge 1 is closed.",  # says nothing of what is in it
        "You arrive at shelf 1. On the shelf 1, you see a plate 1, and a vase 2.",
        "You open the fridge 1. The fridge 1 is open. In it, you see nothing.",
        "You arrive at shelf 2. On the shelf 2, you see a mug 3.",
        "You pick up the mug 3 from the shelf 2.",
    )
    assert chances(made) == pytest.approx([1 / 4, 1 / 3, 1 / 3, 1 / 3, 1 / 2, 1.0, 1.0])
    assert isinstance(HouseholdBeliefs(), BeliefScorer)


def test_two_objects_are_two_unknowns() -> None:
    made = told(
        "find two mug and put them in shelf",
        "You arrive at shelf 1. On the shelf 1, you see nothing.",
        "You arrive at shelf 2. On the shelf 2, you see a mug 3, and a vase 1.",
        "You pick up the mug 3 from the shelf 2.",
        "You arrive at cabinet 1. The cabinet 1 is open. In it, you see a mug 1.",
        kind="pick_two_obj_and_place",
    )
    assert chances(made) == pytest.approx([1 / 16, 1 / 9, 1 / 2, 1 / 2, 1.0])


def test_the_agents_own_words_prove_nothing() -> None:
    made = told(
        "put a hot mug in shelf",
        "Nothing happens. 'take a mug 1 from shelf 1' is not possible now; On the shelf 1, you see a mug 1.",
        "Nothing happens.",
    )
    assert chances(made) == pytest.approx([1 / 4] * 3)


@pytest.mark.parametrize(
    ("instruction", "data"),
    [
        ("put some mug on shelf", {}),
        ("clean some mug and put it in shelf", {}),
        ("look at mug under the desklamp", {}),
        ("examine the mug with the desklamp", {}),
        ("bring the coffee thing to the board", {"target": "Mug"}),
    ],
)
def test_what_is_looked_for(instruction: str, data: dict[str, Any]) -> None:
    made = told(instruction, "You arrive at shelf 2. On the shelf 2, you see a mug 3.", data=data)
    assert chances(made) == pytest.approx([1 / 4, 1.0])


def test_what_cannot_be_known_is_an_error_not_a_number() -> None:
    with pytest.raises(JudgeError, match="what to look for"):
        chances(told("bring the coffee thing to the board", "You see nothing."))
    places = ("shelf 1", "shelf 2", "cabinet 1", "fridge 1")
    empty = told("put a mug in shelf", *(f"You arrive at {p}. On the {p}, you see nothing." for p in places))
    with pytest.raises(JudgeError, match="nowhere"):
        chances(empty)
    bare = told("put a mug in shelf", "x")
    bare = Trajectory(**{**{f: getattr(bare, f) for f in bare.__struct_fields__}, "turns": (), "final_observation": ""})
    with pytest.raises(JudgeError, match="no turn"):
        chances(bare)


def play(task_id: str, *, turns: int = 50) -> tuple[Trajectory, Any]:
    """Let the explorer play a task of the real world."""
    env = gymnasium.make("turnwise/Household-v0", max_turns=turns).unwrapped
    observation, info = env.reset(seed=1, options={"task_id": task_id})
    expert, played = env.expert("explorer"), []
    over = False
    while not over:
        message = expert.act(observation, info)
        before = observation
        observation, _, terminated, truncated, info = env.step(message)
        played.append(Turn(index=len(played), observation=before, action_text=message))
        over = terminated or truncated
    trajectory = Trajectory(
        id=f"{task_id}#0",
        env_id="turnwise/Household-v0",
        task=env.task,
        seed=1,
        agent="explorer",
        ending=Ending(kind="terminated"),
        outcome=Outcome(success=bool(info["success"]), env_return=1.0),
        turns=tuple(played),
        final_observation=observation,
    )
    return trajectory, env


def test_in_the_real_world_the_gains_follow_the_search_without_a_model() -> None:
    env = gymnasium.make("turnwise/Household-v0").unwrapped
    ids = env.make_task_set(split="train").ids()[:40]
    tree = load_rewards({"version": 1, "rewards": [{"name": "information_gain", "options": {"kind": "log_prob_diff"}}]})
    for task_id in ids:
        trajectory, world = play(task_id)
        path = chances(trajectory)
        places = len(world.game.scene.receptacle_names)
        wanted = 2 if trajectory.task.type == "pick_two_obj_and_place" else 1
        assert path[0] == pytest.approx(places**-wanted)
        assert path == sorted(path)
        assert path[-1] == 1.0  # a solved task: everything was found
        attached = tree.attach(trajectory)
        gains = [turn.rewards["information_gain"] for turn in attached.turns]
        assert all(gain.valid and gain.evidence["role"] == "gain" for gain in gains)
        assert attached.rewards["information_gain"].value == pytest.approx(wanted * math.log(places))


def test_the_default_scorer_is_the_worlds_own() -> None:
    made = told("put a mug in shelf", "You arrive at shelf 2. On the shelf 2, you see a mug 3.")
    (gain,) = InformationGain().score(made)
    assert gain.value == pytest.approx(0.75)
    assert gain.evidence == {
        "role": "gain",
        "before": 0.25,
        "after": 1.0,
        "places_left": 3,
        "missing": 0,
        "found": ["mug 3"],
    }
