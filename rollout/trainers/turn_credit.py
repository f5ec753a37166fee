"""Turn advantages for trainers that hold turn rewards as plain numbers, not as trajectories."""

from __future__ import annotations

from collections.abc import Sequence

from turnwise.protocols import TurnAdvantages
from turnwise.records import Ending, Task, Trajectory, Turn
from turnwise.rewards.credit import GroupCredit


def assign_turns(
    groups: Sequence[str], values: Sequence[Sequence[float | None] | None], credit: GroupCredit
) -> list[TurnAdvantages]:
    """Return each sample's turn advantages, compared within its group.

    Args:
        groups: The group of each sample.
        values: The turn rewards of each sample, None where one is invalid; None for a sample that must
            not count, such as one that failed.
        credit: How a group is compared.

    Returns:
        One per sample, in their order; no turns for samples that do not count.
    """
    members: dict[str, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    found: dict[int, TurnAdvantages] = {}
    for group, positions in members.items():
        rewards = [values[position] for position in positions]
        stand_ins = [_stand_in(group, at, given) for at, given in zip(positions, rewards, strict=True)]
        assigned = credit.assign_values(stand_ins, [given or () for given in rewards])
        found.update(zip(positions, assigned, strict=True))
    return [found[position] for position in range(len(groups))]


def _stand_in(group: str, position: int, rewards: Sequence[float | None] | None) -> Trajectory:
    """A trajectory of which only the group and the number of turns are known, all that credit needs here.

    Without turns it counts in no statistic.
    """
    return Trajectory(
        id=f"{group}#{position}",
        env_id="",
        task=Task(id=group, split="", instruction=""),
        seed=0,
        agent="trainer",
        ending=Ending(kind="terminated"),
        turns=tuple(Turn(index=turn, observation="", action_text="") for turn in range(len(rewards or ()))),
    )
