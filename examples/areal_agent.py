"""AReaL: an agent whose every response gets its turn's reward.

    python examples/areal_agent.py

AReaL itself is not needed here: a scripted client stands in for its proxy. In a real run AReaL makes
``WorldAgent`` (``workflow="turnwise.rollout.trainers.areal.WorldAgent"``) and gives it the proxy's address.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from byte_policy import WORLD, scripts, show

from turnwise.rollout.trainers.areal import WorldAgent
from turnwise.rollout.trainers.stepping import World


def proxy(script: list[str]) -> Any:
    """Return a client of a server that says a script."""

    async def create(*, messages: list[dict[str, str]], **options: Any) -> Any:
        turn = sum(message["role"] == "assistant" for message in messages)
        message = SimpleNamespace(content=script[turn])
        return SimpleNamespace(id=f"chatcmpl-{turn}", choices=[SimpleNamespace(message=message)])

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def main() -> None:
    world = World(agent="areal", **WORLD)
    task = world.tasks[0]
    for name, script in zip(("expert", "clumsy"), scripts(world, task), strict=True):
        rewards = asyncio.run(WorldAgent(world=WORLD).run({"task_id": task}, client=proxy(script)))
        show(f"{name}: reward of {', '.join(list(rewards)[:2])}, ...", list(rewards.values()))


if __name__ == "__main__":
    main()
