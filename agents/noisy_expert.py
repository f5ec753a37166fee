"""An expert that errs: good for trajectories of mixed quality without a model."""

from __future__ import annotations

from typing import Any

import numpy as np

from turnwise.agents.expert import ExpertAgent
from turnwise.agents.randomness import episode_generator, random_action
from turnwise.errors import ConfigError, PolicyError
from turnwise.protocols import AgentMessage, Episode, Info

DEFAULT_EPSILON = 0.2


class NoisyExpertAgent(ExpertAgent):
    """Plays a random action with probability epsilon, else what the expert says."""

    def __init__(self, epsilon: float = DEFAULT_EPSILON) -> None:
        """Play an erring expert.

        Args:
            epsilon: Probability of a random action on each turn, in [0, 1].

        Raises:
            ConfigError: ``epsilon`` is out of range.
        """
        super().__init__()
        if not 0.0 <= epsilon <= 1.0:
            raise ConfigError(f"epsilon is a probability in [0, 1], got {epsilon}")
        self.spec = f"noisy-expert:{epsilon:g}"
        self.epsilon = epsilon
        self._env: Any = None
        self._generator: np.random.Generator | None = None

    @classmethod
    def from_spec(cls, rest: str) -> NoisyExpertAgent:
        """Make it from ``noisy-expert[:EPSILON]``."""
        try:
            return cls(float(rest)) if rest else cls()
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"write noisy-expert:EPSILON with a number in [0, 1], got {rest!r}") from None

    def reset(self, episode: Episode) -> None:
        """Begin an episode with a generator of its own."""
        super().reset(episode)
        self._env = episode.env.unwrapped
        self._generator = episode_generator(episode)

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Return the expert's action or a random one."""
        if self._generator is None:
            raise PolicyError("the agent was not reset for this episode: call reset(episode) first")
        if self._generator.random() < self.epsilon:
            return AgentMessage(text=random_action(self._env, observation, info, self._generator))
        return super().act(observation, info)
