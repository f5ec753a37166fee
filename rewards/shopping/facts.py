"""What a web shop's trajectory says about itself: the goal behind the task, and the facts of each turn."""

from __future__ import annotations

import re

import msgspec

from turnwise.records import Trajectory

_WORD = re.compile(r"\w+")


class Reached(msgspec.Struct, frozen=True):
    """What has been reached, from the start of the episode to some turn.

    Attributes:
        listed: Whether a page of results listed the wanted product.
        opened: Whether it was opened.
        options: Per wanted option, whether it was chosen on that product's page.
        bought: Whether a purchase earned the full reward.
    """

    listed: bool
    opened: bool
    options: tuple[bool, ...]
    bought: bool


class Bought(msgspec.Struct, frozen=True):
    """A purchase and what it was worth; ``r_`` are shares earned, ``w_`` weights, None where the goal asks for none.

    Attributes:
        asin: The product.
        total: ``r_type * (w_att * r_att + w_option * r_option + w_price * r_price)``.
        r_type: How far it is of the right kind, in [0, 1].
        r_att: Share of the wanted attributes that it has.
        w_att: Their weight.
        r_option: Share of the wanted options that were chosen.
        w_option: Their weight.
        r_price: Whether it costs no more than allowed.
        w_price: The weight of that.
        price: What it cost, in dollars.
        attributes_matched: Per wanted attribute, whether it has it.
        options_matched: Per wanted option, whether it was chosen.
    """

    asin: str
    total: float
    r_type: float
    r_att: float | None
    w_att: float
    r_option: float | None
    w_option: float | None
    r_price: bool | None
    w_price: float | None
    price: float = 0.0
    attributes_matched: tuple[bool, ...] = ()
    options_matched: tuple[bool, ...] = ()


class ShopTurn(msgspec.Struct, frozen=True):
    """The shop after a turn.

    Attributes:
        page: Kind of the page: ``"search"``, ``"results"``, ``"item"``, ``"sub"`` or ``"done"``.
        milestones: What has been reached.
        listed: The products on a page of results.
        asin: The product that is open, or None.
        options: What is chosen of it: group name to value.
        purchase: The purchase, or None before it.
    """

    page: str
    milestones: Reached
    listed: tuple[str, ...] = ()
    asin: str | None = None
    options: dict[str, str] = {}
    purchase: Bought | None = None


class Wanted(msgspec.Struct, frozen=True):
    """The goal behind an instruction, as WebShop writes it.

    Attributes:
        asin: The wanted product.
        query: The words that it is filed under.
        name: Its title.
        attributes: What it must have.
        goal_options: The options to choose: the values, or group name to value.
        price_upper: What it may cost, in dollars.
    """

    asin: str
    query: str
    name: str
    attributes: tuple[str, ...] = ()
    goal_options: dict[str, str] | tuple[str, ...] = ()
    price_upper: float = 0.0

    @property
    def options(self) -> tuple[str, ...]:
        """The values of the options to choose."""
        return tuple(self.goal_options.values()) if isinstance(self.goal_options, dict) else self.goal_options


def read_turns(trajectory: Trajectory) -> tuple[ShopTurn, ...] | str:
    """Return the facts of each turn, or why there are none."""
    turns = []
    for turn in trajectory.turns:
        if "milestones" not in turn.info:
            return f"does not apply: turn {turn.index} reports no milestones, as the turns of a web shop do"
        try:
            turns.append(msgspec.convert(turn.info, ShopTurn))
        except msgspec.ValidationError as error:
            return f"turn {turn.index} does not report what a web shop does: {error}"
    return tuple(turns)


def read_goal(trajectory: Trajectory) -> Wanted | str:
    """Return the goal of a trajectory's task, or why there is none."""
    raw = trajectory.task.data.get("goal")
    if raw is None:
        return f"does not apply: task {trajectory.task.id!r} has no 'goal' in its data, as a web shop's has"
    try:
        return msgspec.convert(raw, Wanted)
    except msgspec.ValidationError as error:
        return f"the goal of task {trajectory.task.id!r} cannot be read: {error}"


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case; punctuation does not count."""
    return tuple(_WORD.findall(text.lower()))
