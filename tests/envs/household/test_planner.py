"""The planner: every embedded and every real game, from any state, as short as can be."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.household.embedded import SPLITS, EmbeddedTasks, build_problem
from turnwise.envs.household.game import Game
from turnwise.envs.household.pddl import parse_problem, parse_sexpr
from turnwise.envs.household.planner import PlannerExpert, plan
from turnwise.envs.household.problem import OLD_DIALECT, Problem, read_dialect, read_instruction
from turnwise.envs.household.scene import Scene
from turnwise.envs.household.search import search
from turnwise.envs.household.tasktypes import TASK_TYPES
from turnwise.errors import EnvError

TASKS = EmbeddedTasks("train")


def problem_of(task_type: str, number: int = 0) -> Problem:
    ids = [task_id for task_id in TASKS.ids() if task_type in task_id]
    return build_problem(TASKS.get(ids[number]))


def play(game: Game, commands: list[str]) -> bool:
    for command in commands:
        game.step(command)
    return game.won


def wander(game: Game, rng: np.random.Generator, turns: int) -> None:
    """Play random admissible commands; verbs first, or there would be little but walking."""
    for _ in range(turns):
        commands = [c for c in game.admissible() if c not in ("help", "inventory", "look")]
        verbs = sorted({command.split()[0] for command in commands})
        verb = verbs[rng.integers(len(verbs))]
        chosen = [command for command in commands if command.split()[0] == verb]
        game.step(chosen[rng.integers(len(chosen))])


class OneGame:
    """An environment as far as the expert is concerned."""

    def __init__(self, game: Game) -> None:
        self.game = game


@pytest.mark.parametrize("split", SPLITS)
def test_every_embedded_game_is_solvable(split: str) -> None:
    tasks = EmbeddedTasks(split)
    unsolved = []
    for task_id in tasks.ids():
        game = Game(Scene(build_problem(tasks.get(task_id))))
        assert not game.won, f"{task_id} is solved before it begins"
        commands = plan(game)
        if len(commands) > 50 or not play(game, commands):
            unsolved.append(task_id)
    assert unsolved == []


@given(number=st.integers(0, len(TASKS) - 1), seed=st.integers(0, 2**32), turns=st.integers(0, 60), old=st.booleans())
@settings(max_examples=150, deadline=None)
def test_plans_from_any_state(number: int, seed: int, turns: int, old: bool) -> None:
    problem = build_problem(TASKS.get(TASKS.ids()[number]))
    if old:
        problem = dataclasses.replace(problem, dialect=OLD_DIALECT)
    game = Game(Scene(problem))
    wander(game, np.random.default_rng(seed), turns)
    before, last = game.state(), game.last
    commands = plan(game)
    assert game.state() == before, "planning must leave the game as it was"
    assert game.last == last
    assert len(commands) <= 16
    assert play(game, commands)


def test_solves_the_real_and_the_public_generated_games(shared_data: Path) -> None:
    paths = sorted((shared_data / "alfworld").glob("**/game.tw-pddl"))
    assert len(paths) == 25
    for path in paths:
        data = json.loads(path.read_text())
        problem = parse_problem(
            data["pddl_problem"],
            instruction=read_instruction(data["grammar"]),
            dialect=read_dialect(data["grammar"]),
        )
        game = Game(Scene(problem))
        assert play(game, plan(game)), path
        game.reset()
        wander(game, np.random.default_rng(0), 30)
        assert play(game, plan(game)), path


@pytest.mark.parametrize("task_type", [kind for kind in TASK_TYPES if kind != "pick_two_obj_and_place"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_plans_are_as_short_as_an_exhaustive_search_finds(task_type: str, number: int) -> None:
    game = Game(Scene(problem_of(task_type, number)))
    wander(game, np.random.default_rng(number), 10 * number)
    state = game.state()
    shortest = search(game)
    game.restore(state)
    assert shortest is not None
    assert len(plan(game)) == len(shortest)


def test_a_won_game_needs_no_plan() -> None:
    game = Game(Scene(problem_of("pick_and_place_simple")))
    play(game, plan(game))
    assert plan(game) == []


def test_an_unsolvable_game_is_an_error() -> None:
    problem = problem_of("pick_and_place_simple")
    barred = tuple(fact for fact in problem.facts if fact[0] != "cancontain")
    game = Game(Scene(dataclasses.replace(problem, facts=barred)))
    with pytest.raises(EnvError, match="out of reach"):
        plan(game)
    assert PlannerExpert(OneGame(game)).act("", {}) == "look"


def test_an_object_in_two_receptacles() -> None:
    """Real scenes hold such objects; taking one out of one place leaves it in the other."""
    problem = problem_of("pick_heat_then_place_in_recep")
    target = Scene(problem).goal.spec.object_type
    thing = next(fact[1] for fact in problem.facts if fact[0] == "objecttype" and fact[2] == target)
    inside = next(fact[2] for fact in problem.facts if fact[0] == "inreceptacle" and fact[1] == thing)
    other = next(fact[1] for fact in problem.facts if fact[0] == "receptacletype" and fact[1] != inside)
    game = Game(Scene(dataclasses.replace(problem, facts=(*problem.facts, ("inreceptacle", thing, other)))))
    wander(game, np.random.default_rng(3), 20)
    assert play(game, plan(game))


def test_hands_full_of_something_that_fits_in_one_closed_place_only() -> None:
    problem = problem_of("pick_and_place_simple", 4)
    closed = next(fact[1] for fact in problem.facts if fact[0] == "openable")
    kind = next(fact[2] for fact in problem.facts if fact[:2] == ("receptacletype", closed))
    oddity = (
        ("objecttype", "oddity_bar_1", "odditytype"),
        ("pickupable", "oddity_bar_1"),
        ("holds", "agent1", "oddity_bar_1"),
        ("holdsany", "agent1"),
        ("cancontain", kind, "odditytype"),
    )
    declared = (("odditytype", "otype"), ("oddity_bar_1", "object"))
    problem = dataclasses.replace(problem, facts=problem.facts + oddity, objects=problem.objects + declared)
    game = Game(Scene(problem))
    commands = plan(game)
    assert sum(command.startswith("move oddity 1 to ") for command in commands) == 1
    assert play(game, commands)


def test_goals_of_other_kinds_are_searched_for() -> None:
    problem = problem_of("pick_heat_then_place_in_recep")
    sliced = "(exists (?o - object) (and (sliceable ?o) (issliced ?o) (objecttype ?o {})))"
    kinds = {fact[1]: fact[2] for fact in problem.facts if fact[0] == "objecttype"}
    kind = next(kinds[fact[1]] for fact in problem.facts if fact[0] == "sliceable")
    game = Game(Scene(dataclasses.replace(problem, goal=parse_sexpr(sliced.format(kind)))))
    assert game.scene.goal.spec is None
    commands = plan(game)
    assert commands[-1].startswith("slice ")
    assert play(game, commands)


def test_the_search_is_bounded() -> None:
    game = Game(Scene(problem_of("pick_two_obj_and_place")))
    assert search(game, max_states=50) is None


@pytest.mark.parametrize("task_type", TASK_TYPES)
def test_the_expert_wins_and_copes_with_interference(task_type: str) -> None:
    game = Game(Scene(problem_of(task_type)))
    expert = PlannerExpert(OneGame(game))
    rng = np.random.default_rng(5)
    for turn in range(50):
        command = expert.act("", {})
        if turn % 3 == 1:
            wander(game, rng, 1)
        else:
            assert command in game.admissible()
            game.step(command)
        if game.won:
            break
    assert game.won


def test_the_expert_follows_its_plan_while_the_game_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from turnwise.envs.household import planner

    calls = []
    real = planner.plan_states
    monkeypatch.setattr(planner, "plan_states", lambda game: calls.append(1) or real(game))
    env = OneGame(Game(Scene(problem_of("pick_two_obj_and_place"))))
    expert = PlannerExpert(env)
    while not env.game.won:
        env.game.step(expert.act("", {}))
    assert len(calls) == 1
    env.game = Game(Scene(problem_of("look_at_obj_in_light")))
    while not env.game.won:
        env.game.step(expert.act("", {}))
    assert len(calls) == 2
