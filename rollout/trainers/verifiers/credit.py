"""Turn advantages on the nodes of verifiers' traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnwise.errors import ConfigError
from turnwise.protocols import Credit
from turnwise.records import Trajectory, from_json, replace
from turnwise.rewards.credit import GroupCredit
from turnwise.rollout.trainers.rows import TOTAL

INFO = "turnwise"


def trajectory_of(trace: Any) -> Trajectory:
    """Return the episode behind a trace, with its turn rewards.

    Raises:
        ConfigError: The trace is none of :class:`WorldEnv`.
    """
    kept = trace.info.get(INFO)
    if not isinstance(kept, dict) or "trajectory" not in kept:
        raise ConfigError(f"the trace {trace.id} is no episode of turnwise: play it with WorldEnv")
    return from_json(kept["trajectory"])


def assign_advantages(traces: Sequence[Any], *, credit: Credit | None = None) -> None:
    """Write an advantage to every sampled token: that of the turn it was sampled in.

    Tokens of turns that may not be trained on get 0.0 and the loss weight 0.0 (stream ``"turnwise"``),
    the others 1.0. Nodes of no turn (a reply that was never played) keep what they have.

    Args:
        traces: Of one or several tasks; those of one task are a group.
        credit: Assigns turn advantages; None is GRPO per turn.

    Raises:
        ConfigError: A trace is no episode of turnwise.
    """
    rule = credit if credit is not None else GroupCredit(level="turn", reward=TOTAL)
    groups: dict[tuple[str, str], list[tuple[Any, Trajectory]]] = {}
    for number, trace in enumerate(traces):
        trajectory = trajectory_of(trace)
        # Every episode was played as sample 0 of its task: number them apart.
        named: Trajectory = replace(trajectory, id=f"{trajectory.task.id}#{number}", sample=number)
        groups.setdefault((named.env_id, named.group), []).append((trace, named))
    for group in groups.values():
        assigned = rule.assign([trajectory for _, trajectory in group])
        for (trace, _), advantages in zip(group, assigned, strict=True):
            turns: list[list[int]] = trace.info[INFO]["nodes"]
            for nodes, value, usable in zip(turns, advantages.advantages, advantages.mask, strict=True):
                for place in nodes:
                    _write(trace.nodes[place], value if usable else 0.0, usable)


def _write(node: Any, advantage: float, usable: bool) -> None:
    node.advantages = [advantage] * sum(node.mask)
    weights = [float(sampled and usable) for sampled in node.mask]
    node.loss_weights = {**(node.loss_weights or {}), INFO: weights}
