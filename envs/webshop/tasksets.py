"""The goals of a shop as tasks, in the splits that people compare results on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, overload

import msgspec

from turnwise.envs.webshop.catalogue import Catalogue
from turnwise.envs.webshop.goal import Goal, read_goal
from turnwise.envs.webshop.goals import SEED, GoalKind, goal_order, open_goals
from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Task

# Split name to the first and last (exclusive) number of its goals.
Bounds = Mapping[str, tuple[int, int | None]]
# The baselines of WebShop test on the first 500 goals and tune on the next 1,000; verl-agent tunes on the first 500.
WEBSHOP_SPLITS: Bounds = {
    "test": (0, 500),
    "val": (500, 1500),
    "train": (1500, None),
    "verl-val": (0, 500),
    "verl-train": (500, None),
}
SPLIT_ALIASES = {
    "eval": "val",
    "dev": "val",
    "validation": "val",
    "val_seen": "val",
    "val_unseen": "test",
}
SYNTHETIC_PREFIX = "synthetic-"


def shop_split(split: str) -> str:
    """Return the canonical name of a split, such as ``"train"`` or ``"synthetic-train"``.

    Raises:
        UnknownNameError: Nobody calls a split that.
    """
    prefix = SYNTHETIC_PREFIX if split.startswith(SYNTHETIC_PREFIX) else ""
    name = split[len(prefix) :]
    name = SPLIT_ALIASES.get(name, name)
    if name not in WEBSHOP_SPLITS:
        raise unknown_name("split", split, (*WEBSHOP_SPLITS, *SPLIT_ALIASES, f"{SYNTHETIC_PREFIX}train"))
    return prefix + name


class TaskIds(Sequence[str]):
    """The ids of numbered tasks, made when they are asked for."""

    def __init__(self, prefix: str, start: int, stop: int) -> None:
        """Name the tasks from ``start`` up to, not including, ``stop``."""
        self._prefix, self._numbers = prefix, range(start, stop)

    def __len__(self) -> int:
        """Number of ids."""
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        """Return an id, or the ids of a slice."""
        if isinstance(index, slice):
            return [f"{self._prefix}{number}" for number in self._numbers[index]]
        return f"{self._prefix}{self._numbers[index]}"

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids."""
        return (f"{self._prefix}{number}" for number in self._numbers)

    def __contains__(self, value: object) -> bool:
        """Whether it is one of the ids."""
        return self.number(value) is not None

    def number(self, task_id: object) -> int | None:
        """Return the number behind an id, or None."""
        if not isinstance(task_id, str) or not task_id.startswith(self._prefix):
            return None
        digits = task_id[len(self._prefix) :]
        if not (digits.isascii() and digits.isdigit()) or (digits != "0" and digits[0] == "0") or len(digits) > 12:
            return None
        return int(digits) if int(digits) in self._numbers else None


class GoalTasks:
    """The goals of one split as tasks, made on demand (keeps the TaskSet protocol)."""

    def __init__(
        self, catalogue: Catalogue, split: str, *, bounds: Bounds = WEBSHOP_SPLITS, source: str, seed: int = SEED
    ) -> None:
        """Take the goals of a split.

        Args:
            catalogue: The products.
            split: Canonical name of the split.
            bounds: The numbers of each split's goals.
            source: Where the data come from, for errors.
            seed: Seed of prices, price ceilings and order.

        Raises:
            UnknownNameError: These goals have no such split.
            ConfigError: The split has no goals.
        """
        self.catalogue, self.seed, self.source = catalogue, seed, source
        self._split, self._bounds = split, bounds
        kind: GoalKind = "synthetic" if split.startswith(SYNTHETIC_PREFIX) else "human"
        name = split.removeprefix(SYNTHETIC_PREFIX)
        self._book = open_goals(catalogue, kind)
        if name not in bounds:
            raise unknown_name("split", split, bounds)
        start, stop = bounds[name]
        size = len(self._book)
        stop = size if stop is None else min(stop, size)
        if start >= stop:
            raise ConfigError(
                f"{source} has {size} {kind} goals, but the split {split!r} begins at number {start}: "
                f"take another split ({', '.join(bounds)}){_other_kind(kind)}"
            )
        self._order = goal_order(catalogue, self._book, seed)
        self._ids = TaskIds(f"{kind}-", start, stop)

    @property
    def split(self) -> str:
        """The split's canonical name."""
        return self._split

    def with_seed(self, seed: int) -> GoalTasks:
        """Return the same split under another seed."""
        return GoalTasks(self.catalogue, self._split, bounds=self._bounds, source=self.source, seed=seed)

    def ids(self) -> Sequence[str]:
        """All task ids, in order: ``human-7`` is WebShop's session 7."""
        return self._ids

    def get(self, task_id: str) -> Task:
        """Return a task.

        Raises:
            UnknownNameError: No task has this id; the message lists near misses.
        """
        number = self._ids.number(task_id)
        if number is None:
            raise unknown_name("task", task_id, self._near(task_id))
        goal = self._book.goal(int(self._order[number]), self.seed)
        return task_of(goal, task_id=task_id, split=self._split)

    def _near(self, task_id: str) -> list[str]:
        """Return ids that may have been meant; all of them would be millions."""
        ids = self._ids
        near = [task_id[:-1], task_id.rstrip(), *ids[:12]]
        return [name for name in near if name in ids]

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._ids)


def _other_kind(kind: GoalKind) -> str:
    return f", or its synthetic goals ('{SYNTHETIC_PREFIX}train')" if kind == "human" else ""


def task_of(goal: Goal, *, task_id: str, split: str) -> Task:
    """Return a goal as a task."""
    return Task(
        id=task_id, split=split, instruction=goal.instruction_text, type=goal.category, data={"goal": goal.as_json()}
    )


def read_reset(options: Mapping[str, Any] | None, split: str) -> tuple[dict[str, Any], Task | None]:
    """Read the options of a shop's ``reset``: ``{"task_id": ...}``, or ``{"goal": {...}}`` as WebShop writes it.

    Args:
        options: What the caller gave.
        split: The split that the world plays.

    Returns:
        The options as :class:`~turnwise.env.TurnEnv` takes them, and the task of a goal that was given.

    Raises:
        ConfigError: Unknown option, both of them, or no goal.
    """
    chosen = dict(options or {})
    for name in chosen:
        if name not in ("goal", "task_id"):
            raise unknown_name("reset option", str(name), ("goal", "task_id"))
    goal = chosen.pop("goal", None)
    if goal is None:
        return chosen, None
    if chosen.get("task_id") is not None:
        raise ConfigError("reset takes the option 'task_id' or the option 'goal', not both")
    read = read_goal(goal)
    key = sha256(msgspec.json.encode(read, order="sorted")).hexdigest()[:16]
    given = task_of(read, task_id=f"given-{key}", split=split)
    return {**chosen, "task_id": given.id}, given
