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
    one: Annotated[bool, typer.Option("--one", help="Show a typical one: solved, of median length.")] = False,
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
        trajectory_id = _typical(store)
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


def _typical(store: RunStore) -> str:
    """Return the id of a solved trajectory of median length; of any trajectory if none is solved."""
    lengths = [(not (t.outcome and t.outcome.success), len(t.turns), t.id) for t in store.trajectories()]
    if not lengths:
        raise ConfigError(f"{store.path} holds no trajectory yet")
    unsolved = min(lengths)[0]
    candidates = sorted(length for length in lengths if length[0] == unsolved)
    return candidates[len(candidates) // 2][2]


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
