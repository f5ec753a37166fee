"""Stored runs and trajectories for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from turnwise.records import Ending, Json, RewardValue, Trajectory, Turn

_LONG_TEXT = 1500
_LONG_OBSERVATION = 900
_LONG_ACTION = 160
_ACTION_COLUMN = 44
_LONG_ITEM = 300  # characters of one piece of evidence
_MANY_ITEMS = 4
_LONG_REASON = 300


def run_view(manifest: Mapping[str, Json], *, status: str, count: int) -> RenderableType:
    """Return the head of a run: what was run, with what, and how it stands."""
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    facts = {
        "run": manifest.get("run_id"),
        "world": manifest.get("env"),
        "agent": manifest.get("agent"),
        "tasks": manifest.get("tasks"),
        "group": manifest.get("group"),
        "seed": manifest.get("seed"),
        "status": f"{status}, {count} trajectories",
        "created": manifest.get("created"),
        "source": manifest.get("source"),
    }
    for key, value in facts.items():
        if value is not None:
            table.add_row(key, Text(value if isinstance(value, str) else _compact(value)))
    return table


def trajectory_table(trajectories: Iterable[Trajectory]) -> tuple[Table, int]:
    """Return a table with one line a trajectory, and how many there are."""
    table = Table("trajectory", "turns", "ending", "success", "level", "reward", header_style="bold")
    table.columns[0].overflow = "fold"
    count = 0
    for trajectory in trajectories:
        count += 1
        outcome = trajectory.outcome
        table.add_row(
            Text(trajectory.id),
            str(len(trajectory.turns)),
            ending_text(trajectory.ending),
            "-" if outcome is None else "yes" if outcome.success else "no",
            (outcome.level or "") if outcome else "",
            _value(trajectory.rewards.get("reward")),
        )
    return table, count


def ending_text(ending: Ending, *, message: bool = False) -> Text:
    """Return how an episode ended, in a few words."""
    if ending.kind == "terminated":
        return Text("terminated", style="green")
    failure = ending.failure
    what = "" if failure is None else f"{failure.boundary}: {failure.kind}"
    if failure is not None and failure.turn is not None:
        what += f" at turn {failure.turn}"
    if failure is not None and message:
        what += f": {failure.message}"
    if ending.kind == "truncated":
        return Text(f"truncated by {ending.cause}" + (f" ({what})" if what else ""), style="yellow")
    return Text(f"failed, {what}", style="red")


def trajectory_view(trajectory: Trajectory, *, full: bool = False) -> RenderableType:
    """Return a trajectory turn by turn: observation, action, validity, rewards and their evidence.

    Args:
        trajectory: What to show.
        full: Whether long texts and evidence are shown whole.
    """
    parts: list[RenderableType] = [_head(trajectory)]
    for turn in trajectory.turns:
        # What a reward says of the whole episode stands below, under the totals.
        parts.extend(_turn(turn, full=full, without="episode" if trajectory.rewards and not full else ""))
    parts.append(Rule("end", style="dim"))
    if trajectory.final_observation:
        parts.append(_observation(trajectory.final_observation, full=full))
    parts.append(Text.assemble(("ending   ", "bold"), ending_text(trajectory.ending, message=True)))
    parts.append(Text.assemble(("outcome  ", "bold"), _outcome(trajectory)))
    if trajectory.rewards:
        parts.append(_rewards(trajectory.rewards, "total", full=full))
    if any(turn.rewards for turn in trajectory.turns):
        parts.extend([Rule("all turns", style="dim"), _overview(trajectory)])
    return Group(*parts)


def _overview(trajectory: Trajectory) -> Table:
    """Return a line a turn: what was done, and every reward's value."""
    names = list(dict.fromkeys(name for turn in trajectory.turns for name in turn.rewards))
    table = Table("turn", "action", box=None, header_style="bold dim", padding=(0, 1))
    table.columns[1].no_wrap = True
    for name in names:
        table.add_column(name, justify="right", overflow="fold")
    for turn in trajectory.turns:
        command = turn.action_text if turn.action is None else turn.action.command
        done = Text(_short(" ".join(command.split()), _ACTION_COLUMN), "" if turn.action_valid else "red")
        table.add_row(str(turn.index), done, *(_value(turn.rewards.get(name)) for name in names))
    if trajectory.rewards:
        table.add_section()
        table.add_row("", Text("total", "bold"), *(_value(trajectory.rewards.get(name)) for name in names))
    return table


def _head(trajectory: Trajectory) -> RenderableType:
    table = Table(show_header=False, box=None, padding=(0, 1))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    task = trajectory.task
    table.add_row("trajectory", Text(trajectory.id))
    table.add_row("world", Text(f"{trajectory.env_id} {_compact(trajectory.env_options)}".removesuffix(" {}")))
    table.add_row("task", Text(f"{task.instruction} ({task.type or task.split})"))
    version = f", policy {trajectory.policy_version}" if trajectory.policy_version else ""
    table.add_row("agent", Text(f"{trajectory.agent}{version}, seed {trajectory.seed}"))
    return table


def _turn(turn: Turn, *, full: bool, without: str) -> Iterator[RenderableType]:
    yield Rule(f"turn {turn.index}", style="dim")
    if turn.image is not None:
        yield Text(f"image {turn.image}", style="dim")
    yield _observation(turn.observation, full=full)
    yield Text.assemble(("> ", "bold cyan"), (_cut(turn.action_text, _LONG_TEXT, full=full), "bold"))
    yield _verdict(turn, full=full)
    if turn.rewards:
        yield _rewards(turn.rewards, "reward", full=full, without=without)


def _verdict(turn: Turn, *, full: bool) -> Text:
    """Say whether the action was carried out, how it was read, and what the world thinks of it."""
    mark = ("valid", "green") if turn.action_valid else ("invalid", "red")
    error = f": {turn.action_error}" if turn.action_error else ""
    read = ""
    if turn.action is not None and turn.action.command != turn.action_text:
        command = turn.action.command
        read = f", read as {command if full else _short(command, _LONG_ACTION)!r}"
    facts = f", env reward {turn.env_reward:g}, progress {turn.progress:.4g}"
    level = f", level {turn.level}" if turn.level is not None else ""
    return Text.assemble("  ", mark, error, read, facts, level, ", solved" if turn.success else "")


def _outcome(trajectory: Trajectory) -> str:
    outcome = trajectory.outcome
    if outcome is None:
        return "none: the episode failed, so its rewards are masked, not 0"
    level = f", level {outcome.level} ({' < '.join(outcome.levels)})" if outcome.level else ""
    solved = "solved" if outcome.success else "not solved"
    return f"{solved}, env return {outcome.env_return:g}, progress {outcome.progress:.4g}{level}"


def _observation(text: str, *, full: bool) -> RenderableType:
    return Padding(Text(_cut(text, _LONG_OBSERVATION, full=full), style="dim"), (0, 0, 0, 2))


def _rewards(rewards: Mapping[str, RewardValue], heading: str, *, full: bool, without: str = "") -> RenderableType:
    table = Table(heading, header_style="bold dim", box=None, padding=(0, 1))
    table.add_column("value", justify="right")
    table.add_column("evidence", overflow="fold")
    for name, reward in rewards.items():
        lines = [Text(_compact(reward.evidence), "dim")] if full and reward.evidence else []
        if not full:
            told = {key: value for key, value in reward.evidence.items() if key != without}
            lines = [Text(line, "dim") for line in _evidence(told)]
        if reward.invalid:
            lines.insert(0, Text(reward.invalid if full else _short(reward.invalid, _LONG_REASON), "red"))
        table.add_row(Text(name), _value(reward), Text("\n").join(lines))
    return Padding(table, (0, 0, 0, 2))


def _evidence(evidence: Mapping[str, Json]) -> Iterator[str]:
    """Yield evidence for people: plain facts on one line, then a line for everything that has parts."""
    plain = {key: value for key, value in evidence.items() if not isinstance(value, (dict, list))}
    if plain:
        yield _said(plain)
    for key, value in evidence.items():
        if key not in plain and value:
            yield from _parts(key, value)


def _parts(key: str, value: Json) -> Iterator[str]:
    """Yield a part of the evidence; records of records are only counted, ``--full`` spells them out."""
    if isinstance(value, dict):
        if all(not isinstance(item, (dict, list)) for item in value.values()):
            yield f"{key}: {_said(value)}"
        else:
            for line in _evidence(value):
                yield f"{key}: {line}"
        return
    if all(isinstance(item, dict) for item in value):
        told = [_said(item) for item in value if all(not isinstance(part, (dict, list)) for part in item.values())]
        if len(told) < len(value):
            yield f"{key}: {len(value)}, spelled out by --full"
            return
    else:
        told = [_said_value(item) for item in value]
    for item in told[:_MANY_ITEMS]:
        yield f"{key}: {_short(item, _LONG_ITEM)}"
    if len(told) > _MANY_ITEMS:
        yield f"{key}: {len(told) - _MANY_ITEMS} more"


def _said(facts: Mapping[str, Json]) -> str:
    return ", ".join(f"{key} {_said_value(value)}" for key, value in facts.items())


def _said_value(value: Json) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return _short(value, _LONG_ITEM) if isinstance(value, str) else _short(_compact(value), _LONG_ITEM)


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _value(reward: RewardValue | None) -> Text:
    if reward is None:
        return Text("")
    return Text("invalid", style="red") if reward.value is None else Text(f"{reward.value:.4g}")


def _compact(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str, limit: int, *, full: bool) -> str:
    if full or len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit} more characters: --full)"
