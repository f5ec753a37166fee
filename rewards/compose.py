"""Composition: rewards with weights, and their weighted sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

from turnwise import registry
from turnwise.protocols import Reward, RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.options import OptionError, number
from turnwise.rewards.validity import score_checked

# Builds the rewards of a list inside a composite's options; the text is the place of that list.
Build: TypeAlias = Callable[[object, str], "tuple[WeightedReward, ...]"]


@dataclass(frozen=True)
class WeightedReward:
    """A reward with the name and the weight it has in a composition.

    Attributes:
        reward: The reward itself.
        weight: Factor on its values, finite. At the top of a tree weight 0 means logged only.
        name: Name of its values; the reward's own name by default.
        use: What the configuration said it is: a registered name or ``"module:Class"``; found from
            the class by default.
        options: What the configuration gave it, for rewards whose ``describe`` may return anything;
            None to go by ``describe``.
    """

    reward: Reward
    weight: float = 1.0
    name: str = ""
    use: str = ""
    options: Mapping[str, Json] | None = None

    def __post_init__(self) -> None:
        number("weight", self.weight)
        object.__setattr__(self, "name", self.name or self.reward.name)
        object.__setattr__(self, "use", self.use or _use_of(self.reward))

    def describe(self) -> dict[str, Json]:
        """Return the configuration, as the YAML schema has it."""
        options = self.reward.describe() if self.options is None else dict(self.options)
        return {"name": self.name, "use": self.use, "weight": self.weight, "options": options}


def _use_of(reward: Reward) -> str:
    entry_point = f"{type(reward).__module__}:{type(reward).__qualname__}"
    named = (name for name in registry.rewards if registry.rewards.entry_point(name) == entry_point)
    return next(named, entry_point)


@runtime_checkable
class Composite(Protocol):
    """A reward made of others: what the YAML loader, ``describe`` and the level check need of it."""

    @classmethod
    def from_config(cls, options: Mapping[str, Json], build: Build) -> Reward:
        """Make it from its options, with ``build`` for the lists of rewards inside them.

        Raises:
            OptionError: An option is wrong; ``option`` names the place below ``options``.
        """
        ...

    def parts(self) -> Sequence[tuple[str, tuple[WeightedReward, ...]]]:
        """Return the rewards inside, in groups, each with a heading ("" for none)."""
        ...


@runtime_checkable
class ChecksLevels(Protocol):
    """A reward that depends on a world's outcome levels."""

    def check_levels(self, levels: Sequence[str]) -> None:
        """Raise ConfigError if it cannot work with these levels (worst first)."""
        ...


def walk(parts: Sequence[WeightedReward]) -> Iterator[WeightedReward]:
    """Yield the rewards of a composition, each before those inside it."""
    for part in parts:
        yield part
        if isinstance(part.reward, Composite):
            for _, inside in part.reward.parts():
                yield from walk(inside)


def check_names(placed: Sequence[tuple[str, WeightedReward]]) -> None:
    """Check that no two rewards that are added up have the same name.

    Args:
        placed: The rewards, each with its place in the options.

    Raises:
        OptionError: Two have.
    """
    taken: dict[str, str] = {}
    for place, part in placed:
        if part.name in taken:
            raise OptionError(
                place,
                f"the name {part.name!r} is taken by {taken[part.name]}: "
                f"give this one another name and say what it is with 'use: {part.use}'",
            )
        taken[part.name] = place


def in_list(option: str, parts: Sequence[WeightedReward]) -> list[tuple[str, WeightedReward]]:
    """Return each reward with its place: ``"rewards[0]"`` and so on."""
    return [(f"{option}[{i}]", part) for i, part in enumerate(parts)]


def bounds(parts: Sequence[WeightedReward]) -> tuple[float, float]:
    """Return the smallest and largest weighted sum on one turn; every part may also be 0 there."""
    low = high = 0.0
    for part in parts:
        if part.weight != 0.0:
            ends = (part.weight * part.reward.spec.low, part.weight * part.reward.spec.high)
            low += min(0.0, *ends)
            high += max(0.0, *ends)
    return low, high


def combine(parts: Sequence[tuple[str, float, Sequence[RewardValue]]], turns: int) -> tuple[RewardValue, ...]:
    """Return the weighted sum per turn; one invalid part makes the turn invalid, with its reason.

    The evidence holds under ``parts`` what each part adds on that turn, where that is not 0.

    Args:
        parts: Name, weight and values of each part. Parts of weight 0 play no role.
        turns: Number of turns.
    """
    active = [part for part in parts if part[1] != 0.0]
    combined = []
    for turn in range(turns):
        shares: dict[str, float] = {}
        reason = None
        for name, weight, values in active:
            value = values[turn].value
            if value is None:
                reason = reason or f"{name}: {values[turn].invalid}"
            elif value != 0.0:
                shares[name] = weight * value
        evidence: dict[str, Json] = {"parts": shares} if shares else {}
        value = math.fsum(shares.values()) if reason is None else None
        combined.append(RewardValue(value=value, invalid=reason, evidence=evidence))
    return tuple(combined)


def score_parts(parts: Sequence[WeightedReward], trajectory: Trajectory) -> dict[str, tuple[RewardValue, ...]]:
    """Score every part; what goes wrong in one costs only its own values."""
    return {part.name: score_checked(part.reward, trajectory, name=part.name) for part in parts}


class WeightedSum:
    """The weighted sum of several rewards, turn by turn."""

    spec = RewardSpec(
        low=-math.inf, high=math.inf, placement="turn", source="turnwise", summary="Weighted sum of other rewards."
    )

    def __init__(self, *, rewards: Sequence[WeightedReward]) -> None:
        """Add up rewards.

        Args:
            rewards: The rewards with their weights and distinct names.

        Raises:
            ConfigError: Two have the same name.
        """
        self.name = "sum"
        self.rewards = tuple(rewards)
        check_names(in_list("rewards", self.rewards))
        low, high = bounds(self.rewards)
        self.spec = replace(WeightedSum.spec, low=low, high=high)

    @classmethod
    def from_config(cls, options: Mapping[str, Json], build: Build) -> WeightedSum:
        """Make it from ``{"rewards": [...]}``."""
        return cls(rewards=build(options["rewards"], "rewards"))

    def parts(self) -> Sequence[tuple[str, tuple[WeightedReward, ...]]]:
        """Return the rewards inside, without a heading."""
        return [("", self.rewards)]

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return the weighted sum per turn; ``parts`` in the evidence add up to it."""
        vectors = score_parts(self.rewards, trajectory)
        weighted = [(part.name, part.weight, vectors[part.name]) for part in self.rewards]
        return combine(weighted, len(trajectory.turns))

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"rewards": [part.describe() for part in self.rewards]}


@dataclass(frozen=True)
class Leaf:
    """A reward inside nested sums, with the product of the weights above it.

    Attributes:
        name: Its name, with the names of the sums above it: ``"manners/format"``.
        weight: Product of its weight and those of the sums above it.
        reward: The reward.
    """

    name: str
    weight: float
    reward: Reward


def leaves(part: WeightedReward) -> tuple[Leaf, ...]:
    """Return what a reward is made of, sums taken apart; its own weight is not in the product."""
    if not isinstance(part.reward, WeightedSum):
        return (Leaf(part.name, 1.0, part.reward),)
    return tuple(
        Leaf(f"{part.name}/{leaf.name}", inner.weight * leaf.weight, leaf.reward)
        for inner in part.reward.rewards
        for leaf in leaves(inner)
    )
