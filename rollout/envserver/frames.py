"""What goes between the server and a session's process: one question, one answer, in msgpack behind a length."""

from __future__ import annotations

import struct
from typing import TypeAlias

import msgspec

from turnwise.errors import Boundary
from turnwise.records import Json, Record
from turnwise.rollout.engine.wire import encode

HEAD = struct.Struct("<I")


class Begin(Record, frozen=True, kw_only=True, tag="begin"):
    """Begin an episode.

    Attributes:
        seed: Its seed.
        task_id: The task to play; None draws one from the seed, as the world itself would.
    """

    seed: int
    task_id: str | None = None


class Act(Record, frozen=True, kw_only=True, tag="act"):
    """Play a turn with this message."""

    text: str


class Look(Record, frozen=True, kw_only=True, tag="look"):
    """Name tasks of the split: those from ``start`` up to, not including, ``stop``; with their words if ``full``."""

    start: int = 0
    stop: int | None = None
    full: bool = False


class About(Record, frozen=True, kw_only=True, tag="about"):
    """What a world says about itself; sent once, when the environment is made.

    Attributes:
        description: First paragraph of the world's documentation.
        system_prompt: Its role and grammar.
        tools: Its tool schemas in the OpenAI function format; empty where it has none.
        split: The split that is served.
        tasks: Number of its tasks; 0 where the world has no task set.
    """

    description: str
    system_prompt: str
    tools: list[dict[str, Json]]
    split: str
    tasks: int


class Shown(Record, frozen=True, kw_only=True, tag="shown"):
    """What a reset or a turn came to. It holds nothing that the agent may not see but progress and reward.

    Attributes:
        task_id: The task being played.
        instruction: What the agent is asked to do.
        seed: The episode's seed.
        turn: Turns played so far.
        text: The observation.
        png: The image of pixel worlds, as PNG.
        reward: The environment's reward of this turn; 0 after a reset.
        terminated: Whether the world ended the episode.
        truncated: Whether a limit ended it.
        truncation: Which limit.
        action_valid: Whether the action was carried out.
        action_error: What was wrong with it.
        progress: Share of sub-goals reached, in [0, 1].
        success: Whether the task is solved.
        level: Outcome level reached so far.
        admissible_actions: Commands that would be carried out now, where the world has such a list.
        record: The finished episode with its rewards as JSON, where the server scores; see ``public_record``.
    """

    task_id: str
    instruction: str
    seed: int
    turn: int
    text: str
    png: bytes | None = None
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    truncation: str | None = None
    action_valid: bool = True
    action_error: str | None = None
    progress: float = 0.0
    success: bool = False
    level: str | None = None
    admissible_actions: list[str] | None = None
    record: bytes | None = None

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return self.terminated or self.truncated


class Tasks(Record, frozen=True, kw_only=True, tag="tasks"):
    """Tasks as clients may see them: id, and on demand split and instruction."""

    tasks: list[dict[str, Json]]


class Problem(Record, frozen=True, kw_only=True, tag="problem"):
    """Why there is no answer.

    Attributes:
        boundary: Who is to blame.
        kind: What happened, in a word.
        message: The same in words that hold nothing of the task.
        fatal: Whether the process leaves.
    """

    boundary: Boundary
    kind: str
    message: str
    fatal: bool = False


Question: TypeAlias = Begin | Act | Look
Answer: TypeAlias = About | Shown | Tasks | Problem

_questions = msgspec.msgpack.Decoder(Begin | Act | Look)
_answers = msgspec.msgpack.Decoder(About | Shown | Tasks | Problem)


def frame(message: Question | Answer) -> bytes:
    """Return a message as it goes over the socket."""
    data = encode(message)
    return HEAD.pack(len(data)) + data


def read_question(data: bytes) -> Question:
    """Decode what the server asks."""
    question: Question = _questions.decode(data)
    return question


def read_answer(data: bytes) -> Answer:
    """Decode what a session's process answers."""
    answer: Answer = _answers.decode(data)
    return answer
