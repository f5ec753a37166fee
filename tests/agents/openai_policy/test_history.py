"""The conversation: what the endpoint is sent again, and what the world reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.actions import ActionGrammar, ActionProblem, ActionSpec
from turnwise.agents.openai_policy.history import begin, resume, world_text
from turnwise.agents.openai_policy.replies import Call, Reply
from turnwise.agents.openai_policy.tokens import known
from turnwise.errors import PolicyError
from turnwise.policy import PolicyRequest
from turnwise.records import Action

Ask = Callable[..., PolicyRequest]
GRAMMAR = ActionGrammar(
    (
        ActionSpec(name="open", template="open {object}", description="Open.", parameters={"object": "What."}),
        ActionSpec(name="wait", template="wait", description="Wait."),
    )
)
OPEN = Call("c1", "open", '{"object": "door"}')


def read(reply: Reply) -> Action | ActionProblem:
    return GRAMMAR.parse(world_text(reply))


def after(reply: Reply, ask: Ask) -> tuple[dict[str, Any], ...]:
    """The messages after a reply and the next observation."""
    history = begin(ask(), "tools").asked("You see a door.").answered(reply, 0, spent=0, ids=None)
    return history.asked("It is open.").messages


def test_text_is_kept_as_it_is(ask: Ask) -> None:
    assert world_text(Reply(content=" go \n")) == " go \n"
    assert after(Reply(content=" go \n"), ask) == (
        {"role": "system", "content": "You open doors."},
        {"role": "user", "content": "You see a door."},
        {"role": "assistant", "content": " go \n"},
        {"role": "user", "content": "It is open."},
    )


def test_a_call_is_read_by_the_world_and_kept_verbatim(ask: Ask) -> None:
    arguments = '{ "object" :\n"door"}'
    reply = Reply(content="Let me see.", calls=(Call("c1", "open", arguments),))
    action = read(reply)
    assert isinstance(action, Action)
    assert (action.command, action.thought, action.form) == ("open door", "Let me see.", "json")
    call = {"id": "c1", "type": "function", "function": {"name": "open", "arguments": arguments}}
    assert after(reply, ask)[2:] == (
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "It is open."},
    )


def test_a_call_alone_has_no_content(ask: Ask) -> None:
    assert after(Reply(calls=(OPEN,)), ask)[2]["content"] is None


@pytest.mark.parametrize("arguments", ["", "  ", "{}"])
def test_a_call_without_arguments(ask: Ask, arguments: str) -> None:
    reply = Reply(calls=(Call("c1", "wait", arguments),))
    action = read(reply)
    assert isinstance(action, Action)
    assert action.command == "wait"
    assert after(reply, ask)[2]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ('{"object": door}', "JSON"),
        ("[1]", "must be a JSON object"),
        ('"door"', "must be a JSON object"),
        ('{"object": NaN}', "JSON"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_broken_arguments_reach_the_world_which_explains(ask: Ask, arguments: str, why: str) -> None:
    reply = Reply(calls=(Call("c1", "open", arguments),))
    problem = read(reply)
    assert isinstance(problem, ActionProblem)
    assert why in problem.message or "characters" in problem.message
    assert json.dumps(arguments) in world_text(reply)
    # Servers decode the arguments of earlier calls, so these are kept as text.
    *_, message, answer = after(reply, ask)
    assert message == {"role": "assistant", "content": world_text(reply)}
    assert answer == {"role": "user", "content": "It is open."}


def test_several_calls_are_refused_by_the_world_and_all_answered(ask: Ask) -> None:
    reply = Reply(content="Both.", calls=(OPEN, Call("c2", "wait", "{}")))
    problem = read(reply)
    assert isinstance(problem, ActionProblem)
    assert "several actions" in problem.message
    answers = after(reply, ask)[3:]
    assert [answer["tool_call_id"] for answer in answers] == ["c1", "c2"]
    assert [answer["role"] for answer in answers] == ["tool", "tool"]
    assert answers[-1]["content"] == "It is open."


def test_calls_without_ids_get_one_that_their_answer_refers_to(ask: Ask) -> None:
    *_, message, first, second = after(Reply(calls=(Call("", "wait", ""), Call("", "wait", ""))), ask)
    ids = [call["id"] for call in message["tool_calls"]]
    assert len(set(ids)) == 2
    assert ids == [first["tool_call_id"], second["tool_call_id"]]


@pytest.mark.parametrize(
    ("reply", "thought"),
    [
        (Reply(reasoning="Hm.", content="open door"), "Hm."),
        (Reply(reasoning="Hm.", content="So.", calls=(OPEN,)), "Hm.\nSo."),
        (Reply(content="<think>Hm.</think> So.", calls=(OPEN,)), "Hm. So."),
        (Reply(content="</thought></think>So.", calls=(OPEN,)), "So."),
    ],
)
def test_reasoning_is_the_thought_before_the_action(reply: Reply, thought: str) -> None:
    action = read(reply)
    assert isinstance(action, Action)
    assert (action.command, action.thought) == ("open door", thought)


def test_reasoning_that_was_cut_off_is_no_action() -> None:
    problem = read(Reply(reasoning="I could open door", finish_reason="length"))
    assert isinstance(problem, ActionProblem)
    assert "never closed" in problem.message


def test_reasoning_is_not_sent_again(ask: Ask) -> None:
    assert after(Reply(reasoning="Hm.", content="wait"), ask)[2] == {"role": "assistant", "content": "wait"}


TEXT = st.text(max_size=20)
CALLS = st.builds(Call, TEXT, TEXT, st.one_of(TEXT, st.just('{"object": "door"}')))
REPLIES = st.builds(Reply, content=TEXT, reasoning=TEXT, calls=st.lists(CALLS, max_size=3).map(tuple))


@settings(deadline=None)
@given(replies=st.lists(st.tuples(REPLIES, st.text(max_size=20)), max_size=4))
def test_the_state_only_grows_and_survives_the_journey(ask: Ask, replies: list[tuple[Reply, str]]) -> None:
    history = begin(ask(system="s\ud800", tools=ask().tools), "tools")
    for turn, (reply, observation) in enumerate(replies):
        before = history.messages
        clean = Reply(
            content=reply.content.encode("utf-8", "replace").decode(),
            reasoning=reply.reasoning.encode("utf-8", "replace").decode(),
            calls=tuple(
                Call(*(part.encode("utf-8", "replace").decode() for part in (c.id, c.name, c.arguments)))
                for c in reply.calls
            ),
        )
        history = history.asked(observation).answered(clean, turn, spent=turn, ids=known([turn]))
        assert resume(history.pack()) == history
        assert history.messages[: len(before)] == before
        open_calls: list[str] = []
        for message in history.asked("next").messages:
            if message["role"] == "tool":
                assert message["tool_call_id"] == open_calls.pop(0)
            else:
                assert not open_calls, "a call was left without an answer"
                open_calls = [call["id"] for call in message.get("tool_calls", ())]
        assert not open_calls


@pytest.mark.parametrize("state", [b"", b"\x01", b"\xff" * 9, b"\x93\x01\x02\x03"])
def test_a_state_of_somebody_else_is_refused(state: bytes) -> None:
    with pytest.raises(PolicyError, match="none of this policy"):
        resume(state)
