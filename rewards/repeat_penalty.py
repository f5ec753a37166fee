"""A penalty for doing the same thing again."""

from __future__ import annotations

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory, Turn
from turnwise.rewards.options import number, whole

_FINE = RewardValue(value=0.0)


class RepeatPenalty:
    """``-penalty`` on a turn that repeats an action of the last ``window`` turns to no purpose.

    A turn repeats an earlier one when its action is the same (the same canonical command, or the
    same raw text if malformed) and either

    * the agent saw the same observation then as now: the same choice in the same situation, which
      also catches loops over several actions; or
    * the observation after it equals the one before it: the action had no visible effect.

    The same action in a changed situation, such as going back to a place with something in hand, is
    no repeat.
    """

    def __init__(self, *, penalty: float = 1.0, window: int | None = 5) -> None:
        """Penalise repeated actions.

        Args:
            penalty: How much a repeat costs, as a positive number.
            window: How many turns to look back, at least 1; None looks back to the start.

        Raises:
            ConfigError: An option is out of range.
        """
        self.name = "repeat_penalty"
        self.penalty = number("penalty", penalty, low=0.0)
        self.window = None if window is None else whole("window", window, low=1)
        self.spec = RewardSpec(
            low=0.0 - self.penalty,
            high=0.0,
            placement="turn",
            source="turnwise",
            summary="Penalty for the same action in the same situation, or again without effect.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        turns = trajectory.turns
        earlier: dict[str, list[int]] = {}
        values = []
        for turn in turns:
            key = turn.action.command if turn.action is not None else turn.action_text.strip()
            seen = earlier.setdefault(key, [])
            values.append(self._value(trajectory, turn, seen))
            seen.append(turn.index)
        return tuple(values)

    def _value(self, trajectory: Trajectory, turn: Turn, seen: list[int]) -> RewardValue:
        oldest = 0 if self.window is None else turn.index - self.window
        for index in reversed(seen):
            if index < oldest:
                break
            before = trajectory.turns[index]
            if (before.observation, before.image) == (turn.observation, turn.image):
                return self._repeat(index, "same observation")
            if self._no_effect(trajectory, turn):
                return self._repeat(index, "no effect")
        return _FINE

    def _no_effect(self, trajectory: Trajectory, turn: Turn) -> bool:
        following = turn.index + 1
        if following < len(trajectory.turns):
            after = trajectory.turns[following]
            return (after.observation, after.image) == (turn.observation, turn.image)
        # The final observation is text only, so for a picture nobody can tell.
        return turn.image is None and not trajectory.failed and trajectory.final_observation == turn.observation

    def _repeat(self, index: int, why: str) -> RewardValue:
        return RewardValue(value=0.0 - self.penalty, evidence={"repeats_turn": index, "because": why})

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"penalty": self.penalty, "window": self.window}
