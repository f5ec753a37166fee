"""From a scored trajectory to a result with the same keys and shapes whatever happened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from turnwise.errors import ConfigError
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.credit import place_on_boundaries
from turnwise.rewards.tree import TOTAL, RewardTree
from turnwise.rollout.oracle.schema import EvidenceLevel, ItemResult, Span, Status

# Reasons name the boundary to blame: "judge: ..", or "name: judge: .." inside a sum.
_JUDGE = re.compile(r"(?:\A|: )judge: ")
_OUTCOMES = ("outcome", "outcome_level")


class ResultShape:
    """What is the same in every result of a run: the names of the tree's rewards."""

    def __init__(self, tree: RewardTree) -> None:
        """Read the names from a tree."""
        self.weights = {part.name: part.weight for part in tree.rewards}
        self.components = tuple(name for name, weight in self.weights.items() if weight != 0.0)
        self.outcomes = tuple(part.name for part in tree.rewards if part.use in _OUTCOMES or part.name in _OUTCOMES)

    def without_reward(self, item_id: str, status: Status, reason: str) -> ItemResult:
        """Return the result of an item of which nothing is known."""
        return ItemResult(
            id=item_id,
            status=status,
            reason=reason,
            components=dict.fromkeys(self.components),
            turn_components={name: [] for name in self.components},
            metrics=dict.fromkeys(self.weights),
        )


def make_result(
    item_id: str,
    trajectory: Trajectory,
    tree: RewardTree,
    shape: ResultShape,
    *,
    evidence: EvidenceLevel = "total",
) -> ItemResult:
    """Score a trajectory.

    Args:
        item_id: The item's id.
        trajectory: What to score.
        tree: The rewards.
        shape: The shape of this tree's results.
        evidence: How much evidence to return.
    """
    vectors = tree.score(trajectory)
    totals = tree.totals(trajectory, vectors)
    whole = totals[TOTAL]
    turns = vectors[TOTAL]
    reward, components = _components(whole, totals, shape)
    pure = [share for name in shape.outcomes if (share := components.get(name)) is not None]
    return ItemResult(
        id=item_id,
        status=status_of(whole),
        reason=whole.invalid,
        reward=reward,
        outcome=_outcome(trajectory, totals, shape),
        process=None if reward is None else reward - math.fsum(pure),
        turn_rewards=[value.value for value in turns],
        turn_valid=[value.valid for value in turns],
        turn_reasons=[value.invalid for value in turns],
        components=components,
        turn_components={
            name: [None if v.value is None else shape.weights[name] * v.value for v in vectors[name]]
            for name in shape.components
        },
        metrics={name: totals[name].value for name in shape.weights},
        evidence={} if evidence == "none" else _evidence(totals),
        turn_evidence=_turn_evidence(vectors, len(turns)) if evidence == "full" else [],
        spans=_spans(trajectory),
        token_rewards=_token_rewards(trajectory, turns),
    )


def status_of(value: RewardValue) -> Status:
    """Return ``"ok"``, or who is to blame: the judge, or the episode itself."""
    if value.valid:
        return "ok"
    return "judge_failed" if _JUDGE.search(value.invalid or "") else "invalid"


def _components(
    whole: RewardValue, totals: Mapping[str, RewardValue], shape: ResultShape
) -> tuple[float | None, dict[str, float | None]]:
    """Return the total and what each reward contributes to it, which sums to it up to rounding of one ulp."""
    if whole.value is None:
        return None, dict.fromkeys(shape.components)
    shares = {name: shape.weights[name] * (totals[name].value or 0.0) for name in shape.components}
    # The total adds turn by turn and the shares reward by reward: where large values cancel, what is left of a sum
    # may differ by more than callers tolerate. It goes where it changes least.
    rest = whole.value - math.fsum(shares.values())
    if rest != 0.0 and shares:
        largest = max(shares, key=lambda name: abs(shares[name]))
        shares[largest] += rest
    return whole.value, dict(shares)


def _outcome(trajectory: Trajectory, totals: Mapping[str, RewardValue], shape: ResultShape) -> float | None:
    """Return whether the task was solved, as a judge found or else as the world said."""
    for name in totals:
        judged = totals[name].evidence.get("outcome")
        if isinstance(judged, dict) and "correct" in judged:
            return None if judged["correct"] is None else float(bool(judged["correct"]))
    outcome = trajectory.outcome
    if outcome is None or trajectory.failed or trajectory.env_id.startswith("carr/"):
        return None
    return float(outcome.success)


def _evidence(totals: Mapping[str, RewardValue]) -> dict[str, Json]:
    return {name: value.evidence for name, value in totals.items() if value.evidence and name != TOTAL}


def _turn_evidence(vectors: Mapping[str, Sequence[RewardValue]], turns: int) -> list[dict[str, Json]]:
    return [
        {name: values[turn].evidence for name, values in vectors.items() if values[turn].evidence and name != TOTAL}
        for turn in range(turns)
    ]


def _spans(trajectory: Trajectory) -> list[Span] | None:
    spans = [turn.token_span for turn in trajectory.turns]
    if trajectory.tokens is None or not spans or any(span is None for span in spans):
        return None
    return [span for span in spans if span is not None]


def _token_rewards(trajectory: Trajectory, values: Sequence[RewardValue]) -> list[float] | None:
    if _spans(trajectory) is None:
        return None
    try:
        rewards, _, _ = place_on_boundaries(values, trajectory)
    except ConfigError:
        return None  # a turn without sampled ids has a reward: there is no token that could hold it
    return [float(reward) for reward in rewards]
