"""The one form that every trainer's adapter starts from: an episode as a prompt and a response.

A trainer wants token ids, a mask, log-probs and numbers on tokens. All of that is worked out here once,
so that adapters differ in names only, and the same episode reaches every trainer with the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import Credit, TurnAdvantages
from turnwise.records import RewardValue, Trajectory
from turnwise.rewards.credit.tokens import expand_to_tokens, place_on_boundaries, turn_of_token

TOTAL = "reward"


@dataclass(frozen=True, kw_only=True)
class TrainingRow:
    """One episode as a trainer takes it. The response begins with the first sampled token.

    Attributes:
        id: The trajectory's id.
        group: The group it belongs to: all samples of one task.
        prompt_ids: Ids before the first sampled one.
        response_ids: All ids from there on, those of later observations among them.
        response_mask: 1 for sampled ids, 0 for those of observations; as long as ``response_ids``.
        loss_mask: ``response_mask`` without the turns that may not be trained on: those whose reward is
            invalid (or whose advantage is masked), and all of a failed trajectory.
        logprobs: Natural-log probability of each sampled id, 0.0 elsewhere; empty where unknown.
        turn_spans: Half-open ``(start, end)`` of each turn's sampled ids in ``response_ids``.
        turn_rewards: Each turn's reward; None where it is invalid.
        token_rewards: Each turn's reward on the last id sampled in it; 0.0 elsewhere, and where invalid.
        advantages: Each id's advantage, 0.0 where ``loss_mask`` is 0; empty without a credit rule.
        reward: The whole trajectory's reward; None where it is invalid.
        outcome: 1.0 where the task was solved, 0.0 where not; None where the episode failed.
        components: Weighted share of each reward of the tree in ``reward``; they sum to it.
        valid: Whether the trainer may use the row at all.
        why: Why not, or None.
        policy_version: Version of the weights that sampled the last turn, or None.
    """

    id: str
    group: str
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_mask: tuple[int, ...]
    loss_mask: tuple[int, ...]
    logprobs: tuple[float, ...]
    turn_spans: tuple[tuple[int, int], ...]
    turn_rewards: tuple[float | None, ...]
    token_rewards: tuple[float, ...]
    advantages: tuple[float, ...] = ()
    reward: float | None = None
    outcome: float | None = None
    components: dict[str, float] = field(default_factory=dict)
    valid: bool = True
    why: str | None = None
    policy_version: str | None = None


def make_rows(
    trajectories: Sequence[Trajectory], *, reward: str = TOTAL, credit: Credit | None = None
) -> list[TrainingRow]:
    """Turn trajectories into rows, in their order.

    Args:
        trajectories: With tokens, and rewards attached; a failed one may have neither.
        reward: Which attached reward to hand over; ``"reward"`` is the tree's weighted total.
        credit: Assigns turn advantages, group by group; None leaves that to the trainer.

    Raises:
        ConfigError: A trajectory that did not fail has no token ids or lacks the reward, or two have
            the same id.
    """
    seen: set[str] = set()
    for trajectory in trajectories:
        if trajectory.id in seen:
            raise ConfigError(
                f"two trajectories have the id {trajectory.id!r}: rows of several runs need their own ids"
            )
        seen.add(trajectory.id)
    advantages = {} if credit is None else _assigned(trajectories, credit)
    return [_row(trajectory, reward, advantages.get(trajectory.id)) for trajectory in trajectories]


def _assigned(trajectories: Sequence[Trajectory], credit: Credit) -> dict[str, TurnAdvantages]:
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group, []).append(trajectory)
    return {found.trajectory_id: found for group in groups.values() for found in credit.assign(group)}


def _row(trajectory: Trajectory, name: str, advantages: TurnAdvantages | None) -> TrainingRow:
    tokens, turns = trajectory.tokens, trajectory.turns
    if tokens is None or not turns:
        if trajectory.failed or not turns:
            return _empty(trajectory)
        raise ConfigError(
            f"{trajectory.id!r} has no token ids: its agent {trajectory.agent!r} records none; "
            "trainers need a rollout of an agent with a model, such as transformers:PATH"
        )
    owner = turn_of_token(trajectory)
    first = next((i for i, mask in enumerate(tokens.loss_mask) if mask), len(tokens.ids))
    values = _values(trajectory, name)
    usable = [value.valid and not trajectory.failed for value in values]
    if advantages is not None:
        usable = [use and mask for use, mask in zip(usable, advantages.mask, strict=True)]
    loss_mask = [int(turn >= 0 and usable[turn]) for turn in map(int, owner)]
    total = trajectory.rewards.get(name)
    why = _why(trajectory, total)
    return TrainingRow(
        id=trajectory.id,
        group=trajectory.group,
        prompt_ids=tokens.ids[:first],
        response_ids=tokens.ids[first:],
        response_mask=tokens.loss_mask[first:],
        loss_mask=tuple(loss_mask[first:]),
        logprobs=tokens.logprobs[first:],
        turn_spans=tuple(_moved(turn.token_span, first) for turn in turns),
        turn_rewards=tuple(value.value for value in values),
        token_rewards=_on_tokens(trajectory, values, first),
        advantages=() if advantages is None else _expanded(advantages, trajectory, loss_mask, first),
        reward=None if total is None else total.value,
        outcome=None if trajectory.outcome is None else float(trajectory.outcome.success),
        components=shares(total),
        valid=why is None,
        why=why,
        policy_version=trajectory.policy_version,
    )


def _empty(trajectory: Trajectory) -> TrainingRow:
    """An episode that failed, or was cut, before the policy said anything a trainer could use."""
    failure = trajectory.ending.failure
    why = f"{failure.boundary}: {failure.message}" if failure is not None else "no turn was played"
    return TrainingRow(
        id=trajectory.id,
        group=trajectory.group,
        prompt_ids=() if trajectory.tokens is None else trajectory.tokens.ids,
        response_ids=(),
        response_mask=(),
        loss_mask=(),
        logprobs=(),
        turn_spans=(),
        turn_rewards=(),
        token_rewards=(),
        outcome=None if trajectory.outcome is None else float(trajectory.outcome.success),
        valid=False,
        why=why,
        policy_version=trajectory.policy_version,
    )


def _values(trajectory: Trajectory, name: str) -> list[RewardValue]:
    missing = RewardValue(invalid="the episode failed")
    values = []
    for turn in trajectory.turns:
        value = turn.rewards.get(name)
        if value is None and not trajectory.failed:
            raise unknown_name(f"reward of {trajectory.id!r}", name, turn.rewards)
        values.append(missing if value is None else value)
    return values


def _why(trajectory: Trajectory, total: RewardValue | None) -> str | None:
    failure = trajectory.ending.failure
    if trajectory.failed and failure is not None:
        return f"{failure.boundary}: {failure.message}"
    return "it has no reward" if total is None else total.invalid


def _moved(span: tuple[int, int] | None, first: int) -> tuple[int, int]:
    start, end = span or (first, first)
    return max(start - first, 0), max(end - first, 0)


def _on_tokens(trajectory: Trajectory, values: Sequence[RewardValue], first: int) -> tuple[float, ...]:
    if trajectory.failed:
        values = [RewardValue(value=0.0)] * len(values)
    rewards, _, _ = place_on_boundaries(values, trajectory)
    return tuple(map(float, rewards[first:]))


def _expanded(
    advantages: TurnAdvantages, trajectory: Trajectory, loss_mask: Sequence[int], first: int
) -> tuple[float, ...]:
    per_token, _ = expand_to_tokens(advantages, trajectory)
    pairs = zip(per_token, loss_mask, strict=True)
    return tuple(float(value) if mask else 0.0 for value, mask in pairs)[first:]


def shares(total: RewardValue | None) -> dict[str, float]:
    """Return what each reward of the tree contributes to a total, where that says so; they sum to it."""
    if total is None or total.value is None:
        return {}
    parts = total.evidence.get("parts")
    if not isinstance(parts, dict):
        return {}
    found = {name: float(share) for name, share in parts.items() if isinstance(share, (int, float))}
    return found if math.isclose(math.fsum(found.values()), total.value, rel_tol=1e-9, abs_tol=1e-9) else {}
