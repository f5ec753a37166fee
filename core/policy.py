"""The seam between an episode and a model: what a policy is asked, and what it answers.

A policy lives in a process of its own and serves many episodes at once; an episode's process holds a
light client. Nothing about an episode lives only in the policy: the client keeps the opaque ``state``
of the last reply and hands it back, so that any replica can go on with any episode, also after the
policy was restarted. What a policy keeps per session (a key-value cache) only makes that faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from turnwise.errors import TurnwiseError
from turnwise.protocols import AnswerLogProbs, AnswerQuery
from turnwise.records import Json, Record, TurnTokens

# Why a message ends: the model ended it, an action was complete, or a token budget cut it.
Finish = Literal["stop", "action", "length"]


class PolicyRequest(Record, frozen=True, kw_only=True):
    """A question to a policy: the next message of one episode.

    Attributes:
        session: Names the episode; unique among all episodes that a policy serves.
        turn: 0-based number of the message asked for.
        observation: What the agent is to answer.
        system: The world's system prompt; read on turn 0 only.
        tools: The world's tools in the OpenAI function format; read on turn 0 only.
        seed: Seed of the episode, from which the policy draws its samples.
        state: ``state`` of the reply to the turn before; empty on turn 0.
    """

    session: str
    turn: int
    observation: str
    system: str = ""
    tools: tuple[dict[str, Json], ...] = ()
    seed: int = 0
    state: bytes = b""


class PolicyReply(Record, frozen=True, kw_only=True):
    """A policy's message.

    Attributes:
        text: The message, as the world is to read it.
        state: What the policy needs to go on; opaque to everybody else.
        tokens: The ids read and sampled, where the policy knows them.
        policy_version: Version of the weights that sampled it, or None where unknown.
        finish: Why the message ends where it does.
    """

    text: str
    state: bytes = b""
    tokens: TurnTokens | None = None
    policy_version: str | None = None
    finish: Finish = "stop"


@runtime_checkable
class Policy(Protocol):
    """Serves the messages of many episodes at once, on one event loop, which it never blocks.

    A policy class also has ``from_spec(rest)``, like an agent's: it checks the options and loads
    nothing; the model is loaded by the first request, or by :meth:`prepare`.

    Attributes:
        spec: The agent specification it was made from, in canonical form.
        version: Version of the weights now, or None where it has none.
    """

    spec: str

    @property
    def version(self) -> str | None:
        """Version of the weights now."""
        ...

    async def prepare(self) -> None:
        """Load what is slow to load; further calls do nothing."""
        ...

    async def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message of an episode; requests of other episodes are answered meanwhile.

        Cancelling the call frees whatever it holds.

        Raises:
            BudgetSpentError: The episode's token budget or the model's context leaves no room.
            PolicyError: The model failed.
            TransportError: The way to the model failed.
        """
        ...

    async def forget(self, session: str) -> None:
        """Free what is kept for an episode; unknown ones are fine."""
        ...

    async def update(self, weights: Any, version: str) -> None:
        """Take new weights: messages being sampled are finished with the old ones first.

        Args:
            weights: A path, or what else the policy takes.
            version: What the turns sampled from now on are stamped with.

        Raises:
            ConfigError: The policy takes no weights, or not these; it goes on with the old ones.
        """
        ...

    async def close(self) -> None:
        """Free everything; requests that wait fail with a PolicyError."""
        ...


@runtime_checkable
class ScoringPolicy(Policy, Protocol):
    """A policy that also says how probable it finds a given text."""

    async def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers, as :class:`~turnwise.protocols.LogProbSource` does."""
        ...

    async def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        """Return the ids that would stand between a sampled message and the next one.

        Args:
            observation: What came back after the message.
            sampled: The message's ids, whose last one tells whether it was ended by the model.
        """
        ...


@runtime_checkable
class Channel(Protocol):
    """The way from an episode to a policy, for one caller at a time; blocks."""

    def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message; raises what :meth:`Policy.act` raises."""
        ...

    def forget(self, session: str) -> None:
        """Tell that an episode is over."""
        ...

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> Sequence[AnswerLogProbs | TurnwiseError]:
        """Score answers with the policy's model.

        Raises:
            ConfigError: The policy is no :class:`ScoringPolicy`.
        """
        ...

    def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        """See :meth:`ScoringPolicy.continuation`."""
        ...

    def close(self) -> None:
        """Let the way go."""
        ...


_encoder = msgspec.msgpack.Encoder()


def pack_state(value: Json) -> bytes:
    """Encode a policy's state: JSON-like values, and ``bytes``."""
    return _encoder.encode(value)


def unpack_state(data: bytes) -> Any:
    """Decode what :func:`pack_state` encoded."""
    return msgspec.msgpack.decode(data)
