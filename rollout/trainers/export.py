"""Trajectories as data sets: training rows, supervised examples, preference pairs and labelled messages.

======== ============================================================== =================================
kind     one row                                                        what survives of turn rewards
======== ============================================================== =================================
``rows`` an episode as token ids, mask, log-probs and rewards; see      everything
         :class:`~turnwise.rollout.trainers.rows.TrainingRow`
``sft``  ``messages`` of an episode, or ``prompt`` and ``completion``   per turn: turns below a reward can
         of a turn                                                      be left out
``dpo``  ``prompt``, ``chosen``, ``rejected``: two messages of a group  the sign of the difference of the
         after the same history, or two whole episodes                  two turns' returns
``kto``  ``prompt``, ``completion``, ``label`` of a turn                the sign of the turn's advantage
======== ============================================================== =================================

The last three are TRL's own conversational formats. Failed episodes and invalid rewards are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, TypeAlias

from turnwise.errors import ConfigError, unknown_name
from turnwise.protocols import Credit
from turnwise.records import Trajectory
from turnwise.rewards.credit import GroupCredit, return_to_go
from turnwise.rewards.credit.group import reward_of
from turnwise.rollout.trainers.conversations import (
    SystemPrompts,
    before,
    conversation,
    opening,
    same_until,
    spoken,
)
from turnwise.rollout.trainers.rows import TOTAL, make_rows

KINDS = ("rows", "sft", "dpo", "kto")
Level = Literal["turn", "trajectory"]
Row: TypeAlias = "dict[str, Any]"


def training_rows(
    trajectories: Sequence[Trajectory], *, reward: str = TOTAL, credit: Credit | None = None
) -> list[Row]:
    """Return episodes as token rows, with the world and the task beside them.

    Args:
        trajectories: With tokens and rewards; failed ones become rows with ``valid=False``.
        reward: Which attached reward to hand over.
        credit: Assigns ``advantages``; without, they are empty.

    Raises:
        ConfigError: An episode has no token ids, or lacks the reward.
    """
    rows = make_rows(trajectories, reward=reward, credit=credit)
    names = sorted({name for row in rows for name in row.components})
    table = []
    for trajectory, row in zip(trajectories, rows, strict=True):
        fields = asdict(row)
        # The same columns in every row, whatever the episode came to.
        fields["components"] = {name: row.components.get(name) for name in names} or None
        origin = {"env_id": trajectory.env_id, "task_id": trajectory.task.id, "sample": trajectory.sample}
        table.append({**origin, **{key: _plain(value) for key, value in fields.items()}})
    return table


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def sft_rows(
    trajectories: Iterable[Trajectory],
    *,
    level: Level = "trajectory",
    reward: str = TOTAL,
    solved: bool = True,
    least: float | None = None,
    system: str | None = None,
) -> Iterator[Row]:
    """Yield supervised examples.

    Args:
        trajectories: With rewards, where ``least`` is given.
        level: ``"trajectory"`` yields ``{"messages"}``, ``"turn"`` one ``{"prompt", "completion"}`` per
            turn, whose loss is on the agent's message only.
        reward: Which attached reward ``least`` is about.
        solved: Whether to leave out episodes that did not solve their task.
        least: Leaves out episodes, or turns, with a lower or an invalid reward.
        system: System prompt instead of the world's; ``""`` for none.

    Raises:
        ConfigError: The level is unknown, or the reward was not attached.
    """
    _check_level(level)
    prompts = SystemPrompts(system)
    for trajectory in trajectories:
        if trajectory.failed or not trajectory.turns or (solved and not _solved(trajectory)):
            continue
        if level == "trajectory":
            whole = trajectory.rewards.get(reward)
            if least is None or (whole is not None and whole.value is not None and whole.value >= least):
                yield {"messages": conversation(trajectory, prompts)}
            continue
        for turn in trajectory.turns:
            value = None if least is None else reward_of(trajectory, turn.index, reward).value
            if least is None or (value is not None and value >= least):
                yield {
                    "prompt": before(trajectory, turn.index, prompts),
                    "completion": spoken(trajectory, start=turn.index, stop=turn.index + 1),
                }


def dpo_rows(
    trajectories: Iterable[Trajectory],
    *,
    level: Level = "turn",
    reward: str = TOTAL,
    gamma: float = 1.0,
    margin: float = 0.0,
    most: int | None = None,
    system: str | None = None,
) -> Iterator[Row]:
    """Yield preference pairs from groups, those of a group with the largest difference first.

    Per turn, two episodes of a group are compared where they part: the same history, two different
    messages; the better one is that with the higher return from there on. Per trajectory, the better
    episode is that with the higher return; then ``chosen`` and ``rejected`` hold observations too, and
    TRL's DPO loss counts their tokens as well, which the per-turn form avoids.

    Args:
        trajectories: With rewards.
        level: ``"turn"`` or ``"trajectory"``.
        reward: Which attached reward decides.
        gamma: Discount per turn of the returns, in [0, 1].
        margin: Least difference of the returns, at least 0; equal returns make no pair.
        most: Most pairs of one group, or None for all.
        system: System prompt instead of the world's; ``""`` for none.

    Raises:
        ConfigError: An option is out of range, or the reward was not attached.
    """
    _check_level(level)
    if isinstance(margin, bool) or not isinstance(margin, (int, float)) or not 0.0 <= margin < math.inf:
        raise ConfigError(f"margin must be a number of at least 0, got {margin!r}")
    prompts = SystemPrompts(system)
    for group in _groups(trajectories):
        returns = {one.id: _returns(one, reward, gamma) for one in group}
        pairs = []
        for one, other in itertools.combinations(group, 2):
            turn = same_until(one, other) if level == "turn" else 0
            if turn is None or (level == "trajectory" and one.turns[0].observation != other.turns[0].observation):
                continue
            mine, theirs = returns[one.id][turn], returns[other.id][turn]
            if mine is None or theirs is None or _same(mine, theirs) or abs(mine - theirs) < margin:
                continue
            better, worse = (one, other) if mine > theirs else (other, one)
            pairs.append((abs(mine - theirs), turn, better, worse))
        pairs.sort(key=lambda pair: (-pair[0], pair[1], pair[2].sample, pair[3].sample))
        seen: set[str] = set()
        for difference, turn, better, worse in pairs:
            stop = turn + 1 if level == "turn" else None
            chosen, rejected = (spoken(one, start=turn, stop=stop) for one in (better, worse))
            history = before(better, turn, prompts) if level == "turn" else opening(better, prompts)
            key = repr((history, chosen, rejected))
            if key in seen or (most is not None and len(seen) >= most):
                continue  # episodes of a group often say the same
            seen.add(key)
            yield {"prompt": history, "chosen": chosen, "rejected": rejected, "margin": difference}


def kto_rows(
    trajectories: Iterable[Trajectory],
    *,
    reward: str = TOTAL,
    gamma: float = 1.0,
    credit: Credit | None = None,
    system: str | None = None,
) -> Iterator[Row]:
    """Yield single messages, each labelled good or bad by the sign of its turn's advantage in its group.

    Turns with an advantage of 0 or an invalid reward are left out.

    Args:
        trajectories: With rewards.
        reward: Which attached reward to compare.
        gamma: Discount per turn of the returns, in [0, 1]; not used with a credit rule.
        credit: Assigns the advantages; None is the return from the turn on minus the group's mean.
        system: System prompt instead of the world's; ``""`` for none.

    Raises:
        ConfigError: The reward was not attached.
    """
    rule = credit if credit is not None else GroupCredit(estimator="dr_grpo", level="turn", reward=reward, gamma=gamma)
    prompts = SystemPrompts(system)
    for group in _groups(trajectories):
        for trajectory, assigned in zip(group, rule.assign(group), strict=True):
            for turn, advantage in enumerate(assigned.advantages):
                if assigned.mask[turn] and advantage != 0.0:
                    yield {
                        "prompt": before(trajectory, turn, prompts),
                        "completion": spoken(trajectory, start=turn, stop=turn + 1),
                        "label": advantage > 0.0,
                    }


def _groups(trajectories: Iterable[Trajectory]) -> Iterator[list[Trajectory]]:
    """Yield the episodes of each task that did not fail, in the order of their tasks' first ones."""
    groups: dict[tuple[str, str], list[Trajectory]] = {}
    for trajectory in trajectories:
        if not trajectory.failed and trajectory.turns:
            groups.setdefault((trajectory.env_id, trajectory.group), []).append(trajectory)
    for group in groups.values():
        yield sorted(group, key=lambda trajectory: trajectory.sample)


def _returns(trajectory: Trajectory, reward: str, gamma: float) -> list[float | None]:
    values = [reward_of(trajectory, position, reward).value for position in range(len(trajectory.turns))]
    returns, known = return_to_go(values, gamma=gamma)
    return [float(value) if sure else None for value, sure in zip(returns, known, strict=True)]


def _same(one: float, other: float) -> bool:
    """Whether two returns differ by rounding only."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _solved(trajectory: Trajectory) -> bool:
    return trajectory.outcome is not None and trajectory.outcome.success


def _check_level(level: str) -> None:
    if level not in ("turn", "trajectory"):
        raise unknown_name("level", str(level), ("turn", "trajectory"))
