"""The expert that uses only what it has observed, as a language model would have to."""

from __future__ import annotations

from turnwise.agents.expert import ExpertAgent
from turnwise.errors import ConfigError


class ExplorerAgent(ExpertAgent):
    """Plays the world's ``"explorer"`` expert."""

    def __init__(self) -> None:
        super().__init__("explorer")
        self.spec = "explorer"

    @classmethod
    def from_spec(cls, rest: str) -> ExplorerAgent:
        """Make it from ``explorer``."""
        if rest:
            raise ConfigError(f"the agent 'explorer' takes no options, got {rest!r}")
        return cls()
