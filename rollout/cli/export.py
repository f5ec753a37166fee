"""``turnwise export`` and ``turnwise import``: runs as JSON Lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from turnwise.rollout.cli.console import output
from turnwise.rollout.cli.options import Run


def export(
    run: Run,
    jsonl: Annotated[Path, typer.Option("--jsonl", help="File to write, one trajectory a line.", show_default=False)],
) -> None:
    """Write a stored run as JSON Lines."""
    from turnwise.rollout.store import RunStore, export_jsonl

    count = export_jsonl(RunStore.open(run), jsonl)
    output().print(f"{count} trajectories written to {jsonl}", markup=False, soft_wrap=True)


def import_(
    run: Annotated[Path, typer.Argument(help="Directory of the new run.", show_default=False)],
    jsonl: Annotated[Path, typer.Option("--jsonl", help="File to read, one trajectory a line.", show_default=False)],
) -> None:
    """Make a stored run of a JSON Lines file."""
    from turnwise.rollout.store import import_jsonl

    count = import_jsonl(jsonl, run)
    output().print(f"{count} trajectories stored in {run}", markup=False, soft_wrap=True)
