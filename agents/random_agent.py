"""The random policy: the floor that every other agent should beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from turnwise.agents.randomness import episode_generator, random_action
from turnwise.errors import ConfigError, PolicyError
from turnwise.protocols import AgentMessage, Episode, Info


class RandomAgent:
    """Draws uniformly from the admissible actions, or from the grammar where no list is given."""

    spec = "random"
    policy_version: str | None = None

    def __init__(self) -> None:
        self._env: Any = None
        self._generator: np.random.Generator | None = None

    @classmethod
    def from_spec(cls, rest: str) -> RandomAgent:
        """Make it from ``random``."""
        if rest:
            raise ConfigError(f"the agent 'random' takes no options, got {rest!r}")
        return cls()

    def reset(self, episode: Episode) -> None:
        """Begin an episode with a generator of its own."""
        self._env = episode.env.unwrapped
        self._generator = episode_generator(episode)

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Draw an action."""
        if self._generator is None:
            raise PolicyError("the agent was not reset for this episode: call reset(episode) first")
        return AgentMessage(text=random_action(self._env, observation, info, self._generator))
