"""What a customer wants: the goal of an episode, in the form in which WebShop keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from turnwise.errors import ConfigError
from turnwise.records import Json

NO_CEILING = 1_000_000.0  # the price ceiling of a goal that names none


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """A goal; agents see nothing of it but the instruction.

    Attributes:
        asin: The product it was written for.
        category: That product's department.
        query: That product's query.
        name: That product's title.
        product_category: That product's path of categories.
        instruction_text: What the agent is asked for.
        attributes: The attributes it must have.
        price_upper: The most it may cost, in dollars.
        goal_options: The options to choose: the values, or group name to value.
        weight: How often WebShop draws it, relative to others.
    """

    asin: str
    category: str
    query: str
    name: str
    product_category: str
    instruction_text: str
    attributes: tuple[str, ...]
    price_upper: float = NO_CEILING
    goal_options: dict[str, str] | tuple[str, ...] = ()
    weight: float = 1.0

    @property
    def option_values(self) -> tuple[str, ...]:
        """The values of the options to choose."""
        options = self.goal_options
        return tuple(options.values()) if isinstance(options, dict) else options

    def as_json(self) -> dict[str, Json]:
        """Return it as WebShop writes it."""
        tree: dict[str, Json] = msgspec.to_builtins(self)
        for name in ("attributes", "goal_options"):
            if isinstance(tree[name], tuple):
                tree[name] = list(tree[name])
        return tree


def read_goal(raw: Goal | Mapping[str, Any]) -> Goal:
    """Read a goal as WebShop writes it; further keys are ignored.

    Raises:
        ConfigError: A field is missing or of another type.
    """
    if isinstance(raw, Goal):
        return raw
    if not isinstance(raw, Mapping):
        raise ConfigError(f"a goal is a mapping as WebShop writes it, got {type(raw).__name__}")
    try:
        return msgspec.convert(dict(raw), Goal)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not a goal: {error}; it needs {', '.join(Goal.__struct_fields__[:7])}") from error
