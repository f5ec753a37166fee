"""Goals: a PDDL condition compiled once into a fast check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from turnwise.envs.household.pddl import typed_names, write_sexpr
from turnwise.envs.household.predicates import DYNAMIC, KINDS, PREDICATES, Kind
from turnwise.envs.household.problem import Fact, SExpr
from turnwise.envs.household.tasktypes import GoalSpec, goal_spec
from turnwise.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from turnwise.envs.household.game import Game

Check: TypeAlias = Callable[["Game", list[int]], bool]
"""Whether a condition holds in a game, given the entity index in each slot."""


@dataclass(frozen=True)
class Goal:
    """A compiled goal.

    Attributes:
        spec: Its typed view, or None for goals outside the six task types.
        object_types: Every object type it names.
    """

    spec: GoalSpec | None
    object_types: tuple[str, ...]
    _check: Check
    _slots: tuple[int, ...]

    def holds(self, game: Game) -> bool:
        """Whether the goal is reached in the game's current state."""
        return self._check(game, list(self._slots))


def compile_goal(goal: SExpr, *, index: Mapping[Kind, Mapping[str, int]], facts: Sequence[Fact]) -> Goal:
    """Compile a goal.

    Conditions on static predicates are decided here: each quantified variable keeps only the
    entities that its static conditions allow, so what is left to check at play time is little.
    ``?x - object`` ranges over the declared objects.

    Args:
        goal: The condition: and, or, not, imply, exists, forall, ``=`` and predicates of the domain.
        index: Kind to entity id to its number, for every declared entity.
        facts: What holds at the start; the source of the static predicates.

    Raises:
        ConfigError: The goal uses an unknown connective, predicate, entity or variable.
    """
    compiler = _Compiler(index, facts)
    check = compiler.condition(goal, {})
    types = sorted({args[1] for args in _atoms(goal, "objecttype") if args[1] in index["otype"]})
    return Goal(spec=goal_spec(goal), object_types=tuple(types), _check=check, _slots=tuple(compiler.slots))


def _atoms(expression: SExpr, predicate: str) -> Iterator[tuple[str, str]]:
    """Yield the argument pairs of every atom of a binary ``predicate`` in the expression."""
    if not isinstance(expression, tuple):
        return
    if len(expression) == 3 and expression[0] == predicate:
        _, first, second = expression
        if isinstance(first, str) and isinstance(second, str):
            yield first, second
    for part in expression:
        yield from _atoms(part, predicate)


_DYNAMIC_CHECKS: dict[str, Callable[[Game, int, int], object]] = {
    "atlocation": lambda game, agent, location: game.location == location,
    "objectatlocation": lambda game, item, location: game.lying[location] >> item & 1,
    "opened": lambda game, receptacle, _: game.opened >> receptacle & 1,
    "inreceptacle": lambda game, item, receptacle: game.contents[receptacle] >> item & 1,
    "holds": lambda game, agent, item: game.held >> item & 1,
    "holdsany": lambda game, agent, _: game.hands_full,
    "isclean": lambda game, item, _: game.clean >> item & 1,
    "ishot": lambda game, item, _: game.hot >> item & 1,
    "iscool": lambda game, item, _: game.cool >> item & 1,
    "ison": lambda game, item, _: game.on >> item & 1,
    "istoggled": lambda game, item, _: game.toggled >> item & 1,
    "issliced": lambda game, item, _: game.sliced >> item & 1,
}


@dataclass(frozen=True)
class _Term:
    """A variable or constant: where its value is kept, and what kind of entity it is."""

    slot: int
    kind: Kind


Scope: TypeAlias = Mapping[str, _Term]


class _Compiler:
    """Turns conditions into checks over a list of slots: one per variable and one per constant."""

    def __init__(self, index: Mapping[Kind, Mapping[str, int]], facts: Sequence[Fact]) -> None:
        self.slots: list[int] = []
        self._index = index
        self._constants: dict[tuple[Kind, str], _Term] = {}
        self._facts = facts
        self._tables: dict[str, frozenset[tuple[int, ...]]] = {}

    def condition(self, expression: SExpr, scope: Scope) -> Check:
        if not isinstance(expression, tuple) or (expression and not isinstance(expression[0], str)):
            raise ConfigError(f"expected a PDDL condition, got {expression!r}")
        if not expression or expression[0] == "and":
            return _all([self.condition(part, scope) for part in expression[1:]])
        head, parts = expression[0], expression[1:]
        if head == "or":
            return _any([self.condition(part, scope) for part in parts])
        if head in ("exists", "forall"):
            return self._quantified(head, parts, scope)
        if head == "imply" and len(parts) == 2:
            return _any([_not(self.condition(parts[0], scope)), self.condition(parts[1], scope)])
        if head == "not" and len(parts) == 1:
            return _not(self.condition(parts[0], scope))
        return self._atom(expression, scope)

    def _quantified(self, head: str, parts: tuple[SExpr, ...], scope: Scope) -> Check:
        if head == "exists":
            return self._search(*self._flatten(parts, scope))
        variables, inner = self._bind(parts, scope)
        return _not(self._search(variables, [(("not", parts[1]), inner)]))

    def _bind(self, parts: tuple[SExpr, ...], scope: Scope) -> tuple[list[_Term], Scope]:
        """Give each variable of a quantifier a slot; return them and the scope of its condition."""
        if len(parts) != 2 or not isinstance(parts[0], tuple):
            raise ConfigError("a quantifier in the goal reads '(exists (?x - type ...) condition)'")
        inner = dict(scope)
        variables: list[_Term] = []
        for name, kind in typed_names(parts[0]):
            if not name.startswith("?") or kind not in KINDS:
                raise ConfigError(f"goal variable {name!r} of type {kind!r}: expected '?x' of one of {list(KINDS)}")
            term = _Term(len(self.slots), kind)
            self.slots.append(-1)
            variables.append(term)
            inner[name] = term
        return variables, inner

    def _flatten(self, parts: tuple[SExpr, ...], scope: Scope) -> tuple[list[_Term], list[tuple[SExpr, Scope]]]:
        """Merge an ``exists`` with those right inside it: more conditions can then narrow a variable."""
        variables, inner = self._bind(parts, scope)
        conjuncts: list[tuple[SExpr, Scope]] = []
        for conjunct in _conjuncts(parts[1]):
            if isinstance(conjunct, tuple) and conjunct[0] == "exists":
                more, nested = self._flatten(conjunct[1:], inner)
                variables += more
                conjuncts += nested
            else:
                conjuncts.append((conjunct, inner))
        return variables, conjuncts

    def _search(self, variables: list[_Term], conjuncts: list[tuple[SExpr, Scope]]) -> Check:
        """Build a nested loop over the variables that tests each conjunct as early as possible."""
        levels: list[list[Check]] = [[] for _ in range(len(variables) + 1)]
        domains = [list(self._index[variable.kind].values()) for variable in variables]
        for conjunct, scope in conjuncts:
            check = self.condition(conjunct, scope)
            used = [n for n, variable in enumerate(variables) if _mentions(conjunct, variable, scope)]
            if len(used) == 1 and self._static(conjunct, scope, variables[used[0]]):
                domains[used[0]] = self._keep(domains[used[0]], variables[used[0]], check)
            else:
                levels[used[-1] + 1 if used else 0].append(check)
        return _nested([variable.slot for variable in variables], domains, [_all(level) for level in levels])

    def _static(self, conjunct: SExpr, scope: Scope, variable: _Term) -> bool:
        """Whether the conjunct is a static atom over ``variable`` and constants only."""
        if not isinstance(conjunct, tuple) or conjunct[0] in DYNAMIC or conjunct[0] not in PREDICATES:
            return False
        return all(isinstance(word, str) and scope.get(word, variable) == variable for word in conjunct[1:])

    def _keep(self, domain: list[int], variable: _Term, check: Check) -> list[int]:
        kept = []
        slots = list(self.slots)
        for value in domain:
            slots[variable.slot] = value
            if check(_NO_GAME, slots):
                kept.append(value)
        return kept

    def _atom(self, atom: tuple[SExpr, ...], scope: Scope) -> Check:
        name, *arguments = (word if isinstance(word, str) else "" for word in atom)
        if name == "=" and len(arguments) == 2:
            kinds = {scope[word].kind for word in arguments if word in scope}
            left, right = (self._term(word, next(iter(kinds), "object"), scope, atom) for word in arguments)
            first, second = left.slot, right.slot
            return lambda game, slots: slots[first] == slots[second]
        expected = PREDICATES.get(name)
        if expected is None:
            raise ConfigError(f"the goal uses {name!r}, which is no condition here.{did_you_mean(name, PREDICATES)}")
        if len(arguments) != len(expected):
            raise ConfigError(f"the goal gives {name!r} {len(arguments)} arguments, it takes {len(expected)}")
        terms = [self._term(word, kind, scope, atom) for word, kind in zip(arguments, expected, strict=True)]
        first, second = terms[0].slot, terms[-1].slot
        if name in DYNAMIC:
            test = _DYNAMIC_CHECKS[name]
            return lambda game, slots: bool(test(game, slots[first], slots[second]))
        table = self._table(name)
        if len(terms) == 1:
            return lambda game, slots: (slots[first],) in table
        return lambda game, slots: (slots[first], slots[second]) in table

    def _term(self, word: str, kind: Kind, scope: Scope, atom: SExpr) -> _Term:
        if word.startswith("?"):
            term = scope.get(word)
            if term is None:
                raise ConfigError(f"goal variable {word!r} is used outside its quantifier in {write_sexpr(atom)}")
        else:
            number = self._index[kind].get(word)
            if number is None:
                known = did_you_mean(word, self._index[kind])
                raise ConfigError(f"the goal names the {kind} {word!r}, which the game does not have.{known}")
            term = self._constants.get((kind, word))
            if term is None:
                term = self._constants[kind, word] = _Term(len(self.slots), kind)
                self.slots.append(number)
        if term.kind != kind:
            raise ConfigError(f"goal condition {write_sexpr(atom)}: {word!r} is of type {term.kind}, expected {kind}")
        return term

    def _table(self, predicate: str) -> frozenset[tuple[int, ...]]:
        if predicate not in self._tables:
            kinds = PREDICATES[predicate]
            self._tables[predicate] = frozenset(
                tuple(self._index[kind][word] for kind, word in zip(kinds, fact[1:], strict=True))
                for fact in self._facts
                if fact[0] == predicate
            )
        return self._tables[predicate]


_NO_GAME: Game = None  # type: ignore[assignment]  # static checks look at slots only


def _conjuncts(expression: SExpr) -> list[SExpr]:
    """Flatten nested ``and`` into a list."""
    if isinstance(expression, tuple) and expression[:1] in ((), ("and",)):
        return [flat for part in expression[1:] for flat in _conjuncts(part)]
    return [expression]


def _mentions(expression: SExpr, variable: _Term, scope: Scope) -> bool:
    if isinstance(expression, tuple):
        return any(_mentions(part, variable, scope) for part in expression)
    return scope.get(expression) == variable


def _all(checks: list[Check]) -> Check:
    if not checks:
        return lambda game, slots: True
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        first, second = checks
        return lambda game, slots: first(game, slots) and second(game, slots)
    return lambda game, slots: all(check(game, slots) for check in checks)


def _any(checks: list[Check]) -> Check:
    return lambda game, slots: any(check(game, slots) for check in checks)


def _not(check: Check) -> Check:
    return lambda game, slots: not check(game, slots)


def _nested(slots: list[int], domains: list[list[int]], levels: list[Check]) -> Check:
    """Loop over the domains, outermost first; ``levels[n]`` is tested once ``n`` variables are set."""
    check = levels[-1]
    for slot, domain, outer in reversed(list(zip(slots, domains, levels[:-1], strict=True))):
        check = _loop(slot, tuple(domain), outer, check)
    return check


def _loop(slot: int, domain: tuple[int, ...], before: Check, inside: Check) -> Check:
    def check(game: Game, slots: list[int]) -> bool:
        if not before(game, slots):
            return False
        for value in domain:
            slots[slot] = value
            if inside(game, slots):
                return True
        return False

    return check
