"""What goes wrong with a run directory."""

from __future__ import annotations

from turnwise.errors import TurnwiseError


class StoreError(TurnwiseError):
    """A run directory cannot be written or read: full disk, missing file, somebody else's lock."""


class StoreWarning(UserWarning):
    """A part of a run directory is damaged and was set aside; the message names it."""
