"""The explorer: wins by reading alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from turnwise.envs.household.embedded import EmbeddedTasks, build_problem
from turnwise.envs.household.explorer import ExplorerExpert, Memory
from turnwise.envs.household.game import Game
from turnwise.envs.household.instructions import TEMPLATES
from turnwise.envs.household.pddl import parse_problem
from turnwise.envs.household.problem import OLD_DIALECT, Problem, read_dialect, read_instruction
from turnwise.envs.household.scene import Scene
from turnwise.envs.household.tasktypes import TASK_TYPES


class Untouchable(dict):
    """An ``info`` that must not be looked into."""

    def __getitem__(self, key: object) -> None:
        raise AssertionError("the explorer looked into info")

    get = keys = items = values = __iter__ = __getitem__  # type: ignore[assignment]


def episode(problem: Problem, *, seed: int = 0, turns: int = 50, epsilon: float = 0.0) -> tuple[bool, list[str]]:
    game = Game(Scene(problem))
    expert = ExplorerExpert(np.random.default_rng(seed))
    noise = np.random.default_rng(seed + 1)
    text, commands = game.reset(), []
    for _ in range(turns):
        command = expert.act(text, Untouchable())
        if noise.random() < epsilon:
            admissible = game.admissible()
            command = admissible[noise.integers(len(admissible))]
        commands.append(command)
        text = game.step(command)
        if game.won:
            break
    return game.won, commands


def success(split: str, count: int, **options: object) -> float:
    tasks = EmbeddedTasks(split)
    ids = tasks.ids()[:count]
    return sum(episode(build_problem(tasks.get(i)), seed=n, **options)[0] for n, i in enumerate(ids)) / len(ids)


@pytest.mark.parametrize(("split", "count"), [("train", 300), ("val_seen", 140), ("val_unseen", 134)])
def test_wins_more_than_nine_in_ten(split: str, count: int) -> None:
    assert success(split, count) > 0.9


def test_keeps_up_when_somebody_else_plays_some_turns() -> None:
    assert success("val_seen", 100, epsilon=0.2) > 0.9


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_plays_the_old_dialect(task_type: str) -> None:
    tasks = EmbeddedTasks("val_unseen")
    task_id = next(i for i in tasks.ids() if task_type in i)
    problem = dataclasses.replace(build_problem(tasks.get(task_id)), dialect=OLD_DIALECT)
    won, commands = episode(problem)
    assert won
    if task_type != "look_at_obj_in_light":
        assert any(" in/on " in command for command in commands)


@pytest.mark.parametrize("template", [0, 1])
@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_understands_every_instruction(task_type: str, template: int) -> None:
    tasks = EmbeddedTasks("train")
    task = next(task for task in map(tasks.get, tasks.ids()) if task.type == task_type)
    words = {"o": task.data["target"].lower(), "r": task.data["receptacle"].lower(), "l": task.data["lamp"].lower()}
    text = TEMPLATES[task_type][template].format(**words)
    assert episode(dataclasses.replace(build_problem(task), instruction=text))[0]


def test_wins_the_real_and_the_public_generated_games(shared_data: Path) -> None:
    won = []
    for path in sorted((shared_data / "alfworld").glob("**/game.tw-pddl")):
        data = json.loads(path.read_text())
        instruction, dialect = read_instruction(data["grammar"]), read_dialect(data["grammar"])
        won.append(episode(parse_problem(data["pddl_problem"], instruction=instruction, dialect=dialect))[0])
    assert len(won) == 25
    assert sum(won) > 0.9 * len(won)


def test_the_same_generator_gives_the_same_episode() -> None:
    tasks = EmbeddedTasks("train")
    problem = build_problem(tasks.get(tasks.ids()[7]))
    assert episode(problem, seed=3) == episode(problem, seed=3)


def test_one_expert_plays_many_episodes() -> None:
    tasks = EmbeddedTasks("val_seen")
    expert = ExplorerExpert(np.random.default_rng(0))
    for task_id in tasks.ids()[:5]:
        game = Game(Scene(build_problem(tasks.get(task_id))))
        text = game.reset()
        for _ in range(50):
            text = game.step(expert.act(text, {}))
            if game.won:
                break
        assert game.won


@pytest.mark.parametrize("text", ["", "Nothing happens.", "You see \x00 😀", "Your task is to: dance with the fridge."])
def test_looks_when_it_understands_nothing(text: str) -> None:
    assert ExplorerExpert(np.random.default_rng(0)).act(text, {}) == "look"


def test_gives_up_politely_in_a_room_without_the_object() -> None:
    intro = (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
        "a shelf 1, and a desk 1.\n\nYour task is to: put a mug in desk."
    )
    expert = ExplorerExpert(np.random.default_rng(0))
    commands = [expert.act(intro, {})]
    while len(commands) < 20:
        place = commands[-1].removeprefix("go to ")
        commands.append(expert.act(f"You arrive at {place}. On the {place}, you see nothing.", {}))
    assert set(commands) == {"go to shelf 1", "go to desk 1"}


INTRO = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a drawer 2, a drawer 1, and a desk 1.\n\nYour task is to: put a pen in drawer."
)


def test_where_walking_is_refused_it_stands_already() -> None:
    """Receptacles may share a spot: there is no going from one to the other, only looking into it."""
    expert = ExplorerExpert(np.random.default_rng(0))
    assert expert.act(INTRO, {}) == "go to desk 1"
    first = expert.act("You arrive at desk 1. On the desk 1, you see nothing.", {})
    place = first.removeprefix("go to ")
    assert place in ("drawer 1", "drawer 2")
    assert expert.act("Nothing happens.", {}) == f"examine {place}"
    assert expert.act(f"The {place} is closed.", {}) == f"open {place}"


def test_puts_away_what_it_does_not_need() -> None:
    expert = ExplorerExpert(np.random.default_rng(0))
    expert.act(INTRO, {})
    command = expert.act("You pick up the mug 1 from the desk 1.", {})
    assert command == "go to desk 1"
    assert expert.act("You arrive at desk 1. On the desk 1, you see nothing.", {}) == "move mug 1 to desk 1"
    assert expert.act("Nothing happens.", {}) == "put mug 1 in/on desk 1"
    assert expert.act("You put the mug 1 in/on the desk 1.", {}).startswith("go to drawer ")


def test_makes_sure_of_what_it_holds_after_a_refusal() -> None:
    expert = ExplorerExpert(np.random.default_rng(0))
    expert.act(INTRO, {})
    assert expert.act("You arrive at desk 1. On the desk 1, you see a pen 1.", {}) == "take pen 1 from desk 1"
    assert expert.act("Nothing happens. Perhaps somebody else plays too.", {}) == "inventory"
    assert expert.act("You are carrying: a pen 1.", {}).startswith("go to drawer ")


def test_memory_reads_both_dialects() -> None:
    memory = Memory("Looking quickly around you, you see a shelf 1, a drawer 2, and a fridge 1.")
    assert memory.receptacles == ["shelf 1", "drawer 2", "fridge 1"]
    memory.read("You arrive at loc 12. On the shelf 1, you see a mug 1, and a apple 2.")
    assert (memory.here, memory.contents) == ("shelf 1", {"shelf 1": ["mug 1", "apple 2"]})
    memory.read("You pick up the apple 2 from the shelf 1.")
    assert (memory.held, memory.contents) == ("apple 2", {"shelf 1": ["mug 1"]})
    memory.read("You cool the apple 2 using the fridge 1.")
    memory.read("You heat the apple 2 using the microwave 1.")
    assert memory.treatments == {"apple 2": {"heat"}}
    memory.read("You arrive at drawer 2. The drawer 2 is closed.")
    assert memory.opened == {"drawer 2": False}
    memory.read("You open the drawer 2. The drawer 2 is open. In it, you see nothing.")
    memory.read("You put the apple 2 in/on the drawer 2.")
    assert (memory.held, memory.put_verb) == (None, "put")
    assert memory.places_of("apple") == [("apple 2", "drawer 2")]
    memory.read("You are carrying: a mug 1.")
    assert memory.held == "mug 1"
    memory.read("You are not carrying anything.")
    assert memory.held is None
