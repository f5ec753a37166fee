"""``turnwise replay``: does the world still answer as it did?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.rollout.cli.console import EXIT_FAILURE, output, print_json, print_view
from turnwise.rollout.cli.options import AsJson, Run

if TYPE_CHECKING:
    from turnwise.rollout.replay import Replay

_SHOWN_CHARS = 300


def replay(
    run: Run,
    ids: Annotated[list[str] | None, typer.Argument(help="Trajectories, by default all.", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Re-execute recorded actions from the seeds; exit code 1 if anything differs."""
    from turnwise.rollout.replay import replay_all
    from turnwise.rollout.store import RunStore

    store = RunStore.open(run)
    names = [store.resolve(name) for name in ids or ()]
    trajectories = (store.get(name) for name in names) if names else store.trajectories()
    turns, count, differing = 0, 0, []
    for result in replay_all(trajectories):
        count += 1
        turns += result.turns
        if result.differences:
            differing.append(result)
    same = f"{count - len(differing)} of {count} trajectories replayed the same, {turns} turns"
    if as_json:
        found = [result.to_dict() for result in differing]
        print_json({"run": run, "trajectories": count, "turns": turns, "same": not differing, "differing": found})
    else:
        if differing:
            _print_differences(differing)
        output().print(same)
    if differing:
        raise typer.Exit(EXIT_FAILURE)


def _print_differences(results: list[Replay]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("trajectory", "turn", "what", "recorded", "replayed", header_style="bold", show_lines=True)
    for result in results:
        for difference in result.differences:
            turn = "end" if difference.turn is None else str(difference.turn)
            values = [_short(difference.recorded), _short(difference.replayed)]
            table.add_row(Text(result.trajectory_id), turn, difference.what, *(Text(value) for value in values))
    print_view(table)


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "..."
