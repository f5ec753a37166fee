"""Tinker cookbook: a group rollout of our world, and datums with each turn's advantage on its tokens.

    pip install tinker-cookbook==0.6.1
    python examples/tinker_group.py

The completer is scripted; rollout, rewards and datums are the cookbook's own. With a real model leave
``chat`` out and say ``model_name="Qwen/Qwen3-8B"``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from byte_policy import WORLD, ByteChat, sampled, scripts, show, turn_of
from tinker_cookbook.completers import TokenCompleter, TokensWithLogprobs
from tinker_cookbook.rl.data_processing import compute_advantages
from tinker_cookbook.rl.rollouts import do_group_rollout

from turnwise.rollout.trainers.stepping import World
from turnwise.rollout.trainers.tinker.data import assemble_turn_data
from turnwise.rollout.trainers.tinker.envs import WorldGroup


class Scripted(TokenCompleter):
    """The first episode to ask for its second message is clumsy, the other one an expert."""

    def __init__(self, script: list[list[str]]) -> None:
        self.scripts, self.asked = script, 0

    async def __call__(self, model_input: Any, stop: Any, *, max_tokens: int | None = None) -> TokensWithLogprobs:
        """Say the next message of an episode."""
        prompt = model_input.to_ints()
        turn, clumsy = turn_of(prompt), b"I do not know" in bytes(one % 256 for one in prompt)
        if turn == 1 and not clumsy:
            clumsy, self.asked = self.asked == 0, self.asked + 1
        one = sampled(self.scripts[int(clumsy)][turn])
        return TokensWithLogprobs(tokens=list(one.ids), maybe_logprobs=list(one.logprobs))


def main() -> None:
    world = World(agent="tinker", **WORLD)
    task = world.tasks[0]
    group = WorldGroup(task_id=task, world=WORLD, group_size=2, chat=ByteChat())
    rolled = asyncio.run(do_group_rollout(group, Scripted(scripts(world, task))))
    # in a training run: tinker_cookbook.rl.train.assemble_training_data = assemble_turn_data
    data, _ = assemble_turn_data([rolled], compute_advantages([rolled]))
    for i, (trajectory, datum) in enumerate(zip(rolled.trajectories_G, data, strict=True)):
        show(f"episode {i}: rewards of its transitions", [one.reward for one in trajectory.transitions])
        ends = [one.ob.length + len(one.ac.tokens) - 2 for one in trajectory.transitions]
        advantages = datum.loss_fn_inputs["advantages"].to_torch()
        show(f"episode {i}: advantage of each turn's tokens", advantages[ends].tolist())


if __name__ == "__main__":
    main()
