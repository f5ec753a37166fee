"""What the trainers' examples share: a scripted policy, so that they run on any machine in seconds.

In place of a model the world's expert speaks, one token per byte; a clumsy one says something useless
after its first message. A real run has a model and its tokenizer here and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnwise.records import Trajectory
from turnwise.rollout.trainers.dialogue import Sampled, TokenEpisode
from turnwise.rollout.trainers.stepping import World

END = 256
WORLD: dict[str, Any] = {
    "env": "turnwise/Household-v0",
    "tasks": "train:4",
    "max_turns": 12,
    "rewards": {
        "version": 1,
        "rewards": [{"name": "progress", "weight": 0.5}, {"name": "outcome"}, {"name": "turn_cost", "weight": 1.0}],
    },
}


class ByteChat:
    """Writes observations as bytes; ``TokenizerChat(tokenizer)`` is the real one."""

    ends = (END,)

    def opening(self, system: str, tools: Sequence[Mapping[str, Any]], observation: str) -> Sequence[int]:
        """Return what stands before the first message."""
        return tuple(f"[user]{observation}[agent]".encode())

    def continuation(self, observation: str, sampled: Sequence[int]) -> Sequence[int]:
        """Return what stands between two messages."""
        return tuple(f"[user]{observation}[agent]".encode())

    def message(self, sampled: Sequence[int]) -> str:
        """Return a message without its end."""
        return bytes(one for one in sampled if one != END).decode()


def scripts(world: World, task_id: str) -> list[list[str]]:
    """Return what an expert and a clumsy player say in a task."""
    request, env = world.request(task_id), world.make()
    seen, info = env.reset(seed=request.seed, options={"task_id": task_id})
    expert: Any = env.unwrapped.expert()  # type: ignore[attr-defined]
    actions, over = [], False
    while not over:
        actions.append(expert.act(seen, info))
        seen, _, terminated, truncated, info = env.step(actions[-1])
        over = terminated or truncated
    env.close()
    return [actions, [actions[0], "I do not know", *actions[1:]]]


def sampled(text: str) -> Sampled:
    """Return a message as a sampler gives it."""
    ids = (*text.encode(), END)
    return Sampled(ids=ids, logprobs=(-0.5,) * len(ids))


def turn_of(prompt: Sequence[int]) -> int:
    """Return how many messages a prompt holds already."""
    return bytes(one for one in prompt if one != END).count(b"[agent]") - 1


def play_group(world: World, task_id: str) -> list[Trajectory]:
    """Return the graded episodes of all scripts: a group."""
    group = []
    for sample, script in enumerate(scripts(world, task_id)):
        episode = TokenEpisode(world, ByteChat())
        episode.begin(task_id, sample=sample)
        for text in script:
            episode.say(sampled(text))
        group.append(episode.trajectory())
        episode.close()
    return group


def show(title: str, numbers: Sequence[float]) -> None:
    """Print numbers, one per turn."""
    print(f"{title:44}", "  ".join(f"{number:6.3f}" for number in numbers))
