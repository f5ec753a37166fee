"""An episode's end of the way to a policy: a blocking socket to the worker's gateway."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import TypeVar

from turnwise.errors import PolicyError, TransportError, TurnwiseError, error_of
from turnwise.policy import Channel, PolicyReply, PolicyRequest
from turnwise.protocols import AnswerLogProbs, AnswerQuery
from turnwise.rollout.policy.frames import (
    HEAD,
    Act,
    Answer,
    Continue,
    Done,
    Forget,
    Ids,
    Problem,
    Question,
    Said,
    Score,
    Scores,
    encode,
    frame,
    read_answer,
)

A = TypeVar("A", bound=Answer)
Ask = Callable[[bytes], bytes]


class RemoteChannel:
    """A policy behind something that carries bytes (keeps the Channel protocol)."""

    def __init__(self, ask: Ask, *, on_close: Callable[[], None] = lambda: None) -> None:
        """Carry questions.

        Args:
            ask: Takes an encoded question, blocks, and returns the encoded answer.
            on_close: Called by :meth:`close`.
        """
        self._ask = ask
        self._on_close = on_close

    def act(self, request: PolicyRequest) -> PolicyReply:
        """Return the next message."""
        return self._put(Act(request=request), Said).reply

    def forget(self, session: str) -> None:
        """Tell that an episode is over; a way that is down has forgotten it anyhow."""
        with contextlib.suppress(TurnwiseError):
            self._put(Forget(session=session), Done)

    def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> list[AnswerLogProbs | TurnwiseError]:
        """Score answers with the policy's model."""
        results = self._put(Score(queries=tuple(queries)), Scores).results
        return [
            error_of(one.boundary, one.message, kind=one.kind) if isinstance(one, Problem) else one.logprobs
            for one in results
        ]

    def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        """Return the ids between a sampled message and the next one."""
        return self._put(Continue(observation=observation, sampled=tuple(sampled)), Ids).ids

    def close(self) -> None:
        """Let the way go."""
        self._on_close()

    def _put(self, question: Question, kind: type[A]) -> A:
        answer = read_answer(self._ask(encode(question)))
        if not isinstance(answer, kind):
            raise TransportError(f"the policy answered a {type(answer).__name__}, expected a {kind.__name__}")
        return answer


class SocketChannel(RemoteChannel):
    """A policy behind a worker's :class:`~turnwise.rollout.policy.gateway.Gateway`."""

    def __init__(self, path: str) -> None:
        """Connect.

        Args:
            path: The gateway's Unix socket.

        Raises:
            TransportError: Nobody listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise TransportError(f"no gateway to the policy at {path}: {error}") from error
        super().__init__(self._over_socket, on_close=self._socket.close)

    def _over_socket(self, data: bytes) -> bytes:
        try:
            self._socket.sendall(frame(data))
            return self._receive(HEAD.unpack(self._receive(HEAD.size))[0])
        except OSError as error:
            raise TransportError(f"the way to the policy broke: {error}") from error

    def _receive(self, size: int) -> bytes:
        parts = []
        while size > 0:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise TransportError("the gateway to the policy hung up")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


_current: list[Channel] = []


def use_channel(channel: Channel | None) -> None:
    """Make a channel the one that this process's rewards ask, or none."""
    _current[:] = [] if channel is None else [channel]


def current_channel() -> Channel:
    """Return the channel of this process.

    Raises:
        PolicyError: The process has none: no agent with a model plays here.
    """
    if not _current:
        raise PolicyError(
            "no policy plays here, so there is none to ask for log-probabilities: "
            "use turnwise.agents.likelihood:TransformersLogProbs, which loads a model of its own"
        )
    return _current[0]
