"""The household as an environment: messages, sub-goals, levels, states, experts."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import turnwise
from turnwise.envs.household import HouseholdEnv
from turnwise.envs.household.cache import SCENES, SceneCache
from turnwise.envs.household.env import HouseholdState
from turnwise.envs.household.problem import Problem
from turnwise.errors import ConfigError, EpisodeOverError, UnknownNameError

MakeEnv = Callable[..., HouseholdEnv]

WIN = (
    "go to shelf 1",
    "take potato 2 from shelf 1",
    "go to microwave 1",
    "heat potato 2 with microwave 1",
    "go to sinkbasin 1",
    "move potato 2 to sinkbasin 1",
)


@pytest.fixture
def make_env(tmp_path: Path, write_game: Callable[..., Path], no_scenes: None) -> MakeEnv:
    def make(goal: str | None = None, add: str = "", grammar: str | None = None, **options: Any) -> HouseholdEnv:
        changes = {"goal": goal, "grammar": grammar}
        folder = write_game(tmp_path / "game", add=add, **{k: v for k, v in changes.items() if v is not None})
        env = HouseholdEnv(data=str(folder), **options)
        env.reset(seed=0)
        return env

    return make


def levels(env: HouseholdEnv, *commands: str) -> list[str]:
    """The outcome level after each command; all must be valid."""
    reached = []
    for command in commands:
        _, _, _, _, info = env.step(command)
        assert info["action_valid"], info["action_error"]
        reached.append(info["level"])
    return reached


# -- the contract ----------------------------------------------------------------------------------


def test_it_is_made_by_its_id_and_passes_gymnasiums_checker(make_env: MakeEnv) -> None:
    path = make_env().tasks.root
    env = gymnasium.make("turnwise/Household-v0", data=str(path), max_turns=7)
    check_env(env.unwrapped, skip_render_check=True)
    assert env.unwrapped.max_turns == 7
    assert turnwise.make_task_set("turnwise/Household-v0", data=str(path)).ids() == ("game",)


def test_winning_pays_once_and_terminates(make_env: MakeEnv) -> None:
    env = make_env()
    for command in WIN[:-1]:
        _, reward, terminated, truncated, info = env.step(command)
        assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False)
    observation, reward, terminated, truncated, info = env.step(WIN[-1])
    assert observation == "You move the potato 2 to the sinkbasin 1."
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["success"], info["progress"], info["level"]) == (True, 1.0, "won")
    with pytest.raises(EpisodeOverError):
        env.step("look")


def test_the_cap_truncates_and_the_last_turn_may_still_win(make_env: MakeEnv) -> None:
    env = make_env(max_turns=len(WIN))
    for _ in range(len(WIN) - 1):
        assert not env.step("look")[3]
    _, _, terminated, truncated, info = env.step("look")
    assert (terminated, truncated, info["truncation"]) == (False, True, "turns")
    env.reset(seed=0)
    for command in WIN:
        _, _, terminated, truncated, info = env.step(command)
    assert (terminated, truncated, info["truncation"]) == (True, False, None)


def test_the_admissible_list_is_in_info_and_is_the_callers(make_env: MakeEnv) -> None:
    env = make_env()
    _, info = env.reset(seed=0)
    assert info["admissible_actions"] == env.game.admissible()
    info["admissible_actions"].clear()
    info["extra"]["subgoals"]["found"] = 9.0
    *_, info = env.step("look")
    assert info["admissible_actions"] == env.game.admissible()
    assert info["extra"]["subgoals"]["found"] == 0.0


def test_nothing_before_the_first_reset(make_env: MakeEnv) -> None:
    env = HouseholdEnv(data=str(make_env().tasks.root))
    for use in (lambda: env.game, env.state, lambda: env.step("look"), lambda: env.task):
        with pytest.raises(EpisodeOverError):
            use()


# -- messages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "go to shelf 1",
        "Go To  shelf 1",
        "Thought: potatoes are on shelves.\nAction: go to shelf 1",
        '{"name": "go_to", "arguments": {"receptacle": "shelf 1"}}',
        '<tool_call>{"name": "go_to", "arguments": {"receptacle": "shelf 1"}}</tool_call>',
    ],
)
def test_messages_in_every_form(make_env: MakeEnv, message: str) -> None:
    env = make_env()
    observation, _, _, _, info = env.step(message)
    assert observation.startswith("You arrive at shelf 1.")
    assert info["action"].command == "go to shelf 1"
    assert env.game.last is not None


def test_malformed_messages_are_answered_with_the_grammar(make_env: MakeEnv) -> None:
    env = make_env()
    before = env.game.state()
    for message in ("", "dance", "take potato", "\x00", '{"name": "fly", "arguments": {}}', "x" * 100_000):
        observation, reward, _, _, info = env.step(message)
        assert observation.startswith("Nothing happens. ")
        assert "take {object} from {receptacle}" in observation
        assert (reward, info["action"], info["action_valid"]) == (0.0, None, False)
        assert info["action_error"]
        assert info["admissible_actions"] == env.game.admissible()
    assert env.game.state() == before


def test_impossible_actions_are_answered_as_textworld_does_with_the_reason_in_info(make_env: MakeEnv) -> None:
    env = make_env()
    observation, _, _, _, info = env.step("go to shelf 2")
    assert observation == "Nothing happens."
    assert not info["action_valid"]
    assert info["action"].command == "go to shelf 2"
    assert "'go to shelf 1'" in info["action_error"]
    *_, info = env.step("heat potato 2 with microwave 1")
    assert "possible" in info["action_error"]


def test_both_words_for_putting_are_understood_in_both_dialects(make_env: MakeEnv, grammar: str) -> None:
    old = grammar.replace("move {o} to {r}", "put {o} in/on {r}").replace(
        "You move the {o.name} to", "You put the {o.name} in/on"
    )
    for told, answer in (
        (grammar, "You move the potato 2 to the shelf 1."),
        (old, "You put the potato 2 in/on the shelf 1."),
    ):
        for message in (
            "move potato 2 to shelf 1",
            "put potato 2 in/on shelf 1",
            '{"name": "move", "arguments": {"object": "potato 2", "receptacle": "shelf 1"}}',
        ):
            env = make_env(grammar=told)
            env.step("go to shelf 1")
            env.step("take potato 2 from shelf 1")
            assert env.step(message)[0] == answer


def test_strict_takes_messages_to_the_letter(make_env: MakeEnv) -> None:
    env = make_env(strict=True)
    for message in ("", "dance", "Look", "go to  shelf 1", '{"name": "look", "arguments": {}}', "Action: look", "\x00"):
        observation, _, _, _, info = env.step(message)
        assert observation == "Nothing happens."
        assert (info["action_valid"], info["action"].command) == (False, message)
    observation, _, _, _, info = env.step(" go to shelf 1 ")
    assert observation.startswith("You arrive at shelf 1.")
    assert info["action"].name == "go_to"
    env.step("take potato 2 from shelf 1")
    assert env.step("put potato 2 in/on shelf 1")[0] == "Nothing happens."


def test_the_prompt_and_the_tools_name_every_action(make_env: MakeEnv) -> None:
    env = make_env()
    names = {tool["function"]["name"] for tool in env.tools}
    assert names == {
        "look", "inventory", "go_to", "open", "close", "take", "move", "examine", "use", "heat", "cool", "clean",
        "slice", "help",
    }  # fmt: skip
    assert "heat {object} with {receptacle}" in env.system_prompt
    assert json.dumps(env.tools)


def test_every_admissible_command_is_a_well_formed_message(make_env: MakeEnv) -> None:
    env, rng = make_env(max_turns=500), random.Random(0)
    *_, info = env.step("look")
    for _ in range(300):
        command = rng.choice(info["admissible_actions"])
        _, _, terminated, truncated, info = env.step(command)
        assert info["action_valid"]
        if terminated or truncated:
            _, info = env.reset(seed=0)


# -- sub-goals and levels --------------------------------------------------------------------------


def test_the_way_to_a_win_in_subgoals(make_env: MakeEnv) -> None:
    env = make_env()
    _, info = env.reset(seed=0)
    told = [(info["progress"], info["level"], tuple(info["extra"]["subgoals"].values()))]
    for command in WIN:
        *_, info = env.step(command)
        told.append((info["progress"], info["level"], tuple(info["extra"]["subgoals"].values())))
    assert list(info["extra"]["subgoals"]) == ["found", "taken", "treated", "placed"]
    assert told == [
        (0.0, "untouched", (0.0, 0.0, 0.0, 0.0)),
        (0.25, "untouched", (1.0, 0.0, 0.0, 0.0)),
        (0.5, "acted", (1.0, 1.0, 0.0, 0.0)),
        (0.5, "acted", (1.0, 1.0, 0.0, 0.0)),
        (0.75, "treated", (1.0, 1.0, 1.0, 0.0)),
        (0.75, "treated", (1.0, 1.0, 1.0, 0.0)),
        (1.0, "won", (1.0, 1.0, 1.0, 1.0)),
    ]


def test_a_closed_door_hides_the_goal_object(make_env: MakeEnv) -> None:
    env = make_env()
    *_, info = env.step("go to fridge 1")
    assert info["progress"] == 0.0
    *_, info = env.step("open fridge 1")
    assert info["extra"]["subgoals"]["found"] == 1.0


def test_what_was_reached_stays_reached(make_env: MakeEnv) -> None:
    env = make_env()
    assert levels(env, *WIN[:2], "move potato 2 to shelf 1", "go to fridge 1")[-2:] == ["acted", "acted"]
    *_, info = env.step("look")
    assert info["progress"] == 0.5
    env.reset(seed=0)
    cooled = levels(env, *WIN[:4], "go to fridge 1", "cool potato 2 with fridge 1")
    assert cooled[-1] == "treated"
    *_, info = env.step("go to sinkbasin 1")
    *_, info = env.step("move potato 2 to sinkbasin 1")
    assert (info["success"], info["progress"], info["extra"]["subgoals"]["placed"]) == (False, 0.75, 0.0)
    _, info = env.reset(seed=0)
    assert (info["progress"], info["level"]) == (0.0, "untouched")


def test_other_things_do_not_count(make_env: MakeEnv) -> None:
    env = make_env()
    told = levels(
        env, "go to cabinet 2", "open cabinet 2", "take mug 1 from cabinet 2", "go to sinkbasin 1",
        "clean mug 1 with sinkbasin 1", "move mug 1 to sinkbasin 1",
    )  # fmt: skip
    assert set(told) == {"untouched"}
    *_, info = env.step("look")
    assert info["extra"]["subgoals"] == {"found": 1.0, "taken": 0.0, "treated": 0.0, "placed": 0.0}


def test_slicing_the_goal_object_acts_on_it(make_env: MakeEnv) -> None:
    env = make_env()
    assert levels(env, "go to shelf 1", "take knife 1 from shelf 1", "slice potato 2 with knife 1")[-2:] == [
        "untouched",
        "acted",
    ]


def test_placing_without_treatment(make_env: MakeEnv, place_goal: str) -> None:
    env = make_env(goal=place_goal.format("", "Mug", "SinkBasin"))
    told = levels(
        env, "go to cabinet 2", "open cabinet 2", "take mug 1 from cabinet 2", "go to fridge 1", "go to sinkbasin 1"
    )
    assert told == ["untouched", "untouched", "acted", "acted", "treated"]
    *_, info = env.step("move mug 1 to sinkbasin 1")
    assert (info["level"], info["progress"]) == ("won", 1.0)
    assert info["extra"]["subgoals"] == {"found": 1.0, "taken": 1.0, "placed": 1.0}


TWO = """(exists (?r - receptacle) (exists (?o1 - object ?o2 - object) (and (not (= ?o1 ?o2))
 (objectType ?o1 PotatoType) (objectType ?o2 PotatoType) (receptacleType ?r {}Type)
 (inReceptacle ?o1 ?r) (inReceptacle ?o2 ?r))))"""


def test_two_objects_count_one_by_one(make_env: MakeEnv) -> None:
    env = make_env(goal=TWO.format("SinkBasin"))
    told = []
    for command in (
        "go to shelf 1", "take potato 2 from shelf 1", "go to sinkbasin 1", "move potato 2 to sinkbasin 1",
        "go to fridge 1", "open fridge 1", "take potato 1 from fridge 1", "go to sinkbasin 1",
        "move potato 1 to sinkbasin 1",
    ):  # fmt: skip
        *_, info = env.step(command)
        told.append((tuple(info["extra"]["subgoals"].values()), info["level"]))
    assert told == [
        ((0.5, 0.0, 0.0), "untouched"),
        ((0.5, 0.5, 0.0), "acted"),
        ((0.5, 0.5, 0.0), "treated"),
        ((0.5, 0.5, 0.5), "treated"),
        ((0.5, 0.5, 0.5), "treated"),
        ((1.0, 0.5, 0.5), "treated"),
        ((1.0, 1.0, 0.5), "treated"),
        ((1.0, 1.0, 0.5), "treated"),
        ((1.0, 1.0, 1.0), "won"),
    ]


def test_an_object_that_is_in_place_already_needs_no_taking(make_env: MakeEnv) -> None:
    env = make_env(goal=TWO.format("Shelf"))
    _, info = env.reset(seed=0)
    assert info["extra"]["subgoals"] == {"found": 0.5, "taken": 0.5, "placed": 0.5}
    assert info["level"] == "untouched"


LOOK = """(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location)
  (and (objectType ?ot LampType) (toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l)
       (inReceptacle ?ot ?r)))
 (exists (?o - object ?a - agent) (and (objectType ?o PotatoType) (holds ?a ?o))))"""


def test_looking_at_something_in_the_light(make_env: MakeEnv) -> None:
    env = make_env(goal=LOOK)
    assert levels(env, "go to fridge 1", "open fridge 1", "take potato 1 from fridge 1", "go to shelf 1") == [
        "untouched", "untouched", "acted", "treated",
    ]  # fmt: skip
    *_, info = env.step("look")
    assert info["extra"]["subgoals"] == {"found": 1.0, "taken": 1.0, "treated": 0.0, "placed": 1.0}
    _, reward, terminated, _, info = env.step("use lamp 1")
    assert (reward, terminated, info["level"], info["progress"]) == (1.0, True, "won", 1.0)


def test_progress_is_whole_only_on_success(make_env: MakeEnv) -> None:
    env = make_env(goal=LOOK)
    levels(env, "go to shelf 1", "take potato 2 from shelf 1", "move potato 2 to shelf 1", "use lamp 1")
    *_, info = env.step("look")
    assert set(info["extra"]["subgoals"].values()) == {1.0}
    assert (info["success"], info["progress"]) == (False, 0.75)


def test_goals_of_other_kinds_have_levels_but_no_subgoals(make_env: MakeEnv, place_goal: str) -> None:
    env = make_env(goal=place_goal.format("(sliceable ?o) (isSliced ?o)", "Potato", "Shelf"))
    assert levels(env, "go to shelf 1", "take knife 1 from shelf 1") == ["untouched", "untouched"]
    _, reward, terminated, _, info = env.step("slice potato 2 with knife 1")
    assert (reward, terminated, info["level"], info["progress"]) == (1.0, True, "won", 1.0)
    assert info["extra"]["subgoals"] == {}


# -- states ----------------------------------------------------------------------------------------


def comparable(info: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(info, default=repr))


@pytest.mark.parametrize("strict", [False, True])
def test_an_episode_goes_on_from_any_state(make_env: MakeEnv, strict: bool) -> None:
    env, rng = make_env(max_turns=40, strict=strict), random.Random(1)
    observation, info = env.reset(seed=5)
    points: list[tuple[HouseholdState, str, dict[str, Any]]] = [(env.state(), observation, comparable(info))]
    steps: list[tuple[str, Any]] = []
    over = False
    while not over:
        message = rng.choice([*info["admissible_actions"], "dance", "go to shelf 9", "Action: look"])
        observation, reward, terminated, truncated, info = env.step(message)
        over = terminated or truncated
        steps.append((message, (observation, reward, terminated, truncated, comparable(info))))
        points.append((env.state(), observation, comparable(info)))
    other = HouseholdEnv(data=str(env.tasks.root), max_turns=40, strict=strict)
    for start in (0, len(points) // 2, len(points) - 1):
        state, seen, told = points[start]
        for place in (env, other):
            observation, info = place.restore(pickle.loads(pickle.dumps(state)))
            assert (observation, comparable(info)) == (seen, told)
            assert place.state() == state
            for message, expected in steps[start:]:
                observation, reward, terminated, truncated, info = place.step(message)
                assert (observation, reward, terminated, truncated, comparable(info)) == expected
            with pytest.raises(EpisodeOverError):
                place.step("look")


def test_restore_takes_nothing_else(make_env: MakeEnv) -> None:
    with pytest.raises(ConfigError, match=r"what state\(\) returned"):
        make_env().restore("the beginning")


# -- embedded tasks, experts, sharing --------------------------------------------------------------


def test_embedded_tasks_are_played_without_data() -> None:
    env = HouseholdEnv(split="valid_unseen")
    observation, _ = env.reset(seed=3)
    assert observation.startswith("-= Welcome to TextWorld, ALFRED! =-")
    assert env.task.split == "val_unseen"
    assert observation.endswith(f"Your task is to: {env.task.instruction}.")
    assert env.reset(seed=3)[0] == observation
    assert len({env.reset(seed=seed)[1]["task_id"] for seed in range(20)}) > 10


@pytest.mark.parametrize("kind", [None, "expert", "explorer"])
def test_experts_solve_the_real_form_of_a_game(make_env: MakeEnv, kind: str | None) -> None:
    env = make_env()
    observation, info = env.reset(seed=0)
    expert = env.expert(kind)
    for _ in range(env.max_turns):
        observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
        assert info["action_valid"]
        if terminated or truncated:
            break
    assert info["success"]


def test_an_unknown_expert_is_refused(make_env: MakeEnv) -> None:
    with pytest.raises(UnknownNameError, match=r"oracle.*'expert'"):
        make_env().expert("oracle")


def test_no_global_random_state_is_touched(make_env: MakeEnv) -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    env = make_env()
    env.reset(seed=4)
    env.expert("explorer").act(*env.step("look")[:1], {})
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_environments_share_scenes(make_env: MakeEnv) -> None:
    first, second = make_env(), make_env()
    assert first.game.scene is second.game.scene
    assert first.game is not second.game
    assert len(SCENES) == 1


def test_the_scene_cache_forgets_the_least_recently_used(make_problem: Callable[..., Problem]) -> None:
    cache, built = SceneCache(max_scenes=2), []

    def build(name: str) -> Problem:
        built.append(name)
        return make_problem()

    for name in ("a", "b", "a", "c", "a", "b"):
        cache.get(name, lambda name=name: build(name))
    assert built == ["a", "b", "c", "b"]
    assert len(cache) == 2
