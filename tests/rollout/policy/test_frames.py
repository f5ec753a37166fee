"""Questions and answers on the wire, and errors that arrive as what they were."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from chaospolicy import ChaosPolicy
from hypothesis import given
from hypothesis import strategies as st

from turnwise.errors import (
    BudgetSpentError,
    ConfigError,
    EnvError,
    JudgeError,
    PolicyError,
    SandboxError,
    TransportError,
    TurnwiseError,
)
from turnwise.policy import PolicyReply, PolicyRequest, pack_state, unpack_state
from turnwise.protocols import AnswerLogProbs, AnswerQuery, ForcedAnswer
from turnwise.rollout.policy import frames
from turnwise.rollout.policy.frames import Act, Continue, Done, Forget, Ids, Said, Score, Scored, Scores


def answered(policy: Any, question: Any) -> Any:
    return frames.read_answer(asyncio.run(frames.answer(policy, frames.encode(question))))


def request(turn: int = 0, **changes: Any) -> PolicyRequest:
    options: dict[str, Any] = {"session": "a#0/x", "turn": turn, "observation": "Wait.", "system": "s", "tools": ({},)}
    return PolicyRequest(**{**options, **changes})


@given(
    text=st.text(),
    state=st.binary(),
    ids=st.lists(st.integers(0, 2**31 - 1)),
    answers=st.lists(st.text(min_size=1), min_size=1),
)
def test_what_is_sent_arrives(text: str, state: bytes, ids: list[int], answers: list[str]) -> None:
    forced = tuple(ForcedAnswer(answer=answer) for answer in answers)
    for question in (
        Act(request=request(observation=text, state=state)),
        Forget(session=text),
        Score(queries=(AnswerQuery(segments=(text, tuple(ids)), answers=forced),)),
        Continue(observation=text, sampled=tuple(ids)),
    ):
        assert frames.decode_question(frames.encode(question)) == question
    for answer in (
        Said(reply=PolicyReply(text=text, state=state)),
        Done(),
        Ids(ids=tuple(ids)),
        Scores(results=(Scored(logprobs=AnswerLogProbs(tokens=(((-0.5,),),))),)),
    ):
        assert frames.read_answer(frames.encode(answer)) == answer


def test_half_surrogate_pairs_are_replaced() -> None:
    question = frames.decode_question(frames.encode(Act(request=request(observation="a\ud800b", state=b"\x00\xff"))))
    assert isinstance(question, Act)
    assert question.request.observation == "a\ufffdb"
    assert question.request.state == b"\x00\xff"


@pytest.mark.parametrize("kind", [EnvError, SandboxError, PolicyError, JudgeError, TransportError, ConfigError])
def test_an_error_arrives_as_what_it_was(kind: type[TurnwiseError]) -> None:
    with pytest.raises(kind, match="it broke") as caught:
        frames.read_answer(frames.encode(frames.problem_of(kind("it broke", kind="odd"))))
    assert caught.value.kind == "odd"


def test_a_spent_budget_is_no_failure() -> None:
    with pytest.raises(BudgetSpentError) as caught:
        frames.read_answer(frames.encode(frames.problem_of(BudgetSpentError("full", cause="context"))))
    assert caught.value.cause == "context"
    assert not isinstance(caught.value, TurnwiseError)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa4type\xa4evil", b"\x93\x01\x02\x03"])
def test_garbage_is_a_transport_error(data: bytes) -> None:
    with pytest.raises(TransportError, match="not a question"):
        frames.decode_question(data)
    with pytest.raises(TransportError, match="not an answer"):
        frames.read_answer(data)


def test_a_policy_answers_every_question() -> None:
    policy = ChaosPolicy("")
    said = answered(policy, Act(request=request()))
    assert isinstance(said, Said)
    assert unpack_state(said.reply.state) == [1, "s"]
    assert said.reply.finish == "action"
    assert answered(policy, Forget(session="x")) == Done()
    assert policy.forgotten == ["x"]
    assert answered(policy, Continue(observation="four", sampled=(5, 6))) == Ids(ids=(6, 4))
    queries = tuple(AnswerQuery(segments=((1, 2),), answers=(ForcedAnswer(answer=a),)) for a in ("good", "bad"))
    good, bad = answered(policy, Score(queries=queries)).results
    assert good.logprobs.tokens == (((-0.5,),),)
    assert bad.boundary == "policy"


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("raise", PolicyError, "ValueError during a question to 'chaos-policy:raise': chaos was asked for"),
        ("transport", TransportError, "the server is gone"),
        ("type", PolicyError, "returned a str"),
    ],
)
def test_what_a_policy_raises_is_the_answer(what: str, error: type[TurnwiseError], message: str) -> None:
    with pytest.raises(error, match=message):
        answered(ChaosPolicy(what), Act(request=request(1, state=pack_state([1, "s"]))))
