"""The sentences that tasks come in: two for each task type, written and read in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass

# {o} object, {r} receptacle, {l} lamp; all lower case and without the
# full stop, as the original game's grammar prints them after "Your task is to: ".
TEMPLATES = {
    "pick_and_place_simple": ("put a {o} in {r}", "put some {o} on {r}"),
    "look_at_obj_in_light": ("look at {o} under the {l}", "examine the {o} with the {l}"),
    "pick_clean_then_place_in_recep": ("put a clean {o} in {r}", "clean some {o} and put it in {r}"),
    "pick_heat_then_place_in_recep": ("put a hot {o} in {r}", "heat some {o} and put it in {r}"),
    "pick_cool_then_place_in_recep": ("put a cool {o} in {r}", "cool some {o} and put it in {r}"),
    "pick_two_obj_and_place": ("put two {o} in {r}", "find two {o} and put them in {r}"),
}

_PATTERNS = tuple(
    (task_type, re.compile(re.escape(text).replace(r"\{", "(?P<").replace(r"\}", r">\w+)")))
    for task_type, texts in TEMPLATES.items()
    for text in texts
)
_TASK = re.compile(r"Your task is to: (.+?)\.?$", re.MULTILINE)


@dataclass(frozen=True)
class Request:
    """What an instruction asks for, in lower-case type names.

    Attributes:
        task_type: One of the six task types.
        target: The object to act on.
        receptacle: Where it goes; empty for ``look_at_obj_in_light``.
        lamp: The light to look at it under; empty for the other task types.
    """

    task_type: str
    target: str
    receptacle: str
    lamp: str


def write_instruction(task_type: str, template: int, *, target: str, receptacle: str, lamp: str) -> str:
    """Return the instruction of a task, such as ``"put a hot potato in sinkbasin"``."""
    text = TEMPLATES[task_type][template]
    return text.format(o=target.lower(), r=receptacle.lower(), l=lamp.lower())


def parse_instruction(text: str) -> Request | None:
    """Read an instruction in one of the known sentences, or None (annotators word it freely)."""
    sentence = text.strip().rstrip(".").lower()
    for task_type, pattern in _PATTERNS:
        match = pattern.fullmatch(sentence)
        if match:
            parts = match.groupdict(default="")
            return Request(task_type, parts["o"], parts.get("r", ""), parts.get("l", ""))
    return None


def find_instruction(observation: str) -> str | None:
    """Return the instruction in a game's first observation (``Your task is to: ...``), or None."""
    match = _TASK.search(observation)
    return match.group(1) if match else None
