"""``turnwise rewards``: the rewards there are, and what a configuration means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnwise.rollout.cli.console import output, print_json, print_view
from turnwise.rollout.cli.options import AsJson

if TYPE_CHECKING:
    from turnwise.rewards import RewardInfo


def rewards(
    name: Annotated[
        str | None, typer.Argument(help="A reward, a preset or a YAML file to describe.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the rewards with range, placement and source, or describe one or a configuration."""
    from turnwise.rewards import list_rewards, load_rewards, preset_names

    known = {info.name: info for info in list_rewards()}
    if name is None:
        if as_json:
            print_json([info.to_dict() for info in known.values()])
        else:
            _print_list(tuple(known.values()))
            output().print(f"presets for --rewards: {', '.join(preset_names())}")
        return
    info = known.get(name)
    # A name can be a reward and a preset at once, such as "gated": then both are described.
    tree = load_rewards(name) if info is None or name in preset_names() else None
    if as_json:
        described = {"reward": info.to_dict() if info else None, "config": tree.describe() if tree else None}
        print_json(described)
        return
    if info is not None:
        _print_one(info)
    if tree is not None:
        output().print(str(tree), markup=False)


def _range(info: RewardInfo) -> str:
    return "" if info.low is None or info.high is None else f"[{info.low:g}, {info.high:g}]"


def _print_list(infos: tuple[RewardInfo, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("reward", "range a turn", "placement", "what it is", "source", header_style="bold")
    table.columns[0].no_wrap = True
    for info in infos:
        what = Text(info.summary) if info.error is None else Text(info.error, style="red")
        table.add_row(info.name, Text(_range(info)), info.placement or "", what, Text(info.source))
    print_view(table)


def _print_one(info: RewardInfo) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(show_header=False, box=None)
    table.add_column(style="bold")
    table.add_column()
    facts = {
        "reward": info.name,
        "what it is": info.summary,
        "range a turn": _range(info),
        "placement": info.placement or "",
        "source": info.source,
        "class": info.entry_point,
        "options": ", ".join(f"{key}={default}" for key, default in info.options.items()) or "none",
        "cannot be used": info.error or "",
    }
    for key, value in facts.items():
        if value:
            table.add_row(key, Text(value))
    print_view(table)
