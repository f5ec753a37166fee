"""Whether the agent's message could be read as an action."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.options import number
from turnwise.rewards.validity import cut


class Format:
    """``good`` on a turn whose message was read as an action (in any accepted form), else ``bad``.

    Only the form counts: a well-formed action that cannot be carried out is ``valid_action``'s matter.
    """

    def __init__(self, *, good: float = 1.0, bad: float = 0.0) -> None:
        """Reward well-formed messages.

        Args:
            good: Value of a turn with a well-formed action.
            bad: Value of a turn whose message is no action; negative makes it a penalty.

        Raises:
            ConfigError: An option is not a finite number.
        """
        self.name = "format"
        self.good = number("good", good)
        self.bad = number("bad", bad)
        self.spec = RewardSpec(
            low=min(self.good, self.bad),
            high=max(self.good, self.bad),
            placement="turn",
            source="turnwise",
            summary="Whether the message could be read as an action.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        return tuple(self._value(turn) for turn in trajectory.turns)

    def _value(self, turn: Turn) -> RewardValue:
        if turn.action is not None:
            return RewardValue(value=self.good, evidence={"form": turn.action.form})
        return RewardValue(value=self.bad, evidence={"error": cut(turn.action_error or "no action in the message")})

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"good": self.good, "bad": self.bad}
