"""Side by side with the public engine: ``alfworld`` and ``textworld`` from PyPI, on our own games.

Their pins conflict with ours, so they live in a virtual environment of their own, made on the first run
(or named by ``TURNWISE_TEXTWORLD_PYTHON``, the interpreter of one that exists). Our engine chooses and
plays the commands; ``textworld_side.py`` plays the same ones over there; every answer must be the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from turnwise.envs.household.embedded import EmbeddedTasks, build_problem, recipe_of
from turnwise.envs.household.export import export_game
from turnwise.envs.household.game import Game
from turnwise.envs.household.layouts import get_layout
from turnwise.envs.household.pddl import parse_sexpr
from turnwise.envs.household.planner import plan
from turnwise.envs.household.problem import OLD_DIALECT, Problem
from turnwise.envs.household.scene import Scene
from turnwise.envs.household.tasktypes import TASK_TYPES
from turnwise.records import Task

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[3]
SIDE = Path(__file__).with_name("textworld_side.py")
PACKAGE = "alfworld==0.4.2"
GAMES_PER_TYPE = 4
RANDOM_TURNS = 82
PROCESSES = 2

# What the old release said, in the new release's grammar.
_OLD_WORDS = (
    ("move {o} to {r}", "put {o} in/on {r}"),
    ("You arrive at {r.name}.", "You arrive at {lend.name}."),
    ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
)
_MALFORMED = (
    "",
    " ",
    "xyzzy",
    "go to",
    "go to nowhere 1",
    "go  to countertop 1",
    "GO TO COUNTERTOP 1",
    "take",
    "take mug 99 from shelf 99",
    "put",
    "open",
    "examine",
    "heat the potato",
    "look around",
    "inventory please",
    "\u00e9t\u00e9 \u2192 \U0001f642",
)
_SLICED = "(exists (?o - object) (and (objecttype ?o {}) (sliceable ?o) (issliced ?o)))"


@pytest.fixture(scope="module")
def textworld_python() -> str:
    """The interpreter of an environment that holds alfworld and textworld; it is made if missing."""
    named = os.environ.get("TURNWISE_TEXTWORLD_PYTHON")
    folder = ROOT / ".venv-textworld"
    python = named or str(folder / "bin" / "python")
    if not _works(python) and not named:
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE],
        ):
            done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
            if done.returncode != 0:
                pytest.fail(
                    f"could not make the environment for the TextWorld comparison in {folder}: {' '.join(command)} "
                    f"said:\n{done.stderr[-2000:]}\nIt needs PyPI; or set TURNWISE_TEXTWORLD_PYTHON to the Python of "
                    f"an environment that has {PACKAGE}."
                )
    if not _works(python):
        pytest.fail(f"{python} cannot import alfworld and textworld: remove {folder} or fix TURNWISE_TEXTWORLD_PYTHON")
    return python


def _works(python: str) -> bool:
    try:
        done = subprocess.run(
            [python, "-c", "import alfworld, textworld"], capture_output=True, timeout=120, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


def _alfred_texts(python: str) -> tuple[str, str]:
    """Return ALFRED's PDDL domain and TextWorld grammar, as the installed package ships them."""
    code = "import alfworld.info as i; print(i.ALFRED_PDDL_PATH); print(i.ALFRED_TWL2_PATH)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    domain, grammar = done.stdout.split("\n")[:2]
    return Path(domain).read_text(encoding="utf-8"), Path(grammar).read_text(encoding="utf-8")


def _choose_tasks() -> list[Task]:
    """Return tasks of all types, those of one type in as many rooms as it is played in."""
    chosen = []
    for task_type in TASK_TYPES:
        by_room: dict[str, list[Task]] = {}
        for split in ("train", "val_unseen"):
            tasks = EmbeddedTasks(split)
            for task in map(tasks.get, tasks.ids()):
                if task.type == task_type:
                    by_room.setdefault(get_layout(recipe_of(task).layout).room, []).append(task)
        rooms = sorted(by_room)
        chosen += [by_room[rooms[n % len(rooms)]][n] for n in range(GAMES_PER_TYPE)]
    return chosen


def _random_command(game: Game, rng: np.random.Generator) -> str:
    """Return an admissible command in most cases, verbs first; otherwise a malformed or impossible one."""
    if rng.random() < 0.12:
        if rng.random() < 0.5:
            return _MALFORMED[rng.integers(len(_MALFORMED))]
        names = game.scene.object_names, game.scene.receptacle_names
        item, place = (str(kind[rng.integers(len(kind))]) for kind in names)
        shapes = ("take {} from {}", "move {} to {}", "put {} in/on {}", "heat {} with {}", "use {}", "examine {}")
        return shapes[rng.integers(len(shapes))].format(item, place)
    commands = game.admissible()
    verbs = sorted({command.split()[0] for command in commands} - {"help"})
    verb = verbs[rng.integers(len(verbs))]
    chosen = [command for command in commands if command.split()[0] == verb]
    command = chosen[rng.integers(len(chosen))]
    return f"  {command} " if rng.random() < 0.02 else command


def _slicing(problem: Problem) -> list[str]:
    """Return commands that slice something; a random policy hardly ever does. Empty without a knife."""
    scene = Scene(problem)
    if not scene.knives or not scene.sliceable:
        return []
    kind = scene.object_types[scene.sliceable.bit_length() - 1]
    commands = plan(Game(Scene(dataclasses.replace(problem, goal=parse_sexpr(_SLICED.format(kind))))))
    return [*commands, f"examine {commands[-1].removeprefix('slice ').partition(' with ')[0]}"]


def _play_here(problem: Problem, rng: np.random.Generator) -> dict:
    """Play random turns and then the plan in our engine; record what it answers."""
    game = Game(Scene(problem))
    played: dict = {"initial": game.reset(), "initial_admissible": game.admissible(), "steps": []}
    actions = []

    def step(command: str) -> None:
        text = game.step(command)
        actions.append(command)
        played["steps"].append([text, game.admissible(), game.won, game.score, game.won])

    for command in ["help", *_slicing(problem)]:
        step(command)
    while len(actions) < RANDOM_TURNS and not game.won:
        step(_random_command(game, rng))
    for command in plan(game):
        step(command)
    assert game.won
    return {"actions": actions, "played": played}


def _play_there(python: str, episodes: list[dict]) -> list[dict]:
    done = subprocess.run(
        [python, str(SIDE)], input=json.dumps(episodes), capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, f"the TextWorld side failed:\n{done.stderr[-3000:]}"
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sides(textworld_python: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Every episode, as our engine and as TextWorld tell it."""
    domain, grammar = _alfred_texts(textworld_python)
    old_grammar = grammar
    for new, old in _OLD_WORDS:
        assert new in old_grammar
        old_grammar = old_grammar.replace(new, old)
    folder = tmp_path_factory.mktemp("games")
    episodes = []
    for number, task in enumerate(_choose_tasks()):
        old = number % GAMES_PER_TYPE == GAMES_PER_TYPE - 1
        problem = build_problem(task)
        if old:
            problem = dataclasses.replace(problem, dialect=OLD_DIALECT)
        words = old_grammar if old else grammar
        path = export_game(task, folder / str(number), domain=domain, grammar=words)
        here = _play_here(problem, np.random.default_rng(number))
        episodes.append({"task": task.id, "type": task.type, "old": old, "game": str(path), **here})
    shares = [episodes[n::PROCESSES] for n in range(PROCESSES)]
    with ThreadPoolExecutor(PROCESSES) as pool:
        answers = pool.map(
            lambda share: _play_there(textworld_python, [{"game": e["game"], "actions": e["actions"]} for e in share]),
            shares,
        )
        for share, there in zip(shares, answers, strict=True):
            for episode, answer in zip(share, there, strict=True):
                episode["there"] = answer
    return episodes


def test_enough_is_compared(sides: list[dict]) -> None:
    assert len(sides) >= 24
    assert sum(len(episode["actions"]) for episode in sides) >= 2000
    assert {episode["type"] for episode in sides} == set(TASK_TYPES)
    verbs = Counter(action.split()[0] for episode in sides for action in episode["actions"] if action.split())
    assert {"go", "open", "close", "take", "move", "put", "examine", "use"} <= set(verbs)
    assert {"heat", "cool", "clean", "slice"} <= set(verbs)
    refused = sum(step[0] == "Nothing happens." for episode in sides for step in episode["there"]["steps"])
    assert refused >= 100


def test_the_beginnings_are_the_same(sides: list[dict]) -> None:
    for episode in sides:
        assert episode["played"]["initial"] == episode["there"]["initial"], episode["task"]
        assert episode["played"]["initial_admissible"] == episode["there"]["initial_admissible"], episode["task"]


def test_every_step_is_the_same(sides: list[dict]) -> None:
    """Feedback, admissible commands, won, score and done; the help text is in our own words."""
    differences = []
    for episode in sides:
        both = zip(episode["actions"], episode["played"]["steps"], episode["there"]["steps"], strict=True)
        for turn, (action, here, there) in enumerate(both):
            if action.strip() == "help":
                assert here[0]
                assert there[0]
                here, there = ["", *here[1:]], ["", *there[1:]]
            if here != there:
                differences.append(
                    {"task": episode["task"], "turn": turn, "action": action, "ours": here, "theirs": there}
                )
    assert differences == [], f"{len(differences)} steps differ, the first:\n{json.dumps(differences[0], indent=1)}"


def test_every_episode_is_won_on_both_sides(sides: list[dict]) -> None:
    for episode in sides:
        assert episode["there"]["steps"][-1][2:] == [True, 1, True], episode["task"]
