"""``turnwise play``: a person plays a task."""

from __future__ import annotations

import contextlib
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.errors import ConfigError
from turnwise.rollout.cli.console import notice, output, print_json
from turnwise.rollout.cli.options import AsJson, Data

if TYPE_CHECKING:
    from turnwise.envs.webshop.visit import Visit

play = typer.Typer(help="Play a task yourself.", no_args_is_help=True)
_LOOK_S = 0.2


@play.callback()
def _group() -> None:
    """Play a task yourself."""


@play.command("webshop")
def webshop(
    data: Data = None,
    split: Annotated[str, typer.Option("--split", help="Split that the task is of.")] = "train",
    task: Annotated[str | None, typer.Option("--task", help="Task id; by default the seed draws one.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draw.")] = 0,
    port: Annotated[int, typer.Option("--port", help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open it in your web browser.")] = True,
    as_json: AsJson = False,
) -> None:
    """Shop on the web shop's site until something is bought; then print what the purchase was worth."""
    from turnwise.envs.webshop_browser.server import serving

    if not 0 <= port <= 65_535:
        raise ConfigError(f"--port takes 0 to 65535, got {port}")
    visit = _visit(data, split, task, seed)
    with serving(port=port) as server:
        token, session = server.sessions.open(visit)
        address = server.address(token)
        notice(f"{visit.goal.instruction_text}\n{address}\nCtrl-C ends it.")
        if browse:
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            while visit.bought is None:
                if session.failure is not None:
                    raise session.failure
                time.sleep(_LOOK_S)
            time.sleep(_LOOK_S)  # so that the last page gets out
    _report(visit, as_json=as_json)


def _visit(data: str | None, split: str, task: str | None, seed: int) -> Visit:
    """Begin the visit that the text world would begin."""
    from turnwise.envs.webshop import WebShopEnv

    env = WebShopEnv(data=data, split=split)
    env.reset(seed=seed, options={} if task is None else {"task_id": task})
    return env.visit


def _report(visit: Visit, *, as_json: bool) -> None:
    bought = visit.bought
    if as_json:
        print_json({"goal": visit.goal.as_json(), "level": visit.level, **visit.report()})
        return
    if bought is None:
        notice("nothing was bought")
        return
    output().print(f"reward {bought.total:.3f} ({visit.level})")
    for name, value in bought.as_json().items():
        if isinstance(value, float) and name != "total":
            output().print(f"  {name} {value:.3f}", markup=False)
