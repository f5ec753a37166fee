"""A trajectory as plain text, for models without a chat template."""

from __future__ import annotations

from turnwise.protocols import Segment
from turnwise.records import Json, Trajectory, Turn


def observation_after(trajectory: Trajectory, turn: int) -> str:
    """Return what came back after a turn."""
    following = turn + 1
    return (
        trajectory.turns[following].observation if following < len(trajectory.turns) else trajectory.final_observation
    )


def opening(trajectory: Trajectory) -> str:
    """Return what is read before the first turn: the first observation, and the task where it does not say it."""
    first = trajectory.turns[0].observation if trajectory.turns else trajectory.final_observation
    instruction = trajectory.task.instruction
    return first if not instruction or instruction in first else f"{instruction}\n\n{first}"


class PlainContexts:
    """``Observation: ...``, ``Action: ...`` in turn, each on its own lines (keeps the ContextRenderer protocol)."""

    def __init__(self, *, system: str = "") -> None:
        """Write trajectories as plain text.

        Args:
            system: Text to put in front, such as the world's rules.
        """
        self.system = system

    def render(self, trajectory: Trajectory, turns: int) -> tuple[Segment, ...]:
        """Return ``turns + 1`` texts; their concatenation is the whole context."""
        front = f"{self.system}\n\n" if self.system else ""
        start = f"{front}Observation: {opening(trajectory)}\n"
        return (start, *(self._added(trajectory, turn) for turn in trajectory.turns[:turns]))

    def _added(self, trajectory: Trajectory, turn: Turn) -> str:
        return f"Action: {turn.action_text}\nObservation: {observation_after(trajectory, turn.index)}\n"

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"system": self.system}
