"""The space of text observations and actions: unicode, length-bounded."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

_SAMPLE_ALPHABET = string.ascii_letters + string.digits + string.punctuation + " \n" + "éß→日本🙂"


class UnicodeText(spaces.Space[str]):
    """All ``str`` of at most ``max_length`` characters.

    ``gymnasium.spaces.Text`` needs the alphabet spelled out, which language models do not keep to.
    """

    def __init__(self, max_length: int, *, seed: int | np.random.Generator | None = None) -> None:
        """Create the space.

        Args:
            max_length: Longest text in the space, in characters; at least 1.
            seed: Seed of the sampler.
        """
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}")
        self.max_length = max_length
        super().__init__(shape=(), dtype=np.str_, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """Draw a short random text. Masks are not supported for text.

        Raises:
            ValueError: A mask or probability was given.
        """
        if mask is not None or probability is not None:
            raise ValueError("UnicodeText takes no mask and no probability")
        length = int(self.np_random.integers(0, min(self.max_length, 64) + 1))
        picks = self.np_random.integers(0, len(_SAMPLE_ALPHABET), size=length)
        return "".join(_SAMPLE_ALPHABET[int(i)] for i in picks)

    def contains(self, x: Any) -> bool:
        """Whether ``x`` is a text of the space."""
        return isinstance(x, str) and len(x) <= self.max_length

    def to_jsonable(self, sample_n: Iterable[str]) -> list[Any]:
        """Texts are JSON as they are."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """Texts are JSON as they are."""
        return [str(s) for s in sample_n]

    def __eq__(self, other: object) -> bool:
        """Equal to another text space of the same bound."""
        return isinstance(other, UnicodeText) and other.max_length == self.max_length

    def __hash__(self) -> int:
        """Hash by the bound, as equality does."""
        return hash(("UnicodeText", self.max_length))

    def __repr__(self) -> str:
        """``UnicodeText(8192)``."""
        return f"UnicodeText({self.max_length})"
