"""When there is no value: failed episodes, rewards that raise or break their own contract, totals.

A failure is never a 0. Everything in turnwise that calls a reward calls it through
:func:`score_checked`, so a broken reward costs its own values and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from turnwise.errors import JudgeError, TurnwiseError, attribute_to
from turnwise.protocols import Placement, Reward
from turnwise.records import Json, RewardValue, Trajectory, to_json

_OURS = "turnwise.rewards."
_SLACK = 1e-9  # composites add up floats, so their declared ranges are met up to rounding


def is_ours(reward: object) -> bool:
    """Return whether a reward is one of this package, not of a third party."""
    return type(reward).__module__.startswith(_OURS)


def cut(text: str, *, limit: int = 200) -> str:
    """Return ``text`` for evidence, cut to ``limit`` characters: an agent's message may be a megabyte."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def failure_reason(trajectory: Trajectory) -> str | None:
    """Return why a failed episode has no outcome, with its boundary; None if it did not fail."""
    if not trajectory.failed:
        return None
    failure = trajectory.ending.failure
    if failure is None:
        return "the episode failed"
    turn = "" if failure.turn is None else f" at turn {failure.turn}"
    return f"the episode failed{turn}: {failure.boundary} {failure.kind}: {failure.message}"


def invalid_values(turns: int, reason: str, evidence: dict[str, Json] | None = None) -> tuple[RewardValue, ...]:
    """Return ``turns`` values that are all invalid for the same ``reason``."""
    return (RewardValue(invalid=reason, evidence=evidence or {}),) * turns


def score_checked(reward: Reward, trajectory: Trajectory, *, name: str | None = None) -> tuple[RewardValue, ...]:
    """Score a trajectory; what goes wrong in the reward becomes invalid values with the reason.

    Checked are the number of values, their type, that they are finite and inside ``reward.spec``,
    and, for rewards of third parties, that the evidence can be stored.

    Args:
        reward: Any object that keeps the Reward protocol.
        trajectory: What to score.
        name: What to call the reward in a reason; its own name by default.

    Returns:
        One value per turn.
    """
    label = name or reward.name
    try:
        with attribute_to("judge"):
            return _checked(reward, reward.score(trajectory), len(trajectory.turns), label)
    except TurnwiseError as error:
        return invalid_values(len(trajectory.turns), f"{error.boundary}: reward {label!r}: {error}")


def _checked(reward: Reward, values: object, turns: int, label: str) -> tuple[RewardValue, ...]:
    if not isinstance(values, (tuple, list)) or not all(isinstance(v, RewardValue) for v in values):
        raise JudgeError(f"must return a tuple of RewardValue, got {type(values).__name__}")
    if len(values) != turns:
        raise JudgeError(f"must return one value per turn: got {len(values)} for {turns}")
    spec = reward.spec
    low, high = spec.low - _SLACK, spec.high + _SLACK
    foreign = not is_ours(reward)
    checked = []
    for value in values:
        if foreign:
            value = _storable(value)
        if value.value is not None and not (low <= value.value <= high and math.isfinite(value.value)):
            span = f"its declared range [{spec.low:g}, {spec.high:g}]"
            reason = f"judge: reward {label!r}: gave {value.value!r}, outside {span}"
            value = RewardValue(invalid=reason, evidence=value.evidence)
        checked.append(value)
    return tuple(checked)


def _storable(value: RewardValue) -> RewardValue:
    """Turn a numpy scalar into a float, and find evidence that is no JSON now rather than in the store."""
    if value.value is not None and type(value.value) is not float:
        value = RewardValue(value=float(value.value), evidence=value.evidence)
    to_json(value)
    return value


def total(values: Sequence[RewardValue], trajectory: Trajectory, placement: Placement = "turn") -> RewardValue:
    """Return the reward of the whole trajectory: the sum over its turns.

    It is invalid when a turn is, when the episode failed (the turns that happened are then only a
    part, which the evidence holds as ``partial``), and when no turn was played.

    The evidence is that of the last turn for a reward placed there; otherwise what the last turn's
    evidence holds under ``episode``, the place for what a reward says about the whole episode.

    Args:
        values: One value per turn.
        trajectory: The trajectory they belong to.
        placement: Where the reward puts its values.
    """
    evidence: dict[str, Json] = {}
    if values:
        last = values[-1].evidence
        evidence = last if placement == "last_turn" else last.get("episode", {})
    invalid = [(turn, value.invalid) for turn, value in enumerate(values) if value.invalid is not None]
    valid = [value.value for value in values if value.value is not None]
    failed = failure_reason(trajectory)
    if failed is not None:
        return RewardValue(invalid=failed, evidence={**evidence, "partial": math.fsum(valid)} if valid else evidence)
    if not values:
        return RewardValue(invalid="no turn was played")
    if invalid:
        turn, reason = invalid[0]
        everywhere = len(invalid) == len(values) and all(other == reason for _, other in invalid)
        return RewardValue(invalid=reason if everywhere else f"turn {turn}: {reason}", evidence=evidence)
    return RewardValue(value=math.fsum(valid), evidence=evidence)
