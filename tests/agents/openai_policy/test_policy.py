"""One message after another, against a scripted server."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turnwise.agents.openai_policy import OpenAIPolicy
from turnwise.agents.registry import make_policy
from turnwise.errors import BudgetSpentError, ConfigError, PolicyError
from turnwise.policy import Policy, PolicyReply, PolicyRequest, ScoringPolicy
from turnwise.rollout import Rollout

Ask = Callable[..., PolicyRequest]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def play(policy: OpenAIPolicy, ask: Ask, run: Run, *observations: str, **first: Any) -> list[PolicyReply]:
    """Play one episode of as many turns as there are observations."""

    async def episode() -> list[PolicyReply]:
        replies: list[PolicyReply] = []
        try:
            for turn, observation in enumerate(observations):
                state = replies[-1].state if replies else b""
                replies.append(await policy.act(ask(observation, turn=turn, state=state, **({} if turn else first))))
        finally:
            await policy.close()
        return replies

    return run(episode())  # type: ignore[no-any-return]


async def once(policy: OpenAIPolicy, request: PolicyRequest) -> PolicyReply:
    try:
        return await policy.act(request)
    finally:
        await policy.close()


# -- the specification ------------------------------------------------------------------------------------------


def test_it_keeps_the_protocol_and_is_made_from_its_specification() -> None:
    policy = make_policy("openai:http://h:8000/v1/?temperature=0.7&model=a/b&stream=yes&stop=%5B%22x%22,%20%22y%22%5D")
    assert isinstance(policy, Policy)
    assert not isinstance(policy, ScoringPolicy)
    assert policy.spec == (
        "openai:http://h:8000/v1?model=a/b&stop=%5B%22x%22,%20%22y%22%5D&stream=true&temperature=0.7"
    )
    assert make_policy(policy.spec).spec == policy.spec
    assert policy.version is None


@pytest.mark.parametrize("extra", ['{"chat_template_kwargs": {"enable_thinking": false}}', {"top_k": 5}])
@pytest.mark.parametrize("stop", ["\n", "[END]", '["a"]', ("[1]",), ["a", "b"]])
def test_every_option_survives_the_specification(extra: Any, stop: Any) -> None:
    policy = OpenAIPolicy("https://h/v1", stop=stop, extra=extra, version="v 1&2", rate=0.5, retries=0, seed=False)
    again = OpenAIPolicy.from_spec(policy.spec.removeprefix("openai:"))
    assert again.describe() == policy.describe()
    assert again.spec == policy.spec


def test_the_defaults_are_not_written() -> None:
    assert OpenAIPolicy("http://h/v1").spec == "openai:http://h/v1"


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("", "write openai:TARGET"),
        ("h:8000/v1", "http:// or https://"),
        ("ftp://h/v1", "http:// or https://"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http:///v1", "such as"),
        ("http://h:99999/v1", "no address"),
        ("http://h/v1#x", "such as"),
        ("http://h/v 1", "such as"),
        ("http://h/v1?modle=x", "or 'model'?"),
        ("http://h/v1?mode=tolos", "Did you mean 'tools'"),
        ("http://h/v1?clock=1", "no option 'clock'"),
        ("http://h/v1?temperature=-1", "temperature must be a number at least 0"),
        ("http://h/v1?temperature=hot", "finite number"),
        ("http://h/v1?top_p=0", "top_p must be a number above 0 and at most 1"),
        ("http://h/v1?top_p=1.1", "top_p"),
        ("http://h/v1?max_tokens=0", "max_tokens must be a whole number of at least 1"),
        ("http://h/v1?max_total_tokens=-1", "max_total_tokens"),
        ("http://h/v1?retries=-1", "retries"),
        ("http://h/v1?concurrency=0", "concurrency"),
        ("http://h/v1?rate=-0.5", "rate"),
        ("http://h/v1?timeout_s=0", "timeout_s must be a number above 0"),
        ("http://h/v1?pause_s=-1", "pause_s"),
        ("http://h/v1?extra=%7Bx", "extra must be a JSON object"),
        ("http://h/v1?extra=%5B%5D", "extra must be a JSON object"),
        ("http://h/v1?extra=%7B%22messages%22:%5B%5D%7D", "cannot set 'messages'"),
        ("http://h/v1?extra=%7B%22x%22:NaN%7D", "cannot be sent as JSON"),
    ],
)
def test_options_that_are_wrong(rest: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIPolicy.from_spec(rest)
    assert why in str(caught.value)


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="environment variable") as caught:
        OpenAIPolicy("http://me:hunter2@h/v1")
    assert "hunter2" not in str(caught.value)


# -- conversations ------------------------------------------------------------------------------------------------


def test_text_mode(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["open door", "go to desk 1"]
    policy = OpenAIPolicy(stub.url, mode="text", temperature=0.5, top_p=0.9, max_tokens=20, stop="\n", model="m")
    first, second = play(policy, ask, run, "A door.", "A desk.")
    assert (first.text, first.finish, first.tokens, first.policy_version) == ("open door", "stop", None, "tiny")
    assert second.text == "go to desk 1"
    begun, went_on = stub.requests
    assert begun["messages"] == [
        {"role": "system", "content": "You open doors."},
        {"role": "user", "content": "A door."},
    ]
    assert went_on["messages"] == [
        *begun["messages"],
        {"role": "assistant", "content": "open door"},
        {"role": "user", "content": "A desk."},
    ]
    assert {name: begun[name] for name in begun if name not in ("messages", "seed")} == {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 20,
        "stop": ["\n"],
    }
    assert stub.paths == ["/v1/chat/completions"] * 2


def test_tools_mode(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    call = say.tool_call("id-7")
    stub.replies = [
        say.completion("Let me.", message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"}),
        "done",
    ]
    first, second = play(OpenAIPolicy(stub.url, mode="tools", model="m"), ask, run, "A door.", "It is open.")
    assert first.text == '<think>Let me.</think>\n{"name": "open", "arguments": {"object": "door"}}'
    assert (first.finish, second.finish) == ("action", "stop")
    begun, went_on = stub.requests
    assert begun["tools"] == went_on["tools"] == [dict(tool) for tool in ask().tools]
    assert went_on["messages"][2:] == [
        {"role": "assistant", "content": "Let me.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "id-7", "content": "It is open."},
    ]


def test_any_replica_goes_on(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["one", "two"]

    async def scene() -> None:
        first = OpenAIPolicy(stub.url, model="m")
        reply = await first.act(ask("A."))
        await first.forget("e")
        await first.close()
        second = OpenAIPolicy(stub.url, model="m")
        await second.act(ask("B.", turn=1, state=reply.state))
        await second.close()

    run(scene())
    assert [message["content"] for message in stub.requests[1]["messages"]] == ["You open doors.", "A.", "one", "B."]
    assert "tools" in stub.requests[1]


def test_a_later_turn_without_a_state_is_refused(stub: Any, ask: Ask, run: Run) -> None:
    with pytest.raises(PolicyError, match="none of this policy"):
        run(once(OpenAIPolicy(stub.url, model="m"), ask(turn=3)))
    assert stub.requests == []


def test_auto_turns_to_text_when_the_server_takes_no_tools(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [say.error(400, '"auto" tool choice requires --enable-auto-tool-choice'), "a", "b", "c"]
    policy = OpenAIPolicy(stub.url, model="m")

    async def scene() -> None:
        first = await policy.act(ask("A."))
        await policy.act(ask("B.", turn=1, state=first.state))
        await policy.act(ask("Another episode."))
        await policy.close()

    run(scene())
    assert ["tools" in request for request in stub.requests] == [True, False, False, False]
    assert stub.requests[1]["messages"] == stub.requests[0]["messages"]
    assert policy.describe()["takes_tools"] is False


def test_tools_mode_does_not_turn_to_text(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [say.error(400, "this model does not support tools")]
    with pytest.raises(PolicyError, match="does not support tools"):
        run(once(OpenAIPolicy(stub.url, model="m", mode="tools"), ask()))


def test_a_world_without_tools(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["a"]
    run(once(OpenAIPolicy(stub.url, model="m"), ask(tools=())))
    assert "tools" not in stub.requests[0]
    with pytest.raises(ConfigError, match="no tools"):
        run(once(OpenAIPolicy(stub.url, model="m", mode="tools"), ask(tools=())))


@pytest.mark.parametrize(
    ("choice", "text", "finish"),
    [
        ({"finish_reason": "length"}, "open", "length"),
        ({"finish_reason": "tool_calls"}, "x", "action"),
        ({"finish_reason": "stop"}, "open door", "stop"),
        ({"finish_reason": "stop", "stop_reason": "</a>"}, "open door", "action"),  # vLLM
        ({"finish_reason": "stop", "matched_stop": "</a>"}, "open door", "action"),  # SGLang
        ({"finish_reason": "stop", "matched_stop": 151645}, "open door", "stop"),
        ({"finish_reason": "stop"}, "open door</a>", "action"),
        ({"finish_reason": "content_filter"}, "", "stop"),
        ({"finish_reason": None}, "open door", "stop"),
    ],
)
def test_why_a_message_ends(
    stub: Any, ask: Ask, run: Run, say: Any, choice: dict[str, Any], text: str, finish: str
) -> None:
    stub.replies = [say.completion(text, choice=choice)]
    assert run(once(OpenAIPolicy(stub.url, model="m", stop="</a>"), ask())).finish == finish


def test_streaming_gives_the_same_reply(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    call = say.tool_call("c1")
    whole = say.completion(
        "So.",
        message={"tool_calls": [call], "reasoning_content": "Hm."},
        choice={"finish_reason": "tool_calls", "token_ids": [8, 9]},
        prompt_token_ids=[1, 2],
    )
    halves = [
        {**call, "function": {"name": "open", "arguments": '{"obj'}},
        {"function": {"arguments": 'ect": "door"}'}},
    ]
    chunks = [
        say.chunk({"role": "assistant", "content": ""}, prompt_token_ids=[1, 2]),
        b": a comment, as servers send to keep the line open\n\n",
        say.chunk({"reasoning_content": "Hm."}),
        say.chunk({"content": "So"}, choice={"token_ids": [8]}),
        say.chunk({"content": "."}),
        *(say.chunk({"tool_calls": [{"index": 0, **half}]}) for half in halves),
        say.chunk(choice={"finish_reason": "tool_calls", "token_ids": [9]}),
        say.chunk(choice=None, usage={"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}),
        say.done,
    ]
    stub.replies = [whole, chunks]
    (one,) = play(OpenAIPolicy(stub.url, model="m", token_ids=True), ask, run, "A door.")
    (other,) = play(OpenAIPolicy(stub.url, model="m", token_ids=True, stream=True), ask, run, "A door.")
    assert other == one
    assert one.tokens is not None
    assert one.tokens.completion_ids == (8, 9)
    assert "stream" not in stub.requests[0]
    assert stub.requests[1]["stream"] is True
    assert stub.requests[1]["stream_options"] == {"include_usage": True}


def test_seeds_differ_by_turn_and_episode_and_are_the_same_again(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["a"]
    for seed in (7, 7, 8):
        play(OpenAIPolicy(stub.url, model="m"), ask, run, "A.", "B.", seed=seed)
    seeds = [request["seed"] for request in stub.requests]
    assert seeds[:2] == seeds[2:4]
    assert len({*seeds[:2], seeds[4]}) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    play(OpenAIPolicy(stub.url, model="m", seed=False), ask, run, "A.")
    assert "seed" not in stub.requests[-1]


def test_further_fields_are_merged_in_and_win(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["a"]
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": 1}
    play(OpenAIPolicy(stub.url, model="m", extra=json.dumps(extra)), ask, run, "A.")
    assert {name: stub.requests[0][name] for name in extra} == extra


@pytest.mark.parametrize("status", [400, 422])
def test_fields_that_a_server_does_not_take_are_left_out(stub: Any, ask: Ask, run: Run, say: Any, status: int) -> None:
    stub.replies = [
        say.error(status, "Unexpected fields in the request: {'return_token_ids', 'seed'}"),
        say.error(status, "logprobs is not supported"),
        "a",
    ]
    policy = OpenAIPolicy(stub.url, model="m", token_ids=True, logprobs=True)
    with pytest.warns(RuntimeWarning, match="does not take") as warned:
        first, second = play(policy, ask, run, "A.", "B.")
    assert [
        str(warning.message).split(" take ")[1].split(":")[0]
        for warning in warned
        if warning.category is RuntimeWarning
    ] == [
        "return_token_ids, seed",
        "logprobs",
    ]
    assert (first.tokens, second.tokens) == (None, None)
    assert len(stub.requests) == 4
    assert not {"return_token_ids", "seed", "logprobs"} & set(stub.requests[-1])
    assert policy.describe()["left_out"] == ["logprobs", "return_token_ids", "seed"]


def test_the_newer_name_of_the_limit(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    refusal = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    stub.replies = [say.error(400, refusal), "a"]
    play(OpenAIPolicy(stub.url, model="m", max_tokens=9), ask, run, "A.")
    assert stub.requests[1]["max_completion_tokens"] == 9
    assert "max_tokens" not in stub.requests[1]


# -- the model's name and version ---------------------------------------------------------------------------------


def test_the_only_model_is_asked_for_once(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = ["a"]

    async def scene() -> None:
        policy = OpenAIPolicy(stub.url)
        await asyncio.gather(policy.prepare(), policy.prepare(), policy.act(ask()))
        await policy.act(ask())
        await policy.close()

    run(scene())
    assert stub.paths.count("/v1/models") == 1
    assert {request["model"] for request in stub.requests} == {"tiny"}


@pytest.mark.parametrize(("names", "why"), [(["a", "b"], "lists 'a', 'b'"), ([], "lists none")])
def test_several_models_or_none(stub: Any, run: Run, names: list[str], why: str) -> None:
    stub.models = {"data": [{"id": name} for name in names]}
    with pytest.raises(ConfigError, match=why) as caught:
        run(OpenAIPolicy(stub.url).prepare())
    assert "?model=NAME" in str(caught.value)


def test_what_turns_are_stamped_with(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [say.completion("a", system_fingerprint="fp9"), "b"]

    async def scene() -> None:
        policy = OpenAIPolicy(stub.url, model="m")
        assert policy.version is None
        assert (await policy.act(ask())).policy_version == policy.version == "tiny@fp9"
        await policy.update(None, "step-2")
        assert (await policy.act(ask())).policy_version == policy.version == "step-2"
        with pytest.raises(ConfigError, match="the server's own"):
            await policy.update("/weights", "step-3")
        assert policy.version == "step-2"
        given = OpenAIPolicy(stub.url, model="m", version="v0")
        assert (await given.act(ask())).policy_version == given.version == "v0"

    run(scene())


def test_a_message_under_way_keeps_the_label_it_began_with(stub: Any, ask: Ask, run: Run) -> None:
    stub.replies = [stub.hold("a")]

    async def scene() -> PolicyReply:
        policy = OpenAIPolicy(stub.url, model="m", version="old")
        under_way = asyncio.ensure_future(policy.act(ask()))
        await stub.request_came()
        await policy.update(None, "new")
        stub.release.set()
        return await under_way

    assert run(scene()).policy_version == "old"


# -- token budgets and ids ------------------------------------------------------------------------------------------


def test_a_token_budget(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    usages = [{"prompt_tokens": 10, "completion_tokens": 5}, {"prompt_tokens": 18, "completion_tokens": 12}]
    stub.replies = [say.completion("a", usage=usage) for usage in usages]
    policy = OpenAIPolicy(stub.url, model="m", max_tokens=20, max_total_tokens=30)
    with pytest.raises(BudgetSpentError) as caught:
        play(policy, ask, run, "A.", "B.", "C.")
    assert caught.value.cause == "tokens"
    assert [request["max_tokens"] for request in stub.requests] == [20, 15]


def test_a_budget_needs_a_server_that_counts(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [say.completion("a", usage=None)]
    with pytest.raises(ConfigError, match="'usage'"):
        run(once(OpenAIPolicy(stub.url, model="m", max_total_tokens=30), ask()))
    stub.replies = [say.completion("a", usage=None, prompt_token_ids=[1] * 28, choice={"token_ids": [2, 3]})]
    with pytest.raises(BudgetSpentError):
        play(OpenAIPolicy(stub.url, model="m", max_total_tokens=30), ask, run, "A.", "B.")


def test_a_full_context(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [say.error(400, "This model's maximum context length is 64 tokens.", code=400)]
    with pytest.raises(BudgetSpentError) as caught:
        run(once(OpenAIPolicy(stub.url, model="m"), ask()))
    assert caught.value.cause == "context"
    assert len(stub.requests) == 1


def with_ids(say: Any, prompt: list[int], sampled: list[int], **choice: Any) -> dict[str, Any]:
    made: dict[str, Any] = say.completion("a", prompt_token_ids=prompt, choice={"token_ids": sampled, **choice})
    return made


def test_token_ids_are_appended_to_one_sequence(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    logprobs = {"content": [{"token": "x", "logprob": -0.25}, {"token": "y", "logprob": -2.0}]}
    stub.replies = [
        with_ids(say, [1, 2, 3], [4, 5], logprobs=logprobs),
        with_ids(say, [1, 2, 3, 4, 5, 6, 7], [8]),
        with_ids(say, [1, 2, 3, 4, 5, 6, 7, 8], [9]),
    ]
    policy = OpenAIPolicy(stub.url, model="m", token_ids=True, logprobs=True)
    first, second, third = (reply.tokens for reply in play(policy, ask, run, "A.", "B.", "C."))
    assert first is not None
    assert second is not None
    assert third is not None
    assert (first.prompt_ids, first.completion_ids, first.logprobs) == ((1, 2, 3), (4, 5), (-0.25, -2.0))
    assert (second.prompt_ids, second.completion_ids, second.logprobs) == ((6, 7), (8,), ())
    assert (third.prompt_ids, third.completion_ids) == ((), (9,))
    assert stub.requests[0]["return_token_ids"] is True
    assert stub.requests[0]["logprobs"] is True


@pytest.mark.parametrize("prompt", [[1, 2, 3, 4, 9, 6], [1, 2, 3, 4], []])
def test_drift_ends_the_ids_and_is_counted(stub: Any, ask: Ask, run: Run, say: Any, prompt: list[int]) -> None:
    stub.replies = [with_ids(say, [1, 2, 3], [4, 5]), with_ids(say, prompt, [7]), with_ids(say, [1, 2, 3, 4, 5], [8])]
    policy = OpenAIPolicy(stub.url, model="m", token_ids=True)
    with pytest.warns(RuntimeWarning, match="otherwise than it was sampled, in 1 episodes"):
        replies = play(policy, ask, run, "A.", "B.", "C.")
    assert [reply.tokens is None for reply in replies] == [False, True, True]
    assert policy.drifted == policy.describe()["drifted"] == 1


def test_drift_is_not_warned_of_each_time(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    async def scene(policy: OpenAIPolicy) -> None:
        for _ in range(10):
            stub.replies = [with_ids(say, [1], [2]), with_ids(say, [3], [4])]
            first = await policy.act(ask())
            await policy.act(ask(turn=1, state=first.state))

    policy = OpenAIPolicy(stub.url, model="m", token_ids=True)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        run(scene(policy))
    assert policy.drifted == 10
    found = [str(one.message).split(" episodes")[0].split()[-1] for one in warned if one.category is RuntimeWarning]
    assert found == ["1", "10"]


def test_a_turn_without_ids_ends_them(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    stub.replies = [with_ids(say, [1], [2]), "no ids", with_ids(say, [1, 2, 3], [4])]
    replies = play(OpenAIPolicy(stub.url, model="m", token_ids=True), ask, run, "A.", "B.", "C.")
    assert [reply.tokens is None for reply in replies] == [False, True, True]


@pytest.mark.parametrize("values", [[-0.5], [-0.5, -1.0, -1.5], []])
def test_logprobs_that_do_not_pair_with_the_ids_are_left_out(
    stub: Any, ask: Ask, run: Run, say: Any, values: list[float]
) -> None:
    stub.replies = [with_ids(say, [1], [2, 3], logprobs={"content": [{"logprob": value} for value in values]})]
    (reply,) = play(OpenAIPolicy(stub.url, model="m", token_ids=True, logprobs=True), ask, run, "A.")
    assert reply.tokens is not None
    assert (reply.tokens.completion_ids, reply.tokens.logprobs) == ((2, 3), ())


def test_logprobs_without_ids_are_no_tokens(stub: Any, ask: Ask, run: Run, say: Any) -> None:
    logprobs = {"content": [{"token": "token_id:5", "logprob": -1.0}]}
    stub.replies = [say.completion("a", choice={"logprobs": logprobs})]
    (reply,) = play(OpenAIPolicy(stub.url, model="m", logprobs=True), ask, run, "A.")
    assert reply.tokens is None


# -- in a rollout ---------------------------------------------------------------------------------------------------


def test_episodes_of_a_world_are_played(stub: Any, say: Any) -> None:
    call = say.tool_call("c1", "look", "{}")
    answer = say.completion(None, message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"})
    stub.replies = ["Thought: where am I?\nAction: look", answer]
    agent = f"openai:{stub.url}?model=m&version=v1"
    played = list(Rollout(tasks="train:2", agent=agent, workers=0, max_turns=2))
    assert [one.ending.kind for one in played] == ["truncated", "truncated"]
    turns = [turn for one in played for turn in one.turns]
    assert all(turn.action is not None and turn.action.name == "look" for turn in turns)
    assert {turn.policy_version for turn in turns} == {"v1"}
    assert {one.agent for one in played} == {agent}
    assert all("tools" in request for request in stub.requests)
