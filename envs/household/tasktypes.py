"""The six ALFRED task types as a typed view of a goal, for planning and for sub-goals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from turnwise.envs.household.pddl import typed_names
from turnwise.envs.household.problem import SExpr

Treatment = Literal["hot", "cool", "clean"]

TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
_TREATED: dict[str, tuple[Treatment, str, str]] = {
    "ishot": ("hot", "heatable", "pick_heat_then_place_in_recep"),
    "iscool": ("cool", "coolable", "pick_cool_then_place_in_recep"),
    "isclean": ("clean", "cleanable", "pick_clean_then_place_in_recep"),
}
_ABILITIES = {ability for _, ability, _ in _TREATED.values()}


@dataclass(frozen=True, kw_only=True)
class GoalSpec:
    """A goal of one of the six ALFRED task types.

    Types of things are the game's own lower-case ids, such as ``"potatotype"``.

    Attributes:
        task_type: ALFRED's name, one of :data:`TASK_TYPES`.
        object_type: What is to be placed, or looked at.
        receptacle_type: Where it goes, or None when looking at it.
        treatment: The state it must be in, or None.
        lamp_type: The lamp to look at it by, or None.
        count: How many different objects must be in one receptacle.
    """

    task_type: str
    object_type: str
    receptacle_type: str | None = None
    treatment: Treatment | None = None
    lamp_type: str | None = None
    count: int = 1


def goal_spec(goal: SExpr) -> GoalSpec | None:
    """Return the typed view of a goal, or None if it is not one of the six task types.

    The goal is read as a set of conditions on existentially quantified variables, so it does not
    matter how quantifiers are nested or conditions ordered.
    """
    facts = _Flat()
    if not facts.read(goal, {}):
        return None
    if "istoggled" in facts.of:
        return _look_spec(facts)
    return _place_spec(facts)


class _Flat:
    """The atoms of a purely existential goal, per predicate, with variables renamed apart."""

    def __init__(self) -> None:
        self.of: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        self._count = 0

    def read(self, expression: SExpr, scope: dict[str, str]) -> bool:
        """Collect the atoms; False if there is anything but exists, and, atoms and ``not =``."""
        if not isinstance(expression, tuple) or not expression or not isinstance(expression[0], str):
            return expression == ()
        head, parts = expression[0], expression[1:]
        if head == "and":
            return all(self.read(part, scope) for part in parts)
        if head == "exists":
            return self._read_exists(parts, scope)
        if head == "not":
            inner = parts[0] if parts else ()
            return isinstance(inner, tuple) and inner[:1] == ("=",) and self._add("differ", inner[1:], scope)
        return head not in ("or", "forall", "imply", "=") and self._add(head, parts, scope)

    def _read_exists(self, parts: tuple[SExpr, ...], scope: dict[str, str]) -> bool:
        if len(parts) != 2 or not isinstance(parts[0], tuple):
            return False
        inner = dict(scope)
        for name, _ in typed_names(parts[0]):
            self._count += 1
            inner[name] = f"{name}#{self._count}"
        return self.read(parts[1], inner)

    def _add(self, predicate: str, arguments: tuple[SExpr, ...], scope: dict[str, str]) -> bool:
        words = tuple(scope.get(word, word) for word in arguments if isinstance(word, str))
        self.of[predicate].append(words)
        return len(words) == len(arguments)

    def only(self, *predicates: str) -> bool:
        """Whether no other predicate occurs."""
        return set(self.of) <= set(predicates)

    def subjects(self, predicate: str) -> set[str]:
        """First arguments of the predicate's atoms."""
        return {words[0] for words in self.of.get(predicate, ()) if words}

    def type_of(self, predicate: str, subjects: set[str]) -> str | None:
        """The one type of all the subjects, or None."""
        pairs: Iterator[tuple[str, ...]] = (words for words in self.of.get(predicate, ()) if len(words) == 2)
        typed = [(subject, kind) for subject, kind in pairs if subject in subjects]
        kinds = {kind for _, kind in typed}
        return kinds.pop() if len(kinds) == 1 and {subject for subject, _ in typed} == subjects else None


def _place_spec(facts: _Flat) -> GoalSpec | None:
    treated = [name for name in _TREATED if name in facts.of]
    if len(treated) > 1 or not facts.only(
        "inreceptacle", "objecttype", "receptacletype", "differ", *treated, *_ABILITIES
    ):
        return None
    items, places = facts.subjects("inreceptacle"), {words[-1] for words in facts.of.get("inreceptacle", ())}
    object_type, receptacle_type = facts.type_of("objecttype", items), facts.type_of("receptacletype", places)
    if len(places) != 1 or object_type is None or receptacle_type is None or facts.subjects("objecttype") != items:
        return None
    if treated:
        treatment, ability, task_type = _TREATED[treated[0]]
        fits = len(items) == 1 and facts.subjects(treated[0]) == items and _abilities(facts) <= {(ability, *items)}
    else:
        treatment = None
        task_type = "pick_and_place_simple" if len(items) == 1 else "pick_two_obj_and_place"
        pairs = [set(words) for words in facts.of.get("differ", ())]
        fits = (len(items) == 1 and not pairs) or (len(items) == 2 and pairs == [items])
        fits = fits and not _abilities(facts)
    if not fits:
        return None
    return GoalSpec(
        task_type=task_type,
        object_type=object_type,
        receptacle_type=receptacle_type,
        treatment=treatment,
        count=len(items),
    )


def _abilities(facts: _Flat) -> set[tuple[str, ...]]:
    return {(name, subject) for name in _ABILITIES for subject in facts.subjects(name)}


def _look_spec(facts: _Flat) -> GoalSpec | None:
    lamps, held = facts.subjects("istoggled"), {words[-1] for words in facts.of.get("holds", ())}
    here = facts.subjects("inreceptacle") | facts.subjects("objectatlocation")
    known = ("istoggled", "toggleable", "objecttype", "receptacleatlocation", "atlocation", "inreceptacle")
    if len(lamps) != 1 or len(held) != 1 or here != lamps or not facts.only(*known, "objectatlocation", "holds"):
        return None
    lamp_type, object_type = facts.type_of("objecttype", lamps), facts.type_of("objecttype", held)
    if lamp_type is None or object_type is None:
        return None
    return GoalSpec(task_type="look_at_obj_in_light", object_type=object_type, lamp_type=lamp_type)
