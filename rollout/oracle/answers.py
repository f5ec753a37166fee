"""Whether a final answer is right, for episodes whose world nobody can ask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from turnwise.errors import unknown_name
from turnwise.records import Json
from turnwise.rewards.carr.report import exact_answer
from turnwise.rewards.judges.rule import normalise

Match: TypeAlias = Literal["exact", "contains", "none"]
MATCHES: tuple[Match, ...] = ("exact", "contains", "none")

_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_LINE = re.compile(r"^[ \t]*(?:\*\*)?(?:final answer|answer)(?:\*\*)?[ \t]*:(?:\*\*)?[ \t]*(\S.*)$", re.I | re.M)


def check_match(match: str) -> Match:
    """Return the way of comparing that a name stands for.

    Raises:
        UnknownNameError: There is no such way.
    """
    for known in MATCHES:
        if known == match:
            return known
    raise unknown_name("match", match, MATCHES)


def golds(label: Json) -> tuple[str, ...]:
    """Return the accepted answers of a label: a text, a number, or a list of them; () for anything else."""
    labels = label if isinstance(label, list) else [label]
    return tuple(str(one) for one in labels if isinstance(one, (str, int, float)) and not isinstance(one, bool))


def stated_answer(text: str) -> str:
    r"""Return the answer that a message states: the last ``<answer>``, ``\boxed{}``, section or line of that name.

    A message without any of these is the answer itself.
    """
    for pattern in (_TAG, _BOXED):
        found = pattern.findall(text)
        if found:
            return str(found[-1]).strip()
    section = exact_answer(text)
    if section is not None:
        return section
    lines = _LINE.findall(text)
    return str(lines[-1]).strip() if lines else text.strip()


def is_right(text: str, accepted: Sequence[str], match: Match) -> bool:
    """Compare a final message with the accepted answers after HotpotQA's normalising.

    Args:
        text: The agent's last message.
        accepted: The right answer and its aliases.
        match: ``"exact"`` compares the stated answer, ``"contains"`` looks for whole words anywhere in the message.
    """
    if match == "contains":
        said = f" {normalise(text)} "
        return any(f" {words} " in said for words in map(normalise, accepted) if words)
    given = normalise(stated_answer(text))
    return any(given == normalise(one) for one in accepted)
