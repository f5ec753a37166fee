"""Task sets and the names of splits."""

from __future__ import annotations

import pytest

from turnwise.errors import ConfigError, UnknownNameError
from turnwise.protocols import TaskSet
from turnwise.records import Task
from turnwise.tasks import SPLIT_ALIASES, ListTaskSet, canonical_split


def task(name: str) -> Task:
    return Task(id=name, split="train", instruction=f"Do {name}.")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("train", "train"),
        ("val", "val_seen"),
        ("valid_seen", "val_seen"),
        ("eval_in_distribution", "val_seen"),
        ("test", "val_unseen"),
        ("valid_unseen", "val_unseen"),
        ("eval_out_of_distribution", "val_unseen"),
    ],
)
def test_splits_go_by_many_names(name: str, canonical: str) -> None:
    assert canonical_split(name) == canonical


def test_canonical_names_are_their_own_aliases() -> None:
    assert all(canonical_split(name) == name for name in set(SPLIT_ALIASES.values()))


def test_an_unknown_split_lists_near_misses() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown split 'trian'. Did you mean 'train'"):
        canonical_split("trian")


def test_a_task_set_keeps_its_order() -> None:
    tasks = ListTaskSet([task("b"), task("a"), task("c")], split="train")
    assert isinstance(tasks, TaskSet)
    assert tuple(tasks.ids()) == ("b", "a", "c")
    assert len(tasks) == 3
    assert tasks.split == "train"
    assert tasks.get("a").instruction == "Do a."


def test_an_unknown_task_lists_near_misses() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown task 'lok-1'. Did you mean 'lock-1'"):
        ListTaskSet([task("lock-1"), task("door")], split="train").get("lok-1")


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="'val' has no tasks"):
        ListTaskSet([], split="val")


def test_duplicate_ids_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 duplicate task ids"):
        ListTaskSet([task("a"), task("a"), task("b"), task("a")], split="train")
