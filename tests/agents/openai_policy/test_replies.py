"""Whole completions and streams of chunks give the same reply, however servers cut them up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.agents.openai_policy.replies import Call, Collector, MalformedError, Reply, read_completion, read_models


def streamed(chunks: list[Any]) -> Reply:
    collected = Collector()
    for one in chunks:
        collected.add(one)
    assert collected.complete
    return collected.reply()


def whole(completion: dict[str, Any]) -> Reply:
    return read_completion(json.dumps(completion).encode())


def test_everything_is_read(say: Any) -> None:
    reply = whole(
        say.completion(
            "Opening.",
            message={
                "reasoning_content": "A door.",
                "tool_calls": [say.tool_call("a"), say.tool_call("b", "go", "{}")],
            },
            choice={
                "finish_reason": "tool_calls",
                "token_ids": [5, 6],
                "logprobs": {"content": [{"token": "x", "logprob": -0.5}, {"token": "y", "logprob": -1.0}]},
            },
            prompt_token_ids=[1, 2, 3],
            system_fingerprint="fp",
        )
    )
    assert reply == Reply(
        content="Opening.",
        reasoning="A door.",
        calls=(Call("a", "open", '{"object": "door"}'), Call("b", "go", "{}")),
        finish_reason="tool_calls",
        model="tiny",
        fingerprint="fp",
        usage=(10, 3),
        prompt_ids=(1, 2, 3),
        completion_ids=(5, 6),
        logprobs=(-0.5, -1.0),
    )


@settings(deadline=None)
@given(st.data())
def test_a_stream_cut_anywhere_gives_the_same_reply(say: Any, data: st.DataObject) -> None:
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
    arguments = [data.draw(st.text('abc{}": ', max_size=10)) for _ in range(data.draw(st.integers(0, 3)))]
    ids = data.draw(st.lists(st.integers(0, 9), max_size=6))
    calls = [say.tool_call(f"c{n}", "open", one) for n, one in enumerate(arguments)]
    logprobs = {"content": [{"logprob": -float(one)} for one in ids]}
    expected = whole(
        say.completion(
            text,
            message={"tool_calls": calls},
            choice={"token_ids": ids, "logprobs": logprobs, "stop_reason": "x"},
            prompt_token_ids=[1],
        )
    )
    chunks = [say.chunk({"role": "assistant", "content": ""}, prompt_token_ids=[1])]
    chunks += [say.chunk({"content": piece}) for piece in pieces(data, text)]
    for number, call in enumerate(calls):
        opening = {**call, "index": number, "function": {"name": "open", "arguments": ""}}
        chunks.append(say.chunk({"tool_calls": [opening]}))
        for piece in pieces(data, call["function"]["arguments"]):
            chunks.append(say.chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}))
    chunks += [
        say.chunk(choice={"token_ids": [one], "logprobs": {"content": [{"logprob": -float(one)}]}}) for one in ids
    ]
    chunks.append(
        say.chunk(choice={"finish_reason": "stop", "stop_reason": "x", "token_ids": [], "logprobs": {"content": []}})
    )
    chunks.append(say.chunk(choice=None, usage={"prompt_tokens": 10, "completion_tokens": 3}))
    assert streamed(chunks) == expected


def pieces(data: st.DataObject, text: str) -> list[str]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [text[low:high] for low, high in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def test_calls_without_numbers_are_told_apart_by_their_ids(say: Any) -> None:
    first, second = say.tool_call("a"), say.tool_call("b")
    more = {"function": {"arguments": " "}}
    reply = streamed([say.chunk({"tool_calls": [one]}) for one in (first, more, second)] + [end(say)])
    assert [(call.id, call.arguments) for call in reply.calls] == [
        ("a", '{"object": "door"} '),
        ("b", '{"object": "door"}'),
    ]


def end(say: Any) -> dict[str, Any]:
    made: dict[str, Any] = say.chunk(choice={"finish_reason": "stop"})
    return made


@pytest.mark.parametrize(
    ("message", "content", "reasoning"),
    [
        ({"content": None}, "", ""),
        ({"content": None, "refusal": "I will not."}, "I will not.", ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "image"}, {"text": "b"}]}, "ab", ""),
        ({"content": "a", "reasoning": "why"}, "a", "why"),
        ({"content": "half \ud800"}, "half ?", ""),
    ],
)
def test_what_servers_write_as_content(say: Any, message: dict[str, Any], content: str, reasoning: str) -> None:
    try:
        reply = whole(say.completion(message=message))
    except MalformedError:
        assert "\ud800" in str(message["content"])  # a JSON that is no text may also be refused
        return
    assert (reply.content, reply.reasoning) == (content, reasoning)


def test_arguments_that_came_decoded_are_text_again(say: Any) -> None:
    call = {"id": "a", "function": {"name": "open", "arguments": {"object": "door"}}}
    reply = whole(say.completion(message={"tool_calls": [call]}))
    assert json.loads(reply.calls[0].arguments) == {"object": "door"}


def test_other_choices_are_left_alone(say: Any) -> None:
    completion = say.completion("first")
    completion["choices"].append({"index": 1, "message": {"content": "second"}, "finish_reason": "length"})
    assert whole(completion).content == "first"
    assert whole(completion).finish_reason == "stop"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>gateway</html>",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"index": 0, "message": null}]}',
        b'{"choices": [{"index": 0, "message": "text"}]}',
        b'{"choices": [{"index": 0, "message": {"content": 3}}]}',
        b'{"choices": [{"index": 0, "message": {"tool_calls": "x"}}]}',
        b'{"choices": [{"message": {"content": "a"}, "token_ids": [1, -2]}]}',
        b'{"choices": [{"message": {"content": "a"}, "token_ids": ["1"]}]}',
        b'{"choices": [{"message": {"content": "a"}}], "usage": {"prompt_tokens": "many"}}',
        b'{"choices": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(MalformedError):
        read_completion(body)


@pytest.mark.parametrize("chunk", [None, 3, "text", [], {"choices": [{"delta": {"content": {}}}]}, {"choices": "x"}])
def test_malformed_chunks(chunk: Any) -> None:
    with pytest.raises(MalformedError):
        Collector().add(chunk)


def test_models() -> None:
    assert read_models(b'{"data": [{"id": "a"}, {"id": "b"}]}') == ["a", "b"]
    for body in (b"", b"[]", b'{"data": null}', b'{"data": [{}]}'):
        with pytest.raises(MalformedError):
            read_models(body)
