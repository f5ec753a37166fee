"""Errors by boundary: who is to blame decides what the trainer does with the episode.

Every failure belongs to exactly one :data:`Boundary`. World, reward and agent authors raise plain
Python errors; the engine wraps each call in :func:`attribute_to`, which turns what escapes into a
:class:`TurnwiseError` that names the boundary. The innermost attribution wins, so a sandbox failure
inside an environment's ``step`` stays a sandbox failure.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Literal, get_args

Boundary = Literal["env", "sandbox", "policy", "judge", "transport", "config"]
BOUNDARIES: tuple[Boundary, ...] = get_args(Boundary)


class TurnwiseError(Exception):
    """Base of all errors that turnwise raises.

    Attributes:
        boundary: Where the failure happened.
        kind: A short machine-readable word for what happened (``"exception"``, ``"hang"``, ...).
    """

    boundary: ClassVar[Boundary] = "config"

    def __init__(self, message: str, *, kind: str = "exception") -> None:
        super().__init__(message)
        self.kind = kind


class EnvError(TurnwiseError):
    """The environment's own code failed: it raised, hung, died or broke its contract."""

    boundary = "env"


class SandboxError(TurnwiseError):
    """A container, browser or child process that an environment relies on failed."""

    boundary = "sandbox"


class PolicyError(TurnwiseError):
    """The agent or the model behind it failed to produce a message."""

    boundary = "policy"


class JudgeError(TurnwiseError):
    """A judge, verifier or reward function failed to reach a verdict."""

    boundary = "judge"


class TransportError(TurnwiseError):
    """The network, Ray or a pipe between our own processes failed."""

    boundary = "transport"


class ConfigError(TurnwiseError, ValueError):
    """The caller's input is wrong: says what was got, what was expected and how to fix it."""

    boundary = "config"


class UnknownNameError(ConfigError, KeyError):
    """A name that is not registered; the message lists the nearest ones that are."""

    __str__ = Exception.__str__  # KeyError would print the message as a quoted repr


class MissingExtraError(ConfigError, ImportError):
    """An optional dependency is not installed; the message holds the install command."""

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"this needs the module {module!r}, which is not installed. "
            f"Install it with: pip install 'turnwise[{extra}]'"
        )
        self.module = module
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        """Pickle by the arguments, as workers send errors home."""
        return type(self), (self.module, self.extra)


class BudgetSpentError(Exception):
    """An agent may say no more: its episode is truncated, which is no failure.

    Attributes:
        cause: ``"tokens"`` (the episode's token budget) or ``"context"`` (the model's context is full).
    """

    def __init__(self, message: str, *, cause: Literal["tokens", "context"]) -> None:
        super().__init__(message)
        self.cause: Literal["tokens", "context"] = cause


class EpisodeOverError(ConfigError):
    """``step`` was called before ``reset`` or after the episode ended."""


_BY_BOUNDARY: dict[Boundary, type[TurnwiseError]] = {
    "env": EnvError,
    "sandbox": SandboxError,
    "policy": PolicyError,
    "judge": JudgeError,
    "transport": TransportError,
    "config": ConfigError,
}


def error_of(boundary: Boundary, message: str, *, kind: str = "exception") -> TurnwiseError:
    """Return the error of a boundary, as where one comes back from another process."""
    return _BY_BOUNDARY[boundary](message, kind=kind)


@contextmanager
def attribute_to(boundary: Boundary, doing: str = "") -> Iterator[None]:
    """Attribute whatever escapes the block to ``boundary``.

    Args:
        boundary: Who is to blame for a plain exception raised inside.
        doing: What was being done, for the message (``"env.step at turn 3"``).

    Raises:
        TurnwiseError: The subclass of ``boundary``, with the original as its cause. A
            ``TurnwiseError`` from further inside passes unchanged, and so does
            :class:`BudgetSpentError`. ``MemoryError`` gets the kind ``"memory"``;
            ``KeyboardInterrupt`` and ``SystemExit`` pass through.
    """
    try:
        yield
    except (TurnwiseError, BudgetSpentError):
        raise
    except Exception as error:
        where = f" during {doing}" if doing else ""
        kind = "memory" if isinstance(error, MemoryError) else "exception"
        text = f"{type(error).__name__}{where}: {error}"
        raise _BY_BOUNDARY[boundary](text, kind=kind) from error


def did_you_mean(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """Return ``" Did you mean 'a' or 'b'?"`` for near misses of ``name``, or the known names.

    Args:
        name: What the caller asked for.
        known: The names that exist.
        limit: How many near misses to list at most.
    """
    names = sorted(known)
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(lowered), n=limit, cutoff=0.6)
    if close:
        return " Did you mean " + " or ".join(repr(lowered[c]) for c in close) + "?"
    if not names:
        return " None are known."
    shown = ", ".join(repr(n) for n in names[:12])
    return f" Known: {shown}{', ...' if len(names) > 12 else ''}."


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a ``name`` of some ``kind`` that nobody registered."""
    return UnknownNameError(f"unknown {kind} {name!r}.{did_you_mean(name, known)}")
