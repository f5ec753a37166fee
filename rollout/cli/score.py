"""``turnwise score``: stored trajectories with other rewards, without stepping."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.rollout.cli.console import output, print_json, print_view
from turnwise.rollout.cli.options import AsJson, Run

if TYPE_CHECKING:
    from turnwise.rollout.store import RunStore


def score(
    run: Run,
    rewards: Annotated[str, typer.Option("--rewards", help="YAML file or preset to score with.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the new run; by default beside the old one.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score stored trajectories with other rewards, and compare the means."""
    from turnwise.rewards import load_rewards
    from turnwise.rollout.rescore import comparison, comparison_table, rescore
    from turnwise.rollout.store import RunStore

    store = RunStore.open(run)
    tree = load_rewards(rewards)
    levels = _levels(store)
    if levels is not None:
        tree.check_levels(levels)
    target = out or _beside(Path(run), Path(rewards).stem)
    old, new = rescore(store, tree, target)
    if as_json:
        print_json({"run": str(target), "means": comparison(old, new), "old": old.to_dict(), "new": new.to_dict()})
        return
    print_view(comparison_table(old, new))
    output().print(str(target), markup=False, soft_wrap=True)


def _levels(store: RunStore) -> tuple[str, ...] | None:
    """Return the world's outcome levels as recorded, or None when no episode has an outcome."""
    for trajectory in store.trajectories():
        if trajectory.outcome is not None:
            return trajectory.outcome.levels
    return None


def _beside(run: Path, name: str) -> Path:
    """Return a free path next to a run, named after it and the rewards."""
    folder = run.resolve()
    path = folder.with_name(f"{folder.name}-{name}")
    number = 1
    while path.exists():
        number += 1
        path = folder.with_name(f"{folder.name}-{name}-{number}")
    return path
