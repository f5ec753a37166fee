"""Exact beliefs in the household: where can the object of the task still be, given what was read?

Everything is read from the texts of the trajectory, as the agent read it.
"""

from __future__ import annotations

import math
import re

from turnwise.errors import JudgeError
from turnwise.protocols import Belief, BeliefRequest
from turnwise.records import Json, Trajectory
from turnwise.rewards.gain.contexts import observation_after

_THING = r"\w+ \d+"
_ROOM = re.compile(r"Looking quickly around you, you see (.*?)\.")
_CONTENTS = re.compile(rf"(?:On the ({_THING})|The ({_THING}) is open\. In it), you see (.*?)\.")
# Sentences in which the world says what is there. A refusal may quote the agent's own words, which prove nothing.
_SHOWN = re.compile(rf"you see .*?\.|You pick up the {_THING}|You are carrying: .*?\.", re.IGNORECASE)
_NAMES = re.compile(rf"\ban? ({_THING})")
_PICKED = re.compile(rf"You pick up the ({_THING})")
_REFUSED = "Nothing happens."
# "put two mug in desk", "heat some egg and put it in fridge", "look at the vase under the desklamp", ...
_TASK = re.compile(
    r"(?:put|find|clean|heat|cool|look at|examine)\s+(?:(?P<two>two)\s+|(?:an?|the|some)\s+)?(?:(?:clean|hot|cool)\s+)?"
    r"(?P<object>\w+)\s+(?:in|on|and|under|with)\b",
    re.IGNORECASE,
)


class HouseholdBeliefs:
    """The posterior over where the task's objects are, in closed form (keeps the BeliefScorer protocol).

    Prior: each object the task asks for (one, or two for ``pick_two_obj_and_place``) is in one of the
    room's ``n`` receptacles, uniformly and independently. A receptacle whose contents were read without
    it is excluded. With ``k`` receptacles left, an object not yet found is in its true place with
    probability ``1 / k`` *wherever that is*, since the true place is never excluded; so no ground truth
    is needed. An object that was seen is where it was seen: 1. The belief is the product over the
    objects asked for.

    Simplifications, the agent's and not the world's: any object of the right type will do, nothing is
    known of how common the type is, and usual places are not preferred.
    """

    def beliefs(self, request: BeliefRequest) -> tuple[Belief, ...]:
        """Return the belief before the first turn and after each of ``request.turns``.

        Raises:
            JudgeError: The texts do not say what there is or what is asked for, or every receptacle was
                read without the object.
        """
        trajectory = request.trajectory
        if not trajectory.turns:
            raise JudgeError("no turn was played")
        target, wanted = _asked_for(trajectory)
        first = trajectory.turns[0].observation
        room = _ROOM.search(first)
        places = dict.fromkeys(_NAMES.findall(room.group(1))) if room else {}
        if not places:
            raise JudgeError("the first observation does not list the room's receptacles")
        found: dict[str, None] = {}
        excluded: set[str] = set()
        beliefs = [_belief(target, wanted, len(places), found, excluded)]
        for turn in trajectory.turns[: request.turns]:
            _take_in(observation_after(trajectory, turn.index), target, places, found, excluded)
            beliefs.append(_belief(target, wanted, len(places), found, excluded))
        return tuple(beliefs)

    def describe(self) -> dict[str, Json]:
        """Return the options; there are none."""
        return {}


def _asked_for(trajectory: Trajectory) -> tuple[str, int]:
    """Return the object's type in lower case, and how many of it the task asks for."""
    task = trajectory.task
    match = _TASK.match(task.instruction.strip())
    target = str(task.data.get("target") or (match.group("object") if match else "")).lower()
    if not target:
        raise JudgeError(f"the task says {task.instruction!r}, and its data has no 'target': what to look for?")
    two = task.type.startswith("pick_two") or (not task.type and match is not None and match.group("two"))
    return target, 2 if two else 1


def _take_in(text: str, target: str, places: dict[str, None], found: dict[str, None], excluded: set[str]) -> None:
    """Read one observation: what was found, and which receptacles hold no further one."""
    if text.lstrip().startswith(_REFUSED):
        return
    for sentence in _SHOWN.findall(text):
        for name in [*_NAMES.findall(sentence), *_PICKED.findall(sentence)]:
            if name.rpartition(" ")[0] == target:
                found[name] = None
    # Whatever lies in a receptacle that was read has been seen, so an object still missing is not there.
    for on, inside, _ in _CONTENTS.findall(text):
        place = on or inside
        if place in places:
            excluded.add(place)


def _belief(target: str, wanted: int, places: int, found: dict[str, None], excluded: set[str]) -> Belief:
    missing = max(0, wanted - len(found))
    left = places - len(excluded)
    if missing and not left:
        raise JudgeError(f"all {places} receptacles were read without a {target}: it is nowhere that the texts tell of")
    logprob = -missing * math.log(left) if missing else 0.0
    evidence: dict[str, Json] = {"places_left": left, "missing": missing}
    if found:
        evidence["found"] = sorted(found)
    return Belief(probability=math.exp(logprob), logprob=logprob, evidence=evidence)
