"""Against a real server: ``transformers serve`` with a tiny model made here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.agents.openai_policy import OpenAIPolicy
from turnwise.errors import BudgetSpentError, ConfigError, TransportError
from turnwise.policy import PolicyReply, PolicyRequest, unpack_state
from turnwise.records import Action

pytestmark = [
    pytest.mark.slow,
    # Its optional fields are refused one by one; that is told once, and tested in test_policy.
    pytest.mark.filterwarnings("ignore:.*left out from now on"),
]

Ask = Callable[..., PolicyRequest]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
GRAMMAR = ActionGrammar(
    (ActionSpec(name="open", template="open {object}", description="Open.", parameters={"object": "What."}),)
)


# The end of a message is forbidden, so that the model goes on to the limit.
ENDLESS = {"generation_config": '{"max_new_tokens": 4000, "min_new_tokens": 4000}'}


async def received(server: Any, count: int) -> None:
    """Return when the server has begun on that many requests."""
    while server.log.read_text().count("Request received") < count:  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(0.05)


def policy_of(server: Any, **options: Any) -> OpenAIPolicy:
    return OpenAIPolicy(server.url, **{"model": server.model, "max_tokens": 40, "temperature": 0.0, **options})


async def episode(policy: OpenAIPolicy, ask: Ask, turns: int, *, seed: int = 7, opening: str = "") -> list[PolicyReply]:
    replies: list[PolicyReply] = []
    for turn in range(turns):
        observation = opening or "You see a door." if not turn else "The door is open."
        state = replies[-1].state if replies else b""
        replies.append(await policy.act(ask(observation, turn=turn, state=state, seed=seed)))
    return replies


async def closed(policy: OpenAIPolicy, work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    finally:
        await policy.close()


@pytest.mark.parametrize("stream", [False, True])
def test_text(server: Any, ask: Ask, run: Run, stream: bool) -> None:
    policy = policy_of(server, mode="text", stream=stream)
    replies = run(closed(policy, episode(policy, ask, 3)))
    for reply in replies:
        action = GRAMMAR.parse(reply.text)
        assert isinstance(action, Action), reply.text
        assert (action.command, action.form) == ("open the door", "native")
        assert (reply.finish, reply.tokens) == ("stop", None)
        assert reply.policy_version == f"{server.model}@main"
    messages = unpack_state(replies[-1].state)[0]
    assert [message["role"] for message in messages] == ["system", *["user", "assistant"] * 3]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["tools", "auto"])
def test_tools(server: Any, ask: Ask, run: Run, stream: bool, mode: Any) -> None:
    policy = policy_of(server, mode=mode, stream=stream)
    replies = run(closed(policy, episode(policy, ask, 3)))
    for reply in replies:
        action = GRAMMAR.parse(reply.text)
        assert isinstance(action, Action), reply.text
        assert (action.command, action.form, reply.finish) == ("open door", "json", "action")
    messages = unpack_state(replies[-1].state)[0]
    assert [message["role"] for message in messages] == ["system", "user", *["assistant", "tool"] * 2, "assistant"]
    calls = [call for message in messages for call in message.get("tool_calls", ())]
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == [
        call["id"] for call in calls[:2]
    ]
    assert {call["function"]["name"] for call in calls} == {"open"}
    assert json.loads(calls[0]["function"]["arguments"]) == {"object": "door"}


def test_streaming_and_not_say_the_same(server: Any, ask: Ask, run: Run) -> None:
    said = []
    for stream in (False, True):
        policy = policy_of(server, mode="text", stream=stream, temperature=1.0, max_total_tokens=2000)
        (reply,) = run(closed(policy, episode(policy, ask, 1, opening="Say something.")))
        said.append((reply.text, reply.finish, unpack_state(reply.state)[3]))
    assert said[0] == said[1]
    assert said[0][2] > 0


def test_the_limit_and_the_stop_string(server: Any, ask: Ask, run: Run) -> None:
    short = policy_of(server, mode="text", max_tokens=2)
    (reply,) = run(closed(short, episode(short, ask, 1)))
    assert reply.finish == "length"
    assert "open the door".startswith(reply.text)
    stopped = policy_of(server, mode="text", stop="the")
    (reply,) = run(closed(stopped, episode(stopped, ask, 1)))
    assert (reply.text, reply.finish) == ("open the", "action")


def test_a_token_budget_is_kept(server: Any, ask: Ask, run: Run) -> None:
    policy = policy_of(server, mode="text", max_total_tokens=150)
    with pytest.raises(BudgetSpentError) as caught:
        run(closed(policy, episode(policy, ask, 50)))
    assert caught.value.cause == "tokens"


def test_what_the_server_does_not_take_is_left_out(server: Any, ask: Ask, run: Run) -> None:
    policy = policy_of(server, mode="text", token_ids=True, logprobs=True)
    first, second = run(closed(policy, episode(policy, ask, 2)))
    assert (first.text, first.tokens, second.tokens) == ("open the door", None, None)
    assert policy.describe()["left_out"] == ["return_token_ids"]


def test_another_model_is_not_served(server: Any, ask: Ask, run: Run) -> None:
    policy = policy_of(server, model="nope")
    with pytest.raises(ConfigError, match="no model 'nope'"):
        run(closed(policy, episode(policy, ask, 1)))


@pytest.mark.parametrize("stream", [False, True])
def test_many_episodes_at_once_do_not_mix(server: Any, ask: Ask, run: Run, stream: bool) -> None:
    policy = policy_of(server, mode="text", stream=stream, concurrency=4)

    async def all_of_them() -> list[list[PolicyReply]]:
        return await asyncio.gather(*(episode(policy, ask, 3, opening=f"You see door {n}.") for n in range(6)))

    for number, replies in enumerate(run(closed(policy, all_of_them()))):
        messages = unpack_state(replies[-1].state)[0]
        assert messages[1]["content"] == f"You see door {number}."
        assert len(messages) == 7


def test_cancelling_a_real_request_leaves_the_server_well(server: Any, ask: Ask, run: Run) -> None:
    policy = policy_of(server, mode="text", stream=True, concurrency=1)
    endless = policy_of(server, mode="text", stream=True, max_tokens=4000, concurrency=1, extra=ENDLESS)

    async def scene() -> str:
        before = server.log.read_text().count("Request received")
        asked = asyncio.ensure_future(endless.act(ask()))
        await received(server, before + 1)
        await asyncio.sleep(0.2)  # so that the model is at it
        asked.cancel()
        await asyncio.wait({asked})
        assert asked.cancelled()
        await endless.close()
        return (await policy.act(ask())).text

    assert run(closed(policy, scene())) == "open the door"


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_is_killed_in_the_middle(
    start_server: Callable[[], Any], ask: Ask, run: Run, clock: Any, stream: bool
) -> None:
    server = start_server()
    options = {"mode": "text", "stream": stream, "max_tokens": 4000, "extra": ENDLESS, "retries": 2}
    policy = OpenAIPolicy(server.url, clock, model=server.model, **options)

    async def scene() -> PolicyReply:
        asked = asyncio.ensure_future(policy.act(ask()))
        await received(server, 1)
        assert not asked.done()
        server.process.kill()
        return await asked

    with pytest.raises(TransportError, match="in 3 attempts") as caught:
        run(closed(policy, scene()))
    assert caught.value.kind == "connection"
    assert len(clock.slept) == 2
    assert server.process.wait(30) != 0
