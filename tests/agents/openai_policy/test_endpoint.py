"""What goes wrong on the way: retries, limits, cancelling, closing, and what must never leave."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from turnwise.agents.openai_policy import OpenAIPolicy, endpoint
from turnwise.agents.openai_policy.limits import LONGEST_PAUSE_S
from turnwise.errors import ConfigError, MissingExtraError, PolicyError, TransportError, TurnwiseError
from turnwise.policy import PolicyReply, PolicyRequest
from turnwise.registry import load_entry_point

Ask = Callable[..., PolicyRequest]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Make = Callable[..., OpenAIPolicy]


@pytest.fixture
def make(stub: Any, clock: Any) -> Make:
    """Make a policy of the stub that sleeps in jumps."""
    return lambda **options: OpenAIPolicy(stub.url, clock, **{"model": "m", "mode": "text", "retries": 2, **options})


async def once(policy: OpenAIPolicy, request: PolicyRequest) -> PolicyReply:
    try:
        return await policy.act(request)
    finally:
        await policy.close()


# -- retries --------------------------------------------------------------------------------------------------------

BROKEN_OFF = (200, {"Content-Length": "5000"}, b'{"choices": [')


@pytest.mark.parametrize(
    ("reply", "error", "kind", "requests"),
    [
        ("hang up", TransportError, "connection", 3),
        (BROKEN_OFF, TransportError, "connection", 3),
        (408, TransportError, "busy", 3),
        (409, TransportError, "busy", 3),
        (429, TransportError, "busy", 3),
        (502, TransportError, "busy", 3),
        (503, TransportError, "busy", 3),
        (504, TransportError, "busy", 3),
        (500, PolicyError, "server", 3),
        (501, PolicyError, "server", 3),
        (400, PolicyError, "refused", 1),
        (422, PolicyError, "refused", 1),
        (401, ConfigError, None, 1),
        (403, ConfigError, None, 1),
        (404, ConfigError, None, 1),
        ((200, {}, b"<html>"), PolicyError, "malformed", 1),
        ((200, {}, b"{}"), PolicyError, "malformed", 1),
        ((200, {}, b"\xff"), PolicyError, "malformed", 1),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_each_class_of_failure(
    stub: Any, make: Make, ask: Ask, run: Run, say: Any, clock: Any, reply: Any, error: Any, kind: Any, requests: int,
    stream: bool,
) -> None:  # fmt: skip
    if stream and reply in ((200, {}, b"<html>"), (200, {}, b"{}")):
        error, kind, requests = TransportError, "connection", 3  # no stream at all: it ended before it began
    stub.replies = [say.error(reply) if isinstance(reply, int) else reply]
    with pytest.raises(error) as caught:
        run(once(make(stream=stream), ask()))
    assert type(caught.value) is error
    assert kind is None or caught.value.kind == kind
    assert len(stub.requests) == requests
    assert len(clock.slept) == requests - 1
    assert stub.url in str(caught.value)
    assert ("in 3 attempts" in str(caught.value)) is (requests == 3)


@pytest.mark.parametrize("failure", ["hang up", 429, 500, 503])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_that_passes_is_not_seen(
    stub: Any, make: Make, ask: Ask, run: Run, say: Any, failure: Any, stream: bool
) -> None:
    good = [say.chunk({"content": "open door"}), say.chunk(choice={"finish_reason": "stop"}), say.done]
    bad = say.error(failure) if isinstance(failure, int) else failure
    stub.replies = [bad, bad, good if stream else "open door"]
    assert run(once(make(stream=stream), ask())).text == "open door"
    bodies = [json.dumps(request, sort_keys=True) for request in stub.requests]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1


def test_pauses_grow(stub: Any, make: Make, ask: Ask, run: Run, say: Any, clock: Any) -> None:
    stub.replies = [say.error(503)]
    with pytest.raises(TransportError):
        run(once(make(retries=5, pause_s=1.0), ask()))
    for attempt, pause in enumerate(clock.slept):
        assert 2**attempt / 2 <= pause <= 2**attempt


def test_retry_after_is_honoured_and_bounded(stub: Any, make: Make, ask: Ask, run: Run, say: Any, clock: Any) -> None:
    stub.replies = [
        say.error(429, headers={"Retry-After": "7"}),
        say.error(503, headers={"Retry-After": "99999"}),
        "open door",
    ]
    run(once(make(), ask()))
    assert clock.slept == [7.0, LONGEST_PAUSE_S]


def test_nobody_there(ask: Ask, run: Run, clock: Any, stub: Any) -> None:
    stub.close()
    with pytest.raises(TransportError, match="in 3 attempts") as caught:
        run(once(OpenAIPolicy(stub.url, clock, model="m", retries=2), ask()))
    assert caught.value.kind == "connection"
    with pytest.raises(TransportError):
        run(OpenAIPolicy(stub.url, clock, retries=0).prepare())


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_that_never_answers(stub: Any, make: Make, ask: Ask, run: Run, clock: Any, stream: bool) -> None:
    stub.replies = [stub.hold("too late")]
    with pytest.raises(TransportError, match=r"no answer in 0\.1 s") as caught:
        run(once(make(timeout_s=0.1, retries=1, stream=stream), ask()))
    assert caught.value.kind == "timeout"
    assert len(clock.slept) == 1


def test_a_server_that_drips_is_not_waited_for(stub: Any, make: Make, ask: Ask, run: Run, say: Any) -> None:
    def drop() -> bytes:
        stub.release.wait(0.05)
        return b": still there\n\n"

    stub.replies = [[drop] * 400]
    with pytest.raises(TransportError) as caught:
        run(once(make(timeout_s=0.3, retries=0, stream=True), ask()))
    assert caught.value.kind == "timeout"


# -- streams that break ---------------------------------------------------------------------------------------------


def test_a_stream_that_ends_too_early_is_asked_for_again(stub: Any, make: Make, ask: Ask, run: Run, say: Any) -> None:
    piece = say.chunk({"content": "open"})
    end = say.chunk(choice={"finish_reason": "stop"})
    stub.replies = [[piece], [piece, say.done], [piece, say.chunk({"content": " door"}), end]]
    assert run(once(make(stream=True), ask())).text == "open door"
    assert len(stub.requests) == 3


@pytest.mark.parametrize(
    ("event", "error", "kind", "requests"),
    [
        (b'data: {"error": "CUDA error"}\n\n', PolicyError, "server", 3),
        (b'data: {"error": {"message": "overloaded", "code": 503}}\n\n', TransportError, "busy", 3),
        (b'data: {"error": {"message": "bad input", "code": 400}}\n\n', PolicyError, "refused", 1),
        (b"data: {broken\n\n", PolicyError, "malformed", 1),
        (b"data: 3\n\n", PolicyError, "malformed", 1),
        (b"data: \xff\xff\n\n", PolicyError, "malformed", 1),
        (b'data: {"choices": [{"delta": {"content": 3}}]}\n\n', PolicyError, "malformed", 1),
    ],
)
def test_streams_that_go_wrong(
    stub: Any, make: Make, ask: Ask, run: Run, say: Any, event: bytes, error: Any, kind: str, requests: int
) -> None:
    stub.replies = [[say.chunk({"content": "open"}), event, say.chunk(choice={"finish_reason": "stop"})]]
    with pytest.raises(error) as caught:
        run(once(make(stream=True), ask()))
    assert (type(caught.value), caught.value.kind, len(stub.requests)) == (error, kind, requests)


# -- how many, how fast, and giving up ------------------------------------------------------------------------------


def test_no_more_requests_at_a_time_than_allowed(stub: Any, make: Make, ask: Ask, run: Run) -> None:
    stub.replies = [stub.hold("a")]

    async def scene() -> None:
        policy = make(concurrency=3)
        asked = [asyncio.ensure_future(policy.act(ask())) for _ in range(10)]
        for _ in range(3):
            await stub.request_came()
        assert stub.at_once == 3
        stub.release.set()
        await asyncio.gather(*asked)
        await policy.close()

    run(scene())
    assert (len(stub.requests), stub.most_at_once) == (10, 3)


def test_requests_keep_the_rate_and_their_order(stub: Any, make: Make, ask: Ask, run: Run, clock: Any) -> None:
    stub.replies = ["a"]

    async def scene() -> None:
        policy = make(rate=2.0, concurrency=1)
        await asyncio.gather(*(policy.act(ask(f"{number}")) for number in range(6)))
        await policy.close()

    run(scene())
    assert [request["messages"][-1]["content"] for request in stub.requests] == [str(number) for number in range(6)]
    assert sum(clock.slept) == pytest.approx(2.0)  # two at once, the other four half a second apart


def test_a_request_that_waits_for_its_retry_holds_no_slot(
    stub: Any, ask: Ask, run: Run, say: Any, make_clock: Any
) -> None:
    class Asleep(make_clock):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.asleep, self.wake = asyncio.Event(), asyncio.Event()

        async def sleep(self, seconds: float) -> None:
            self.asleep.set()
            await self.wake.wait()

    async def scene() -> list[str]:
        clock = Asleep()
        stub.replies = [say.error(503), "second", "first"]
        policy = OpenAIPolicy(stub.url, clock, model="m", concurrency=1)
        first = asyncio.ensure_future(policy.act(ask()))
        await clock.asleep.wait()
        second = await policy.act(ask())
        clock.wake.set()
        texts = [(await first).text, second.text]
        await policy.close()
        return texts

    assert run(scene()) == ["first", "second"]


@pytest.mark.parametrize("stream", [False, True])
def test_cancelling_frees_the_slot_and_ends_the_request(
    stub: Any, make: Make, ask: Ask, run: Run, say: Any, stream: bool
) -> None:
    filler = say.chunk({"content": "x" * 10_000})
    endless = [lambda: stub.release.wait(0.01) or f"data: {json.dumps(filler)}\n\n".encode()] * 2000
    stub.replies = [endless if stream else stub.hold("late"), "next"]

    async def scene() -> str:
        policy = make(concurrency=1, stream=stream)
        asked = asyncio.ensure_future(policy.act(ask()))
        await stub.request_came()
        asked.cancel()
        await asyncio.wait({asked})
        assert asked.cancelled()
        if stream:
            stub.replies = [[say.chunk({"content": "next"}, choice={"finish_reason": "stop"})]]
        reply = await policy.act(ask())
        await policy.close()
        return reply.text  # type: ignore[no-any-return]

    assert run(scene()) == "next"
    if stream:
        for _ in range(500):  # the server notices when it writes
            if stub.broken_off:
                break
            stub.server.service_actions()
            asyncio.run(asyncio.sleep(0.01))
        assert stub.broken_off == 1


def test_closing_fails_what_waits_and_what_comes_later(stub: Any, make: Make, ask: Ask, run: Run) -> None:
    stub.replies = [stub.hold("late")]

    async def scene() -> None:
        policy = make(concurrency=1)
        asked = [asyncio.ensure_future(policy.act(ask())) for _ in range(3)]
        await stub.request_came()
        await policy.close()
        for result in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(result, PolicyError)
            assert result.kind == "closed"
        with pytest.raises(PolicyError, match="closed"):
            await policy.act(ask())
        with pytest.raises(PolicyError, match="closed"):
            await policy.prepare()
        await policy.close()

    run(scene())
    assert len(stub.requests) == 1


# -- what must never leave ------------------------------------------------------------------------------------------

KEY = "sk-very-secret-123"


@pytest.mark.parametrize(
    "reply",
    [
        "open door",
        (401, {}, json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()),
        (500, {}, f"key {KEY} crashed us".encode()),
        (400, {}, f'{{"detail": "{KEY}"}}'.encode()),
        (307, {"Location": "http://other/"}, f"go elsewhere with {KEY}".encode()),
        (200, {}, f"not json {KEY}".encode()),
        [f'data: {{"error": "{KEY}"}}\n\n'.encode()],
        [f"data: {KEY}\n\n".encode()],
        "hang up",
    ],
)
def test_the_key_is_sent_and_never_shown(
    stub: Any, make: Make, ask: Ask, run: Run, reply: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    caplog.set_level(logging.DEBUG)
    stub.replies = [reply]
    policy = make(key_env="MY_KEY", stream=isinstance(reply, list), retries=0)
    shown = ""
    try:
        run(once(policy, ask()))
    except TurnwiseError as error:
        shown = "".join(traceback.format_exception(error)) + repr(error)
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in shown
    assert KEY not in policy.spec + repr(policy.describe()) + caplog.text
    assert "MY_KEY" in policy.spec


@pytest.mark.parametrize("key_env", ["NOT_SET", ""])
def test_without_a_key_none_is_sent(stub: Any, make: Make, ask: Ask, run: Run, key_env: str) -> None:
    stub.replies = ["a"]
    run(once(make(key_env=key_env), ask()))
    assert "Authorization" not in stub.headers[0]


@pytest.mark.parametrize("key", ["sk-\x00", "sk 1", "schlüssel"])
def test_a_key_that_no_header_may_have(
    stub: Any, make: Make, ask: Ask, run: Run, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "\x00" not in key:
        monkeypatch.setenv("MY_KEY", key)
    else:
        monkeypatch.setattr(os, "environ", {**os.environ, "MY_KEY": key})
    with pytest.raises(ConfigError, match="'MY_KEY'") as caught:
        run(once(make(key_env="MY_KEY"), ask()))
    assert key not in str(caught.value)
    assert stub.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(stub: Any, make: Make, ask: Ask, run: Run, status: int) -> None:
    stub.replies = [(status, {"Location": f"{stub.url}/elsewhere"}, b""), "never asked for"]
    with pytest.raises(ConfigError, match="final address"):
        run(once(make(), ask()))
    assert stub.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [200, 500])
def test_huge_bodies_are_not_read(
    stub: Any, make: Make, ask: Ask, run: Run, monkeypatch: pytest.MonkeyPatch, stream: bool, status: int
) -> None:
    monkeypatch.setattr(endpoint, "MAX_RESPONSE_BYTES", 100_000)
    body = json.dumps({"choices": [{"message": {"content": "x" * 200_000}}]}).encode()
    many = [b'data: {"choices": [{"delta": {"content": "' + b"x" * 10_000 + b'"}}]}\n\n'] * 20
    stub.replies = [many if stream and status == 200 else (status, {}, body)]
    with pytest.raises(PolicyError, match="larger than 100000 bytes") as caught:
        run(once(make(stream=stream), ask()))
    assert caught.value.kind == "oversized"
    assert len(stub.requests) == 1


def test_compressed_bodies_are_not_unpacked(stub: Any, make: Make, ask: Ask, run: Run) -> None:
    stub.replies = [(200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 50_000_000))]
    with pytest.raises(PolicyError, match="compressed"):
        run(once(make(), ask()))
    assert stub.headers[0]["Accept-Encoding"] == "identity"


def test_no_proxy_stands_before_this_machine(
    stub: Any, make: Make, ask: Ask, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    stub.replies = ["a"]
    assert run(once(make(retries=0), ask())).text == "a"


# -- the extra ------------------------------------------------------------------------------------------------------


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="turnwise\\[llm\\]"):
        OpenAIPolicy("http://h/v1")


def test_the_registry_names_it_too(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_openai.py").write_text("raise ModuleNotFoundError('no', name='openai')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match="turnwise\\[llm\\]"):
        load_entry_point("needs_openai:X")


def test_nothing_heavy_is_imported_before_the_first_request() -> None:
    script = (
        "import sys; from turnwise.agents.registry import make_policy; make_policy('openai:http://h/v1')\n"
        "print([m for m in ('openai', 'httpx', 'httpx2', 'torch', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
