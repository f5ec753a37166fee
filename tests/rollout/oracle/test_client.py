"""The typed clients: the same results as in process, retries, and errors that say who is to blame."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
from oraclesupport import MOODY, Served, episode

from turnwise.errors import ConfigError, TransportError
from turnwise.rollout.oracle import AsyncOracleClient, CreditSpec, Item, Oracle, OracleClient, calls


def items(*answers: str) -> list[Item]:
    return [msgspec.convert({**episode(answer), "id": answer, "group": "g"}, Item) for answer in answers]


def test_the_same_results_as_in_process(moody: Served) -> None:
    here = Oracle(MOODY).score_items(items("gold", "silver"), credit=CreditSpec())
    with OracleClient(moody.url) as client:
        assert client.score(items("gold", "silver"), credit=CreditSpec()) == here
        assert client.health()["status"] == "ok"
        assert client.score([]) == []


def test_trajectories_go_over_the_wire(moody: Served) -> None:
    oracle = Oracle(MOODY)
    trajectories = [oracle.reader.trajectory(item) for item in items("gold", "silver")]
    with OracleClient(moody.url) as client:
        assert client.score(trajectories) == oracle.score(trajectories)


def test_the_async_client_does_the_same(moody: Served) -> None:
    async def both() -> Any:
        async with AsyncOracleClient(moody.url) as client:
            at_once = await client.score(items("gold", "silver"))
            streamed = {place: result async for place, result in client.stream(items("gold", "silver"))}
            return at_once, [streamed[place] for place in sorted(streamed)], await client.health()

    at_once, streamed, health = asyncio.run(both())
    assert at_once == streamed == Oracle(MOODY).score_items(items("gold", "silver"))
    assert health["status"] == "ok"


def test_streams_come_with_their_places(moody: Served) -> None:
    with OracleClient(moody.url) as client:
        assert {place: result.id for place, result in client.stream(items("a", "b", "c"))} == {0: "a", 1: "b", 2: "c"}


def test_a_refusal_is_the_callers_fault_and_not_retried(moody: Served) -> None:
    with OracleClient(moody.url, retries=3) as client, pytest.raises(ConfigError, match=r"items\[0\]"):
        client.score([Item()])
    with OracleClient(moody.url) as client, pytest.raises(ConfigError, match="credit"):
        client.score(items("x"), credit=CreditSpec(options={"nope": 1}))


class Flaky(BaseHTTPRequestHandler):
    """Fails as it is told, then answers."""

    plan: list[int]
    seen: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.seen.append(self.headers["idempotency-key"])
        code = self.plan.pop(0) if self.plan else 200
        if code == 0:
            self.connection.close()
            return
        body = json.dumps({"results": [{"id": "x", "status": "ok", "reward": 1.0}]}).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(calls, "_BACKOFF_S", (0.001,))
    Flaky.plan, Flaky.seen = [], []
    server = HTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("failures", [[503, 429], [0, 500]])
def test_failures_that_may_pass_are_retried_under_one_key(flaky: str, failures: list[int]) -> None:
    Flaky.plan = list(failures)
    with OracleClient(flaky) as client:
        assert client.score(items("x"))[0].reward == 1.0
        assert len(Flaky.seen) == 3
        assert len(set(Flaky.seen)) == 1
        client.score(items("x"))
    assert Flaky.seen[-1] != Flaky.seen[0]


def test_the_async_client_retries_too(flaky: str) -> None:
    Flaky.plan = [503, 0]

    async def call() -> Any:
        async with AsyncOracleClient(flaky) as client:
            return await client.score(items("x"))

    assert asyncio.run(call())[0].reward == 1.0
    assert len(set(Flaky.seen)) == 1


def test_giving_up_says_what_happened(flaky: str) -> None:
    Flaky.plan = [503] * 5
    with OracleClient(flaky, retries=2) as client, pytest.raises(TransportError, match=r"3 times.*503"):
        client.score(items("x"))


def test_too_few_results_are_noticed(flaky: str) -> None:
    with OracleClient(flaky) as client, pytest.raises(TransportError, match="1 results for 2"):
        client.score(items("x", "y"))


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    for options in ({"url": "localhost:8000"}, {"url": "http://x", "retries": -1}, {"url": "http://x", "timeout_s": 0}):
        with pytest.raises(ConfigError):
            OracleClient(**options)
