"""The grammar of task ranges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import ConfigError
from turnwise.rollout.engine.tasks import NumberedTasks, TaskRange, parse_tasks, take


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("train", TaskRange("train", 0, None)),
        (" val_seen ", TaskRange("val_seen", 0, None)),
        ("train:64", TaskRange("train", 0, 64)),
        ("train:0-64", TaskRange("train", 0, 64)),
        ("test:10-11", TaskRange("test", 10, 11)),
    ],
)
def test_ranges(spec: str, expected: TaskRange) -> None:
    assert parse_tasks(spec) == expected


@pytest.mark.parametrize("spec", ["", ":", ":4", "train:", "train:-1", "train:a", "train:3-2", "train:3-3", "a:1:2"])
def test_what_is_no_range(spec: str) -> None:
    with pytest.raises(ConfigError):
        parse_tasks(spec)


@given(size=st.integers(1, 50), start=st.integers(0, 60), length=st.integers(1, 60))
def test_ranges_are_slices(size: int, start: int, length: int) -> None:
    tasks = NumberedTasks("s", size)
    stop = start + length
    if start < size:
        assert take(tasks, parse_tasks(f"s:{start}-{stop}")) == list(tasks.ids())[start:stop]
    else:
        with pytest.raises(ConfigError, match=f"has {size} tasks"):
            take(tasks, parse_tasks(f"s:{start}-{stop}"))
