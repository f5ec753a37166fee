"""Shopping episodes, made by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from turnwise.records import Action, Ending, Failure, Outcome, Task, Trajectory, Turn

LEVELS = ("no_purchase", "wrong_type", "partial", "perfect")
GOAL = {
    "asin": "B1",
    "category": "garden",
    "query": "electric kettle",
    "name": "Steel Electric Kettle for Tea",
    "product_category": "Home",
    "instruction_text": "i need a steel kettle, large and red",
    "attributes": ["steel"],
    "price_upper": 40.0,
    "goal_options": ["red", "large"],
    "weight": 1.0,
}
PERFECT = {
    "asin": "B1",
    "options": {"color": "red", "size": "large"},
    "price": 34.5,
    "total": 1.0,
    "r_type": 1.0,
    "query_match": True,
    "category_match": True,
    "title_score": 1.0,
    "r_att": 1.0,
    "w_att": 0.25,
    "r_option": 1.0,
    "w_option": 0.5,
    "r_price": True,
    "w_price": 0.25,
    "attributes_matched": [True],
    "options_matched": [True, True],
}
ENDINGS = {
    "over": Ending(kind="terminated"),
    "turns": Ending(kind="truncated", cause="turns"),
    "failed": Ending(kind="failed", failure=Failure(boundary="env", kind="hang", message="step took 30 s", turn=1)),
}


def action_of(command: str, form: Any = "native") -> Action:
    name, _, rest = command.partition("[")
    slot = "keywords" if name == "search" else "label"
    return Action(name=name, arguments={slot: rest.removesuffix("]")}, command=command, form=form)


def facts(**changes: Any) -> dict[str, Any]:
    """The facts of a turn; ``reached`` lists milestones: ``"listed"``, ``"opened"``, 0, 1, ``"bought"``."""
    reached = set(changes.pop("reached", ()))
    milestones = {name: name in reached for name in ("listed", "opened", "bought")}
    info: dict[str, Any] = {
        "page": "results",
        "page_number": 1,
        "query": "",
        "results": 50,
        "listed": [],
        "asin": None,
        "sub_page": "",
        "options": {},
        "milestones": {**milestones, "options": [0 in reached, 1 in reached]},
        "purchase": None,
    }
    return info | changes


def make_trip(
    steps: Sequence[tuple[str, dict[str, Any]]],
    *,
    ending: str = "over",
    data: dict[str, Any] | None = None,
    **changes: Any,
) -> Trajectory:
    """An episode of commands and the facts after each; a command "" is a message that was no action."""
    turns = []
    for index, (command, info) in enumerate(steps):
        action = action_of(command, changes.get("form", "native")) if command else None
        turns.append(
            Turn(index=index, observation="", action_text=command, action=action, action_valid=bool(command), info=info)
        )
    bought = steps[-1][1].get("purchase") if steps else None
    worth = bought["total"] if bought else 0.0
    level = "no_purchase" if not bought else "perfect" if worth == 1.0 else "partial"
    outcome = Outcome(success=worth == 1.0, env_return=worth, level=level, levels=LEVELS)
    return Trajectory(
        id="trip#0",
        env_id="turnwise/WebShop-v0",
        task=Task(id="trip", split="train", instruction="", data={"goal": GOAL} if data is None else data),
        sample=0,
        seed=0,
        agent="test",
        ending=ENDINGS[ending],
        outcome=None if ending == "failed" else outcome,
        turns=tuple(turns),
    )


ON_ITEM = {"page": "item", "asin": "B1"}
PERFECT_TRIP = (
    ("search[electric kettle]", facts(listed=["B7", "B1"], reached=["listed"])),
    ("click[b1]", facts(**ON_ITEM, reached=["listed", "opened"])),
    ("click[large]", facts(**ON_ITEM, options={"size": "large"}, reached=["listed", "opened", 1])),
    ("click[red]", facts(**ON_ITEM, options={"size": "large", "color": "red"}, reached=["listed", "opened", 0, 1])),
    (
        "click[buy now]",
        facts(page="done", asin="B1", reached=["listed", "opened", 0, 1, "bought"], purchase=PERFECT),
    ),
)


@pytest.fixture(scope="session")
def trip() -> Callable[..., Trajectory]:
    return make_trip


@pytest.fixture(scope="session")
def state() -> Callable[..., dict[str, Any]]:
    return facts


@pytest.fixture(scope="session")
def perfect() -> Trajectory:
    """The shortest way to the full reward."""
    return make_trip(PERFECT_TRIP)


@pytest.fixture(scope="session")
def purchase() -> Callable[..., dict[str, Any]]:
    """A purchase, perfect but for the changes; its total follows from its parts."""

    def make(**changes: Any) -> dict[str, Any]:
        made = PERFECT | changes
        terms = [
            (made["w_att"], made["r_att"]),
            (made["w_option"], made["r_option"]),
            (made["w_price"], made["r_price"]),
        ]
        fit = sum(weight * share for weight, share in terms if weight is not None and share is not None)
        return made | {"total": made["r_type"] * fit}

    return make
