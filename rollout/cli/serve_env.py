"""``turnwise serve-env``: sessions of a world for OpenEnv, NeMo-Gym and MCP clients."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from turnwise.rollout.cli.console import notice
from turnwise.rollout.cli.options import Data, EnvOptions, read_deadline, read_env_options, read_size


def _seconds(what: str, default: str) -> Any:
    return typer.Option(metavar="SECONDS", help=f"Time for {what}, or none for no deadline.", show_default=default)


def serve_env(
    env: Annotated[str, typer.Option(help="Registered id of the world.")] = "turnwise/Household-v0",
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Which split to serve.", show_default="train")] = None,
    env_option: EnvOptions = None,
    max_turns: Annotated[
        int | None, typer.Option(help="Turns after which an episode is cut.", show_default="the world's")
    ] = None,
    rewards: Annotated[
        str | None,
        typer.Option(help="YAML file or preset: finished episodes come back scored.", show_default="no rewards"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind; 0 takes a free one.")] = 8001,
    token: Annotated[
        str | None,
        typer.Option(envvar="TURNWISE_TOKEN", help="What clients send as 'Authorization: Bearer TOKEN'."),
    ] = None,
    max_sessions: Annotated[int, typer.Option(help="Sessions at once.")] = 64,
    warm: Annotated[
        bool, typer.Option(help="Try the world once before the first session; not if it starts threads or programs.")
    ] = True,
    spares: Annotated[int, typer.Option(help="Environments made ahead for the next sessions.")] = 2,
    idle: Annotated[str | None, _seconds("a session without a request", "1800")] = None,
    boot_deadline: Annotated[str | None, _seconds("making the world, and for a reset", "60")] = None,
    step_deadline: Annotated[str | None, _seconds("one step of the world", "60")] = None,
    episode_deadline: Annotated[str | None, _seconds("a whole episode", "3600")] = None,
    grade_deadline: Annotated[str | None, _seconds("the rewards of an episode", "120")] = None,
    memory_limit: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory of one session's process: 2GiB, 512MiB, ..., or none.")
    ] = "4GiB",
    max_body: Annotated[str, typer.Option(metavar="SIZE", help="Largest request body and message.")] = "1MiB",
) -> None:
    """Serve sessions of a world: OpenEnv (WebSocket and HTTP), NeMo-Gym and MCP on one port."""
    from turnwise.errors import ConfigError
    from turnwise.rollout.engine.wire import Deadlines
    from turnwise.rollout.envserver import ServerOptions, serve

    given = {
        "boot_s": ("--boot-deadline", boot_deadline),
        "step_s": ("--step-deadline", step_deadline),
        "episode_s": ("--episode-deadline", episode_deadline),
        "grade_s": ("--grade-deadline", grade_deadline),
    }
    body_bytes = read_size("--max-body", max_body)
    if body_bytes is None:
        raise ConfigError("--max-body takes a size such as 1MiB; without one, anybody could fill the memory")
    options = ServerOptions(
        env=env,
        data=data,
        split=split,
        env_options=read_env_options(env_option),
        max_turns=max_turns,
        rewards=rewards,
        host=host,
        port=port,
        token=token,
        max_sessions=max_sessions,
        warm=warm,
        spares=spares,
        idle_s=1800.0 if idle is None else read_deadline("--idle", idle),
        deadlines=Deadlines(
            **{name: read_deadline(option, text) for name, (option, text) in given.items() if text is not None}
        ),
        memory_limit=read_size("--memory-limit", memory_limit),
        max_body_bytes=body_bytes,
    )
    serve(options, on_ready=lambda url: notice(f"serving {env} at {url} (OpenEnv: /ws, NeMo-Gym: /reset, MCP: /mcp)"))
