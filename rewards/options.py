"""Checks for the options of rewards: each says which option, what it got and what it takes.

A reward checks its options where it stores them; the YAML loader catches :class:`OptionError` and
puts the path inside the file in front.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from turnwise.errors import ConfigError

ChoiceT = TypeVar("ChoiceT", bound=str)


class OptionError(ConfigError):
    """An option of a reward is wrong.

    Attributes:
        option: The option's name, with the place inside it if there is one: ``"levels.won"``.
        problem: What it must be and what it is.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(f"option {option!r}: {problem}")
        self.option = option
        self.problem = problem


def show(value: object, *, limit: int = 80) -> str:
    """Return ``value`` for an error message, cut to ``limit`` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def number(option: str, value: object, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return ``value`` as a finite float within ``[low, high]``.

    Raises:
        OptionError: It is no number (``True`` is none), not finite, or out of range.
    """
    if isinstance(value, str):
        raise OptionError(option, f"must be a number, got the text {show(value)}{_number_hint(value)}")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(option, f"must be a number, got {show(value)} ({type(value).__name__})")
    if not math.isfinite(value):
        raise OptionError(option, f"must be finite, got {value!r}")
    if not low <= value <= high:
        raise OptionError(option, f"must be {_range(low, high)}, got {value!r}")
    return float(value)


def _number_hint(text: str) -> str:
    # YAML 1.1, which PyYAML reads, takes 1e-3 for text and 1.0e-3 for a number.
    try:
        parsed = float(text)
    except ValueError:
        return ""
    return f": write {parsed:.6f}".rstrip("0") if math.isfinite(parsed) else ""


def _range(low: float, high: float) -> str:
    if math.isinf(high):
        return f"at least {low:g}"
    if math.isinf(low):
        return f"at most {high:g}"
    return f"in [{low:g}, {high:g}]"


def whole(option: str, value: object, *, low: int) -> int:
    """Return ``value`` as an int of at least ``low``.

    Raises:
        OptionError: It is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(option, f"must be a whole number, got {show(value)}")
    if value < low:
        raise OptionError(option, f"must be at least {low}, got {value}")
    return value


def flag(option: str, value: object) -> bool:
    """Return ``value`` as a bool.

    Raises:
        OptionError: It is neither ``True`` nor ``False``.
    """
    if not isinstance(value, bool):
        raise OptionError(option, f"must be true or false, got {show(value)}")
    return value


def choice(option: str, value: object, allowed: tuple[ChoiceT, ...]) -> ChoiceT:
    """Return ``value`` as one of ``allowed``.

    Raises:
        OptionError: It is something else; the message lists what there is.
    """
    for known in allowed:
        if value == known:
            return known
    raise OptionError(option, f"must be {' or '.join(map(repr, allowed))}, got {show(value)}")


def ordered_levels(option: str, value: object) -> dict[str, float]:
    """Return a mapping of level names to values, worst first, values strictly increasing.

    Raises:
        OptionError: It is no mapping, has fewer than two levels, or its values do not increase.
    """
    if not isinstance(value, Mapping):
        raise OptionError(option, f"must map level names to values, worst first, got {show(value)}")
    levels: dict[str, float] = {}
    for name, level_value in value.items():
        if not isinstance(name, str):
            raise OptionError(option, f"level names are text, got {show(name)}: put it in quotes")
        levels[name] = number(f"{option}.{name}", level_value)
    if len(levels) < 2:
        raise OptionError(option, f"needs at least two levels, got {len(levels)}")
    names, values = list(levels), list(levels.values())
    for i in range(1, len(values)):
        if values[i] <= values[i - 1]:
            problem = (
                f"must increase from worst to best, got {names[i - 1]}={values[i - 1]:g}, {names[i]}={values[i]:g}"
            )
            raise OptionError(option, problem)
    return levels
