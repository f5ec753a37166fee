"""A policy without a model that misbehaves on demand; workers import it by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import BudgetSpentError, ConfigError, PolicyError, TransportError, TurnwiseError
from turnwise.policy import PolicyReply, PolicyRequest, pack_state, unpack_state
from turnwise.protocols import AnswerLogProbs, AnswerQuery
from turnwise.records import TurnTokens


class ChaosPolicy:
    """Waits in every message; ``chaos-policy:WHAT[:ARGUMENT]`` says what goes wrong at turn 1.

    ``together:N`` answers only when N episodes ask at once; ``budget`` and ``context`` are spent;
    ``raise``, ``transport``, ``type`` and ``hang`` fail; ``die:PATH`` kills the process while PATH does not
    exist; ``slow:S`` takes S seconds; ``unloadable`` cannot be prepared; ``note:FOLDER`` leaves its process id.
    """

    def __init__(self, rest: str) -> None:
        self.spec = f"chaos-policy:{rest}" if rest else "chaos-policy"
        self._what, _, self._argument = rest.partition(":")
        self._version = "0"
        self._asking = 0
        self._enough = asyncio.Event()
        self.cancelled: list[str] = []
        self.forgotten: list[str] = []

    @classmethod
    def from_spec(cls, rest: str) -> ChaosPolicy:
        return cls(rest)

    @property
    def version(self) -> str | None:
        return self._version

    async def prepare(self) -> None:
        if self._what == "unloadable":
            raise ConfigError("there is no such model")

    async def act(self, request: PolicyRequest) -> PolicyReply:
        turns, system = unpack_state(request.state) if request.state else [0, request.system]
        if turns != request.turn:
            raise PolicyError(f"turn {request.turn} came with the state of turn {turns}")
        if not (system and (request.tools or request.turn)):
            raise PolicyError("the opening holds neither the system prompt nor the tools")
        try:
            await self._misbehave(request)
        except asyncio.CancelledError:
            self.cancelled.append(request.session)
            raise
        if self._what == "type" and request.turn == 1:
            return "wait"  # type: ignore[return-value]
        sampled = (7, request.turn)
        return PolicyReply(
            text="wait",
            state=pack_state([turns + 1, system]),
            tokens=TurnTokens(prompt_ids=(1, 2), completion_ids=sampled, logprobs=(-0.5, -0.25)),
            policy_version=self._version,
            finish="action",
        )

    async def _misbehave(self, request: PolicyRequest) -> None:
        if self._what == "together":
            self._asking += 1
            if self._asking >= int(self._argument):
                self._enough.set()
            await self._enough.wait()
        if self._what == "note":
            (Path(self._argument) / f"policy-{os.getpid()}").touch()
        if self._what == "slow":
            await asyncio.sleep(float(self._argument))
        if request.turn != 1:
            return
        if self._what == "budget":
            raise BudgetSpentError("no tokens are left", cause="tokens")
        if self._what == "context":
            raise BudgetSpentError("the context is full", cause="context")
        if self._what == "raise":
            raise ValueError("chaos was asked for")
        if self._what == "transport":
            raise TransportError("the server is gone", kind="connection")
        if self._what == "hang":
            await asyncio.sleep(3600)
        if self._what == "die":
            try:
                os.close(os.open(self._argument, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
            os.abort()

    async def forget(self, session: str) -> None:
        self.forgotten.append(session)

    async def update(self, weights: Any, version: str) -> None:
        if weights != "good":
            raise ConfigError(f"these weights do not fit: {weights!r}")
        self._version = version

    async def close(self) -> None:
        return None

    async def answer_logprobs(self, queries: Sequence[AnswerQuery]) -> list[AnswerLogProbs | TurnwiseError]:
        """The more ids a context has, the surer it is; an answer "bad" cannot be scored."""
        return [_score(query) for query in queries]

    async def continuation(self, observation: str, sampled: Sequence[int]) -> tuple[int, ...]:
        return (*sampled[-1:], len(observation))


def _score(query: AnswerQuery) -> AnswerLogProbs | TurnwiseError:
    if any(forced.answer == "bad" for forced in query.answers):
        return PolicyError("this answer cannot be scored")
    length, rows = 0, []
    for segment in query.segments:
        length += len(segment)
        rows.append(tuple((-1.0 / length,) for _ in query.answers))
    return AnswerLogProbs(tokens=tuple(rows))
