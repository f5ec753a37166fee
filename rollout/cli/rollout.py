"""``turnwise rollout``: play episodes in parallel and store them."""

from __future__ import annotations

import contextlib
import datetime as dt
import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnwise.rollout.cli.console import EXIT_FAILURE, notice, notices, output, print_json, print_view
from turnwise.rollout.cli.options import AsJson, Data, EnvOptions, read_deadline, read_env_options, read_size

if TYPE_CHECKING:
    from turnwise.rollout import Rollout, RunSummary

EXIT_INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C


def _seconds(what: str) -> Any:
    return typer.Option(metavar="SECONDS", help=f"Time for {what}, or none for no deadline.")


def rollout(
    ctx: typer.Context,
    env: Annotated[str, typer.Option(help="Registered id of the world.")] = "turnwise/Household-v0",
    data: Data = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="SPLIT, SPLIT:N (the first N) or SPLIT:A-B; by default the whole split train."),
    ] = None,
    group: Annotated[int, typer.Option(help="Episodes per task.")] = 1,
    agent: Annotated[
        str,
        typer.Option(
            help="expert, explorer, noisy-expert[:EPSILON], random, replay:RUN[#ID], human, "
            "transformers:PATH[?OPTIONS], openai:URL[?OPTIONS], or a plug-in."
        ),
    ] = "expert",
    workers: Annotated[int, typer.Option(help="Ray actors; 0 plays in this process, without deadlines.")] = 1,
    slots: Annotated[
        int | None, typer.Option(help="Episodes at once per worker.", show_default="2, with a model 8")
    ] = None,
    replicas: Annotated[int, typer.Option(help="Copies of the model, for agents that have one.")] = 1,
    rewards: Annotated[
        str | None, typer.Option(help="YAML file or preset; see 'turnwise rewards'.", show_default="default")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    max_turns: Annotated[
        int | None, typer.Option(help="Turns after which an episode is cut.", show_default="the world's")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join, or 'auto'.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the run; resumed if it holds a part.", show_default="runs/TIME")
    ] = None,
    boot_deadline: Annotated[str | None, _seconds("making the world, and for a reset")] = None,
    step_deadline: Annotated[str | None, _seconds("one step of the world")] = None,
    act_deadline: Annotated[str | None, _seconds("one answer of the agent")] = None,
    episode_deadline: Annotated[str | None, _seconds("a whole episode")] = None,
    grade_deadline: Annotated[str | None, _seconds("the rewards of an episode")] = None,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Memory of one episode's process: 2GiB, 512MiB, ..., or none.")
    ] = None,
    env_option: EnvOptions = None,
    as_json: AsJson = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the run's path and nothing else.")] = False,
) -> None:
    """Play episodes in parallel, score every turn and store the trajectories."""
    from turnwise.rollout import Rollout
    from turnwise.rollout.engine.wire import DEFAULT_MEMORY_LIMIT
    from turnwise.rollout.store import check_unused
    from turnwise.rollout.store.layout import MANIFEST

    given = {
        "boot_s": boot_deadline,
        "step_s": step_deadline,
        "act_s": act_deadline,
        "episode_s": episode_deadline,
        "grade_s": grade_deadline,
    }
    target = out or _fresh_directory(env)
    if not (target / MANIFEST).exists():
        check_unused(target)
    run = Rollout(
        env,
        data=data,
        tasks=tasks,
        group=group,
        agent=agent,
        workers=workers,
        slots=slots,
        replicas=replicas,
        rewards=rewards,
        seed=seed,
        max_turns=max_turns,
        address=address,
        out=target,
        deadlines=_deadlines(given),
        env_options=read_env_options(env_option),
        memory_limit=DEFAULT_MEMORY_LIMIT if memory_limit is None else read_size("--memory-limit", memory_limit),
    )
    talkative = not (quiet or as_json)
    if run.stored and talkative:
        rest = "nothing is left to play" if len(run.stored) == run.total else "playing the rest"
        notice(f"{target} holds {len(run.stored)} of {run.total} episodes: {rest}")
    summary, complete = _play(run, show_progress=talkative)
    _report(target, summary, complete=complete, as_json=as_json, quiet=quiet)
    if not complete:
        notice(f"interrupted: {len(run.stored)} of {run.total} episodes are stored", style="yellow")
        notice(f"resume with: {_command(ctx, target)}")
        raise typer.Exit(EXIT_INTERRUPTED)
    if summary.episodes and summary.failed == summary.episodes:
        notice(f"error: every episode failed; see turnwise show {target} ID", style="bold red")
        raise typer.Exit(EXIT_FAILURE)


def _play(run: Rollout, *, show_progress: bool) -> tuple[RunSummary, bool]:
    """Play what is missing; return the summary of the whole run and whether it is complete."""
    from turnwise.rollout import RunSummary
    from turnwise.rollout.store import RunStore

    summary = RunSummary()
    if run.out is not None and run.stored:
        for trajectory in RunStore.open(run.out).trajectories():
            summary.add(trajectory)
    summary.start()
    try:
        with (
            _terminated_like_interrupted(),
            _progress(run.total, summary, shown=show_progress) as advance,
            contextlib.closing(iter(run)) as played,
        ):
            for trajectory in played:
                summary.add(trajectory)
                advance()
    except (KeyboardInterrupt, SystemExit):  # Ray puts its own SIGTERM handler in the place of ours, which exits
        return summary, False
    finally:
        summary.stop()
    return summary, True


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let a scheduler's SIGTERM end the run in the same orderly way as Ctrl-C."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _progress(total: int, summary: RunSummary, *, shown: bool) -> Iterator[Callable[[], None]]:
    """Show a bar with episodes/s, successes and failures; yields what to call after each episode."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("episodes"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TextColumn("[green]{task.fields[ok]} ok[/green]"),
        TextColumn("[red]{task.fields[failed]} failed[/red]"),
        TimeElapsedColumn(),
    )
    fields: dict[str, Any] = {"speed": "starting", "ok": summary.succeeded, "failed": summary.failed}
    with Progress(*columns, console=notices(), disable=not shown) as progress:
        bar = progress.add_task("episodes", total=total, completed=summary.episodes, **fields)

        def advance() -> None:
            speed = f"{summary.episodes_per_s or 0:.1f}/s"
            progress.update(bar, advance=1, speed=speed, ok=summary.succeeded, failed=summary.failed)

        yield advance


def _report(target: Path, summary: RunSummary, *, complete: bool, as_json: bool, quiet: bool) -> None:
    if as_json:
        status = "complete" if complete else "interrupted"
        print_json({"run": str(target), "status": status, "summary": summary.to_dict()})
        return
    if not quiet:
        print_view(summary.table())
    output().print(str(target), markup=False, soft_wrap=True)


def _deadlines(given: dict[str, str | None]) -> Any:
    """Return the deadlines, with the defaults where the caller gave none."""
    from turnwise.rollout import Deadlines

    chosen = {
        name: read_deadline(f"--{name.removesuffix('_s')}-deadline", text)
        for name, text in given.items()
        if text is not None
    }
    return Deadlines(**chosen)


def _fresh_directory(env: str) -> Path:
    """Return a new path under ``runs/``, named by the time and the world."""
    world = env.rpartition("/")[2].rpartition("-v")[0].lower() or "run"
    stem = f"{dt.datetime.now().astimezone():%Y%m%d-%H%M%S}-{world}"
    path = Path("runs") / stem
    number = 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{stem}-{number}"
    return path


def _command(ctx: typer.Context, target: Path) -> str:
    """Return the command line that resumes the run."""
    words = ["turnwise", "rollout"]
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.name == "out":
            value = target
        if value is None or value is False or value == parameter.default:
            continue
        flag = parameter.opts[0]
        if value is True:
            words.append(flag)
        else:
            for item in value if isinstance(value, (list, tuple)) else [value]:
                words += [flag, str(item)]
    return shlex.join(words)
