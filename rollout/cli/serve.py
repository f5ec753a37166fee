"""``turnwise serve``: the reward oracle over HTTP."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from turnwise.rollout.cli.console import notice, print_json
from turnwise.rollout.cli.options import Data, EnvOptions, read_env_options


def serve(
    rewards: Annotated[
        str | None, typer.Option("--rewards", help="YAML file or preset of the rewards.", show_default="default")
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", help="World that reads the actions, and plays items with a task id.", show_default=False),
    ] = None,
    data: Data = None,
    env_option: EnvOptions = None,
    host: Annotated[str, typer.Option(help="Address to listen on; others than loopback need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option("--token", envvar="TURNWISE_TOKEN", help="What callers must send.", show_default=False),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder of a tokenizer, for items of token ids.", show_default=False)
    ] = None,
    match: Annotated[str, typer.Option(help="Final answer against label: exact, contains or none.")] = "exact",
    workers: Annotated[int | None, typer.Option(help="Worker processes; one per CPU by default.")] = None,
    deadline: Annotated[float, typer.Option(help="Seconds to answer an item in.")] = 60.0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--setting", metavar="KEY=VALUE", help="Further limit, such as max_pending=512; repeatable."),
    ] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Serve on Ray, with autoscaled replicas.")] = False,
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; by default one is started.", show_default=False)
    ] = None,
    replicas: Annotated[str, typer.Option(metavar="FEWEST:MOST", help="Replicas on Ray.")] = "1:4",
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of the bodies, and leave.")] = False,
) -> None:
    """Serve a reward tree: native, OpenRLHF, slime, CaRR and NeMo-Gym endpoints."""
    if schema:
        from turnwise.rollout.oracle import json_schema

        print_json(json_schema())
        return
    from turnwise.errors import ConfigError
    from turnwise.rollout.oracle.serving import ServeOptions
    from turnwise.rollout.oracle.serving import serve as run
    from turnwise.rollout.oracle.settings import make_settings

    limits = read_env_options(setting, option="--setting")
    for name, value in (("workers", workers), ("deadline_s", deadline)):
        if value is not None:
            limits.setdefault(name, value)
    env_options = read_env_options(env_option)
    if data is not None:
        env_options["data"] = data
    options = ServeOptions(
        rewards=rewards,
        env=env,
        env_options=env_options,
        tokenizer=tokenizer,
        match=match,
        settings=make_settings(limits),
        host=host,
        port=port,
        token=token,
    )

    def started(url: str) -> None:
        # One line that scripts can wait for; everything else goes to standard error.
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        notice(f"the oracle answers at {url} (documentation: {url}/docs)")

    if not ray:
        run(options, started=started)
        return
    from turnwise.rollout.oracle.ray_app import serve_ray

    fewest, found, most = replicas.partition(":")
    if not found or not fewest.isdigit() or not most.isdigit():
        raise ConfigError(f"--replicas takes FEWEST:MOST, such as 1:4, got {replicas!r}")
    serve_ray(options, address=ray_address, started=started, min_replicas=int(fewest), max_replicas=int(most))
