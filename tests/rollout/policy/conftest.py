"""What the policy's tests share: the chaos world with a policy behind its agent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # workers get it too: the engine passes it on

import chaosworld  # noqa: E402

from turnwise import register_env  # noqa: E402
from turnwise.agents.registry import agents  # noqa: E402

register_env(chaosworld.ENV_ID, "chaosworld:ChaosEnv")
agents.register("chaos-policy", "chaospolicy:ChaosPolicy")


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait for something that has no notification."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()
