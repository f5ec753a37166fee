"""Rubrics: single-hop statements with placeholders for the answer and for what has to be found on the way."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from turnwise.errors import ConfigError
from turnwise.rewards.options import show

ANSWER = "E0"
_PLACEHOLDER = re.compile(r"<(E\d+)>")


def placeholders(rubric: str) -> tuple[str, ...]:
    """Return the ids of a rubric's placeholders, each once, in order: ``("E1", "E0")``."""
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(rubric)))


@dataclass(frozen=True)
class Rubrics:
    """The rubrics of one question.

    Attributes:
        texts: The statements, with placeholders.
        slots: Placeholder ids of each statement.
    """

    texts: tuple[str, ...]
    slots: tuple[tuple[str, ...], ...]

    @classmethod
    def read(cls, rubrics: object, *, where: str = "rubrics") -> Rubrics:
        """Check rubrics as they are loaded.

        Args:
            rubrics: A list of statements.
            where: What to call them in messages.

        Raises:
            ConfigError: It is no list of texts, it is empty, a rubric has no placeholder (it could never be
                connected to the answer), or none has ``<E0>``.
        """
        if not isinstance(rubrics, Sequence) or isinstance(rubrics, (str, bytes)):
            raise ConfigError(f"{where} must be a list of statements, got {show(rubrics)}")
        if not rubrics:
            raise ConfigError(f"{where} is empty: a question needs at least one rubric")
        for position, rubric in enumerate(rubrics):
            if not isinstance(rubric, str):
                raise ConfigError(f"{where}[{position}] must be text, got {show(rubric)}")
            if not placeholders(rubric):
                raise ConfigError(
                    f"{where}[{position}] has no placeholder, so nothing can connect it to the answer: {show(rubric)}. "
                    "Write <E0> for the answer and <E1>, <E2>.. for other entities"
                )
        slots = tuple(placeholders(rubric) for rubric in rubrics)
        if not any(ANSWER in ids for ids in slots):
            raise ConfigError(f"{where}: no rubric has <E0>, the answer, so none of them could be connected to it")
        return cls(tuple(rubrics), slots)

    @property
    def ids(self) -> tuple[str, ...]:
        """All placeholder ids, in order of appearance."""
        return tuple(dict.fromkeys(slot for ids in self.slots for slot in ids))

    def fill(self, names: Mapping[str, str | None]) -> dict[int, str]:
        """Return index to statement for the rubrics whose entities all have a name."""
        return {
            index: _PLACEHOLDER.sub(lambda match: str(names[match[1]]), text)
            for index, (text, ids) in enumerate(zip(self.texts, self.slots, strict=True))
            if all(names.get(slot) is not None for slot in ids)
        }


def connected(slots: Sequence[Sequence[str]], supported: Sequence[int]) -> frozenset[int]:
    """Return which supported rubrics are connected to the answer.

    Breadth-first over the bipartite graph of entities and supported rubrics, from the answer.

    Args:
        slots: Placeholder ids of each rubric.
        supported: Indices of the supported rubrics.
    """
    of_entity: dict[str, list[int]] = {}
    for index in supported:
        for slot in slots[index]:
            of_entity.setdefault(slot, []).append(index)
    reached: set[int] = set()
    seen = {ANSWER}
    queue = deque([ANSWER])
    while queue:
        for index in of_entity.get(queue.popleft(), ()):
            if index not in reached:
                reached.add(index)
                new = [slot for slot in slots[index] if slot not in seen]
                seen.update(new)
                queue.extend(new)
    return frozenset(reached)
