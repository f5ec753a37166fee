"""``Scene``: everything about a game that never changes, built once and shared by all its players.

Entities are numbered in the order of their lower-case PDDL ids, which is the order in which TextWorld
lists them; sets of them are bit masks over those numbers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from turnwise.envs.household.goal import compile_goal
from turnwise.envs.household.predicates import KINDS, PREDICATES, Kind
from turnwise.envs.household.problem import Fact, Problem
from turnwise.errors import ConfigError

_ESCAPES = (("_bar_", "|"), ("_minus_", "-"), ("_plus_", "+"), ("_dot_", "."), ("_comma_", ","))


class GameState(NamedTuple):
    """What changes in a game. Object and receptacle sets are bit masks over the scene's numbers.

    Attributes:
        location: Number of the agent's location.
        held: Objects in the agent's hands.
        hands_full: Whether the agent can take nothing more.
        opened: Receptacles that are open.
        contents: Per receptacle, the objects in it.
        lying: Per location, the objects whose place it is (PDDL ``objectAtLocation``).
        taken_from: Per receptacle, the objects taken out of it and not put back; ``look`` shows them.
        hot: Objects that are hot.
        cool: Objects that are cool.
        clean: Objects that were cleaned.
        sliced: Objects that were sliced.
        toggled: Objects that were used at least once.
        on: Objects that are switched on.
        won: Whether the goal is reached.
    """

    location: int
    held: int
    hands_full: bool
    opened: int
    contents: tuple[int, ...]
    lying: tuple[int, ...]
    taken_from: tuple[int, ...]
    hot: int
    cool: int
    clean: int
    sliced: int
    toggled: int
    on: int
    won: bool


class Move(NamedTuple):
    """An admissible command: what it does, and to what (numbers, or -1)."""

    verb: str
    item: int = -1
    receptacle: int = -1


class LocalMoves(NamedTuple):
    """What can be done where the agent stands: the moves besides ``go to``, and all commands in order."""

    moves: Mapping[str, Move]
    commands: tuple[str, ...]


class Scene:
    """The static tables of one game; never changed after construction.

    Attributes:
        instruction: The task in words.
        words: The dialect.
        goal: The compiled goal; ``goal.spec`` is its typed view.
        objects: PDDL ids of the objects, by number. Objects without any fact come last.
        object_names: Their names in the text, such as ``"mug 2"``.
        object_types: Their types, such as ``"mugtype"``, or ``""``.
        receptacles: PDDL ids of the receptacles, by number.
        receptacle_names: Their names in the text.
        receptacle_types: Their types, such as ``"shelftype"``, or ``""``.
        receptacle_location: Their locations, or -1.
        locations: PDDL ids of the locations, by number.
        location_names: Their names in the text, such as ``"loc 8"``.
        receptacles_at: Per location, the receptacles there, in order.
        of_object_type: Type to the mask of its objects.
        of_receptacle_type: Type to the mask of its receptacles.
        accepts: Per receptacle, the objects that may be put there.
        openable: Receptacles that open and close.
        pickupable: Objects that can be taken; likewise ``heatable``, ``coolable``, ``cleanable``,
            ``toggleable`` and ``sliceable``.
        knives: Objects that slice.
        heaters: Receptacles that heat; likewise ``coolers`` and ``cleaners``.
        inside: Per object, the text that lists what is in it, or None if it is no container.
        goto: ``go to`` command to the receptacle's number.
        goto_commands: Per location, the ``go to`` commands admissible there, sorted.
        initial: The state at the start.
        local_moves: Cache of what can be done where, filled by the games.
    """

    def __init__(self, problem: Problem) -> None:
        """Build the tables.

        Raises:
            ConfigError: The facts do not make an ALFRED game; the message names what is wrong.
        """
        facts = _by_predicate(problem)
        mentioned = {word for fact in problem.facts for word in fact[1:]}
        ids = {kind: _ordered(problem, kind, mentioned) for kind in KINDS}
        self._index: dict[Kind, dict[str, int]] = {
            kind: {word: n for n, word in enumerate(ids[kind])} for kind in KINDS
        }
        names = entity_names(mentioned)
        self.instruction = problem.instruction
        self.words = problem.dialect
        self.objects, self.receptacles, self.locations = ids["object"], ids["receptacle"], ids["location"]
        self.object_names = tuple(names.get(word, word) for word in self.objects)
        self.receptacle_names = tuple(names.get(word, word) for word in self.receptacles)
        self.location_names = tuple(names.get(word, word) for word in self.locations)
        self._set_types(facts)
        self._set_places(facts)
        self._set_abilities(facts)
        self.inside = self._insides(facts)
        self.goal = compile_goal(problem.goal, index=self._index, facts=problem.facts)
        self.initial = self._initial(facts)
        self.local_moves: dict[tuple[int, ...], LocalMoves] = {}
        del self._index

    def _mask(self, kind: Kind, words: Iterable[str]) -> int:
        index = self._index[kind]
        mask = 0
        for word in words:
            mask |= 1 << index[word]
        return mask

    def _set_types(self, facts: Mapping[str, list[Fact]]) -> None:
        self.object_types, self.of_object_type = self._types("object", facts["objecttype"])
        self.receptacle_types, self.of_receptacle_type = self._types("receptacle", facts["receptacletype"])
        fits: defaultdict[str, int] = defaultdict(int)
        for _, receptacle_type, object_type in facts["cancontain"]:
            fits[receptacle_type] |= self.of_object_type.get(object_type, 0)
        accepts = [0] * len(self.receptacles)
        for _, receptacle, receptacle_type in facts["receptacletype"]:
            accepts[self._index["receptacle"][receptacle]] |= fits[receptacle_type]
        self.accepts = tuple(accepts)

    def _types(self, kind: Kind, facts: list[Fact]) -> tuple[tuple[str, ...], dict[str, int]]:
        index = self._index[kind]
        types = [""] * len(index)
        masks: defaultdict[str, int] = defaultdict(int)
        for _, word, type_name in facts:
            types[index[word]] = type_name
            masks[type_name] |= 1 << index[word]
        return tuple(types), dict(masks)

    def _set_places(self, facts: Mapping[str, list[Fact]]) -> None:
        place = [-1] * len(self.receptacles)
        at: list[list[int]] = [[] for _ in self.locations]
        for _, receptacle, location in facts["receptacleatlocation"]:
            number, where = self._index["receptacle"][receptacle], self._index["location"][location]
            if place[number] not in (-1, where):
                raise ConfigError(f"receptacle {receptacle!r} is at two locations; ALFRED games give it one")
            place[number] = where
            at[where].append(number)
        self.receptacle_location = tuple(place)
        self.receptacles_at = tuple(tuple(sorted(there)) for there in at)
        self.goto = {f"go to {self.receptacle_names[n]}": n for n, where in enumerate(place) if where >= 0}
        commands = sorted(self.goto)
        self.goto_commands = tuple(
            tuple(command for command in commands if place[self.goto[command]] != where)
            for where in range(len(self.locations))
        )

    def _set_abilities(self, facts: Mapping[str, list[Fact]]) -> None:
        able = {
            name: self._mask("object", (fact[1] for fact in facts[name]))
            for name in ("pickupable", "heatable", "coolable", "cleanable", "toggleable", "sliceable")
        }
        self.pickupable, self.toggleable, self.sliceable = able["pickupable"], able["toggleable"], able["sliceable"]
        self.heatable, self.coolable, self.cleanable = able["heatable"], able["coolable"], able["cleanable"]
        self.openable = self._mask("receptacle", (fact[1] for fact in facts["openable"]))
        self.knives = self.of_object_type.get("knifetype", 0) | self.of_object_type.get("butterknifetype", 0)
        self.heaters = self.of_receptacle_type.get("microwavetype", 0)
        self.coolers = self.of_receptacle_type.get("fridgetype", 0)
        self.cleaners = self.of_receptacle_type.get("sinkbasintype", 0)

    def _insides(self, facts: Mapping[str, list[Fact]]) -> tuple[str | None, ...]:
        inside: list[str | None] = [None] * len(self.objects)
        inner: defaultdict[str, list[str]] = defaultdict(list)
        for _, item, outer in sorted(facts["inreceptacleobject"]):
            if item != outer:
                inner[outer].append("a " + self.object_names[self._index["object"][item]])
        for _, word in facts["isreceptacleobject"]:
            inside[self._index["object"][word]] = listing(inner[word])
        return tuple(inside)

    def _initial(self, facts: Mapping[str, list[Fact]]) -> GameState:
        agents, places = self._index["agent"], {fact[1:] for fact in facts["atlocation"]}
        if len(agents) != 1 or len(places) != 1:
            raise ConfigError(
                f"expected one agent at one location, got {len(agents)} agents at {len(places)} places: "
                "multi-agent games are not supported"
            )
        contents, taken_from, lying = (
            [0] * len(self.receptacles),
            (0,) * len(self.receptacles),
            [0] * len(self.locations),
        )
        for _, item, receptacle in facts["inreceptacle"]:
            contents[self._index["receptacle"][receptacle]] |= 1 << self._index["object"][item]
        for _, item, location in facts["objectatlocation"]:
            lying[self._index["location"][location]] |= 1 << self._index["object"][item]
        flags = {
            name: self._mask("object", (fact[1] for fact in facts["is" + name]))
            for name in ("hot", "cool", "clean", "sliced", "toggled", "on")
        }
        return GameState(
            location=self._index["location"][next(iter(places))[1]],
            held=self._mask("object", (fact[2] for fact in facts["holds"])),
            hands_full=bool(facts["holdsany"]),
            opened=self._mask("receptacle", (fact[1] for fact in facts["opened"])),
            contents=tuple(contents),
            lying=tuple(lying),
            taken_from=taken_from,
            won=False,
            **flags,
        )


def bits(mask: int) -> Iterator[int]:
    """Yield the numbers in a mask, in ascending order."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def listing(things: Sequence[str]) -> str:
    """Join things as the grammar does: ``nothing``, ``a``, ``a, and b``, ``a, b, and c``."""
    if not things:
        return "nothing"
    if len(things) == 1:
        return things[0]
    return ", ".join(things[:-1]) + ", and " + things[-1]


def entity_names(ids: Iterable[str]) -> dict[str, str]:
    """Return the name each entity id goes by, as ALFWorld numbers them.

    ``bed_bar__plus_1`` becomes ``bed 1``: entities of one name are numbered in descending order of
    their ids; an id without ``_bar_`` keeps its text and a blank for the missing number.

    Args:
        ids: All ids that occur in facts, of every kind.
    """
    base: dict[str, tuple[str, bool]] = {}
    for word in ids:
        text = word
        for escape, character in _ESCAPES:
            text = text.replace(escape, character)
        name, bar, _ = text.partition("|")
        base[word] = (name + "basin" if bar and "basin" in word else name, bool(bar))
    left = Counter(name for name, numbered in base.values() if numbered)
    names = {}
    for word in sorted(base):
        name, numbered = base[word]
        names[word] = f"{name} {left[name]}" if numbered else f"{name} "
        left[name] -= 1
    return names


def _ordered(problem: Problem, kind: Kind, mentioned: set[str]) -> tuple[str, ...]:
    """Ids of a kind: those in facts first, each part sorted."""
    return tuple(
        sorted((word for word, k in problem.objects if k == kind), key=lambda word: (word not in mentioned, word))
    )


def _by_predicate(problem: Problem) -> defaultdict[str, list[Fact]]:
    """Group the facts, checking the arguments of the predicates that the engine knows."""
    kind_of = dict(problem.objects)
    groups: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in problem.facts:
        expected = PREDICATES.get(fact[0])
        if expected is not None and tuple(kind_of.get(word) for word in fact[1:]) != expected:
            raise ConfigError(f"fact ({' '.join(fact)}): {fact[0]} takes ({', '.join(expected)})")
        groups[fact[0]].append(fact)
    return groups
