"""A world that keeps only Gymnasium's own contract: text in, text out."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium import spaces


class GuessEnv(gymnasium.Env[str, str]):
    """Say "right"."""

    observation_space = spaces.Text(100)
    action_space = spaces.Text(100)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        return "Guess.", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        right = action == "right"
        return "Yes." if right else "No.", float(right), right, False, {}
