"""Goals: the compiled check against a plain reading of the PDDL, and the typed view."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.envs.household.game import Game
from turnwise.envs.household.pddl import parse_sexpr, typed_names
from turnwise.envs.household.predicates import PREDICATES
from turnwise.envs.household.problem import Problem, SExpr
from turnwise.envs.household.scene import Scene
from turnwise.envs.household.tasktypes import GoalSpec, goal_spec
from turnwise.errors import ConfigError

# -- a plain interpreter, for comparison -----------------------------------------------------------


def facts_of(game: Game, problem: Problem) -> set[tuple[str, ...]]:
    """The facts of a game's present state."""
    scene = game.scene
    changing = {"atlocation", "objectatlocation", "opened", "inreceptacle", "holds", "holdsany"}
    changing |= {f"is{flag}" for flag in ("hot", "cool", "clean", "sliced", "toggled", "on")}
    facts = {fact for fact in problem.facts if fact[0] not in changing}
    facts.add(("atlocation", "agent1", scene.locations[game.location]))
    if game.hands_full:
        facts.add(("holdsany", "agent1"))
    for number, item in enumerate(scene.objects):
        facts |= {("holds", "agent1", item)} if game.held >> number & 1 else set()
        for flag in ("hot", "cool", "clean", "sliced", "toggled", "on"):
            facts |= {(f"is{flag}", item)} if getattr(game, flag) >> number & 1 else set()
        facts |= {
            ("inreceptacle", item, place)
            for place, mask in zip(scene.receptacles, game.contents, strict=True)
            if mask >> number & 1
        }
        facts |= {
            ("objectatlocation", item, place)
            for place, mask in zip(scene.locations, game.lying, strict=True)
            if mask >> number & 1
        }
    facts |= {("opened", place) for number, place in enumerate(scene.receptacles) if game.opened >> number & 1}
    return facts


def true(goal: SExpr, facts: set[tuple[str, ...]], problem: Problem, scope: Mapping[str, str]) -> bool:
    head, *parts = goal
    if head == "and":
        return all(true(part, facts, problem, scope) for part in parts)
    if head == "or":
        return any(true(part, facts, problem, scope) for part in parts)
    if head == "not":
        return not true(parts[0], facts, problem, scope)
    if head == "imply":
        return not true(parts[0], facts, problem, scope) or true(parts[1], facts, problem, scope)
    if head in ("exists", "forall"):
        variables = typed_names(parts[0])
        domains = [[name for name, kind in problem.objects if kind == wanted] for _, wanted in variables]
        answers = (
            true(parts[1], facts, problem, {**scope, **dict(zip((name for name, _ in variables), values, strict=True))})
            for values in product(*domains)
        )
        return any(answers) if head == "exists" else all(answers)
    words = [scope.get(word, word) for word in parts]
    return words[0] == words[1] if head == "=" else (head, *words) in facts


VARIABLES = {"?o": "object", "?p": "object", "?r": "receptacle", "?l": "location", "?t": "otype"}
CONSTANTS = {
    "agent": ["agent1"],
    "object": ["potato_bar_1", "knife_bar_1"],
    "receptacle": ["shelf_bar_1", "fridge_bar_1"],
    "location": ["loc_bar_1"],
    "otype": ["potatotype", "mugtype"],
    "rtype": ["shelftype", "sinkbasintype"],
}


def atoms() -> st.SearchStrategy[str]:
    def words(kind: str) -> list[str]:
        return CONSTANTS[kind] + [name for name, its in VARIABLES.items() if its == kind]

    used = [
        "inreceptacle", "objecttype", "receptacletype", "opened", "openable", "ishot", "issliced", "atlocation",
        "receptacleatlocation", "objectatlocation", "holds", "holdsany", "heatable", "istoggled", "cancontain",
    ]  # fmt: skip
    plain = st.sampled_from(used).flatmap(
        lambda name: st.tuples(*(st.sampled_from(words(kind)) for kind in PREDICATES[name])).map(
            lambda arguments: f"({name} {' '.join(arguments)})"
        )
    )
    return plain | st.sampled_from(["(= ?o ?p)", "(= ?o potato_bar_1)", "(= ?r shelf_bar_1)"])


def goals() -> st.SearchStrategy[str]:
    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        several = st.lists(inner, min_size=1, max_size=3).map(" ".join)
        bound = st.lists(st.sampled_from(sorted(VARIABLES)), min_size=1, max_size=2, unique=True).map(
            lambda names: " ".join(f"{name} - {VARIABLES[name]}" for name in names)
        )
        return st.one_of(
            several.map("(and {})".format),
            several.map("(or {})".format),
            inner.map("(not {})".format),
            st.tuples(inner, inner).map(lambda two: f"(imply {two[0]} {two[1]})"),
            st.tuples(st.sampled_from(["exists", "forall"]), bound, inner).map(lambda t: f"({t[0]} ({t[1]}) {t[2]})"),
        )

    def bind(text: str) -> str:
        """Quantify what the text speaks of, some of it in an inner ``exists``."""
        free = [f"{name} - {kind}" for name, kind in VARIABLES.items() if name in text]
        return f"(exists ({' '.join(free[1::2])}) (exists ({' '.join(free[::2])}) {text}))"

    return st.recursive(atoms(), grow, max_leaves=6).map(bind)


@settings(max_examples=100, deadline=None)
@given(text=goals(), seed=st.integers(0, 1000))
def test_a_compiled_goal_says_what_a_plain_reading_says(
    make_problem: Callable[..., Problem], text: str, seed: int
) -> None:
    problem = make_problem(goal=text)
    game, rng = Game(Scene(problem)), random.Random(seed)
    for _ in range(6):
        assert game.won == true(problem.goal, facts_of(game, problem), problem, {})
        for _ in range(4):
            game.step(rng.choice([c for c in game.admissible() if c not in ("look", "help", "inventory")]))


@pytest.mark.parametrize(
    "goal",
    [
        "(exists (?t - otype) (not (exists (?o - object) (objecttype ?o ?t))))",
        "(forall (?r - receptacle) (exists (?l - location) (receptacleatlocation ?r ?l)))",
        "(exists (?r - receptacle) (forall (?o - object) (or (not (objecttype ?o mugtype)) (inreceptacle ?o ?r))))",
        "(and)",
        "(or)",
        "(exists (?r - receptacle) (not (exists (?o - object) (and (inreceptacle ?o ?r) (not (heatable ?o))))))",
    ],
)
def test_quantifiers_inside_others(make_problem: Callable[..., Problem], goal: str) -> None:
    problem = make_problem(goal=goal)
    game = Game(Scene(problem))
    assert game.won == true(problem.goal, facts_of(game, problem), problem, {})


@pytest.mark.parametrize(
    ("goal", "complaint"),
    [
        ("(ishot)", "0 arguments"),
        ("(is-hot ?o)", "no condition here"),
        ("(checked shelf_bar_1)", "no condition here"),
        ("(ishot ?o)", "outside its quantifier"),
        ("(ishot shelf_bar_1)", "does not have"),
        ("(ishot potato_bar_7)", "Did you mean 'potato_bar_2'"),
        ("(exists (?r - receptacle) (ishot ?r))", "expected object"),
        ("(exists (?x - thing) (ishot ?x))", "type 'thing'"),
        ("(exists ?o (ishot ?o))", "quantifier"),
        ("((ishot potato_bar_1))", "PDDL condition"),
        ("ishot", "PDDL condition"),
    ],
)
def test_goals_that_cannot_be_checked_are_refused(
    make_problem: Callable[..., Problem], goal: str, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Scene(make_problem(goal=goal))


LOOK = """(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location)
  (and (objectType ?ot LampType) (toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l)
       (inReceptacle ?ot ?r)))
 (exists (?o - object ?a - agent) (and (objectType ?o MugType) (holds ?a ?o))))"""
TWO = """(and (exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 PotatoType)
 (receptacleType ?r ShelfType) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2))
 (objectType ?o2 PotatoType) (receptacleType ?r ShelfType) (inReceptacle ?o2 ?r)))))))"""


@pytest.mark.parametrize(
    ("condition", "treatment", "task_type"),
    [
        ("", None, "pick_and_place_simple"),
        ("(heatable ?o) (isHot ?o)", "hot", "pick_heat_then_place_in_recep"),
        ("(coolable ?o) (isCool ?o)", "cool", "pick_cool_then_place_in_recep"),
        ("(cleanable ?o) (isClean ?o)", "clean", "pick_clean_then_place_in_recep"),
        ("(isClean ?o)", "clean", "pick_clean_then_place_in_recep"),
    ],
)
def test_goals_of_placing(place_goal: str, condition: str, treatment: str | None, task_type: str) -> None:
    assert goal_spec(parse_sexpr(place_goal.format(condition, "Mug", "Shelf"))) == GoalSpec(
        task_type=task_type, object_type="mugtype", receptacle_type="shelftype", treatment=treatment
    )


def test_goals_of_two_and_of_looking() -> None:
    assert goal_spec(parse_sexpr(TWO)) == GoalSpec(
        task_type="pick_two_obj_and_place", object_type="potatotype", receptacle_type="shelftype", count=2
    )
    assert goal_spec(parse_sexpr(LOOK)) == GoalSpec(
        task_type="look_at_obj_in_light", object_type="mugtype", lamp_type="lamptype"
    )


@pytest.mark.parametrize(
    "goal",
    [
        "()",
        "(forall (?o - object) (isHot ?o))",
        "(or (isHot potato_bar_1))",
        "(not (isHot potato_bar_1))",
        "(exists (?o - object) (isHot ?o))",
        TWO.replace("(not (= ?o1 ?o2))", ""),
        TWO.replace("PotatoType) (inReceptacle ?o2", "MugType) (inReceptacle ?o2").replace(
            "(objectType ?o2 PotatoType)", "(objectType ?o2 MugType)"
        ),
        LOOK.replace("(holds ?a ?o)", "(holds ?a ?o) (isSliced ?o)"),
    ],
)
def test_other_goals_have_no_typed_view(goal: str) -> None:
    assert goal_spec(parse_sexpr(goal)) is None


@pytest.mark.parametrize(
    "condition",
    ["(sliceable ?o) (isSliced ?o)", "(isHot ?o) (isClean ?o)", "(heatable ?o)", "(isHot ?o) (coolable ?o)"],
)
def test_placing_under_other_conditions_has_no_typed_view(place_goal: str, condition: str) -> None:
    assert goal_spec(parse_sexpr(place_goal.format(condition, "Mug", "Shelf"))) is None
