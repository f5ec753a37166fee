"""A world that says what it was told, for ``env_server.py``."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces

ID = "bench/Echo-v0"
gymnasium.register(id=ID, entry_point="echo_world:EchoEnv")


class EchoEnv(gymnasium.Env[str, str]):
    """Answers every message with itself."""

    observation_space = spaces.Text(1000)
    action_space = spaces.Text(1000)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin."""
        super().reset(seed=seed)
        return "Say something.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Say it again."""
        return action, 0.0, False, False, {}
