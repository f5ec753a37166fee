"""A small kitchen of our own, and what the household tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from turnwise.envs.household.cache import SCENES
from turnwise.envs.household.game import Game
from turnwise.envs.household.pddl import parse_problem
from turnwise.envs.household.problem import Dialect, Problem
from turnwise.envs.household.scene import Scene

PLACE = """(exists (?r - receptacle) (exists (?o - object)
 (and {} (objectType ?o {}Type) (receptacleType ?r {}Type) (inReceptacle ?o ?r))))"""
HEAT = PLACE.format("(heatable ?o) (isHot ?o)", "Potato", "SinkBasin")

KITCHEN = """
(define (problem small_kitchen) (:domain alfred)
 (:objects  ; the agent, then things
  agent1 - agent
  Potato_bar_1 Potato_bar_2 Knife_bar_1 Mug_bar_1 Lamp_bar_1 Box_bar_1 Candle - object
  Cabinet_bar_1 Cabinet_bar_2 Shelf_bar_1 Microwave_bar_1 Fridge_bar_1 Sink_bar_1_SinkBasin - receptacle
  loc_bar_0 loc_bar_1 loc_bar_2 loc_bar_3 loc_bar_4 - location
  PotatoType KnifeType MugType LampType BoxType - otype
  CabinetType ShelfType MicrowaveType FridgeType SinkBasinType - rtype)
 (:init
  (atLocation agent1 loc_bar_0)
  (receptacleAtLocation Cabinet_bar_1 loc_bar_1) (receptacleAtLocation Cabinet_bar_2 loc_bar_1)
  (receptacleAtLocation Shelf_bar_1 loc_bar_1) (receptacleAtLocation Microwave_bar_1 loc_bar_2)
  (receptacleAtLocation Fridge_bar_1 loc_bar_3) (receptacleAtLocation Sink_bar_1_SinkBasin loc_bar_4)
  (receptacleType Cabinet_bar_1 CabinetType) (receptacleType Cabinet_bar_2 CabinetType)
  (receptacleType Shelf_bar_1 ShelfType) (receptacleType Microwave_bar_1 MicrowaveType)
  (receptacleType Fridge_bar_1 FridgeType) (receptacleType Sink_bar_1_SinkBasin SinkBasinType)
  (openable Cabinet_bar_1) (openable Fridge_bar_1) (openable Microwave_bar_1)
  (objectType Potato_bar_1 PotatoType) (objectType Potato_bar_2 PotatoType) (objectType Knife_bar_1 KnifeType)
  (objectType Mug_bar_1 MugType) (objectType Lamp_bar_1 LampType) (objectType Box_bar_1 BoxType)
  (inReceptacle Potato_bar_1 Shelf_bar_1) (objectAtLocation Potato_bar_1 loc_bar_1)
  (inReceptacle Potato_bar_2 Fridge_bar_1) (objectAtLocation Potato_bar_2 loc_bar_3)
  (inReceptacle Knife_bar_1 Shelf_bar_1) (objectAtLocation Knife_bar_1 loc_bar_1)
  (inReceptacle Mug_bar_1 Cabinet_bar_1) (objectAtLocation Mug_bar_1 loc_bar_1)
  (inReceptacle Lamp_bar_1 Shelf_bar_1) (objectAtLocation Lamp_bar_1 loc_bar_1)
  (inReceptacle Box_bar_1 Cabinet_bar_2) (objectAtLocation Box_bar_1 loc_bar_1)
  (pickupable Potato_bar_1) (pickupable Potato_bar_2) (pickupable Knife_bar_1) (pickupable Mug_bar_1)
  (pickupable Box_bar_1)
  (heatable Potato_bar_1) (heatable Potato_bar_2) (coolable Potato_bar_1) (coolable Potato_bar_2)
  (cleanable Potato_bar_1) (cleanable Potato_bar_2) (cleanable Mug_bar_1)
  (sliceable Potato_bar_1) (sliceable Potato_bar_2) (toggleable Lamp_bar_1)
  (isReceptacleObject Box_bar_1)
  (canContain CabinetType MugType) (canContain CabinetType PotatoType) (canContain ShelfType PotatoType)
  (canContain ShelfType KnifeType) (canContain ShelfType MugType) (canContain SinkBasinType PotatoType)
  (canContain SinkBasinType MugType) (canContain FridgeType PotatoType) (canContain MicrowaveType PotatoType)
  (= (total-cost) 0))
 (:goal GOAL))
"""

# The rules that a game's grammar must have for us, in the form of the public one.
GRAMMAR = """
grammar :: \"\"\"
 { "task": [ { "rhs": "Your task is to: TASK." } ],
   "GotoLocation.feedback": [ { "rhs": "You arrive at {r.name}. #examineReceptacle.feedback#" } ],
   "OpenObject.feedback": [ { "rhs": "You open the {r.name}. #examineReceptacle.feedback#" } ],
   "CloseObject.feedback": [ { "rhs": "You close the {r.name}." } ],
   "PickupObject.feedback": [ { "rhs": "You pick up the {o.name} from the {r.name}." } ],
   "PutObject.feedback": [ { "rhs": "You move the {o.name} to the {r.name}." } ],
   "heatObject.feedback": [ { "rhs": "You heat the {o.name} using the {r.name}." } ],
   "cleanObject.feedback": [ { "rhs": "You clean the {o.name} using the {r.name}." } ],
   "coolObject.feedback": [ { "rhs": "You cool the {o.name} using the {r.name}." } ],
   "sliceObject.feedback": [ { "rhs": "You sliced the {co.name} with the {ko.name}." } ] }
\"\"\";
action GotoLocation { template :: "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]"; }
action OpenObject { template :: "open {r}"; }
action CloseObject { template :: "close {r}"; }
action PickupObject { template :: "take {o} from {r}"; }
action PutObject { template :: "move {o} to {r}"; }
action inventory { template :: "inventory"; }
action examineReceptacle { template :: "examine {r}"; }
action examineObject { template :: "examine {o}"; }
action ToggleObject { template :: "use {o}"; }
action HeatObject { template :: "heat {o} with {r}"; }
action CleanObject { template :: "clean {o} with {r}"; }
action CoolObject { template :: "cool {o} with {r}"; }
action SliceObject { template :: "slice {co} with {ko}"; }
action look { template :: "look"; }
action help { template :: "help"; }
"""


def kitchen_pddl(goal: str = HEAT, add: str = "") -> str:
    """The small kitchen's PDDL with a goal and further facts."""
    return KITCHEN.replace("GOAL", goal).replace("(= (total-cost) 0)", f"(= (total-cost) 0) {add}")


@pytest.fixture(scope="session")
def make_problem() -> Callable[..., Problem]:
    def make(goal: str = HEAT, add: str = "", dialect: Dialect = Dialect()) -> Problem:  # noqa: B008
        return parse_problem(kitchen_pddl(goal, add), instruction="heat some potato", dialect=dialect)

    return make


@pytest.fixture
def make_game(make_problem: Callable[..., Problem]) -> Callable[..., Game]:
    def make(*args: object, **options: object) -> Game:
        return Game(Scene(make_problem(*args, **options)))

    return make


@pytest.fixture(scope="session")
def place_goal() -> str:
    """A goal of placing, to be formatted with further conditions, object type and receptacle type."""
    return PLACE


@pytest.fixture(scope="session")
def grammar() -> str:
    """A game's grammar, of our own words and the public rules."""
    return GRAMMAR.replace("TASK", "heat some potato and put it in sinkbasin")


@pytest.fixture(scope="session")
def write_game(grammar: str) -> Callable[..., Path]:
    """Write a game folder and return it."""

    def write(folder: Path, *, goal: str = HEAT, add: str = "", grammar: str = grammar, **changes: object) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        game = {
            "pddl_domain": "",
            "grammar": grammar,
            "pddl_problem": kitchen_pddl(goal, add),
            "solvable": True,
            "walkthrough": None,
        } | changes
        (folder / "game.tw-pddl").write_text(json.dumps({k: v for k, v in game.items() if v != "absent"}))
        (folder / "traj_data.json").write_text(json.dumps({"task_type": "pick_heat_then_place_in_recep"}))
        return folder

    return write


@pytest.fixture
def no_scenes() -> Iterator[None]:
    """Begin and end without remembered scenes."""
    SCENES.clear()
    yield
    SCENES.clear()
