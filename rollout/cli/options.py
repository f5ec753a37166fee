"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import json
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


def read_env_options(pairs: Sequence[str] | None) -> dict[str, Json]:
    """Read ``KEY=VALUE`` pairs; a value that is JSON is taken as such, anything else as text.

    Raises:
        ConfigError: A pair has no ``=``, or a key comes twice.
    """
    options: dict[str, Json] = {}
    for pair in pairs or ():
        key, found, text = pair.partition("=")
        if not found or not key.isidentifier():
            raise ConfigError(f"--env-option takes KEY=VALUE, such as max_turns=20: got {pair!r}")
        if key in options:
            raise ConfigError(f"--env-option {key} is given twice")
        try:
            options[key] = json.loads(text)
        except ValueError:
            options[key] = text
    return options
