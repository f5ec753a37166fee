"""Options in an agent's specification: ``TARGET?option=value&option=value``."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote

from turnwise.errors import ConfigError, did_you_mean

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


def read_target(agent: str, rest: str, make: Callable[..., Any]) -> tuple[str, dict[str, Any]]:
    """Split ``TARGET?option=value&...`` and read each value as the type of ``make``'s default for it.

    Args:
        agent: Name of the agent, for messages.
        rest: What follows the agent's name; values may be percent-encoded.
        make: What is called with the target and the options; its keyword-only parameters with a
            default of type bool, int, float, str or None (read as text) are the options.

    Returns:
        The target, and the options that were given.

    Raises:
        ConfigError: There is no target, or an option is unknown, given twice or of the wrong type.
    """
    target, _, query = rest.partition("?")
    known = {
        name: parameter.default
        for name, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    if not target:
        raise ConfigError(f"write {agent}:TARGET or {agent}:TARGET?option=value, such as {agent}:...?temperature=0.7")
    options: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise ConfigError(f"the options of {agent!r} are written ?option=value&option=value, got {query!r}") from error
    for name, text in pairs:
        if name not in known:
            raise ConfigError(f"the agent {agent!r} has no option {name!r}.{did_you_mean(name, known)}")
        if name in options:
            raise ConfigError(f"the option {name!r} of the agent {agent!r} is given twice")
        options[name] = _read(agent, name, text, known[name])
    return target, options


def write_target(agent: str, target: str, options: dict[str, Any]) -> str:
    """Return the canonical specification: options in alphabetical order."""
    query = "&".join(f"{name}={quote(_text(value), safe=':/,')}" for name, value in sorted(options.items()))
    return f"{agent}:{target}?{query}" if query else f"{agent}:{target}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _read(agent: str, name: str, text: str, default: Any) -> Any:
    wrong = f"the option {name!r} of the agent {agent!r}"
    if isinstance(default, bool):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ConfigError(f"{wrong} is true or false, got {text!r}")
        return text.lower() in _TRUE
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError as error:
            raise ConfigError(f"{wrong} is a whole number, got {text!r}") from error
    if isinstance(default, float):
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ConfigError(f"{wrong} is a finite number, got {text!r}")
        return number
    return text
