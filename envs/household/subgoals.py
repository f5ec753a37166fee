"""Sub-goals and outcome levels of an episode: how far it got, for dense rewards and gates."""

from __future__ import annotations

from typing import NamedTuple

from turnwise.envs.household.game import Game
from turnwise.envs.household.scene import Move, Scene, bits

OUTCOME_LEVELS = ("untouched", "acted", "treated", "won")
_ACTS = frozenset({"take", "put", "heat", "cool", "clean", "slice", "use"})
_TELLING = _ACTS | {"go to", "open"}  # verbs after which something new may have been reached


class Reached(NamedTuple):
    """What has been reached so far; every entry only grows.

    Attributes:
        found: Goal objects seen (mask).
        taken: Goal objects that were held, or that stood where they belong (mask).
        treated: Whether a goal object was hot, cool or clean as asked; or, when looking at it, whether
            a lamp of the right type was used.
        placed: Most goal objects that were, treated as asked, in one goal receptacle at once; or, when
            looking at it, 1 once a goal object was carried to such a lamp.
        level: Index into :data:`OUTCOME_LEVELS`.
    """

    found: int = 0
    taken: int = 0
    treated: bool = False
    placed: int = 0
    level: int = 0


class Subgoals:
    """Follows one game and latches the sub-goals found, taken, treated and placed.

    The outcome level is ``untouched`` until a goal object is taken or otherwise acted on, then
    ``acted``; ``treated`` once an object acted on has the state that the task asks for; ``won`` at
    success. In task types without heating, cooling or cleaning, ``treated`` means that a goal object
    was carried to where the task ends: to a goal receptacle, or to the lamp.

    Goals outside the six task types have no sub-goals; their levels are untouched, acted and won.
    """

    def __init__(self, scene: Scene) -> None:
        """Derive from the goal what counts."""
        spec = scene.goal.spec
        self.scene = scene
        self.spec = spec
        self.targets = 0
        for kind in scene.goal.object_types if spec is None else (spec.object_type,):
            self.targets |= scene.of_object_type.get(kind, 0)
        self.places = tuple(bits(scene.of_receptacle_type.get(spec.receptacle_type or "", 0))) if spec else ()
        self.lamps = scene.of_object_type.get(spec.lamp_type or "", 0) & scene.toggleable if spec else 0
        self._ends = frozenset(scene.receptacle_location[place] for place in self.places)
        self._reset()

    def _reset(self, reached: Reached = Reached()) -> None:  # noqa: B008 (immutable)
        self.reached = reached
        self._report: dict[str, float] | None = None

    # -- following a game --------------------------------------------------------------------------

    def begin(self, game: Game) -> None:
        """Start anew; what holds at the start of a game already counts."""
        self._reset()
        self._latch(game, None)

    def update(self, game: Game) -> None:
        """Latch what the game's last move reached; call it after every move."""
        move = game.last
        if move is not None and (move.verb in _TELLING or game.won):
            self._latch(game, move)

    def restore(self, reached: Reached) -> None:
        """Go back to what :attr:`reached` was."""
        self._reset(reached)

    def _latch(self, game: Game, move: Move | None) -> None:
        old, spec = self.reached, self.spec
        held = game.held & self.targets
        if spec is None:
            found, taken, treated, placed, carried = 0, old.taken | held, False, 0, False
        else:
            ready = self._ready(game)
            carried = held != 0 and self._at_the_end(game)
            lit, changed = game.toggled & self.lamps != 0, spec.treatment is not None and ready != 0
            treated = old.treated or (lit if spec.lamp_type else changed)
            placed, settled = int(carried), 0
            if spec.lamp_type is None:
                settled = max((game.contents[place] & ready for place in self.places), key=int.bit_count, default=0)
                placed = settled.bit_count()
            taken = old.taken | settled | held
            found = old.found | taken | game.visible() & self.targets
        level = self._level(game, move, carried)
        new = Reached(found, taken, treated, max(old.placed, placed), max(old.level, level))
        if new != old:
            self._reset(new)

    def _ready(self, game: Game) -> int:
        """Mask of the goal objects that have the state which the task asks for."""
        treatment = self.spec.treatment if self.spec else None
        if treatment is None:
            return self.targets
        state = game.hot if treatment == "hot" else game.cool if treatment == "cool" else game.clean
        return state & self.targets

    def _at_the_end(self, game: Game) -> bool:
        if self.places:
            return game.location in self._ends
        return any(game.contents[receptacle] & self.lamps for receptacle in self.scene.receptacles_at[game.location])

    def _level(self, game: Game, move: Move | None, carried: bool) -> int:
        if move is None:
            return 0
        if game.won:
            return 3
        acted = self.reached.level > 0 or (move.verb in _ACTS and self.targets >> move.item & 1 == 1)
        if not acted:
            return 0
        treatment = self.spec.treatment if self.spec else None
        touched = self.reached.taken | game.held
        done = self._ready(game) & touched != 0 if treatment else carried
        return 2 if done else 1

    # -- reporting ---------------------------------------------------------------------------------

    @property
    def level(self) -> str:
        """The outcome level reached."""
        return OUTCOME_LEVELS[self.reached.level]

    def report(self) -> dict[str, float]:
        """Return each sub-goal of this task type and the share of it that is reached, in [0, 1].

        The mapping is shared between calls: do not change it.
        """
        if self._report is None:
            self._report = self._shares()
        return self._report

    def _shares(self) -> dict[str, float]:
        spec, reached = self.spec, self.reached
        if spec is None:
            return {}
        counts = {"found": reached.found.bit_count(), "taken": reached.taken.bit_count()}
        if spec.treatment or spec.lamp_type:
            counts["treated"] = spec.count if reached.treated else 0
        counts["placed"] = reached.placed
        return {name: min(count, spec.count) / spec.count for name, count in counts.items()}

    def progress(self, won: bool) -> float:
        """Return the mean share of the sub-goals; 1.0 only on success.

        Sub-goals are latched, so all of them may have been reached without success (the object was
        carried off again): then the last one counts as open.
        """
        if won:
            return 1.0
        shares = self.report().values()
        if not shares:
            return 0.0
        return min(sum(shares), len(shares) - 1) / len(shares)
