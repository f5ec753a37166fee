"""Reference actions: those of a demonstration, or those that the goal asks for in each situation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from turnwise.records import Trajectory
from turnwise.rewards.shopping.actions import ShopAction, read_action
from turnwise.rewards.shopping.facts import ShopTurn, Wanted, read_goal, read_turns, words

# Command to action: any of them will do on that turn.
References = dict[str, ShopAction]
DEMONSTRATION = "demonstration"


def demonstrated(trajectory: Trajectory) -> tuple[References, ...] | str:
    """Return per turn the action of ``task.data["demonstration"]``, or why there are none.

    The demonstration is a list of commands (``search[...]``, ``click[...]``, ``terminate``), one per turn; turns after
    its end have none.
    """
    commands = trajectory.task.data.get(DEMONSTRATION)
    if commands is None:
        return f"does not apply: task {trajectory.task.id!r} has no {DEMONSTRATION!r} in its data"
    if not isinstance(commands, (list, tuple)):
        return f"the {DEMONSTRATION!r} of task {trajectory.task.id!r} is no list of commands"
    found: list[References] = []
    for number, command in enumerate(commands[: len(trajectory.turns)]):
        action = read_action(command) if isinstance(command, str) else None
        if action is None:
            return (
                f"action {number} of the {DEMONSTRATION!r} of task {trajectory.task.id!r} is none: "
                "expected search[...], click[...] or 'terminate'"
            )
        found.append({command: action})
    return (*found, *({} for _ in range(len(trajectory.turns) - len(found))))


def asked_for(trajectory: Trajectory) -> tuple[References, ...] | str:
    """Return per turn the actions that bring the goal nearer, or why there are none.

    On the wanted product's page: each wanted option that is not chosen; with all chosen, the purchase. On a page below
    it: the way back up. On a page of results that lists it: its link. Anywhere else: a search, for the words that the
    product is filed under or for its title; from another product's page also the way back.
    """
    goal, turns = read_goal(trajectory), read_turns(trajectory)
    if isinstance(goal, str) or isinstance(turns, str):
        return goal if isinstance(goal, str) else str(turns)
    return tuple(_references(commands) for commands in _commands(goal, turns))


def _references(commands: Sequence[str]) -> References:
    actions = {command: read_action(command) for command in commands}
    return {command: action for command, action in actions.items() if action is not None}


def _commands(goal: Wanted, turns: Sequence[ShopTurn]) -> Iterator[list[str]]:
    """Yield for each turn the commands that the state before it asks for."""
    before: ShopTurn | None = None
    # Values that the shop took for a wanted option although they read differently.
    taken: list[set[str]] = [set() for _ in goal.options]
    for turn in turns:
        yield _next(goal, before, taken)
        _learn(goal, before, turn, taken)
        before = turn


def _learn(goal: Wanted, before: ShopTurn | None, turn: ShopTurn, taken: list[set[str]]) -> None:
    earlier = () if before is None else before.milestones.options
    known = {} if before is None else before.options
    # The shop may take one value for two wanted options; one that reads like an option is that option only.
    wanted = {words(option) for option in goal.options}
    fresh = [v for group, v in turn.options.items() if known.get(group) != v and words(v) not in wanted]
    for place, chosen in enumerate(turn.milestones.options[: len(taken)]):
        if chosen and not (place < len(earlier) and earlier[place]):
            taken[place].update(fresh)


def _next(goal: Wanted, state: ShopTurn | None, taken: Sequence[set[str]]) -> list[str]:
    search = [f"search[{text}]" for text in dict.fromkeys((goal.query, goal.name)) if text]
    if state is None:
        return search
    if state.asin == goal.asin and state.page == "item":
        chosen = set(state.options.values())
        plainly = {words(value) for value in chosen}
        missing = [
            option
            for option, values in zip(goal.options, taken, strict=True)
            if words(option) not in plainly and not values & chosen
        ]
        return [f"click[{option}]" for option in missing] or ["click[buy now]"]
    if state.page == "sub" and state.asin == goal.asin:
        return ["click[< prev]"]
    if goal.asin in state.listed:
        return [f"click[{goal.asin.lower()}]"]
    if state.page in ("item", "sub"):
        return [*search, "click[back to search]", "click[< prev]"]
    return search
