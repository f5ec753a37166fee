"""One message of one episode: its prompt and its room, when it ends, and the reply."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from turnwise.agents.transformers_policy.chat import ChatFormat
from turnwise.agents.transformers_policy.options import PolicyOptions
from turnwise.agents.transformers_policy.sampling import uniforms
from turnwise.errors import BudgetSpentError, PolicyError
from turnwise.policy import Finish, PolicyReply, PolicyRequest, pack_state, unpack_state
from turnwise.records import TurnTokens

_IDS = np.dtype("<i4")  # how the state holds ids
_SLACK = 8  # tokens that stand for no text of their own, in the window looked at for stop texts


@dataclass(eq=False)
class Message:
    """A message being sampled.

    Attributes:
        request: What was asked.
        future: Where the reply goes; cancelled where nobody waits any more.
        ids: The whole sequence: what stood before, the prompt, and what was sampled so far.
        prompt: How many ids stood before the prompt.
        start: How many ids stood before the first sampled one.
        room: Most tokens that may be sampled.
        draws: The message's uniform numbers.
        logprobs: One per sampled id.
        finish: Why it ended, or None while it goes on.
    """

    request: PolicyRequest
    future: Future[PolicyReply]
    ids: list[int]
    prompt: int
    start: int
    room: int
    draws: np.random.Generator
    logprobs: list[float] = field(default_factory=list)
    finish: Finish | None = None

    @property
    def longest(self) -> int:
        """How many ids it may come to."""
        return self.start + self.room


class Dialogue:
    """Knows the format, the ends and the budgets of messages; knows nothing of the model's computations.

    Attributes:
        ends: Ids that end a message: the model's own, and the template's.
    """

    def __init__(
        self, chat: ChatFormat, options: PolicyOptions, *, ends: frozenset[int], context: int | None, vocabulary: int
    ) -> None:
        """Plan messages.

        Args:
            chat: Writes the prompts.
            options: Budgets and stops.
            ends: Ids that end a message, besides the template's own.
            context: Most tokens the model takes, or None for any number.
            vocabulary: How many ids the model knows.
        """
        self.chat = chat
        self.ends = ends | {chat.end_id} if chat.end_id is not None else ends
        self._stops = options.stops
        self._window = max((len(stop.encode()) for stop in self._stops), default=0) + _SLACK
        self._max_tokens = options.max_tokens
        self._vocabulary = vocabulary
        self._limit, self._cause = _limit(options.max_total_tokens, context)

    # -- before ------------------------------------------------------------------------------------

    def plan(self, request: PolicyRequest, future: Future[PolicyReply]) -> Message:
        """Write the prompt and work out the room.

        Raises:
            BudgetSpentError: There is no room for a single token.
            PolicyError: The state is none of this policy's.
            ConfigError: The template cannot write the world's tools.
        """
        before, sampled = self._read_state(request)
        if before:
            self._check_ids(before)
            prompt = self.chat.continuation(request.observation, before[len(before) - sampled :])
        else:
            prompt = self.chat.opening(request.system, request.tools, request.observation)
        ids = [*before, *prompt]
        self._check_ids(ids)
        room = self._max_tokens if self._limit is None else min(self._max_tokens, self._limit - len(ids))
        if room < 1:
            what = "max_total_tokens" if self._cause == "tokens" else "the model's context"
            raise BudgetSpentError(
                f"the prompt of turn {request.turn} comes to {len(ids)} tokens, {what} is {self._limit}",
                cause=self._cause,
            )
        draws = uniforms(request.seed, request.turn)
        return Message(request, future, ids, prompt=len(before), start=len(ids), room=room, draws=draws)

    def _read_state(self, request: PolicyRequest) -> tuple[list[int], int]:
        """Return the ids so far, and how many of the last ones were sampled in the turn before."""
        if request.turn == 0:
            return [], 0
        try:
            state = unpack_state(request.state)
            ids, sampled = np.frombuffer(state["ids"], dtype=_IDS).tolist(), state["sampled"]
            if not isinstance(sampled, int) or not 0 < sampled <= len(ids):
                raise ValueError(f"sampled={sampled!r} of {len(ids)} ids")
        except (ValueError, TypeError, KeyError) as error:
            raise PolicyError(
                f"turn {request.turn} of session {request.session!r} came with a state that is none of this "
                f"policy's ({error}): hand back the state of the reply before, unchanged"
            ) from error
        return ids, sampled

    def _check_ids(self, ids: Sequence[int]) -> None:
        # Out of range, an id would take a GPU's whole context down.
        if not ids or min(ids) < 0 or max(ids) >= self._vocabulary:
            raise PolicyError(
                f"the sequence holds ids from {min(ids, default=None)} to {max(ids, default=None)}, the model knows "
                f"0 to {self._vocabulary - 1}: use the model's own tokenizer, and states of this model only"
            )

    # -- while it is sampled -----------------------------------------------------------------------

    def take(self, message: Message, token: int, logprob: float) -> None:
        """Append a sampled token, and notice whether the message ends with it."""
        message.ids.append(token)
        message.logprobs.append(logprob)
        if token in self.ends:
            message.finish = "stop"
        elif self._stops and self._stopped(message):
            message.finish = "action"
        elif len(message.logprobs) >= message.room:
            message.finish = "length"

    def _stopped(self, message: Message) -> bool:
        # It was looked for after every token, so a stop text in the last ones has just been completed.
        text = self.chat.decode(message.ids[max(message.start, len(message.ids) - self._window) :])
        return any(stop in text for stop in self._stops)

    # -- after -------------------------------------------------------------------------------------

    def reply(self, message: Message, version: str) -> PolicyReply:
        """Return the finished message. Its text is all that was sampled but the token that ended it."""
        sampled = message.ids[message.start :]
        state = {"ids": np.array(message.ids, dtype=_IDS).tobytes(), "sampled": len(sampled)}
        return PolicyReply(
            text=self.chat.decode(sampled[:-1] if sampled[-1] in self.ends else sampled),
            state=pack_state(state),
            tokens=TurnTokens(
                prompt_ids=tuple(message.ids[message.prompt : message.start]),
                completion_ids=tuple(sampled),
                logprobs=tuple(message.logprobs),
            ),
            policy_version=version,
            finish=message.finish or "length",
        )


def _limit(budget: int, context: int | None) -> tuple[int | None, Literal["tokens", "context"]]:
    if budget and (context is None or budget <= context):
        return budget, "tokens"
    return context, "context"


def end_ids(*values: Any) -> frozenset[int]:
    """Return the end tokens that configurations name: each a number, several or None."""
    found: set[int] = set()
    for value in values:
        many = value if isinstance(value, (list, tuple)) else [value]
        found.update(int(one) for one in many if one is not None)
    return frozenset(found)
