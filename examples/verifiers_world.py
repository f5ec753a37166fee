"""A world as a taskset of verifiers v1, played by any OpenAI-compatible server.

    python examples/verifiers_world.py http://127.0.0.1:8000/v1 MODEL

The taskset package is the folder examples/verifiers_package (pip install it, or leave it to this file).
Needs: pip install turnwise 'verifiers>=0.4' uv
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent / "verifiers_package"))
os.environ.setdefault("OPENAI_API_KEY", "none")

import verifiers.v1 as vf

from turnwise.rollout.trainers.verifiers import assign_advantages


async def play(base_url: str, model: str, *, tasks: str = "train:2", group: int = 2, max_turns: int = 5) -> list[Any]:
    """Play a group of episodes of each task, give turns their advantages, and return the traces."""
    settings = vf.resolve_env_config(
        {
            "taskset": {
                "id": "turnwise-worlds",
                "world": "turnwise/Household-v0",
                "tasks": tasks,
                "max_turns": max_turns,
            },
            "agent": {
                "model": model,
                "runtime": {"type": "subprocess"},  # the default runtime is a cloud sandbox
                "client": {"type": "eval", "base_url": base_url, "api_key_var": "OPENAI_API_KEY"},
            },
        }
    )
    env = vf.load_environment(settings)
    context = vf.ModelContext(model=model, client=vf.resolve_client(settings.agent.client))
    async with env.serving():
        episodes = await asyncio.gather(*(env.run_episode(task, context) for task in env.taskset for _ in range(group)))
    traces = [trace for episode in episodes for trace in episode.traces if trace.ok]
    assign_advantages(traces)
    for trace in traces:
        print(
            trace.task.data.task_id, "reward", round(trace.reward, 3), "turns", trace.info["turnwise"]["turn_rewards"]
        )
    return traces


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    asyncio.run(play(sys.argv[1], sys.argv[2]))
