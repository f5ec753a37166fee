"""``turnwise show``: what is in a stored run, and one trajectory turn by turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.errors import ConfigError
from turnwise.rollout.cli.console import output, print_json, print_view
from turnwise.rollout.cli.options import AsJson, Run

if TYPE_CHECKING:
    from turnwise.records import Json, Trajectory
    from turnwise.rollout.store import RunStore


def show(
    run: Run,
    trajectory_id: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="A trajectory's id, or the beginning of it.", show_default=False),
    ] = None,
    one: Annotated[bool, typer.Option("--one", help="Show a solved one with rewards of most kinds.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="List failed episodes only.")] = False,
    limit: Annotated[int, typer.Option(help="List at most so many; 0 lists all.", min=0)] = 20,
    full: Annotated[bool, typer.Option("--full", help="Show long observations and evidence whole.")] = False,
    as_json: AsJson = False,
) -> None:
    """List a run's trajectories, or show one turn by turn with each reward and its evidence."""
    from turnwise.rollout.store import RunStore

    store = RunStore.open(run)
    if one and trajectory_id is not None:
        raise ConfigError(f"--one picks a trajectory itself: leave out {trajectory_id!r} or --one")
    if one:
        trajectory_id = _telling(store)
    if trajectory_id is None:
        _list(store, failed=failed, limit=limit, as_json=as_json)
        return
    trajectory = store.get(store.resolve(trajectory_id))
    if as_json:
        from turnwise.records import to_json

        sys.stdout.write(to_json(trajectory).decode() + "\n")
        return
    from turnwise.rollout.cli.views import trajectory_view

    print_view(trajectory_view(trajectory, full=full))


def _telling(store: RunStore) -> str:
    """Return the id of the trajectory that shows most: a solved one whose turns' rewards are the most varied.

    Counted are the rewards that pay on some turn, that cost on some turn, and that are invalid, first among those
    that pay on the whole whatever they cost on a turn; among equals the one nearest the median length of them, then
    the first id, so that the same run shows the same trajectory each time.
    """
    seen = [((_solved(t), _pays(t), len(_kinds(t))), len(t.turns), t.id) for t in store.trajectories()]
    if not seen:
        raise ConfigError(f"{store.path} holds no trajectory yet")
    best = max(rank for rank, _, _ in seen)
    equals = [(turns, name) for rank, turns, name in seen if rank == best]
    median = sorted(equals)[len(equals) // 2][0]
    return min((abs(turns - median), name) for turns, name in equals)[1]


def _solved(trajectory: Trajectory) -> bool:
    return trajectory.outcome is not None and trajectory.outcome.success


def _pays(trajectory: Trajectory) -> bool:
    return all(reward.value is None or reward.value >= 0.0 for reward in trajectory.rewards.values())


def _kinds(trajectory: Trajectory) -> set[tuple[str, str]]:
    """Return which rewards pay, cost or are invalid on some turn, and whether some action was invalid."""
    kinds = {("action", "invalid") for turn in trajectory.turns if not turn.action_valid}
    for turn in trajectory.turns:
        for name, reward in turn.rewards.items():
            if reward.value is None:
                kinds.add((name, "invalid"))
            elif reward.value:
                kinds.add((name, "pays" if reward.value > 0.0 else "costs"))
    return kinds


def _list(store: RunStore, *, failed: bool, limit: int, as_json: bool) -> None:
    chosen = _choose(store, failed=failed, limit=limit)
    if as_json:
        rows = [_row(trajectory) for trajectory in chosen]
        print_json({"run": str(store.path), "status": store.status, "manifest": store.manifest, "trajectories": rows})
        return
    from turnwise.rollout.cli.views import run_view, trajectory_table

    print_view(run_view(store.manifest, status=store.status, count=len(store)))
    table, shown = trajectory_table(chosen)
    print_view(table)
    kind = "failed trajectories" if failed else f"of {len(store)} trajectories"
    output().print(f"{shown} {kind} shown; turnwise show {store.path} ID shows one", markup=False, soft_wrap=True)


def _choose(store: RunStore, *, failed: bool, limit: int) -> Iterator[Trajectory]:
    count = 0
    for trajectory in store.trajectories():
        if failed and not trajectory.failed:
            continue
        yield trajectory
        count += 1
        if count == limit:
            return


def _row(trajectory: Trajectory) -> dict[str, Json]:
    import msgspec

    return {
        "id": trajectory.id,
        "task": trajectory.task.id,
        "sample": trajectory.sample,
        "seed": trajectory.seed,
        "turns": len(trajectory.turns),
        "ending": msgspec.to_builtins(trajectory.ending),
        "outcome": msgspec.to_builtins(trajectory.outcome),
        "rewards": {name: msgspec.to_builtins(value) for name, value in trajectory.rewards.items()},
    }
