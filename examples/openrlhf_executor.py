"""OpenRLHF: our world behind its step executor.

    pip install openrlhf==0.11.2        # with CUDA; --no-deps is enough for this example
    python examples/openrlhf_executor.py

The engine is scripted; the executor is OpenRLHF's own. In a real run the file of ``--train.agent_func_path``
is two lines: the import, and ``AgentExecutor = agent_executor({...}, tokenizer="PATH")``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from byte_policy import WORLD, scripts, show

from turnwise.rollout.trainers.openrlhf import agent_executor
from turnwise.rollout.trainers.stepping import World


class PlainMarkup:
    """Stands in for the chat template of a tokenizer."""

    ends = ()

    def opening(self, system: str, tools: Sequence[Mapping[str, Any]], observation: str) -> str:
        """Return what stands before the first message."""
        return f"[user]{observation}[agent]"

    def continuation(self, observation: str, message: str) -> str:
        """Return what stands between two messages."""
        return f"[user]{observation}[agent]"


class Bytes:
    """Stands in for a tokenizer."""

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        """Return the ids of a text."""
        return {"input_ids": torch.tensor([list(text.encode())])}


class Engine:
    """Stands in for vLLM."""

    def __init__(self, script: list[str]) -> None:
        self.script = iter(script)

    async def generate(self, ids: list[int], params: Any, **options: Any) -> Any:
        """Say the next message."""
        text = next(self.script)
        output = SimpleNamespace(token_ids=list(text.encode()), text=text, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


def main() -> None:
    world = World(agent="openrlhf", **WORLD)
    task = world.tasks[0]
    for name, script in zip(("expert", "clumsy"), scripts(world, task), strict=True):
        executor = agent_executor(WORLD, markup=PlainMarkup())()
        params = SimpleNamespace(max_tokens=64, logprobs=None)
        run = executor.execute("", task, params, 65536, Bytes(), Engine(script))
        found = asyncio.run(run)
        show(f"{name}: the one reward, and its turns", [found["reward"], len(found["action_ranges"])])
        print("   logged:", {key: round(value, 3) for key, value in found["extra_logs"].items()})


if __name__ == "__main__":
    main()
