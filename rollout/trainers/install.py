"""Trainers are nobody's dependency: each is imported where it is used; a missing one is named with its command."""

from __future__ import annotations

import importlib
from typing import Any

from turnwise.errors import ConfigError


class MissingTrainerError(ConfigError, ImportError):
    """A trainer's package is not installed; the message holds the install command."""

    def __init__(self, module: str, requirement: str) -> None:
        super().__init__(
            f"this needs the module {module!r}, which is not installed. Install it with: pip install '{requirement}'"
        )
        self.module = module
        self.requirement = requirement

    def __reduce__(self) -> tuple[type[MissingTrainerError], tuple[str, str]]:
        """Pickle by the arguments, as workers send errors home."""
        return type(self), (self.module, self.requirement)


def trainer_module(name: str, requirement: str) -> Any:
    """Import a module of a trainer.

    Args:
        name: The module, such as ``"trl"``.
        requirement: What installs it, such as ``"trl>=1.16"``.

    Raises:
        MissingTrainerError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.partition(".")[0]
        if (error.name or "").partition(".")[0] != top:
            raise  # installed, and broken in itself: its own message says more
        raise MissingTrainerError(top, requirement) from error
