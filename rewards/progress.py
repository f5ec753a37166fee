"""Sub-goal increments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.options import choice

_NO_SUBGOALS: Mapping[str, Json] = {}


def _subgoals(turn: Turn) -> Mapping[str, Json]:
    subgoals = turn.info.get("subgoals")
    return subgoals if isinstance(subgoals, dict) else _NO_SUBGOALS


class Progress:
    """How much of the task's sub-goals this turn added: ``progress[t] - progress[t-1]``.

    The increments telescope, so they sum to the progress at the end and going back and forth earns
    nothing. With ``losses="ignore"`` a turn earns what it adds to the best progress so far; the sum
    is then the best progress reached, and undoing a sub-goal costs nothing but cannot be paid twice.
    An episode begins at progress 0: what already holds at the start is added by the first turn.

    Where the world reports sub-goals (``turn.info["subgoals"]``, name to share reached), the evidence
    names those that changed.

    Source: environment score increments of the Practitioner's Guide (arXiv 2510.01132), without its
    division; potential-based shaping with gamma 1.
    """

    def __init__(self, *, losses: Literal["count", "ignore"] = "count") -> None:
        """Reward sub-goal increments.

        Args:
            losses: Whether undoing a sub-goal counts against the turn.

        Raises:
            ConfigError: ``losses`` is something else.
        """
        self.name = "progress"
        self.losses = choice("losses", losses, ("count", "ignore"))
        self.spec = RewardSpec(
            low=-1.0 if self.losses == "count" else 0.0,
            high=1.0,
            placement="turn",
            source="score increments as in arXiv 2510.01132, undivided",
            summary="Share of the task's sub-goals that this turn added.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        values = []
        before, known = 0.0, _NO_SUBGOALS
        for turn in trajectory.turns:
            after = turn.progress if self.losses == "count" else max(before, turn.progress)
            subgoals = _subgoals(turn)
            evidence: dict[str, Json] = {"at": after}
            if after != before:
                evidence = {"from": before, "to": after}
                changed = {name: share for name, share in subgoals.items() if share != known.get(name, 0.0)}
                if changed:
                    evidence["subgoals"] = changed
            values.append(RewardValue(value=after - before, evidence=evidence))
            before, known = after, subgoals
        return tuple(values)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"losses": self.losses}
