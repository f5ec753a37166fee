"""Scripted episodes in token ids without any tokenizer: one id per byte, and one that ends a message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from turnwise.protocols import TurnAdvantages
from turnwise.records import Trajectory
from turnwise.rollout.trainers.dialogue import Sampled, TokenEpisode
from turnwise.rollout.trainers.stepping import DrivenEpisode, World

END = 256
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
OPTIONS: dict[str, Any] = {
    "env": "turnwise/Household-v0",
    "tasks": "train:4",
    "max_turns": 12,
    "rewards": {
        "version": 1,
        "rewards": [
            {"name": "progress", "weight": 0.5},
            {"name": "outcome", "weight": 1.0},
            {"name": "valid_action", "weight": 0.1},
        ],
    },
}


class ByteChat:
    """Writes texts as bytes (keeps the Chat protocol)."""

    ends = (END,)

    def opening(self, system: str, tools: Sequence[Mapping[str, Any]], observation: str) -> Sequence[int]:
        return tuple(f"[user]{observation}[agent]".encode())

    def continuation(self, observation: str, sampled: Sequence[int]) -> Sequence[int]:
        return tuple(f"[user]{observation}[agent]".encode())

    def message(self, sampled: Sequence[int]) -> str:
        return bytes(one for one in sampled if one != END).decode()


class ByteTokenizer:
    """The calls that trainers make of a tokenizer."""

    eos_token_id = END
    pad_token_id = 0

    def __call__(self, text: str, **options: Any) -> dict[str, Any]:
        ids = list(text.encode())
        if options.get("return_tensors") == "pt":
            import torch

            return {"input_ids": torch.tensor([ids])}
        return {"input_ids": ids}

    def decode(self, ids: Any, **options: Any) -> str:
        return bytes(int(one) for one in ids if int(one) < END).decode()


def make_world(**changes: Any) -> World:
    return World(agent="scripted", **{**OPTIONS, **changes})


def expert_actions(world: World, task_id: str) -> list[str]:
    """What the world's expert says in a task, from its start to its end."""
    episode = DrivenEpisode(world)
    seen, actions = episode.begin(task_id), []
    expert = episode._env.unwrapped.expert()  # type: ignore[union-attr]
    while not episode.over:
        actions.append(expert.act(seen, {}))
        seen = episode.step(actions[-1]).observation
    episode.close()
    return actions


def sampled(action: str, turn: int = 0) -> Sampled:
    """A message as a sampler gives it; log-probabilities differ from id to id and from turn to turn."""
    ids = (*action.encode(), END)
    return Sampled(ids=ids, logprobs=tuple(-0.25 - 0.125 * turn - 2.0**-10 * i for i in range(len(ids))))


def clumsy(actions: Sequence[str]) -> list[str]:
    """The same with a message that is no action after the first."""
    return [*actions[:1], "I do not know", *actions[1:]]


def play_script(world: World, task_id: str, actions: Sequence[str], *, sample: int = 0) -> Trajectory:
    """The graded episode of these messages; those after its end are left out."""
    episode = TokenEpisode(world, ByteChat())
    episode.begin(task_id, sample=sample)
    for turn, action in enumerate(actions):
        if episode.over:
            break
        episode.say(sampled(action, turn))
    episode.close()
    return episode.trajectory()


class TurnCredit:
    """A credit whose numbers show where they went: 1, 2, 3 ... on the turns (keeps the Credit protocol)."""

    def assign(self, group: Sequence[Trajectory]) -> tuple[TurnAdvantages, ...]:
        return tuple(
            TurnAdvantages(
                trajectory_id=one.id,
                advantages=tuple(float(turn.index + 1) for turn in one.turns),
                mask=(True,) * len(one.turns),
            )
            for one in group
        )


@dataclass
class SlimeSample:
    """The part of slime's ``Sample`` that our functions use."""

    class Status(Enum):
        PENDING = "pending"
        COMPLETED = "completed"
        TRUNCATED = "truncated"
        ABORTED = "aborted"
        FAILED = "failed"

    label: str | None = None
    index: int | None = 0
    group_index: int | None = 0
    session_id: str | None = None
    tokens: list[int] = field(default_factory=list)
    response: str = ""
    response_length: int = 0
    loss_mask: list[int] | None = None
    rollout_log_probs: list[float] | None = None
    reward: Any = None
    remove_sample: bool = False
    status: Status = Status.PENDING
    metadata: dict[str, Any] = field(default_factory=dict)

    def append_response_tokens(
        self,
        args: Any,
        *,
        tokens: Sequence[int],
        trainable: bool,
        log_probs: Sequence[float] | None = None,
        meta_info: Any = None,
    ) -> None:
        assert (log_probs is not None) == trainable, "slime demands log-probabilities of sampled tokens, and no others"
        self.tokens += tokens
        self.response_length += len(tokens)
        self.loss_mask = [*(self.loss_mask or []), *[int(trainable)] * len(tokens)]
        self.rollout_log_probs = [*(self.rollout_log_probs or []), *(log_probs or [0.0] * len(tokens))]


def run_example(name: str, *arguments: str) -> str:
    """What an example prints, run as a user runs it."""
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
