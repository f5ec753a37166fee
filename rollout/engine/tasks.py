"""Which tasks a rollout plays: ``"train"``, ``"train:64"``, ``"train:10-20"``, or a list of ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from turnwise.errors import ConfigError, did_you_mean
from turnwise.protocols import TaskSet
from turnwise.records import Task

_RANGE = re.compile(r"(?P<split>[^:]+)(?::(?:(?P<start>\d+)-)?(?P<stop>\d+))?")


class TaskRange(NamedTuple):
    """A split's tasks from ``start`` up to, not including, ``stop``; None means to the end."""

    split: str
    start: int = 0
    stop: int | None = None


def parse_tasks(spec: str) -> TaskRange:
    """Read ``SPLIT``, ``SPLIT:N`` (the first N, or all) or ``SPLIT:A-B`` (from A up to, not including, B, 0-based).

    Raises:
        ConfigError: ``spec`` is something else, or names no task.
    """
    found = _RANGE.fullmatch(spec.strip())
    if found is None:
        raise ConfigError(
            f"tasks are 'SPLIT', 'SPLIT:N' (the first N) or 'SPLIT:A-B' (from A up to, not including, B): got {spec!r}"
        )
    start = int(found["start"] or 0)
    stop = None if found["stop"] is None else int(found["stop"])
    if stop is not None and stop <= start:
        raise ConfigError(f"tasks {spec!r} names no task: the end must be larger than {start}")
    return TaskRange(found["split"], start, stop)


def take(tasks: TaskSet, wanted: TaskRange) -> list[str]:
    """Return the ids of a range; one that ends beyond the split ends with it.

    So the same command plays a data set of any size: ``train:64`` is at most 64 tasks.

    Raises:
        ConfigError: The split ends before the range begins.
    """
    size = len(tasks)
    if wanted.start >= size:
        raise ConfigError(
            f"the split {wanted.split!r} has {size} tasks, numbered from 0: tasks from {wanted.start} were asked for"
        )
    return list(tasks.ids()[wanted.start : wanted.stop])


def check_ids(ids: Sequence[str], known: TaskSet) -> list[str]:
    """Return a list of task ids after a check.

    Raises:
        ConfigError: It is empty, holds an unknown id, or holds one twice.
    """
    chosen = list(ids)
    if not chosen:
        raise ConfigError("the list of tasks is empty: name at least one task id, or pass a split such as 'train:64'")
    available = set(known.ids())
    for task_id in chosen:
        if task_id not in available:
            near = did_you_mean(str(task_id), available)
            raise ConfigError(f"unknown task {task_id!r} in split {known.split!r}.{near}")
    if len(set(chosen)) != len(chosen):
        twice = next(task_id for task_id in chosen if chosen.count(task_id) > 1)
        raise ConfigError(f"the task {twice!r} is listed twice: use group=N for several samples of a task")
    return chosen


class NumberedTasks:
    """Stand-in for a world without a task set: numbered tasks that differ by their seed only."""

    def __init__(self, split: str, size: int) -> None:
        """Name ``size`` tasks ``"<split>-<number>"``."""
        self._split = split
        self._ids = tuple(f"{split}-{number}" for number in range(size))

    @property
    def split(self) -> str:
        """The split's name."""
        return self._split

    def ids(self) -> Sequence[str]:
        """All ids, in order."""
        return self._ids

    def get(self, task_id: str) -> Task:
        """Return a task."""
        return Task(id=task_id, split=self._split, instruction="")

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self._ids)


class NamedTasks(NumberedTasks):
    """The same, with ids that the caller chose."""

    def __init__(self, ids: Sequence[str]) -> None:
        """Take the ids as they are."""
        super().__init__("", 0)
        self._ids = tuple(str(task_id) for task_id in ids)
