"""Command templates: ``"take {object} from {receptacle}"`` matched and filled in linear time."""

from __future__ import annotations

import re
from collections.abc import Mapping

from turnwise.errors import ConfigError

_SLOT = re.compile(r"\{([A-Za-z_]\w*)\}")
_FIRST_WORD = re.compile(r"\w+")
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def fold(text: str) -> str:
    """Lower ``text`` without changing its length, so that positions carry over."""
    lowered = text.lower()
    # Only U+0130 grows when lowered; ASCII lowering is enough for texts that hold it.
    return lowered if len(lowered) == len(text) else text.translate(_ASCII_LOWER)


def first_word(folded: str) -> str:
    """Return the leading run of word characters, or an empty string."""
    match = _FIRST_WORD.match(folded)
    return match.group() if match else ""


class Template:
    """One command form: literal text with named slots.

    Matching looks for the literals from left to right and never goes back, unlike a regular
    expression with several lazy groups, which takes polynomial time on hostile text. Each slot
    takes the shortest text that leaves its following literal in place.
    """

    def __init__(self, text: str) -> None:
        """Compile a template.

        Args:
            text: Literal words with ``{slots}``; begins with a literal word.

        Raises:
            ConfigError: A slot is repeated, touches another one or comes first, or braces are stray.
        """
        self.text = " ".join(text.split())
        pieces = _SLOT.split(self.text)
        self.slots = tuple(pieces[1::2])
        self._literals = tuple(pieces[0::2])
        self._folded = tuple(fold(literal) for literal in self._literals)
        self.word = first_word(self._folded[0])
        self._check()

    def _check(self) -> None:
        if any("{" in literal or "}" in literal for literal in self._literals):
            raise ConfigError(f"action template {self.text!r}: a slot is '{{name}}', other braces are not allowed")
        if len(set(self.slots)) != len(self.slots):
            raise ConfigError(f"action template {self.text!r} uses a slot twice: give each slot its own name")
        if not all(self._literals[1:-1]):
            raise ConfigError(f"action template {self.text!r} has two slots in a row: put a word between them")
        if not self.word or (self.slots and self.word == self._folded[0]):
            raise ConfigError(f"action template {self.text!r} must begin with a word of its own, such as 'go to {{x}}'")

    @property
    def head(self) -> str:
        """The literal text before the first slot."""
        return self._literals[0].strip(" [(:")

    def match(self, text: str, folded: str) -> dict[str, str] | None:
        """Read the slots from a command.

        Args:
            text: The command, trimmed, runs of whitespace collapsed.
            folded: ``fold(text)``.

        Returns:
            Slot name to its non-empty text, or None if the command has another form.
        """
        literals = self._folded
        if not self.slots:
            return {} if folded == literals[0] else None
        if not folded.startswith(literals[0]) or not folded.endswith(literals[-1]):
            return None
        position = len(literals[0])
        end = len(folded) - len(literals[-1])
        values: dict[str, str] = {}
        for slot, literal in zip(self.slots[:-1], literals[1:-1], strict=True):
            found = folded.find(literal, position + 1, end)
            if found < 0:
                return None
            values[slot] = text[position:found].strip()
            position = found + len(literal)
        values[self.slots[-1]] = text[position:end].strip()
        return values if all(values.values()) else None

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the command with each slot replaced by its value."""
        filled = [self._literals[0]]
        for slot, literal in zip(self.slots, self._literals[1:], strict=True):
            filled.append(values[slot])
            filled.append(literal)
        return "".join(filled)
