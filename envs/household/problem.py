"""``Problem``: one household game as typed facts, and ``Dialect``: the words it is played in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from turnwise.errors import ConfigError

Fact: TypeAlias = tuple[str, ...]
"""A predicate and its arguments, all in lower case: ``("inreceptacle", "mug_bar_1", "shelf_bar_2")``."""

SExpr: TypeAlias = str | tuple["SExpr", ...]
"""A parsed S-expression: an atom, or a tuple of expressions."""

_PLACEHOLDER = re.compile(r"\{(\w+)(?:\.name)?\}")
# "action Name { template :: "..." ..." and a rule of one unconditional sentence, each with its text.
_TEMPLATE = re.compile(r'\baction\s+(\w+)\s*\{[^"]*?template\s*::\s*"([^"\n]*)"')
_RULE = re.compile(r'"([\w.]+)"\s*:\s*\[\s*\{\s*"rhs"\s*:\s*"((?:[^"\\\n]|\\.)*)"\s*\}\s*\]')
_EXAMINE = "#examineReceptacle.feedback#"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The sentences that differ between releases of the public games.

    Each is a ``str.format`` template over ``{o}`` (object), ``{r}`` (receptacle), ``{l}`` (the
    receptacle's location) and, for slicing, ``{o}`` with the knife ``{k}``.

    Attributes:
        put_command: The command that puts an object down.
        goto: Answer to ``go to``, before what the receptacle holds.
        open: Answer to ``open``, before what the receptacle holds.
        close: Answer to ``close``.
        take: Answer to ``take``.
        put: Answer to the put command.
        heat: Answer to ``heat``.
        clean: Answer to ``clean``.
        cool: Answer to ``cool``.
        slice: Answer to ``slice``.
    """

    put_command: str = "move {o} to {r}"
    goto: str = "You arrive at {r}. "
    open: str = "You open the {r}. "
    close: str = "You close the {r}."
    take: str = "You pick up the {o} from the {r}."
    put: str = "You move the {o} to the {r}."
    heat: str = "You heat the {o} using the {r}."
    clean: str = "You clean the {o} using the {r}."
    cool: str = "You cool the {o} using the {r}."
    slice: str = "You sliced the {o} with the {k}."


OLD_DIALECT = Dialect(put_command="put {o} in/on {r}", goto="You arrive at {l}. ", put="You put the {o} in/on the {r}.")
"""How games of the first public release (``json_2.1.1``) speak."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One game: what is true at the start, what must become true, and how it is told.

    Attributes:
        facts: What holds at the start; predicates and arguments in lower case.
        goal: The goal as an S-expression in lower case.
        objects: Every declared entity with its type (agent, location, receptacle, object, rtype or
            otype), in lower case.
        instruction: The task in words, as in "Your task is to: {instruction}".
        dialect: The words the game is played in.
    """

    facts: tuple[Fact, ...]
    goal: SExpr
    objects: tuple[tuple[str, str], ...]
    instruction: str
    dialect: Dialect = Dialect()


# Dialect field -> (grammar rule, whether what the receptacle holds follows, PDDL parameter -> ours).
_FEEDBACK_RULES: dict[str, tuple[str, bool, dict[str, str]]] = {
    "goto": ("GotoLocation.feedback", True, {"r": "r", "lend": "l"}),
    "open": ("OpenObject.feedback", True, {"r": "r"}),
    "close": ("CloseObject.feedback", False, {"r": "r"}),
    "take": ("PickupObject.feedback", False, {"o": "o", "r": "r"}),
    "put": ("PutObject.feedback", False, {"o": "o", "r": "r"}),
    "heat": ("heatObject.feedback", False, {"o": "o", "r": "r"}),
    "clean": ("cleanObject.feedback", False, {"o": "o", "r": "r"}),
    "cool": ("coolObject.feedback", False, {"o": "o", "r": "r"}),
    "slice": ("sliceObject.feedback", False, {"co": "o", "ko": "k"}),
}
_COMMANDS = {
    "GotoLocation": "go to [{r.name | receptacleatlocation(r:receptacle, lend:location)}]",
    "OpenObject": "open {r}",
    "CloseObject": "close {r}",
    "PickupObject": "take {o} from {r}",
    "inventory": "inventory",
    "examineReceptacle": "examine {r}",
    "examineObject": "examine {o}",
    "ToggleObject": "use {o}",
    "HeatObject": "heat {o} with {r}",
    "CleanObject": "clean {o} with {r}",
    "CoolObject": "cool {o} with {r}",
    "SliceObject": "slice {co} with {ko}",
    "look": "look",
    "help": "help",
}


def read_dialect(grammar: str) -> Dialect:
    """Read the dialect of a game from its TextWorld grammar.

    Only plain sentences with ``{x.name}`` in them are read; nothing in the grammar is evaluated.

    Args:
        grammar: Text of the ``grammar`` key of a ``game.tw-pddl`` file.

    Raises:
        ConfigError: A rule is missing, or is more than a plain sentence over its own parameters.
    """
    templates = dict(_TEMPLATE.findall(grammar))
    for action, expected in _COMMANDS.items():
        template = _entry(templates, "action", action)
        if template != expected:
            raise ConfigError(
                f"the game's grammar spells {action} as {template!r}, this engine plays ALFRED's {expected!r}; "
                "regenerate the game with the public alfred.twl2"
            )
    words = {"put_command": _sentence("PutObject", _entry(templates, "action", "PutObject"), {"o": "o", "r": "r"})}
    if not words["put_command"].startswith(("move ", "put ")):
        raise ConfigError(f"the game's put command must begin with 'move' or 'put', got {words['put_command']!r}")
    rules = dict(_RULE.findall(grammar))
    for name, (rule, examines, parameters) in _FEEDBACK_RULES.items():
        text = _unescape(_entry(rules, "plain rule", rule))
        if examines:
            if not text.endswith(_EXAMINE):
                raise ConfigError(f"grammar rule {rule!r} must end in {_EXAMINE}, got {text!r}")
            text = text[: -len(_EXAMINE)]
        words[name] = _sentence(rule, text, parameters)
    return Dialect(**words)


def read_instruction(grammar: str) -> str:
    """Read the instruction from a game's grammar (its rule ``task``).

    Raises:
        ConfigError: There is no such rule, or it does not begin with "Your task is to: ".
    """
    text = _unescape(_entry(dict(_RULE.findall(grammar)), "plain rule", "task"))
    head = "Your task is to: "
    if not text.startswith(head) or not text.endswith(".") or set("#{}[]|") & set(text):
        raise ConfigError(f"the grammar's task rule must read {head!r} and a plain sentence, got {text!r}")
    return text[len(head) : -1]


def _entry(entries: dict[str, str], kind: str, name: str) -> str:
    if name not in entries:
        raise ConfigError(f"the game's grammar has no {kind} {name!r}: is this an ALFRED game?")
    return entries[name]


def _unescape(text: str) -> str:
    return text.replace('\\"', '"').replace("\\n", "\n")


def _sentence(rule: str, text: str, parameters: dict[str, str]) -> str:
    """Turn ``{o.name}`` (or ``{o}`` in a command) into our ``{o}``; refuse everything else."""
    rest = _PLACEHOLDER.sub("", text)
    used = _PLACEHOLDER.findall(text)
    if set("{}[]#|\\") & set(rest) or not set(used) <= set(parameters):
        raise ConfigError(
            f"grammar rule {rule!r} must be a plain sentence over {sorted(parameters)} as {{x.name}}, got {text!r}"
        )
    return _PLACEHOLDER.sub(lambda match: "{" + parameters[match.group(1)] + "}", text)
