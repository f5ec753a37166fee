"""Reading and writing PDDL problems of the ALFRED domain.

The reader takes what Fast Downward takes of a problem file and nothing more: typed objects, positive
initial facts (``=`` assignments of costs are skipped) and one goal. Everything becomes lower case,
as in Fast Downward.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from turnwise.envs.household.problem import Dialect, Fact, Problem, SExpr
from turnwise.errors import ConfigError

MAX_CHARS = 8_000_000
MAX_DEPTH = 64

_COMMENT = re.compile(r";[^\n]*")
_TOKEN = re.compile(r"[()]|[^\s()]+")
_ATOM = re.compile(r"[^\s();]+")


def parse_sexpr(text: str) -> SExpr:
    """Parse one S-expression, lower-casing it and dropping ``;`` comments.

    Args:
        text: At most :data:`MAX_CHARS` characters, nested at most :data:`MAX_DEPTH` deep.

    Raises:
        ConfigError: The text is too long, too deep, unbalanced or not one expression.
    """
    if len(text) > MAX_CHARS:
        raise ConfigError(f"a PDDL text of {len(text)} characters is too long: at most {MAX_CHARS} are read")
    if ";" in text:
        text = _COMMENT.sub("", text)
    done: list[SExpr] = []
    stack: list[list[SExpr]] = [done]
    top = done
    for word in _TOKEN.findall(text.lower()):
        if word == "(":
            top = []
            stack.append(top)
            if len(stack) > MAX_DEPTH + 1:
                raise ConfigError(f"PDDL nested more than {MAX_DEPTH} deep: is the file damaged?")
        elif word == ")":
            if len(stack) == 1:
                raise ConfigError("PDDL has a ')' without its '(': is the file damaged?")
            closed = tuple(stack.pop())
            top = stack[-1]
            top.append(closed)
        else:
            top.append(word)
    if len(stack) != 1:
        raise ConfigError(f"PDDL ends with {len(stack) - 1} '(' still open: the file is cut short or damaged")
    if len(done) != 1:
        raise ConfigError(f"expected one PDDL expression, got {len(done)}")
    return done[0]


def write_sexpr(expression: SExpr) -> str:
    """Write an S-expression on one line.

    Raises:
        ConfigError: An atom is empty or holds blanks, brackets or ``;``.
    """
    if isinstance(expression, tuple):
        return "(" + " ".join(write_sexpr(part) for part in expression) + ")"
    if not _ATOM.fullmatch(expression):
        raise ConfigError(f"a PDDL name has no blanks, brackets or ';' and is not empty: got {expression!r}")
    return expression


def parse_problem(text: str, *, instruction: str, dialect: Dialect = Dialect()) -> Problem:  # noqa: B008 (frozen)
    """Parse a PDDL problem.

    Args:
        text: Content of an ``initial_state.pddl``, or of the ``pddl_problem`` key of a game file.
        instruction: The task in words.
        dialect: The words the game is played in.

    Raises:
        ConfigError: The text is no PDDL problem; the message says what was expected.
    """
    sections = _sections(parse_sexpr(text))
    objects = tuple(_typed_names(sections[":objects"]))
    declared = dict(objects)
    if len(declared) != len(objects):
        raise ConfigError("PDDL :objects declares a name twice (names differ in more than case)")
    facts = tuple(dict.fromkeys(_facts(sections[":init"], declared)))
    goal = sections[":goal"]
    if len(goal) != 1:
        raise ConfigError(f"PDDL :goal must hold one condition, got {len(goal)}")
    return Problem(facts=facts, goal=goal[0], objects=objects, instruction=instruction, dialect=dialect)


def _sections(expression: SExpr) -> dict[str, tuple[SExpr, ...]]:
    if not isinstance(expression, tuple) or expression[:1] != ("define",):
        raise ConfigError("a PDDL problem begins with '(define (problem ...'")
    head = expression[1] if len(expression) > 1 else ()
    if not isinstance(head, tuple) or head[:1] != ("problem",):
        raise ConfigError(f"expected a PDDL problem, got a {_show(head)}: pass the problem, not the domain")
    sections: dict[str, tuple[SExpr, ...]] = {}
    for part in expression[2:]:
        if not isinstance(part, tuple) or not part or not isinstance(part[0], str):
            raise ConfigError(f"expected a PDDL section such as '(:init ...)', got {_show(part)}")
        if part[0] in sections:
            raise ConfigError(f"PDDL section {part[0]!r} appears twice")
        sections[part[0]] = part[1:]
    for name in (":objects", ":init", ":goal"):
        if name not in sections:
            raise ConfigError(f"the PDDL problem has no {name} section: is the file complete?")
    return sections


def _typed_names(parts: tuple[SExpr, ...]) -> Iterator[tuple[str, str]]:
    """Yield (name, type) of a PDDL typed list; a list without a type is of type ``object``."""
    pending: list[str] = []
    words = iter(parts)
    for word in words:
        if not isinstance(word, str):
            raise ConfigError(f"expected a name in a PDDL typed list, got {_show(word)}")
        if word != "-":
            pending.append(word)
            continue
        kind = next(words, None)
        if not isinstance(kind, str) or kind == "-":
            raise ConfigError(f"expected one type name after '-' in a PDDL typed list, got {_show(kind)}")
        yield from ((name, kind) for name in pending)
        pending = []
    yield from ((name, "object") for name in pending)


def typed_names(parts: tuple[SExpr, ...]) -> tuple[tuple[str, str], ...]:
    """Read a PDDL typed list, such as the variables of a quantifier, as (name, type) pairs.

    Raises:
        ConfigError: It holds something else than names and types.
    """
    return tuple(_typed_names(parts))


def _facts(parts: tuple[SExpr, ...], declared: dict[str, str]) -> Iterator[Fact]:
    for part in parts:
        if not isinstance(part, tuple) or not part:
            raise ConfigError(f"expected a fact such as '(opened fridge_1)' in PDDL :init, got {_show(part)}")
        if part[0] in ("=", "not"):
            continue
        fact: list[str] = []
        for word in part:
            if not isinstance(word, str):
                raise ConfigError(f"a PDDL fact is a predicate with names, got {_show(part)}")
            if fact and word not in declared:
                raise ConfigError(
                    f"fact {_show(part)} in PDDL :init speaks of {word!r}, which :objects does not declare"
                )
            fact.append(word)
        yield tuple(fact)


def _show(expression: SExpr | None) -> str:
    """Quote an expression for an error message, shortened."""
    if expression is None:
        return "the end"
    text = repr(expression) if isinstance(expression, str) else str(expression)
    return text if len(text) <= 120 else text[:120] + "..."


def write_problem(problem: Problem, name: str) -> str:
    """Write a problem as PDDL that :func:`parse_problem`, Fast Downward and TextWorld read.

    Args:
        problem: The game.
        name: The problem's name, without blanks or brackets.

    Raises:
        ConfigError: A name cannot be written in PDDL.
    """
    lines = [f"(define (problem {write_sexpr(name)})", "(:domain alfred)", "(:objects"]
    lines += [f"  {write_sexpr(entity)} - {write_sexpr(kind)}" for entity, kind in problem.objects]
    lines += [")", "(:init"]
    lines += ["  " + write_sexpr(fact) for fact in problem.facts]
    lines += [")", f"(:goal {write_sexpr(problem.goal)})", ")", ""]
    return "\n".join(lines)
