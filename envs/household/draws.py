"""Seeded choices that come out the same everywhere.

Only ``Generator.random`` of PCG64 is used: that stream has never changed between numpy versions, which
``choice``, ``shuffle`` and ``integers`` do not promise, and the embedded tasks must be the same games
on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

ItemT = TypeVar("ItemT")

_BLOCK = 128


class Draws:
    """A stream of random choices, given by a path of whole numbers."""

    def __init__(self, *path: int) -> None:
        """Begin the stream that ``path`` names; streams of different paths are independent."""
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(path)))
        self._block: list[float] = []

    def random(self) -> float:
        """Return a number in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, n: int) -> int:
        """Return a whole number in [0, n)."""
        return int(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return self.random() < probability

    def pick(self, items: Sequence[ItemT]) -> ItemT:
        """Return one of ``items``."""
        return items[int(self.random() * len(items))]

    def shuffled(self, items: Sequence[ItemT]) -> list[ItemT]:
        """Return ``items`` in random order."""
        mixed = list(items)
        for last in range(len(mixed) - 1, 0, -1):
            other = int(self.random() * (last + 1))
            mixed[last], mixed[other] = mixed[other], mixed[last]
        return mixed
