"""What each kind of failure means, from what servers really write."""

from __future__ import annotations

import json
from typing import Any

import pytest

from turnwise.agents.openai_policy.errors import (
    Failure,
    by_status,
    in_stream,
    read_error,
    refused_fields,
    refuses_tools,
    retry_after,
)
from turnwise.errors import BudgetSpentError, ConfigError, PolicyError, TransportError


def classify(status: int, body: Any, **fields: Any) -> Failure:
    said = read_error(body if isinstance(body, str) else json.dumps(body))
    return by_status(status, said, **{"key_env": "SOME_KEY", "has_key": True, **fields})


@pytest.mark.parametrize(
    ("status", "retry", "kind", "error"),
    [
        (400, False, "refused", PolicyError),
        (401, False, None, ConfigError),
        (403, False, None, ConfigError),
        (404, False, None, ConfigError),
        (405, False, None, ConfigError),
        (408, True, "busy", TransportError),
        (409, True, "busy", TransportError),
        (413, False, "refused", PolicyError),
        (422, False, "refused", PolicyError),
        (425, True, "busy", TransportError),
        (429, True, "busy", TransportError),
        (500, True, "server", PolicyError),
        (501, True, "server", PolicyError),
        (502, True, "busy", TransportError),
        (503, True, "busy", TransportError),
        (504, True, "busy", TransportError),
        (529, True, "busy", TransportError),
        (307, False, None, ConfigError),
    ],
)
def test_every_status_has_its_class(status: int, retry: bool, kind: str | None, error: type[Exception]) -> None:
    failure = classify(status, {"error": {"message": "something"}})
    raised = failure.error("http://x/v1")
    assert failure.retry is retry
    assert type(raised) is error
    assert kind is None or raised.kind == kind  # type: ignore[attr-defined]
    assert "http://x/v1" in str(raised)
    assert f"status {status}" in str(raised)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        # OpenAI
        (400, {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}),
        (
            400,
            {"error": {"message": "This model's maximum context length is 8192 tokens. However, you requested 9000"}},
        ),
        # vLLM: the older top-level form, the newer one, and the prompt alone too long
        (400, {"object": "error", "message": "This model's maximum context length is 64 tokens.", "code": 400}),
        (400, {"error": {"message": "The decoder prompt (length 99) is longer than the maximum model length of 64."}}),
        (400, {"error": {"message": "You passed 99 input tokens. However, the model's context length is only 64"}}),
        (400, {"error": {"message": "max_tokens must be at least 1, got -35.", "code": 400}}),
        # SGLang
        (400, {"object": "error", "message": "The input (99 tokens) is longer than the model's context length (64)."}),
        (400, {"error": {"message": "Input length (99 tokens) exceeds the maximum allowed length (64 tokens)."}}),
        # llama.cpp
        (400, {"error": {"code": 400, "message": "the request is too big", "type": "exceed_context_size_error"}}),
        (
            400,
            {"error": {"code": 400, "message": "request (99 tokens) exceeds the available context size (64 tokens)"}},
        ),
        (500, {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}}),
        # hosted endpoints, text-generation-inference
        (400, {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}}),
        (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096."}),
    ],
)
def test_a_full_context_is_a_truncation_and_no_failure(status: int, body: Any) -> None:
    failure = classify(status, body)
    raised = failure.error("http://x/v1")
    assert isinstance(raised, BudgetSpentError)
    assert raised.cause == "context"
    assert not failure.retry


def test_a_full_context_within_a_stream() -> None:
    # transformers serve: the stream's error is a plain text
    said = read_error("Input length of input_ids is 99, but `max_length` is set to 64.")
    assert isinstance(in_stream(said, key_env="", has_key=False).error("u"), BudgetSpentError)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Rate limit reached: maximum context length tokens per minute"}},
        {"error": {"message": "slow down"}},
    ],
)
def test_a_busy_server_is_no_full_context(body: Any) -> None:
    assert classify(429, body).retry


def test_the_conversation_s_own_words_are_no_message_of_the_server() -> None:
    detail = [
        {"loc": ["body", "x"], "msg": "bad", "type": "t", "input": "what is the maximum context length of tools?"}
    ]
    failure = classify(422, {"detail": detail})
    assert failure.blame == "policy"
    assert "maximum" not in failure.problem


def test_a_quota_that_is_used_up_is_not_asked_for_again() -> None:
    failure = classify(429, {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}})
    assert not failure.retry
    assert "SOME_KEY" in str(failure.error("u"))


def test_messages_say_what_to_fix() -> None:
    assert "set SOME_KEY" in str(classify(401, "{}", has_key=False).error("u"))
    assert "the key in SOME_KEY is not accepted" in str(classify(401, "{}").error("u"))
    unknown = classify(404, {"error": {"message": "The model `nope` does not exist.", "code": 404}}, model="nope")
    assert "no model 'nope'" in str(unknown.error("u"))
    pinned = classify(400, {"detail": "Server is pinned to 'a'; requested 'nope'."}, model="nope")
    assert isinstance(pinned.error("u"), ConfigError)
    assert "/v1" in str(classify(404, {"detail": "Not Found"}).error("http://x"))
    assert "final address" in str(classify(308, "").error("u"))


@pytest.mark.parametrize(
    "body",
    ['{"error": {"message": "boom"}}', '{"error": "boom"}', '{"message": "boom"}', '{"detail": "boom"}', "boom"],
)
def test_the_message_is_found_whatever_its_form(body: str) -> None:
    assert read_error(body).message == "boom"
    assert read_error(body.encode()).message == "boom"


@pytest.mark.parametrize("body", ["", "[]", "3", "{}", '{"error": {}}', '{"error": null}', "[" * 100_000, b"\xff\x00"])
def test_no_body_is_too_odd(body: str | bytes) -> None:
    assert isinstance(read_error(body).message, str)


def test_long_messages_are_cut_and_keys_cut_out() -> None:
    said = read_error(json.dumps({"error": {"message": "bad key sk-123\n\n" + "x" * 9000}}), secret="sk-123")
    shown = str(by_status(400, said, key_env="K", has_key=True).error("u"))
    assert "sk-123" not in shown
    assert "bad key [key]" in shown
    assert len(shown) < 400


def test_errors_in_a_stream() -> None:
    busy = in_stream(read_error({"message": "overloaded", "code": 503}), key_env="", has_key=False)
    assert (busy.retry, busy.blame) == (True, "transport")
    refused = in_stream(read_error({"message": "bad", "code": 400}), key_env="", has_key=False)
    assert (refused.retry, refused.blame) == (False, "policy")
    unknown = in_stream(read_error("CUDA out of memory"), key_env="", has_key=False)
    assert (unknown.retry, unknown.blame) == (True, "policy")


@pytest.mark.parametrize(
    ("status", "body", "fields"),
    [
        (422, {"detail": "Unexpected fields in the request: {'return_token_ids'}"}, {"return_token_ids"}),
        (400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}, {"stream_options"}),
        (
            422,
            {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
            {"seed"},
        ),
        (400, {"error": {"message": "logprobs are not supported with reasoning models"}}, {"logprobs"}),
        (400, {"error": {"message": "temperature must be at most 2"}}, set()),
        (500, {"error": {"message": "unexpected seed"}}, set()),
    ],
)
def test_fields_that_are_refused_by_name(status: int, body: Any, fields: set[str]) -> None:
    dispensable = ("seed", "logprobs", "stream_options", "return_token_ids")
    assert refused_fields(classify(status, body), dispensable) == fields


@pytest.mark.parametrize(
    ("status", "message", "refused"),
    [
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', True),  # vLLM
        (500, "tools param requires --jinja flag", True),  # llama.cpp
        (400, "registry.ollama.ai/library/gemma:2b does not support tools", True),  # Ollama
        (404, "No endpoints found that support tool use", True),  # OpenRouter
        (400, "Invalid 'messages': expected an array", False),
        (429, "tools are not available: rate limit", False),
        (400, "maximum context length is 64 tokens, tools are not supported beyond", False),
    ],
)
def test_servers_that_take_no_tools(status: int, message: str, refused: bool) -> None:
    assert refuses_tools(classify(status, {"error": {"message": message}})) is refused


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
