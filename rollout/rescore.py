"""Scoring stored trajectories with other rewards, without stepping any environment."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from turnwise.records import Json, Trajectory
from turnwise.rollout.store import RunStore
from turnwise.rollout.store.layout import IMAGES
from turnwise.rollout.store.manifest import configuration
from turnwise.rollout.summary import RunSummary

if TYPE_CHECKING:
    from rich.table import Table


class RewardTree(Protocol):
    """What this module needs of a reward tree."""

    def attach(self, trajectory: Trajectory) -> Trajectory:
        """Return the trajectory with its rewards."""
        ...

    def describe(self) -> dict[str, Json]:
        """Return the configuration."""
        ...


def rescore(run: RunStore, rewards: RewardTree, out: str | Path) -> tuple[RunSummary, RunSummary]:
    """Write a new run with the same trajectories and other rewards.

    Args:
        run: The stored run, which stays as it is.
        rewards: The tree to score with.
        out: Directory of the new run; its manifest names the old one under ``source``.

    Returns:
        The summaries of the old and of the new run.

    Raises:
        ConfigError: ``out`` is in use.
    """
    old, new = RunSummary(), RunSummary()
    source = {"run": str(run.path), "run_id": run.manifest["run_id"], "rewards": run.manifest.get("rewards")}
    manifest: Mapping[str, Json] = {
        **configuration(run.manifest),
        "rewards": rewards.describe(),
        "source": source,
    }
    with RunStore.create(out, manifest) as target:
        for trajectory in run.trajectories():
            scored = rewards.attach(trajectory)
            target.append(scored)
            old.add(trajectory)
            new.add(scored)
        if (run.path / IMAGES).is_dir():
            shutil.copytree(run.path / IMAGES, target.path / IMAGES)
    return old, new


def comparison(old: RunSummary, new: RunSummary) -> dict[str, dict[str, float | None]]:
    """Return each reward's mean before and after, by name; None where there is none."""
    names = sorted(old.rewards.keys() | new.rewards.keys())

    def mean(summary: RunSummary, name: str) -> float | None:
        stats = summary.rewards.get(name)
        return stats.mean if stats else None

    return {name: {"old": mean(old, name), "new": mean(new, name)} for name in names}


def comparison_table(old: RunSummary, new: RunSummary) -> Table:
    """Return the comparison as a table for ``rich.print``."""
    from rich.table import Table

    table = Table("reward", header_style="bold", title=f"means over {new.episodes} trajectories")
    for heading in ("old", "new", "change", "invalid old", "invalid new"):
        table.add_column(heading, justify="right")
    for name, means in comparison(old, new).items():
        before, after = means["old"], means["new"]
        change = "" if before is None or after is None else f"{after - before:+.4g}"
        invalid = [str(s.rewards[name].invalid) if name in s.rewards else "-" for s in (old, new)]
        table.add_row(name, _number(before), _number(after), change, *invalid)
    for name in sorted(old.gates.keys() | new.gates.keys()):
        rates = [s.gates[name].rate if name in s.gates else None for s in (old, new)]
        table.add_row(f"{name} gate passed", *(_number(rate) for rate in rates), "", "", "")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
