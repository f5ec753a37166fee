"""A person at the terminal."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from turnwise.errors import ConfigError, PolicyError
from turnwise.protocols import AgentMessage, Episode, Info


class HumanAgent:
    """Shows the observation and reads one line a turn. Needs a terminal, so ``--workers 0``."""

    spec = "human"
    policy_version: str | None = None

    def __init__(self, *, source: TextIO | None = None, screen: TextIO | None = None) -> None:
        """Play by hand.

        Args:
            source: Where lines come from; None reads standard input.
            screen: Where observations go; None writes to standard error.
        """
        self._source = source
        self._screen = screen

    @classmethod
    def from_spec(cls, rest: str) -> HumanAgent:
        """Make it from ``human``."""
        if rest:
            raise ConfigError(f"the agent 'human' takes no options, got {rest!r}")
        return cls()

    def _show(self, text: str, end: str = "\n") -> None:
        # Looked up late, so that a redirected stream is the one that is used.
        print(text, end=end, file=self._screen or sys.stderr, flush=True)

    def reset(self, episode: Episode) -> None:
        """Explain the actions and the task."""
        prompt = getattr(episode.env.unwrapped, "system_prompt", "")
        self._show(f"\n{prompt}\n\nTask {episode.task.id}: {episode.task.instruction}")

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Show the observation and read the answer.

        Raises:
            PolicyError: The input is at its end.
        """
        self._show(f"\n{observation.get('text', '') if isinstance(observation, dict) else observation}")
        self._show("> ", end="")
        line = (self._source or sys.stdin).readline()
        if not line:
            raise PolicyError("the input ended before the episode: the person left")
        return AgentMessage(text=line.rstrip("\n"))
