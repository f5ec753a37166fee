"""``turnwise check``: does a world keep the contract?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from turnwise.rollout.cli.console import EXIT_FAILURE, print_view
from turnwise.rollout.cli.options import AsJson, Data, EnvOptions, read_env_options


def check(
    env_id: Annotated[str, typer.Argument(help="Registered id, such as turnwise/Household-v0.", show_default=False)],
    data: Data = None,
    env_option: EnvOptions = None,
    episodes: Annotated[int, typer.Option(help="How many tasks to sample.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the check.")] = 0,
    rule: Annotated[list[str] | None, typer.Option(help="Apply only this rule; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a world against the environment contract; exit code 1 if it breaks a rule."""
    from turnwise.envs import conformance

    report = conformance.check(
        env_id,
        data=data,
        env_options=read_env_options(env_option),
        episodes=episodes,
        seed=seed,
        rules=rule or None,
    )
    if as_json:
        sys.stdout.write(report.to_json() + "\n")
    else:
        print_view(report.table())
    if not report.ok:
        raise typer.Exit(EXIT_FAILURE)
