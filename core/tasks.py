"""Task sets: the tasks of one split, and the names that splits go by."""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Task

# Names the field uses for the same three splits; the canonical ones are the values.
SPLIT_ALIASES = {
    "train": "train",
    "val": "val_seen",
    "val_seen": "val_seen",
    "valid_seen": "val_seen",
    "eval_in_distribution": "val_seen",
    "test": "val_unseen",
    "val_unseen": "val_unseen",
    "valid_unseen": "val_unseen",
    "eval_out_of_distribution": "val_unseen",
}


def canonical_split(split: str) -> str:
    """Return the canonical name of a seen/unseen split: train, val_seen or val_unseen.

    Raises:
        UnknownNameError: Nobody calls a split that.
    """
    try:
        return SPLIT_ALIASES[split]
    except KeyError:
        raise unknown_name("split", split, SPLIT_ALIASES) from None


class ListTaskSet:
    """A task set held in memory; enough for most worlds."""

    def __init__(self, tasks: Sequence[Task], *, split: str) -> None:
        """Hold ``tasks`` in their order.

        Raises:
            ConfigError: There are none, or two share an id.
        """
        self._tasks = {task.id: task for task in tasks}
        if not tasks:
            raise ConfigError(f"the split {split!r} has no tasks: check the data path and the split name")
        if len(self._tasks) != len(tasks):
            raise ConfigError(f"the split {split!r} holds {len(tasks) - len(self._tasks)} duplicate task ids")
        self._ids = tuple(self._tasks)
        self._split = split

    @property
    def split(self) -> str:
        """The split's canonical name."""
        return self._split

    def ids(self) -> Sequence[str]:
        """All task ids, in order."""
        return self._ids

    def get(self, task_id: str) -> Task:
        """Return a task by id."""
        try:
            return self._tasks[task_id]
        except KeyError:
            raise unknown_name("task", task_id, self._ids) from None

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._ids)
