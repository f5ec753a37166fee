"""How the commands talk: results to standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

from turnwise.errors import ConfigError, TurnwiseError
from turnwise.records import Json

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

EXIT_FAILURE = 1
EXIT_CONFIG = 2
TRACEBACK = "TURNWISE_TRACEBACK"
_PIPE_WIDTH = 140


def output() -> Console:
    """Return the console for results."""
    from rich.console import Console

    # A pipe has no width of its own; 80 columns would break every table.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(highlight=False, width=width)


def notices() -> Console:
    """Return the console for progress, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Json) -> None:
    """Print a value as indented JSON, and nothing else."""
    import msgspec

    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    sys.stdout.write(data.decode() + "\n")


def print_view(view: RenderableType) -> None:
    """Print something rich."""
    output().print(view)


def notice(text: str, *, style: str = "") -> None:
    """Print one line to standard error, as it is."""
    from rich.text import Text

    notices().print(Text(text, style=style), soft_wrap=True)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    notice(f"warning: {message}", style="yellow")


@contextmanager
def plain_errors() -> Iterator[None]:
    """Print our own errors and warnings as one line each instead of a traceback."""
    with warnings.catch_warnings():
        if not os.environ.get(TRACEBACK):
            warnings.showwarning = _show_warning  # type: ignore[assignment]
        try:
            yield
        except TurnwiseError as error:
            if os.environ.get(TRACEBACK):
                raise
            notice(f"error: {error}", style="bold red")
            raise SystemExit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILURE) from error


class PlainErrorsGroup(TyperGroup):
    """Commands whose :class:`~turnwise.errors.TurnwiseError` ends in one clear line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        with plain_errors():
            return super().invoke(ctx)
