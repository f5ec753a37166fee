"""A planner for the six ALFRED task types, from any state of a game.

For a goal of a known type there are few ways to reach it: which object, from where, by which device, to
which destination, and where to put down what the hands are full of. Each way is a sequence of errands
(take, treat, put, use); the walking and the opening in between follow. The planner tries them all, takes
the shortest and plays it through in the game itself. What does not work out that way (goals of other
kinds, objects in two places at once) is left to a bounded breadth-first search over the game's states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from turnwise.envs.household.game import Game
from turnwise.envs.household.scene import GameState, Scene, bits
from turnwise.envs.household.search import search
from turnwise.envs.household.tasktypes import GoalSpec
from turnwise.errors import EnvError
from turnwise.protocols import Info

_TRIES = 8  # how many of the shortest ways are played through before searching


@dataclass
class Route:
    """Commands being put together, with what they change of the state.

    Attributes:
        scene: The static tables.
        location: Where the agent is after the commands.
        opened: Receptacles that are open after the commands.
        commands: The commands so far.
    """

    scene: Scene
    location: int
    opened: int
    commands: list[str] = field(default_factory=list)

    def walk(self, receptacle: int) -> None:
        """Go to a receptacle unless the agent stands there."""
        where = self.scene.receptacle_location[receptacle]
        if self.location != where:
            self.location = where
            self.commands.append(f"go to {self.scene.receptacle_names[receptacle]}")

    def reach(self, receptacle: int) -> None:
        """Go to a receptacle and open it if it is closed."""
        self.walk(receptacle)
        if self.scene.openable & ~self.opened & 1 << receptacle:
            self.opened |= 1 << receptacle
            self.commands.append(f"open {self.scene.receptacle_names[receptacle]}")

    def take(self, item: int, receptacle: int) -> None:
        """Take an object out of a receptacle."""
        self.reach(receptacle)
        self.commands.append(f"take {self.scene.object_names[item]} from {self.scene.receptacle_names[receptacle]}")

    def put(self, item: int, receptacle: int) -> None:
        """Put an object that is in the hands into a receptacle."""
        self.reach(receptacle)
        names = self.scene.object_names, self.scene.receptacle_names
        self.commands.append(self.scene.words.put_command.format(o=names[0][item], r=names[1][receptacle]))

    def treat(self, verb: str, item: int, device: int) -> None:
        """Heat, cool or clean an object that is in the hands; devices need not be opened for it."""
        self.walk(device)
        self.commands.append(f"{verb} {self.scene.object_names[item]} with {self.scene.receptacle_names[device]}")

    def use(self, item: int, receptacle: int) -> None:
        """Switch on a lamp that lies on a receptacle."""
        self.walk(receptacle)
        self.commands.append(f"use {self.scene.object_names[item]}")


@dataclass(frozen=True)
class _Errand:
    """One thing to do: a :class:`Route` method and its arguments."""

    name: str
    arguments: tuple[Any, ...]


_Way = tuple[_Errand, ...]


class _Ways:
    """All ways to a goal from one state."""

    def __init__(self, scene: Scene, state: GameState, spec: GoalSpec) -> None:
        self.scene = scene
        self.state = state
        self.spec = spec
        self.reachable = sum(1 << n for n, where in enumerate(scene.receptacle_location) if where >= 0)
        self.targets = scene.of_object_type.get(spec.object_type, 0)
        self.held = state.held

    def all(self) -> Iterator[_Way]:
        """Yield every way that is worth trying."""
        if self.spec.lamp_type is not None:
            return self._look()
        if self.spec.count == 2:
            return self._two()
        return self._place()

    def _sources(self, item: int) -> Iterator[int]:
        """Yield the receptacles that an object can be taken from."""
        if self.scene.pickupable >> item & 1:
            yield from (r for r in bits(self.reachable) if self.state.contents[r] >> item & 1)

    def _in_hand(self, item: int) -> Iterator[_Way]:
        """Yield the ways to have an object in the hands, emptying them first if need be."""
        if self.held >> item & 1:
            yield ()
            return
        for source in self._sources(item):
            for emptied in self._emptied():
                yield (*emptied, _Errand("take", (item, source)))

    def _emptied(self) -> Iterator[_Way]:
        """Yield the ways to empty the hands."""
        if not self.state.hands_full:
            yield ()
        elif self.held and not self.held & (self.held - 1):
            item = self.held.bit_length() - 1
            for receptacle in self._acceptors(item, self.reachable):
                yield (_Errand("put", (item, receptacle)),)

    def _acceptors(self, item: int, among: int) -> Iterator[int]:
        return (r for r in bits(among & self.reachable) if self.scene.accepts[r] >> item & 1)

    def _destinations(self, item: int) -> Iterator[int]:
        return self._acceptors(item, self.scene.of_receptacle_type.get(self.spec.receptacle_type or "", 0))

    def _look(self) -> Iterator[_Way]:
        lamps = self.scene.of_object_type.get(self.spec.lamp_type or "", 0) & self.scene.toggleable
        places = [(lamp, r) for lamp in bits(lamps) for r in bits(self.reachable) if self.state.contents[r] >> lamp & 1]
        for item in bits(self.targets):
            for way in self._in_hand(item):
                for lamp, place in places:
                    lit = self.state.toggled >> lamp & 1
                    yield (*way, _Errand("walk", (place,)) if lit else _Errand("use", (lamp, place)))

    def _place(self) -> Iterator[_Way]:
        for item in bits(self.targets):
            treatments = list(self._treatments(item))
            for way in self._in_hand(item):
                for treatment in treatments:
                    for receptacle in self._destinations(item):
                        yield (*way, *treatment, _Errand("put", (item, receptacle)))

    def _treatments(self, item: int) -> Iterator[_Way]:
        """Yield the ways to give an object in the hands the state that the goal asks for."""
        if self.spec.treatment is None:
            yield ()
            return
        scene, state = self.scene, self.state
        verb, able, devices, done = {
            "hot": ("heat", scene.heatable, scene.heaters, state.hot),
            "cool": ("cool", scene.coolable, scene.coolers, state.cool),
            "clean": ("clean", scene.cleanable, scene.cleaners, state.clean),
        }[self.spec.treatment]
        if done >> item & 1:
            yield ()
        elif able >> item & 1:
            yield from ((_Errand("treat", (verb, item, device)),) for device in bits(devices & self.reachable))

    def _two(self) -> Iterator[_Way]:
        places = self.scene.of_receptacle_type.get(self.spec.receptacle_type or "", 0)
        for receptacle in bits(places & self.reachable):
            inside = self.state.contents[receptacle]
            fitting = self.targets & self.scene.accepts[receptacle] & ~inside
            for first in bits(fitting):
                for way in self._in_hand(first):
                    brought = (*way, _Errand("put", (first, receptacle)))
                    if inside & self.targets:
                        yield brought
                        continue
                    for second in bits(fitting & ~(1 << first) & ~self.held):
                        for source in self._sources(second):
                            yield (*brought, _Errand("take", (second, source)), _Errand("put", (second, receptacle)))


def plan(game: Game) -> list[str]:
    """Return commands that win a game from its current state; empty if it is won.

    The game is left as it was.

    Args:
        game: Any game, in any state.

    Raises:
        EnvError: No plan was found: the goal cannot be reached, or only by more than the bounded
            search covers.
    """
    return [command for command, _ in plan_states(game)]


def plan_states(game: Game) -> list[tuple[str, GameState]]:
    """Return the plan's commands, each with the state it is given in.

    Raises:
        EnvError: No plan was found.
    """
    start, last = game.state(), game.last
    if start.won:
        return []
    try:
        for commands in islice(_shortest_first(game.scene, start), _TRIES):
            played = _play(game, commands)
            game.restore(start)
            if played is not None:
                return played
        found = search(game)
        game.restore(start)
        played = _play(game, found) if found is not None else None
    finally:
        game.restore(start)
        game.last = last
    if played is None:
        raise EnvError(f"no plan found for {game.scene.instruction!r}: the goal is out of reach from this state")
    return played


def _shortest_first(scene: Scene, state: GameState) -> Iterator[list[str]]:
    spec = scene.goal.spec
    if spec is None:
        return
    routes = []
    for way in _Ways(scene, state, spec).all():
        route = Route(scene, state.location, state.opened)
        for errand in way:
            getattr(route, errand.name)(*errand.arguments)
        routes.append(route.commands)
    yield from sorted(routes, key=len)


def _play(game: Game, commands: list[str]) -> list[tuple[str, GameState]] | None:
    """Play commands until the game is won; None if it is not, or if one does nothing."""
    played = []
    for command in commands:
        played.append((command, game.state()))
        game.step(command)
        if game.won:
            return played
        if game.last is None:
            return None
    return None


class _HasGame(Protocol):
    @property
    def game(self) -> Game: ...


class PlannerExpert:
    """Plays the shortest plan, and plans again whenever the game is not where the plan expects it."""

    def __init__(self, env: _HasGame) -> None:
        """Make an expert.

        Args:
            env: An environment whose ``game`` is the game being played.
        """
        self._env = env
        self._plan: list[tuple[str, GameState]] = []
        self._scene: Scene | None = None

    def act(self, observation: Any, info: Info) -> str:
        """Return the next command of a plan, or ``"look"`` if there is none to win by.

        Args:
            observation: Not looked at.
            info: Not looked at.
        """
        game = self._env.game
        state = game.state()
        if self._scene is not game.scene or not self._plan or self._plan[0][1] != state:
            self._scene = game.scene
            try:
                self._plan = plan_states(game)
            except EnvError:
                self._plan = []
        return self._plan.pop(0)[0] if self._plan else "look"
