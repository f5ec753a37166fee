"""Random draws, and names from a syllable grammar: nothing that a language model can have read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_ONSETS = [
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gr",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "th",
    "tr",
    "v",
    "z",
]
_VOWELS = ["a", "e", "i", "o", "u", "a", "e", "i", "o", "u", "ae", "ei", "ia", "ou"]
_CODAS = ["", "", "", "", "", "", "", "", "l", "m", "n", "r", "nd", "rk", "lt", "th"]
_REFILL = 1 << 16


class Draws:
    """Cheap random choices from one generator: numbers are drawn in blocks, a call costs a list access."""

    def __init__(self, *key: int) -> None:
        """Begin the stream of a key; the same key gives the same draws on every machine."""
        self._generator = np.random.default_rng(np.random.SeedSequence(key))
        self._block: list[float] = []

    def uniform(self) -> float:
        """Return a number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(_REFILL).tolist()
        return self._block.pop()

    def below(self, bound: int) -> int:
        """Return a whole number in [0, bound)."""
        return int(self.uniform() * bound)

    def between(self, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        return low + int(self.uniform() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with a probability."""
        return self.uniform() < probability

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self.uniform() * len(items))]

    def shuffle(self, items: list[T]) -> None:
        """Put the items in random order."""
        for last in range(len(items) - 1, 0, -1):
            other = self.below(last + 1)
            items[last], items[other] = items[other], items[last]


def syllable(draws: Draws) -> str:
    """Return one syllable: onset, vowel, and sometimes a coda."""
    return draws.pick(_ONSETS) + draws.pick(_VOWELS) + draws.pick(_CODAS)


def word(draws: Draws, syllables: int) -> str:
    """Return a capitalised made-up word; it ends in a vowel or a hard consonant, so that stemming leaves it alone."""
    inner = "".join(syllable(draws) for _ in range(syllables - 1))
    return (inner + draws.pick(_ONSETS) + draws.pick("aou") + draws.pick(("", "k", "n", "r", "x"))).capitalize()


def vary(draws: Draws, name: str) -> str:
    """Return a near-duplicate of a made-up word: one vowel or consonant in its middle is another."""
    letters = list(name)
    for _ in range(20):
        place = draws.between(1, len(letters) - 2) if len(letters) > 3 else 1
        vowel = letters[place] in "aeiou"
        letter = draws.pick("aeiou" if vowel else "bdfgklmnprtvz")
        if letter != letters[place]:
            return "".join([*letters[:place], letter, *letters[place + 1 :]])
    return name + draws.pick("aou")
