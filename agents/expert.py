"""The environment's own solver, as an agent."""

from __future__ import annotations

from typing import Any

from turnwise.errors import PolicyError
from turnwise.protocols import AgentMessage, Episode, Expert, Info


class ExpertAgent:
    """Plays what the environment's expert says. The first kind of expert solves every task."""

    policy_version: str | None = None

    def __init__(self, kind: str | None = None) -> None:
        """Play an expert.

        Args:
            kind: One of the world's ``experts``; None takes its first one.
        """
        self.spec = "expert" if kind is None else f"expert:{kind}"
        self._kind = kind
        self._expert: Expert | None = None

    @classmethod
    def from_spec(cls, rest: str) -> ExpertAgent:
        """Make it from ``expert[:KIND]``."""
        return cls(rest or None)

    def reset(self, episode: Episode) -> None:
        """Ask the environment for its expert.

        Raises:
            UnknownNameError: The world has no such expert.
        """
        self._expert = episode.env.unwrapped.expert(self._kind)  # type: ignore[attr-defined]

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Return the expert's next action."""
        if self._expert is None:
            raise PolicyError("the agent was not reset for this episode: call reset(episode) first")
        return AgentMessage(text=self._expert.act(observation, info))
