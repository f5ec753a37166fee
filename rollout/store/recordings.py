"""Recorded actions, for agents that replay them: from a run directory or a JSONL file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from turnwise.records import Trajectory
from turnwise.rollout.store.jsonl import read_jsonl
from turnwise.rollout.store.run_store import RunStore


def read_actions(source: str | Path) -> dict[str, tuple[str, ...]]:
    """Return the messages of each trajectory, by trajectory id.

    Args:
        source: A run directory or a JSONL file.

    Raises:
        ConfigError: There is neither.
    """
    path = Path(source)
    trajectories: Iterable[Trajectory]
    trajectories = read_jsonl(path) if path.is_file() else RunStore.open(path).trajectories()
    return {t.id: tuple(turn.action_text for turn in t.turns) for t in trajectories}
