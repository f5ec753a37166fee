"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Annotated

import typer

from turnwise.errors import ConfigError
from turnwise.records import Json

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")]
Data = Annotated[
    str | None, typer.Option("--data", help="A public data set in its own format; by default the embedded tasks.")
]
EnvOptions = Annotated[
    list[str] | None,
    typer.Option("--env-option", metavar="KEY=VALUE", help="Further argument of the environment; repeatable."),
]
Run = Annotated[str, typer.Argument(help="Directory of a stored run.", show_default=False)]


def read_env_options(pairs: Sequence[str] | None, *, option: str = "--env-option") -> dict[str, Json]:
    """Read ``KEY=VALUE`` pairs; a value that is JSON is taken as such, anything else as text.

    Args:
        pairs: What the caller gave.
        option: The option's name, for messages.

    Raises:
        ConfigError: A pair has no ``=``, or a key comes twice.
    """
    options: dict[str, Json] = {}
    for pair in pairs or ():
        key, found, text = pair.partition("=")
        if not found or not key.isidentifier():
            raise ConfigError(f"{option} takes KEY=VALUE, such as max_turns=20: got {pair!r}")
        if key in options:
            raise ConfigError(f"{option} {key} is given twice")
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options


_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?:i?b)?", re.IGNORECASE)


def read_size(option: str, text: str) -> int | None:
    """Read a number of bytes such as ``2147483648``, ``512MiB`` or ``2g``; ``none`` is no limit.

    Args:
        option: The option's name, for the message.
        text: What the caller gave; units are powers of 1,024.

    Raises:
        ConfigError: It is no size.
    """
    if text.lower() == "none":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{option} takes bytes, a size such as 512MiB or 2GiB, or 'none': got {text!r}")
    return int(float(found["number"]) * _UNITS[found["unit"].lower()])


def read_deadline(option: str, text: str) -> float | None:
    """Read a number of seconds; ``none`` is no deadline.

    Args:
        option: The option's name, for the message.
        text: What the caller gave.

    Raises:
        ConfigError: It is no positive number.
    """
    if text.lower() == "none":
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ConfigError(f"{option} takes a positive number of seconds or 'none', got {text!r}")
    return seconds
