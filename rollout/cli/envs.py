"""``turnwise envs``: the worlds there are."""

from __future__ import annotations

from turnwise.records import Json
from turnwise.rollout.cli.console import print_json, print_view
from turnwise.rollout.cli.options import AsJson


def envs(as_json: AsJson = False) -> None:
    """List the registered worlds."""
    from turnwise import registry

    rows = [_describe(env_id) for env_id in registry.envs]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("world", "what it is", "experts", "outcome levels", "turns", header_style="bold")
    table.columns[0].no_wrap = True
    for row in rows:
        what = Text(row["summary"]) if row["error"] is None else Text(row["error"], style="red")
        levels = " < ".join(row["outcome_levels"])
        table.add_row(row["id"], what, ", ".join(row["experts"]), levels, str(row["max_turns"] or ""))
    print_view(table)


def _describe(env_id: str) -> dict[str, Json]:
    from turnwise import registry
    from turnwise.errors import ConfigError

    row: dict[str, Json] = {"id": env_id, "entry_point": registry.envs.entry_point(env_id)}
    try:
        world = registry.env_class(env_id)
    except ConfigError as error:
        # A world that needs a missing extra is listed with what to install.
        return {**row, "summary": "", "experts": [], "outcome_levels": [], "max_turns": None, "error": str(error)}
    return {
        **row,
        "summary": (world.__doc__ or "").strip().partition("\n")[0],
        "experts": list(getattr(world, "experts", ())),
        "outcome_levels": list(getattr(world, "outcome_levels", ())),
        "max_turns": getattr(world, "default_max_turns", None),
        "error": None,
    }
