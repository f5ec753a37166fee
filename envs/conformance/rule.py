"""A rule: a function that looks at an environment, with an id, a title and a reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnwise.envs.conformance.report import Finding

if TYPE_CHECKING:
    from turnwise.envs.conformance.subject import Subject

_DETAIL_CHARS = 600


class Broken(Exception):  # noqa: N818 - reads as what it says: raise Broken("turn 3: ...")
    """Raised by a rule that is not kept; the text says what is wrong and where."""


@dataclass(frozen=True)
class Rule:
    """One demand on an environment.

    Attributes:
        id: Short name, such as ``"expert-solves"``.
        title: What it demands, in one line.
        why: What goes wrong in training where it is not kept.
        look: Looks at the environment; returns what was checked, raises :class:`Broken` otherwise.
    """

    id: str
    title: str
    why: str
    look: Callable[[Subject], str]

    def apply(self, subject: Subject) -> Finding:
        """Look at an environment; a rule that crashes is a failed finding."""
        start = time.perf_counter()
        try:
            ok, detail = True, self.look(subject)
        except Broken as broken:
            ok, detail = False, str(broken)
        except Exception as error:  # noqa: BLE001 - whatever the environment raises is its finding
            ok, detail = False, f"crashed with {type(error).__name__}: {error}"
        return Finding(
            rule=self.id, title=self.title, ok=ok, detail=_plain(detail), seconds=time.perf_counter() - start
        )


def rule(rule_id: str, title: str, *, why: str) -> Callable[[Callable[[Subject], str]], Rule]:
    """Turn a function into a :class:`Rule`."""

    def make(look: Callable[[Subject], str]) -> Rule:
        return Rule(id=rule_id, title=title, why=why, look=look)

    return make


def demand(condition: bool, problem: str) -> None:
    """Raise :class:`Broken` unless ``condition`` holds."""
    if not condition:
        raise Broken(problem)


def short(value: object, limit: int = 80) -> str:
    """Return a short ``repr`` of what an environment gave."""
    text = repr(value[: limit + 1]) if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[:limit] + "..."


def _plain(detail: str) -> str:
    """Make a detail printable on any terminal and encodable as JSON."""
    text = " ".join(detail.split())
    text = text if len(text) <= _DETAIL_CHARS else text[:_DETAIL_CHARS] + "..."
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
