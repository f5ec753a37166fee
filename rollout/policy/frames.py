"""What goes over the wire between an episode and a policy, all of it msgpack.

A question is one of :class:`Act`, :class:`Forget`, :class:`Score` and :class:`Continue`; each gets one
answer. An error is an answer too: it is raised again on the other side, as what it was.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from turnwise.agents.policy_agent import scoring
from turnwise.errors import (
    Boundary,
    BudgetSpentError,
    PolicyError,
    TransportError,
    TurnwiseError,
    attribute_to,
    error_of,
)
from turnwise.policy import Policy, PolicyReply, PolicyRequest
from turnwise.protocols import AnswerLogProbs, AnswerQuery
from turnwise.records import Record

HEAD = struct.Struct("<I")
MAX_FRAME = 1 << 30


class Act(Record, frozen=True, kw_only=True, tag="act"):
    """Ask for the next message of an episode."""

    request: PolicyRequest


class Forget(Record, frozen=True, kw_only=True, tag="forget"):
    """Tell that an episode is over."""

    session: str


class Score(Record, frozen=True, kw_only=True, tag="score"):
    """Ask how probable answers are."""

    queries: tuple[AnswerQuery, ...]


class Continue(Record, frozen=True, kw_only=True, tag="continue"):
    """Ask for the ids between a message and the next one."""

    observation: str
    sampled: tuple[int, ...]


class Said(Record, frozen=True, kw_only=True, tag="said"):
    """The answer to :class:`Act`."""

    reply: PolicyReply


class Done(Record, frozen=True, kw_only=True, tag="done"):
    """The answer to :class:`Forget`."""


class Problem(Record, frozen=True, kw_only=True, tag="problem"):
    """A :class:`TurnwiseError`."""

    boundary: Boundary
    kind: str
    message: str


class Spent(Record, frozen=True, kw_only=True, tag="spent"):
    """A :class:`BudgetSpentError`."""

    cause: Literal["tokens", "context"]
    message: str


class Scored(Record, frozen=True, kw_only=True, tag="scored"):
    """One answer's log-probabilities."""

    logprobs: AnswerLogProbs


class Scores(Record, frozen=True, kw_only=True, tag="scores"):
    """The answer to :class:`Score`: log-probabilities, or why there are none, in the order of the queries."""

    results: tuple[Scored | Problem, ...]


class Ids(Record, frozen=True, kw_only=True, tag="ids"):
    """The answer to :class:`Continue`."""

    ids: tuple[int, ...]


Question: TypeAlias = Act | Forget | Score | Continue
Answer: TypeAlias = Said | Done | Problem | Spent | Scores | Ids

_encoder = msgspec.msgpack.Encoder()
_questions: msgspec.msgpack.Decoder[Question] = msgspec.msgpack.Decoder(Question)
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def encode(message: Question | Answer) -> bytes:
    """Encode a message; half surrogate pairs, which an observation may hold, become U+FFFD."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(message, builtin_types=(bytes,))))


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, (list, tuple)) else value


def frame(data: bytes) -> bytes:
    """Return a message as it goes over a stream: its length, then itself."""
    return HEAD.pack(len(data)) + data


def decode_question(data: bytes) -> Question:
    """Decode a question.

    Raises:
        TransportError: It is none.
    """
    try:
        return _questions.decode(data)
    except msgspec.MsgspecError as error:
        raise TransportError(f"not a question to a policy: {error}") from error


def problem_of(error: TurnwiseError | BudgetSpentError) -> Problem | Spent:
    """Return an error as an answer."""
    if isinstance(error, BudgetSpentError):
        return Spent(cause=error.cause, message=str(error))
    return Problem(boundary=error.boundary, kind=error.kind, message=str(error))


def read_answer(data: bytes) -> Answer:
    """Decode an answer; an error is raised as what it was.

    Raises:
        TurnwiseError: The question failed, or this is no answer.
        BudgetSpentError: The agent may say no more.
    """
    try:
        answer = _answers.decode(data)
    except msgspec.MsgspecError as error:
        raise TransportError(f"not an answer of a policy: {error}") from error
    if isinstance(answer, Problem):
        raise error_of(answer.boundary, answer.message, kind=answer.kind)
    if isinstance(answer, Spent):
        raise BudgetSpentError(answer.message, cause=answer.cause)
    return answer


async def answer(policy: Policy, data: bytes) -> bytes:
    """Have a policy answer an encoded question; only cancelling escapes."""
    try:
        question = decode_question(data)
        with attribute_to("policy", f"a question to {policy.spec!r}"):
            return encode(await _answer(policy, question))
    except (TurnwiseError, BudgetSpentError) as error:
        return encode(problem_of(error))


async def _answer(policy: Policy, question: Question) -> Answer:
    if isinstance(question, Act):
        reply = await policy.act(question.request)
        if not isinstance(reply, PolicyReply):
            raise PolicyError(f"policy.act returned a {type(reply).__name__}: a policy answers with a PolicyReply")
        return Said(reply=reply)
    if isinstance(question, Forget):
        await policy.forget(question.session)
        return Done()
    if isinstance(question, Score):
        return Scores(results=_results(await scoring(policy).answer_logprobs(question.queries)))
    return Ids(ids=tuple(await scoring(policy).continuation(question.observation, question.sampled)))


def _results(found: Sequence[AnswerLogProbs | TurnwiseError]) -> tuple[Scored | Problem, ...]:
    results: list[Scored | Problem] = []
    for one in found:
        if isinstance(one, TurnwiseError):
            results.append(Problem(boundary=one.boundary, kind=one.kind, message=str(one)))
        else:
            results.append(Scored(logprobs=one))
    return tuple(results)
