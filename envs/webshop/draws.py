"""Random draws of the generator: whole blocks at once, as one number at a time costs microseconds in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_BLOCK = 64
ItemT = TypeVar("ItemT")


class Draws:
    """Draws from a generator of its own, named by a key."""

    def __init__(self, *key: int) -> None:
        """Seed the draws with a key of whole numbers."""
        self._generator = np.random.default_rng(key)
        self._block: list[float] = []

    def random(self) -> float:
        """Return a number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return self._block.pop()

    def between(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return self.random() < probability

    def pick(self, items: Sequence[ItemT]) -> ItemT:
        """Return one of ``items``."""
        return items[int(self.random() * len(items))]

    def some(self, items: Sequence[ItemT], count: int) -> list[ItemT]:
        """Return ``count`` different items, or all there are, in random order."""
        left = list(items)
        return [left.pop(int(self.random() * len(left))) for _ in range(min(count, len(left)))]
