"""The reward tree: what a trajectory is scored with, and what its total is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from turnwise.errors import ConfigError
from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, replace
from turnwise.rewards.compose import (
    ChecksLevels,
    Composite,
    WeightedReward,
    bounds,
    check_names,
    combine,
    in_list,
    score_parts,
    walk,
)
from turnwise.rewards.config import SCHEMA_VERSION, PlacedError, build_rewards, read_config
from turnwise.rewards.options import OptionError
from turnwise.rewards.validity import total

TOTAL = "reward"


class RewardTree:
    """Named rewards with weights. Their weighted sum, named ``"reward"``, is what trainers use."""

    def __init__(self, rewards: Sequence[WeightedReward], *, source: str = "python") -> None:
        """Compose a tree.

        Args:
            rewards: At least one with a weight other than 0; names are distinct and not ``"reward"``.
            source: Where the configuration came from, for people.

        Raises:
            ConfigError: A name is taken twice or reserved, or nothing has a weight.
        """
        self.rewards = tuple(rewards)
        self.source = source
        check_names(in_list("rewards", self.rewards))
        for place, part in in_list("rewards", self.rewards):
            if part.name == TOTAL:
                raise OptionError(place, f"the name {TOTAL!r} is that of the weighted total: choose another name")
        if not any(part.weight != 0.0 for part in self.rewards):
            raise OptionError(
                "rewards", "nothing has a weight other than 0, so there is nothing to train on: give one a weight"
            )
        low, high = bounds(self.rewards)
        self.spec = RewardSpec(
            low=low, high=high, placement="turn", source=source, summary="Weighted total of the reward tree."
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vectors that :meth:`score` returns, the total last."""
        return (*(part.name for part in self.rewards), TOTAL)

    def check_levels(self, levels: Sequence[str]) -> None:
        """Check the tree against a world's outcome levels, so that a mistake shows before the run.

        Args:
            levels: The world's ``outcome_levels``, worst first; may be empty.

        Raises:
            ConfigError: A reward names levels that the world does not have, or misses one.
        """
        for part in walk(self.rewards):
            if isinstance(part.reward, ChecksLevels):
                try:
                    part.reward.check_levels(levels)
                except ConfigError as error:
                    raise ConfigError(f"{self.source}: reward {part.name!r}: {error}") from None

    def score(self, trajectory: Trajectory) -> dict[str, tuple[RewardValue, ...]]:
        """Score every turn.

        A reward that raises, returns the wrong number of values or leaves its declared range gives
        invalid values with the reason; nothing is raised.

        Returns:
            Name to one value per turn, in the tree's order; last ``"reward"``, the weighted total,
            whose evidence holds under ``parts`` what each reward contributes.
        """
        vectors = score_parts(self.rewards, trajectory)
        weighted = [(part.name, part.weight, vectors[part.name]) for part in self.rewards]
        vectors[TOTAL] = combine(weighted, len(trajectory.turns))
        return vectors

    def totals(
        self, trajectory: Trajectory, vectors: Mapping[str, tuple[RewardValue, ...]] | None = None
    ) -> dict[str, RewardValue]:
        """Return each reward's value for the whole trajectory: the sum over its turns.

        Args:
            trajectory: The trajectory.
            vectors: What :meth:`score` returned for it; computed when None.
        """
        scored = self.score(trajectory) if vectors is None else vectors
        totals = {p.name: total(scored[p.name], trajectory, p.reward.spec.placement) for p in self.rewards}
        whole = total(scored[TOTAL], trajectory)
        shares = {
            part.name: part.weight * value
            for part in self.rewards
            if part.weight != 0.0 and (value := totals[part.name].value) is not None
        }
        evidence = {**whole.evidence, "parts": shares}
        totals[TOTAL] = RewardValue(value=whole.value, invalid=whole.invalid, evidence=evidence)
        return totals

    def attach(self, trajectory: Trajectory) -> Trajectory:
        """Return the trajectory with this tree's rewards on its turns and on itself.

        Rewards attached earlier are replaced; the input stays as it is.
        """
        vectors = self.score(trajectory)
        turns = tuple(
            replace(turn, rewards={name: values[position] for name, values in vectors.items()})
            for position, turn in enumerate(trajectory.turns)
        )
        attached: Trajectory = replace(trajectory, turns=turns, rewards=self.totals(trajectory, vectors))
        return attached

    def describe(self) -> dict[str, Json]:
        """Return the configuration; ``load_rewards`` reads it back."""
        return {"version": SCHEMA_VERSION, "rewards": [part.describe() for part in self.rewards]}

    def __str__(self) -> str:
        """Return the tree for people, one line a reward."""
        lines = [f"reward ({self.source}), {_span(self.spec)} a turn"]
        _outline(self.rewards, "", lines)
        return "\n".join(lines)


def _outline(parts: Sequence[WeightedReward], indent: str, lines: list[str]) -> None:
    for position, part in enumerate(parts):
        last = position == len(parts) - 1
        weight = f"x {part.weight:g}" if part.weight != 0.0 else "logged only"
        spec = part.reward.spec
        what = "" if part.use == part.name else f" = {part.use}"
        where = "last turn" if spec.placement == "last_turn" else "every turn"
        lines.append(f"{indent}{'└─' if last else '├─'} {part.name}{what}  {weight}  {_span(spec)}, {where}")
        below = indent + ("   " if last else "│  ")
        inside = part.reward.parts() if isinstance(part.reward, Composite) else []
        shown = {k: v for k, v in part.reward.describe().items() if not (inside and isinstance(v, list))}
        if shown:
            lines.append(below + "   " + ", ".join(f"{key}: {_plain(value)}" for key, value in shown.items()))
        for heading, group in inside:
            if heading:
                lines.append(f"{below}{heading}")
            _outline(group, below, lines)


def _span(spec: RewardSpec) -> str:
    return f"[{spec.low:g}, {spec.high:g}]"


def _plain(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:g}" if math.isfinite(value) else repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    return (
        {None: "none", True: "yes", False: "no"}.get(value, str(value)) if not isinstance(value, list) else str(value)
    )


def load_rewards(config: str | Path | Mapping[str, Json] | None = None) -> RewardTree:
    """Build a reward tree from a configuration.

    Args:
        config: None for the built-in set, the name of a preset (``"gated"``), the path of a YAML
            file, or the configuration itself as a mapping::

                version: 1
                rewards:
                  - name: outcome           # a registered reward, logged under its own name
                    weight: 0               # 0 = logged only
                  - name: tidy
                    use: mypackage.mine:Tidy   # a registered name or an import string
                    weight: 0.5
                    options: {strict: true}

    Returns:
        The tree.

    Raises:
        ConfigError: The file is missing or no YAML, or something in it is unknown, misspelt, taken
            twice or of the wrong kind; the message has the path inside the file and near misses.
    """
    source, data = read_config(config)
    rewards = build_rewards(source, data)
    try:
        return RewardTree(rewards, source=source)
    except OptionError as error:
        raise PlacedError(source, error.option, error.problem) from None
