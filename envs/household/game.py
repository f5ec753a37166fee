"""``Game``: one play of a scene, in the exact words of TextWorld with the ALFRED grammar."""

from __future__ import annotations

from collections.abc import Callable

from turnwise.envs.household.moves import local_moves
from turnwise.envs.household.scene import GameState, LocalMoves, Move, Scene, bits, listing

NOTHING_HAPPENS = "Nothing happens."
WELCOME = "-= Welcome to TextWorld, ALFRED! =-"
HELP = """
Commands:
  look - see where you are and what lies about
  inventory - see what you carry
  go to (receptacle) - walk to a receptacle
  open (receptacle), close (receptacle)
  take (object) from (receptacle)
  {put} - put down what you carry
  examine (object or receptacle) - look closely
  use (object) - switch on a lamp
  heat (object) with (receptacle), cool (object) with (receptacle), clean (object) with (receptacle)
  slice (object) with (object) - with a knife in hand
  help - see this list
"""


class Game:
    """One play of a scene. Cheap: it holds only what changes.

    Attributes:
        scene: The static tables.
        won: Whether the goal is reached in the current state.
        last: The move of the last command, or None if nothing happened.

    The other attributes are those of :class:`~turnwise.envs.household.scene.GameState`.
    """

    __slots__ = (
        "_local", "clean", "contents", "cool", "hands_full", "held", "hot", "last", "location", "lying", "on",
        "opened", "scene", "sliced", "taken_from", "toggled", "won",
    )  # fmt: skip

    scene: Scene
    won: bool
    last: Move | None
    location: int
    held: int
    hands_full: bool
    opened: int
    contents: list[int]
    lying: list[int]
    taken_from: list[int]
    hot: int
    cool: int
    clean: int
    sliced: int
    toggled: int
    on: int
    _local: LocalMoves | None

    def __init__(self, scene: Scene) -> None:
        """Begin a play of ``scene``."""
        self.scene = scene
        self.reset()

    # -- playing -----------------------------------------------------------------------------------

    def reset(self) -> str:
        """Begin anew and return the intro."""
        self.restore(self.scene.initial)
        self.won = self.scene.goal.holds(self)
        return self.intro

    def step(self, command: str) -> str:
        """Carry out a command and return the answer.

        Args:
            command: Blanks around it are ignored; else it must be admissible to the letter. Anything
                else is answered ``"Nothing happens."`` and changes nothing.
        """
        move = self.find(command)
        self.last = move
        if move is None:
            return NOTHING_HAPPENS
        return _DO[move.verb](self, move.item, move.receptacle)

    def find(self, command: str) -> Move | None:
        """Return the move that a command would make now, or None if it is not admissible."""
        command = command.strip()
        receptacle = self.scene.goto.get(command)
        if receptacle is None:
            return self._local_moves().moves.get(command)
        if self.scene.receptacle_location[receptacle] == self.location:
            return None
        return Move("go to", -1, receptacle)

    def admissible(self) -> list[str]:
        """Return the commands that something would come of, sorted."""
        return list(self._local_moves().commands)

    @property
    def score(self) -> int:
        """1 if the goal is reached, else 0."""
        return int(self.won)

    @property
    def intro(self) -> str:
        """The text an episode begins with."""
        scene = self.scene
        if scene.receptacles_at[self.location]:
            view = self._look(-1, -1)
        else:
            everything = [
                name for name, at in zip(scene.receptacle_names, scene.receptacle_location, strict=True) if at >= 0
            ]
            view = _in_the_middle(everything)
        return f"{WELCOME}\n\n{view}\n\nYour task is to: {scene.instruction}."

    # -- branching ---------------------------------------------------------------------------------

    def state(self) -> GameState:
        """Return the current state: a small immutable record."""
        return GameState(
            self.location, self.held, self.hands_full, self.opened, tuple(self.contents), tuple(self.lying),
            tuple(self.taken_from), self.hot, self.cool, self.clean, self.sliced, self.toggled, self.on, self.won,
        )  # fmt: skip

    def restore(self, state: GameState) -> None:
        """Go back to a state of :meth:`state` of the same scene."""
        (
            self.location, self.held, self.hands_full, self.opened, contents, lying,
            taken_from, self.hot, self.cool, self.clean, self.sliced, self.toggled, self.on, self.won,
        ) = state  # fmt: skip
        self.contents, self.lying, self.taken_from = list(contents), list(lying), list(taken_from)
        self.last = None
        self._local = None

    # -- what can be done --------------------------------------------------------------------------

    def accessible(self, receptacle: int) -> bool:
        """Whether a receptacle stands open, or does not close."""
        return not self.scene.openable >> receptacle & 1 or bool(self.opened >> receptacle & 1)

    def visible(self) -> int:
        """Mask of the objects the agent can see: in its hands, and in what stands open here."""
        seen = self.held
        for receptacle in self.scene.receptacles_at[self.location]:
            if self.accessible(receptacle):
                seen |= self.contents[receptacle]
        return seen

    def _local_moves(self) -> LocalMoves:
        if self._local is None:
            self._local = local_moves(self)
        return self._local

    # -- what comes of it --------------------------------------------------------------------------

    def _changed(self) -> None:
        self._local = None
        self.won = self.scene.goal.holds(self)

    def _look(self, _item: int, _receptacle: int) -> str:
        scene, here = self.scene, self.location
        receptacles = scene.receptacles_at[here]
        if not receptacles:
            return _in_the_middle([])
        lying = [
            f"a {scene.object_names[item]}"
            for item in bits(self.lying[here])
            for receptacle in receptacles
            if self.taken_from[receptacle] >> item & 1
        ]
        facing = listing([scene.receptacle_names[receptacle] for receptacle in receptacles])
        return f"You are facing the {facing}. Next to it, you see {listing(lying)}."

    def _inventory(self, _item: int, _receptacle: int) -> str:
        if not self.hands_full:
            return "You are not carrying anything."
        return f"You are carrying: {self._things(self.held)}."

    def _help(self, _item: int, _receptacle: int) -> str:
        return HELP.format(put=self.scene.words.put_command.format(o="(object)", r="(receptacle)"))

    def _things(self, mask: int) -> str:
        names = self.scene.object_names
        return listing([f"a {names[item]}" for item in bits(mask)])

    def _examine_receptacle(self, _item: int, receptacle: int) -> str:
        name = self.scene.receptacle_names[receptacle]
        if not self.scene.openable >> receptacle & 1:
            return f"On the {name}, you see {self._things(self.contents[receptacle])}."
        if self.opened >> receptacle & 1:
            return f"The {name} is open. In it, you see {self._things(self.contents[receptacle])}."
        return f"The {name} is closed."

    def _examine_object(self, item: int, _receptacle: int) -> str:
        name, inside = self.scene.object_names[item], self.scene.inside[item]
        if inside is not None:
            return f"This is a normal {name}. In it, you see {inside}."
        hot, cool, clean, sliced = (flag >> item & 1 for flag in (self.hot, self.cool, self.clean, self.sliced))
        if hot or cool or clean:
            # The grammar says "cold" of what is cool and nothing else.
            warmth = "hot" if hot else "cool" if clean or sliced else "cold"
            words = f"{warmth} and clean" if clean and (hot or cool) else "clean" if clean else warmth
            return f"This is a {words} {'sliced ' if sliced else ''}{name}."
        if self.scene.toggleable & self.toggled & 1 << item:
            return f"This {name} is on."
        if sliced and self.scene.sliceable >> item & 1:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _go_to(self, _item: int, receptacle: int) -> str:
        scene = self.scene
        self.location = scene.receptacle_location[receptacle]
        self._changed()
        head = scene.words.goto.format(r=scene.receptacle_names[receptacle], l=scene.location_names[self.location])
        return head + self._examine_receptacle(-1, receptacle)

    def _open(self, _item: int, receptacle: int) -> str:
        self.opened |= 1 << receptacle
        self._changed()
        head = self.scene.words.open.format(r=self.scene.receptacle_names[receptacle])
        return head + self._examine_receptacle(-1, receptacle)

    def _close(self, _item: int, receptacle: int) -> str:
        self.opened &= ~(1 << receptacle)
        self._changed()
        return self.scene.words.close.format(r=self.scene.receptacle_names[receptacle])

    def _take(self, item: int, receptacle: int) -> str:
        bit = 1 << item
        self.contents[receptacle] &= ~bit
        self.taken_from[receptacle] |= bit
        self.lying[self.location] &= ~bit
        self.held |= bit
        self.hands_full = True
        self._changed()
        return self._say(self.scene.words.take, item, receptacle)

    def _put(self, item: int, receptacle: int) -> str:
        bit = 1 << item
        self.contents[receptacle] |= bit
        self.taken_from[receptacle] &= ~bit
        self.lying[self.location] |= bit
        self.held &= ~bit
        self.hands_full = False
        self._changed()
        return self._say(self.scene.words.put, item, receptacle)

    def _heat(self, item: int, receptacle: int) -> str:
        self.hot |= 1 << item
        self.cool &= ~(1 << item)
        self._changed()
        return self._say(self.scene.words.heat, item, receptacle)

    def _cool(self, item: int, receptacle: int) -> str:
        self.cool |= 1 << item
        self.hot &= ~(1 << item)
        self._changed()
        return self._say(self.scene.words.cool, item, receptacle)

    def _clean(self, item: int, receptacle: int) -> str:
        self.clean |= 1 << item
        self._changed()
        return self._say(self.scene.words.clean, item, receptacle)

    def _slice(self, item: int, knife: int) -> str:
        self.sliced |= 1 << item
        self._changed()
        names = self.scene.object_names
        return self.scene.words.slice.format(o=names[item], k=names[knife])

    def _use(self, item: int, _receptacle: int) -> str:
        # PDDL isToggled is never unset, so the grammar's "turn off" is out of reach.
        self.on ^= 1 << item
        self.toggled |= 1 << item
        self._changed()
        return f"You turn on the {self.scene.object_names[item]}."

    def _say(self, sentence: str, item: int, receptacle: int) -> str:
        return sentence.format(o=self.scene.object_names[item], r=self.scene.receptacle_names[receptacle])


_DO: dict[str, Callable[[Game, int, int], str]] = {
    "look": Game._look,
    "inventory": Game._inventory,
    "help": Game._help,
    "examine receptacle": Game._examine_receptacle,
    "examine object": Game._examine_object,
    "go to": Game._go_to,
    "open": Game._open,
    "close": Game._close,
    "take": Game._take,
    "put": Game._put,
    "heat": Game._heat,
    "cool": Game._cool,
    "clean": Game._clean,
    "slice": Game._slice,
    "use": Game._use,
}


def _in_the_middle(receptacle_names: list[str]) -> str:
    around = listing([f"a {name}" for name in receptacle_names])
    return f"You are in the middle of a room. Looking quickly around you, you see {around}."
