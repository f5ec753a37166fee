"""What goes wrong with a run directory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from turnwise.errors import TurnwiseError


class StoreError(TurnwiseError):
    """A run directory cannot be written or read: full disk, missing file, somebody else's lock."""


class StoreWarning(UserWarning):
    """A part of a run directory is damaged and was set aside; the message names it."""


@contextlib.contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn what the operating system refuses into a :class:`StoreError`.

    Args:
        doing: What was being done, for the message (``"write to runs/x"``).
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {doing}: {error}. What was stored before is safe.") from error
