"""An expert that knows only what it has read: it searches where common sense says, and remembers.

It is the honest counterpart of the planner: it gets the same texts as a language model, never the
admissible commands or the state of the game. What it learns comes from the sentences themselves, so it
also keeps up when somebody else plays some of the turns.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from turnwise.envs.household.catalog import OPENABLE, by_lower_name
from turnwise.envs.household.instructions import Request, find_instruction, parse_instruction
from turnwise.protocols import Info

NOTHING_HAPPENS = "Nothing happens."

_THING = r"\w+ \d+"
_ROOM = re.compile(r"Looking quickly around you, you see (.*?)\.")
# Old games arrive "at loc 12"; which receptacle that is, only the next sentence says.
_ARRIVE = re.compile(rf"You arrive at {_THING}\. (?:On the|The) ({_THING})")
_FACING = re.compile(rf"You are facing the .*?({_THING})\.")
_OPEN = re.compile(rf"The ({_THING}) is open\.")
_CLOSED = re.compile(rf"The ({_THING}) is closed\.|You close the ({_THING})\.")
_CONTENTS = re.compile(rf"(?:On the ({_THING})|The ({_THING}) is open\. In it), you see (.*?)\.")
_TAKE = re.compile(rf"You pick up the ({_THING}) from the ({_THING})\.")
_PUT = re.compile(rf"You (move|put) the ({_THING}) (?:to|in/on|in|on) the ({_THING})\.")
_TREAT = re.compile(rf"You (heat|cool|clean) the ({_THING}) using the ({_THING})\.")
_CARRYING = re.compile(rf"You are carrying: an? ({_THING})\.")
# The two ways in which releases of the game spell the command that puts a thing down.
_PUT_FORMS = {"move": "move {} to {}", "put": "put {} in/on {}"}
_NAMES = re.compile(rf"\ban? ({_THING})")

_OPENABLE = frozenset(name.lower() for name in OPENABLE)
# Task type to the command of its treatment and the device that does it.
_TREATMENTS = {
    "pick_clean_then_place_in_recep": ("clean", "sinkbasin"),
    "pick_heat_then_place_in_recep": ("heat", "microwave"),
    "pick_cool_then_place_in_recep": ("cool", "fridge"),
}
_UNDONE_BY = {"heat": "cool", "cool": "heat"}

# How much of the chance that an object lies somewhere goes to the places where one looks first, to the
# other places that hold it, and to all the rest.
_USUAL, _ALSO, _ANYWHERE = 0.7, 0.29, 0.01


def kind_of(name: str) -> str:
    """Return the type of a thing: ``"cabinet 12"`` is a ``"cabinet"``."""
    return name.rpartition(" ")[0]


class Memory:
    """What the texts of one episode have told so far.

    Attributes:
        receptacles: The room's receptacles, in the order of the first text.
        contents: What lay in a receptacle when it was last seen.
        opened: Whether a receptacle was last seen open (True) or closed (False).
        here: The receptacle the agent stands at, or None when unsure.
        held: What the agent carries, or None.
        treatments: Treatments (``"heat"``, ``"cool"``, ``"clean"``) in force for an object.
        put_verb: ``"move"`` or ``"put"``, once a text has shown which one the game takes.
    """

    def __init__(self, first_observation: str) -> None:
        """Read the first observation of an episode."""
        room = _ROOM.search(first_observation)
        self.receptacles: list[str] = _NAMES.findall(room.group(1)) if room else []
        self.contents: dict[str, list[str]] = {}
        self.opened: dict[str, bool] = {}
        self.here: str | None = None
        self.held: str | None = None
        self.treatments: dict[str, set[str]] = {}
        self.put_verb: str | None = None

    def read(self, text: str) -> None:
        """Take in what a text says."""
        if match := _ARRIVE.search(text) or _FACING.search(text):
            self.here = match.group(1)
        if match := _OPEN.search(text):
            self.opened[match.group(1)] = True
        if match := _CLOSED.search(text):
            self.opened[match.group(1) or match.group(2)] = False
        if match := _CONTENTS.search(text):
            self.contents[match.group(1) or match.group(2)] = _NAMES.findall(match.group(3))
        if match := _TAKE.search(text):
            self.held = match.group(1)
            self.forget(self.held)
        if match := _PUT.search(text):
            self.put_verb = match.group(1)
            self._put_down(match.group(2), match.group(3))
        if match := _TREAT.search(text):
            done = self.treatments.setdefault(match.group(2), set())
            done.discard(_UNDONE_BY.get(match.group(1), ""))
            done.add(match.group(1))
        if match := _CARRYING.search(text):
            self.held = match.group(1)
        elif "You are not carrying anything." in text:
            self.held = None

    def _put_down(self, thing: str, receptacle: str) -> None:
        self.held = None
        self.forget(thing)
        self.contents.setdefault(receptacle, []).append(thing)

    def forget(self, thing: str) -> None:
        """Drop a thing from wherever it was seen."""
        for inside in self.contents.values():
            if thing in inside:
                inside.remove(thing)

    def places_of(self, kind: str) -> list[tuple[str, str]]:
        """Return (thing, receptacle) for all things of a type that were seen lying somewhere."""
        return [(thing, place) for place, inside in self.contents.items() for thing in inside if kind_of(thing) == kind]


class ExplorerExpert:
    """Plays by the observations alone (keeps the Expert protocol)."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Make an explorer.

        Args:
            rng: Decides between places that look equally good.
        """
        self._rng = rng
        self._begin("")

    def _begin(self, observation: str) -> None:
        self._memory = Memory(observation)
        instruction = find_instruction(observation)
        self._request = parse_instruction(instruction) if instruction else None
        self._luck = {place: float(self._rng.random()) for place in self._memory.receptacles}
        self._failures: dict[str, int] = {}
        self._last = ""

    def act(self, observation: Any, info: Info) -> str:
        """Return the next command.

        Args:
            observation: The text of the last turn; a text with a task begins a new episode.
            info: Not looked at.
        """
        text = str(observation)
        if find_instruction(text) is not None:
            self._begin(text)
        if text.lstrip().startswith(NOTHING_HAPPENS):
            command = self._after_failure()
        else:
            self._memory.read(text)
            command = ""
        self._last = command or self._choose()
        return self._last

    def _after_failure(self) -> str:
        """Make sense of a refused command: be less sure of where one stands and what one carries."""
        failed = self._last
        self._failures[failed] = self._failures.get(failed, 0) + 1
        if failed.startswith("go to "):
            # Walking is refused only to where one stands: some receptacles share a spot.
            self._memory.here = failed[len("go to ") :]
            return ""
        if failed.startswith("move ") and self._memory.put_verb is None and self._failures[failed] == 1:
            return ""  # perhaps this release of the game says "put"
        self._memory.here = None
        if failed.startswith("take ") and self._refused(failed):
            self._memory.forget(failed[len("take ") :].partition(" from ")[0])
        return "inventory" if failed not in ("", "inventory") else ""

    def _refused(self, command: str) -> bool:
        """Whether a command was in vain twice: once may have been for standing elsewhere."""
        return self._failures.get(command, 0) > 1

    def _choose(self) -> str:
        request = self._request
        if request is None:
            return "look"
        held = self._memory.held
        if held is None:
            return self._fetch(request)
        if kind_of(held) != request.target:
            return self._put_away(held)
        if request.lamp:
            return self._light(request)
        treatment, device = _TREATMENTS.get(request.task_type, ("", ""))
        if treatment and treatment not in self._memory.treatments.get(held, ()):
            place = self._nearest(device)
            return self._at(place, f"{treatment} {held} with {place}")
        return self._deliver(held, request)

    def _fetch(self, request: Request) -> str:
        """Go and take the target, or search for it."""
        known = self._memory.places_of(request.target)
        if request.task_type in ("pick_and_place_simple", "pick_two_obj_and_place"):
            # What lies at its destination stays there; of two, both must be in one receptacle.
            done = self._destination(request)
            known = [(thing, place) for thing, place in known if place != done]
        if not known:
            return self._search(request.target)
        treatment = _TREATMENTS.get(request.task_type, ("", ""))[0]
        thing, place = max(known, key=lambda pair: treatment in self._memory.treatments.get(pair[0], ()))
        return self._at(place, f"take {thing} from {place}", opened=True)

    def _light(self, request: Request) -> str:
        lamps = self._memory.places_of(request.lamp)
        if not lamps:
            return self._search(request.lamp)
        lamp, place = lamps[0]
        return self._at(place, f"use {lamp}")

    def _deliver(self, held: str, request: Request) -> str:
        return self._put_down(held, self._destination(request))

    def _put_down(self, held: str, place: str | None) -> str:
        forms = [form.format(held, place) for form in self._put_forms()]
        return self._at(place, min(forms, key=lambda form: self._failures.get(form, 0)), opened=True)

    def _put_forms(self) -> list[str]:
        known = self._memory.put_verb
        return [_PUT_FORMS[known]] if known else list(_PUT_FORMS.values())

    def _takes(self, place: str, thing: str) -> bool:
        """Whether a place has not refused a thing so far."""
        return not all(self._refused(form.format(thing, place)) for form in self._put_forms())

    def _destination(self, request: Request) -> str | None:
        """Return the destination that holds most of the targets already, the first one otherwise."""
        held = self._memory.held
        places = [p for p in self._of_kind(request.receptacle) if held is None or self._takes(p, held)]
        if not places:
            return None
        inside = [place for _, place in self._memory.places_of(request.target)]
        return max(places, key=lambda place: (inside.count(place), -places.index(place)))

    def _put_away(self, held: str) -> str:
        """Put down something that the task does not need, where it belongs if possible."""
        known = by_lower_name().get(kind_of(held))
        fits = [place.lower() for place in known.fits] if known else []
        places = [place for place in self._memory.receptacles if self._takes(place, held)]
        best = min(places, key=lambda place: (kind_of(place) not in fits, self._luck[place]), default=None)
        return self._put_down(held, best)

    def _of_kind(self, kind: str) -> list[str]:
        return [place for place in self._memory.receptacles if kind_of(place) == kind]

    def _nearest(self, kind: str) -> str | None:
        places = self._of_kind(kind)
        return self._memory.here if self._memory.here in places else next(iter(places), None)

    def _at(self, place: str | None, command: str, *, opened: bool = False) -> str:
        """Return the next command on the way to doing something at a place (and in it, if ``opened``)."""
        if place is None:
            return "look"
        if self._memory.here != place:
            return f"go to {place}"
        if opened and kind_of(place) in _OPENABLE and place not in self._memory.opened:
            return f"examine {place}"
        if opened and self._memory.opened.get(place) is False:
            return f"open {place}"
        return command

    def _search(self, kind: str) -> str:
        """Look into the place where a thing of this type most likely lies, per turn that looking costs."""
        places = [place for place in self._memory.receptacles if place not in self._memory.contents]
        places = [place for place in places if not self._refused(f"open {place}")]
        if not places:
            self._memory.contents.clear()  # nothing found: what was seen is out of date, start over
            return f"go to {self._memory.receptacles[0]}" if self._memory.receptacles else "look"
        here = self._memory.here
        if here in places:
            return f"open {here}" if self._memory.opened.get(here) is False else f"examine {here}"
        chance = {name: self._likelihood(kind, name) for name in dict.fromkeys(map(kind_of, places))}
        best = max(places, key=lambda place: (chance[kind_of(place)], self._luck[place]))
        return f"go to {best}"

    def _likelihood(self, kind: str, place_kind: str) -> float:
        """Return how likely one place of a type holds a thing, per turn that looking into it costs."""
        here = dict.fromkeys(kind_of(place) for place in self._memory.receptacles)
        known = by_lower_name().get(kind)
        usual = [name.lower() for name in known.usual if name.lower() in here] if known else []
        also = [name.lower() for name in known.also if name.lower() in here] if known else []
        rest = [name for name in here if name not in usual and name not in also]
        for share, kinds in ((_USUAL, usual), (_ALSO, also), (_ANYWHERE, rest)):
            if place_kind in kinds:
                turns = 2 if place_kind in _OPENABLE else 1
                return share / len(kinds) / len(self._of_kind(place_kind)) / turns
        return 0.0
