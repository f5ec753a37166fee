"""From a recipe (what to do, where, which seed) to a game: objects placed in a room, and a goal.

Problems use ALFRED's predicates and goals, so :func:`turnwise.envs.household.export.export_game`
can write them for the original engine. A game is solvable by construction: everything pickupable lies
in a receptacle of the room, every receptacle can be reached and opened, the destination can contain
the target, and the room has the device that the task needs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

from turnwise.envs.household.catalog import CAPACITY, LARGE, OBJECT_TYPES, OPENABLE, STOCK, ObjectType
from turnwise.envs.household.draws import Draws
from turnwise.envs.household.instructions import write_instruction
from turnwise.envs.household.layouts import Layout, Receptacle, get_layout, pddl_id
from turnwise.envs.household.problem import Fact, Problem, SExpr

# Property of the target, predicate that the treatment makes true, and the type of the device.
TREATMENTS = {
    "pick_clean_then_place_in_recep": ("cleanable", "isclean", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heatable", "ishot", "Microwave"),
    "pick_cool_then_place_in_recep": ("coolable", "iscool", "Fridge"),
}

_SEED = 7072
_TIDINESS = 0.7  # how often an object lies where one looks first
_COUNTS = (1, 1, 1, 2, 2, 3)  # how many there are of a type that is there


@dataclass(frozen=True)
class Recipe:
    """What makes one game.

    Attributes:
        task_type: One of :data:`~turnwise.envs.household.tasktypes.TASK_TYPES`.
        layout: Name of the layout.
        target: Type of the object to act on.
        receptacle: Type of the destination; empty for ``look_at_obj_in_light``.
        lamp: Type of the lamp for ``look_at_obj_in_light``, else empty.
        template: Which of the two instructions, 0 or 1.
        stream: Random stream of the placement; recipes of different streams differ in it.
    """

    task_type: str
    layout: str
    target: str
    receptacle: str
    lamp: str
    template: int
    stream: tuple[int, ...]

    @property
    def instruction(self) -> str:
        """The task in words, such as ``"put a hot potato in sinkbasin"``."""
        return write_instruction(
            self.task_type, self.template, target=self.target, receptacle=self.receptacle, lamp=self.lamp
        )


@cache
def goals_in(layout_name: str, task_type: str) -> tuple[tuple[str, str, str], ...]:
    """Return the (target, receptacle, lamp) types that make a solvable task in a layout.

    A destination is left out where its device is the destination already (heating something to put
    it into the microwave), and where the target could lie nowhere else.
    """
    layout = get_layout(layout_name)
    here = layout.counts
    kinds = [OBJECT_TYPES[name] for name in STOCK[layout.room]]
    kinds = [kind for kind in kinds if kind.movable and any(place in here for place in kind.fits)]
    if task_type == "look_at_obj_in_light":
        lamps = [name for name in STOCK[layout.room] if "toggleable" in OBJECT_TYPES[name].properties]
        lamps = [lamp for lamp in lamps if any(place in here for place in OBJECT_TYPES[lamp].fits)]
        return tuple((kind.name, "", lamp) for lamp in lamps for kind in kinds)
    needed, _, device = TREATMENTS.get(task_type, ("", "", ""))
    if device and device not in here:
        return ()
    return tuple(
        (kind.name, place, "")
        for kind in kinds
        if not needed or needed in kind.properties
        for place in kind.fits
        if place in here and place != device and _fits_task(task_type, kind, place, here)
    )


def _fits_task(task_type: str, kind: ObjectType, place: str, here: Counter[str]) -> bool:
    elsewhere = sum(CAPACITY.get(other, LARGE) * here[other] for other in kind.fits if other != place)
    if task_type == "pick_two_obj_and_place":
        return CAPACITY.get(place, LARGE) >= 2 and elsewhere >= 2
    return task_type != "pick_and_place_simple" or elsewhere >= 1


def build(recipe: Recipe) -> Problem:
    """Return the game of a recipe; the same recipe gives the same game in every process."""
    layout = get_layout(recipe.layout)
    draws = Draws(_SEED, *recipe.stream)
    placed = _place_objects(draws, layout, recipe)
    present = {kind.name: kind for kind, _, _ in placed}
    facts = [*_room_facts(layout.name)]
    for kind, identifier, receptacle in placed:
        facts.append(("objecttype", identifier, f"{kind.name.lower()}type"))
        facts.append(("objectatlocation", identifier, receptacle.location))
        if kind.movable:
            facts.append(("pickupable", identifier))
        facts.extend((name, identifier) for name in kind.properties)
        facts.append(("inreceptacle", identifier, receptacle.id))
    facts.extend(
        ("cancontain", f"{place.lower()}type", f"{name.lower()}type")
        for place in layout.counts
        for name, kind in present.items()
        if place in kind.fits
    )
    facts.append(("atlocation", "agent1", layout.start))
    return Problem(
        facts=tuple(facts),
        goal=goal_of(recipe),
        objects=_declarations(layout, present, [identifier for _, identifier, _ in placed]),
        instruction=recipe.instruction,
    )


@cache
def _room_facts(layout_name: str) -> tuple[Fact, ...]:
    facts: list[Fact] = []
    for receptacle in get_layout(layout_name).receptacles:
        facts.append(("receptacletype", receptacle.id, f"{receptacle.type.lower()}type"))
        facts.append(("receptacleatlocation", receptacle.id, receptacle.location))
        if receptacle.type in OPENABLE:
            facts.append(("openable", receptacle.id))
    return tuple(facts)


def _declarations(
    layout: Layout, present: dict[str, ObjectType], identifiers: list[str]
) -> tuple[tuple[str, str], ...]:
    locations = dict.fromkeys([*(receptacle.location for receptacle in layout.receptacles), layout.start])
    return (
        ("agent1", "agent"),
        *((f"{name.lower()}type", "otype") for name in present),
        *((f"{place.lower()}type", "rtype") for place in layout.counts),
        *((identifier, "object") for identifier in identifiers),
        *((receptacle.id, "receptacle") for receptacle in layout.receptacles),
        *((location, "location") for location in locations),
    )


def _place_objects(draws: Draws, layout: Layout, recipe: Recipe) -> list[tuple[ObjectType, str, Receptacle]]:
    room: dict[str, list[Receptacle]] = {}
    for receptacle in layout.receptacles:
        room.setdefault(receptacle.type, []).append(receptacle)
    space = {r.id: CAPACITY.get(r.type, LARGE) for r in layout.receptacles}
    placed: list[tuple[ObjectType, str, Receptacle]] = []
    taken: set[str] = set()
    for kind, count in _contents(draws, layout, recipe):
        barred = _barred(recipe, kind)
        for _ in range(count):
            place = _choose_place(draws, kind, barred, room, space)
            if place is not None:
                space[place.id] -= 1
                identifier = _object_id(draws, kind, place, taken)
                taken.add(identifier)
                placed.append((kind, identifier, place))
    return placed


def _contents(draws: Draws, layout: Layout, recipe: Recipe) -> list[tuple[ObjectType, int]]:
    """Choose the object types of the room and their counts; what the task needs comes first."""
    wanted = [(OBJECT_TYPES[recipe.target], draws.pick(_COUNTS))]
    if recipe.task_type == "pick_two_obj_and_place":
        wanted = [(OBJECT_TYPES[recipe.target], 2 + draws.chance(0.3))]
    if recipe.lamp:
        wanted.append((OBJECT_TYPES[recipe.lamp], 1 + draws.chance(0.2)))
    needed = {recipe.target, recipe.lamp}
    others = [(name, chance) for name, chance in STOCK[layout.room].items() if name not in needed]
    wanted.extend(
        (OBJECT_TYPES[name], draws.pick(_COUNTS)) for name, chance in draws.shuffled(others) if draws.chance(chance)
    )
    return wanted


def _barred(recipe: Recipe, kind: ObjectType) -> str:
    """Return the receptacle type where the target must not lie, or the task would begin (half) solved."""
    placing = recipe.task_type in ("pick_and_place_simple", "pick_two_obj_and_place")
    return recipe.receptacle if placing and kind.name == recipe.target else ""


def _choose_place(
    draws: Draws, kind: ObjectType, barred: str, room: dict[str, list[Receptacle]], space: dict[str, int]
) -> Receptacle | None:
    first, second = (kind.usual, kind.also) if draws.chance(_TIDINESS) else (kind.also, kind.usual)
    for places in (first, second):
        options = [place for place in places if place in room and place != barred]
        for place in draws.shuffled(options):
            free = [receptacle for receptacle in room[place] if space[receptacle.id] > 0]
            if free:
                return draws.pick(free)
    return None


def _object_id(draws: Draws, kind: ObjectType, receptacle: Receptacle, taken: set[str]) -> str:
    x, y, z = receptacle.position
    while True:
        near = (x + draws.random() - 0.5, y + 0.1 * draws.random(), z + draws.random() - 0.5)
        identifier = pddl_id(kind.name, near)
        if identifier not in taken:
            return identifier


def goal_of(recipe: Recipe) -> SExpr:
    """Return the goal in PDDL, built as ALFRED's are."""
    target, place = f"{recipe.target.lower()}type", f"{recipe.receptacle.lower()}type"
    if recipe.task_type == "look_at_obj_in_light":
        return _look_goal(target, f"{recipe.lamp.lower()}type")
    if recipe.task_type == "pick_two_obj_and_place":
        return _two_goal(target, place)
    kept: list[SExpr] = [("objecttype", "?o", target), ("receptacletype", "?r", place)]
    inside: SExpr = ("inreceptacle", "?o", "?r")
    if recipe.task_type in TREATMENTS:
        needed, treated, _ = TREATMENTS[recipe.task_type]
        conditions = ("and", (needed, "?o"), *kept, (treated, "?o"), inside)
    else:
        conditions = ("and", inside, *kept)
    return ("and", ("exists", ("?r", "-", "receptacle"), ("exists", ("?o", "-", "object"), conditions)))


def _two_goal(target: str, place: str) -> SExpr:
    def lies(name: str) -> tuple[SExpr, ...]:
        return (("objecttype", name, target), ("receptacletype", "?r", place), ("inreceptacle", name, "?r"))

    second: SExpr = ("exists", ("?o2", "-", "object"), ("and", ("not", ("=", "?o1", "?o2")), *lies("?o2")))
    first: SExpr = ("exists", ("?o1", "-", "object"), ("and", *lies("?o1"), second))
    return ("and", ("exists", ("?r", "-", "receptacle"), first))


def _look_goal(target: str, lamp: str) -> SExpr:
    places = ("?ot", "-", "object", "?r", "-", "receptacle", "?a", "-", "agent", "?l", "-", "location")
    lit: SExpr = (
        "and",
        ("objecttype", "?ot", lamp),
        ("toggleable", "?ot"),
        ("istoggled", "?ot"),
        ("receptacleatlocation", "?r", "?l"),
        ("atlocation", "?a", "?l"),
        ("inreceptacle", "?ot", "?r"),
    )
    held: SExpr = ("and", ("objecttype", "?o", target), ("holds", "?a", "?o"))
    return ("and", ("exists", places, lit), ("exists", ("?o", "-", "object", "?a", "-", "agent"), held))
