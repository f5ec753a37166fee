"""The commands put together. Each is a module of its own that imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from turnwise.rollout.cli import (
    check,
    data,
    envs,
    export,
    play,
    replay,
    rewards,
    rollout,
    score,
    serve,
    serve_env,
    show,
    tiny_model,
)
from turnwise.rollout.cli.console import PlainErrorsGroup

app = typer.Typer(
    name="turnwise",
    cls=PlainErrorsGroup,
    help="A gym for LLM agents that act over many turns, with rewards on every turn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        import turnwise

        typer.echo(turnwise.__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options that come before the command."""


app.command("rollout")(rollout.rollout)
app.command("show")(show.show)
app.command("score")(score.score)
app.command("replay")(replay.replay)
app.command("rewards")(rewards.rewards)
app.command("envs")(envs.envs)
app.command("check")(check.check)
app.command("serve")(serve.serve)
app.command("export")(export.export)
app.command("import")(export.import_)
app.add_typer(data.data, name="data")
app.add_typer(play.play, name="play")
app.command("serve-env")(serve_env.serve_env)
app.command("tiny-model")(tiny_model.tiny_model)


def main() -> None:
    """Entry point of the ``turnwise`` command."""
    app(prog_name="turnwise")
