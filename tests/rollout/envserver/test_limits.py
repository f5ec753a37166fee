"""Who may come in, how many, how much, for how long, and what malformed messages are told."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from served import CHAOS, client_of, gym_response, gym_row, mcp_call, running
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from turnwise.errors import ConfigError
from turnwise.rollout.envserver import ServerOptions

TOKEN = "correct horse battery"
DEEP = "[" * 100_000


@pytest.fixture
def url(serving: Callable[..., str]) -> str:
    return serving(max_body_bytes=64 * 1024)


# -- malformed messages ------------------------------------------------------------------------------

BAD_MESSAGES = [
    ("", "INVALID_JSON"),
    ("{", "INVALID_JSON"),
    ('{"type": "reset", "data": {"seed": NaN}}', "INVALID_JSON"),
    (DEEP[:60_000], "INVALID_JSON"),
    ("[]", "VALIDATION_ERROR"),
    ("{}", "UNKNOWN_TYPE"),
    ('{"type": 5}', "UNKNOWN_TYPE"),
    ('{"type": "rest"}', "UNKNOWN_TYPE"),
    ('{"type": "reset", "data": []}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": -1}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": 1.5}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": true}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"seed": 99999999999999999999}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"task_id": "nope"}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"task_id": ["ep-0001"]}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"taskid": "ep-0001"}}', "VALIDATION_ERROR"),
    ('{"type": "reset", "data": {"episode_id": 7}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"bogus": 1}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"text": 1}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"name": "wait", "arguments": "no"}}', "VALIDATION_ERROR"),
    ('{"type": "step", "data": {"text": "wait"}}', "EXECUTION_ERROR"),
    ('{"type": "mcp", "data": {}}', "UNKNOWN_TYPE"),
]


def test_malformed_messages_get_codes_and_end_nothing(url: str) -> None:
    async def play() -> None:
        async with client_of("websocket", url) as client:
            for message, code in BAD_MESSAGES:
                await client.socket.send(message)
                answer = json.loads(await asyncio.wait_for(client.socket.recv(), 30))
                assert answer["type"] == "error", message[:80]
                assert answer["data"]["code"] == code, (message[:80], answer)
                assert answer["data"]["message"]
            await client.socket.send(b"\x00\x01")
            assert json.loads(await client.socket.recv())["data"]["code"] == "INVALID_JSON"
            assert (await client.reset(task_id="ep-0000")).facts["turn"] == 0, "the session goes on"
            assert (await client.step("wait")).facts["turn"] == 1

    asyncio.run(play())


BAD_BODIES = [
    ("/reset", b"{"),
    ("/reset", b"[1]"),
    ("/reset", b"\xff\xfe"),
    ("/reset", b'{"seed": "one"}'),
    ("/reset", b'{"seed": Infinity}'),
    ("/reset", b'{"nonsense": 1}'),
    ("/reset", b'{"task": {"split": "train"}}'),
    ("/reset", DEEP[:60_000].encode()),
    ("/step", b""),
    ("/step", b"{}"),
    ("/step", b'{"action": "wait"}'),
    ("/step", b'{"action": {"text": "wait"}, "extra": 1}'),
    ("/step", b'{"action": {"text": ["wait"]}}'),
]


def test_malformed_openenv_bodies_get_4xx(url: str) -> None:
    with httpx.Client(base_url=url) as http:
        assert http.post("/reset", json={"task_id": "ep-0000"}).status_code == 200
        for path, body in BAD_BODIES:
            answer = http.post(path, content=body)
            assert answer.status_code in (400, 422), (path, body[:60], answer.text)
            assert answer.json()["error"]["message"]
        assert http.post("/step", json={"action": {"text": "wait"}}).json()["observation"]["turn"] in (0, 1)


ROW: dict[str, Any] = {"responses_create_params": {"input": []}}
BAD_ROWS: list[tuple[str, Any]] = [
    ("/reset", {"responses_create_params": "text"}),
    ("/reset", {**ROW, "seed": "x"}),
    ("/reset", {**ROW, "verifier_metadata": {"task_id": "nope"}}),
    ("/step", ROW),
    ("/step", {**ROW, "response": "wait"}),
    ("/step", {**ROW, "response": {"output": "wait"}}),
    ("/step", {**ROW, "response": {"output": ["wait"]}}),
    ("/step", {**ROW, "response": {"output": [{"type": "message", "content": 5}]}}),
    ("/step", {**ROW, "response": {"output": [{"type": "function_call", "name": "wait"}]}}),
    ("/verify", {"response": {"output": []}}),
    ("/verify", {**ROW, "response": None}),
    ("/seed_session", [1]),
]


def test_malformed_rows_get_4xx(url: str) -> None:
    with httpx.Client(base_url=url) as http:
        assert http.post("/reset", json=gym_row(task_id="ep-0000")).status_code == 200
        for path, row in BAD_ROWS:
            answer = http.post(path, json=row)
            assert answer.status_code in (400, 422), (path, row, answer.text)
            assert answer.json()["error"]["code"] == "VALIDATION_ERROR"


def test_malformed_mcp_calls_get_errors(url: str) -> None:
    headers = {"accept": "application/json, text/event-stream"}

    async def play() -> None:
        async with mcp_call(url) as call:
            for name, arguments in (
                ("wait", {}),  # before reset
                ("reset", {"seed": "x"}),
                ("reset", {"task_id": "nope"}),
                ("reset", {"nonsense": 1}),
                ("fly", {}),
            ):
                result = (await call(name, arguments)).model_dump(by_alias=True)
                assert result["isError"], name
                assert result["_meta"]["turnwise/turn"]["code"] in ("VALIDATION_ERROR", "EXECUTION_ERROR")
            await call("reset", {"task_id": "ep-0000"})
            for arguments in ({}, {"word": ["a"]}, {"words": "a"}):
                result = (await call("say", arguments)).model_dump(by_alias=True)
                assert result["isError"], "the world says what is wrong with the arguments"
                assert "Invalid action" in result["content"][0]["text"]

    asyncio.run(play())
    with httpx.Client(base_url=url, headers=headers) as http:
        for body in (b"{", b"[]", b"{}", b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'):
            assert 400 <= http.post("/mcp", content=body).status_code < 500, body
        assert http.post("/mcp", headers={"mcp-session-id": "nope"}, json={}).status_code in (400, 404)
        newest = http.post("/mcp", headers={"mcp-protocol-version": "2026-07-28"}, json={"id": 3})
        assert newest.json()["error"]["data"]["supported"][-1] == "2025-11-25"


def test_sizes_are_limited(url: str) -> None:
    async def play() -> None:
        async with client_of("websocket", url) as client:
            with pytest.raises(ConnectionClosed) as closed:
                await client.ask("step", {"text": "x" * 70_000})
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        async with client_of("websocket", url) as client:
            await client.reset(task_id="ep-0000")
            seen = await client.step("say " + "x" * 60_000)
            assert seen.facts["action_valid"], "within the limit, the world decides"

    asyncio.run(play())
    with httpx.Client(base_url=url) as http:
        assert http.post("/reset", content=b" " * 70_000).status_code == 413
        assert http.post("/reset", content=iter([b" " * 1_000] * 70)).status_code == 413, "without a length"
        assert http.post("/mcp", content=b" " * 70_000).status_code == 413


# -- how many, for how long --------------------------------------------------------------------------


def test_no_more_sessions_than_allowed(serving: Callable[..., str]) -> None:
    url = serving(max_sessions=2)

    async def play() -> None:
        async with client_of("websocket", url) as first, client_of("http", url) as second:
            await first.reset()
            await second.reset()
            async with client_of("websocket", url) as third:
                refused = json.loads(await third.socket.recv())
                assert refused["data"]["code"] == "CAPACITY_REACHED"
                assert refused["data"]["max_sessions"] == 2
            refused = await httpx.AsyncClient(base_url=url).post("/reset", json={})
            assert refused.status_code == 429
            assert refused.headers["retry-after"]
            assert (await second.http.post("/reset", json={})).status_code == 200, "it has its session"
            async with mcp_call(url) as call:
                assert "CAPACITY_REACHED" in (await call("reset", {})).content[0].text
        async with client_of("websocket", url) as later:
            for _ in range(100):
                if (await httpx.AsyncClient(base_url=url).get("/health")).json()["active_sessions"] < 2:
                    break
                await asyncio.sleep(0.02)
            assert (await later.reset()).facts["turn"] == 0

    asyncio.run(play())


def test_a_wrong_first_reset_takes_no_place(serving: Callable[..., str]) -> None:
    url = serving(max_sessions=1)
    for _ in range(3):
        assert httpx.post(f"{url}/reset", json={"task_id": "nope"}).status_code == 422
    assert httpx.post(f"{url}/reset", json={}).status_code == 200


def test_an_ended_mcp_session_gives_its_place_back(serving: Callable[..., str]) -> None:
    url = serving(max_sessions=1)

    async def play() -> None:
        for _ in range(3):
            async with mcp_call(url) as call:
                result = (await call("reset", {})).model_dump(by_alias=True)
                assert not result["isError"], result

    asyncio.run(play())


def test_idle_sessions_are_closed(serving: Callable[..., str]) -> None:
    url = serving(idle_s=0.5, spares=0)

    async def play() -> None:
        async with client_of("websocket", url) as idle, client_of("http", url) as cookie:
            await idle.reset()
            await cookie.reset()
            goodbye = json.loads(await asyncio.wait_for(idle.socket.recv(), 30))
            assert (goodbye["data"]["code"], goodbye["data"]["kind"]) == ("SESSION_ERROR", "idle")
            with pytest.raises(ConnectionClosed):
                await idle.socket.recv()
            await asyncio.sleep(1.0)
            step = await cookie.http.post("/step", json={"action": {"text": "wait"}})
            assert step.status_code == 409
            assert (await cookie.http.get("/health")).json()["active_sessions"] == 0

    asyncio.run(play())


# -- who may come in ---------------------------------------------------------------------------------


def test_a_token_is_asked_for_everywhere(serving: Callable[..., str]) -> None:
    url = serving(token=TOKEN)
    right = {"authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=url) as http:
        assert http.get("/health").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            for path in ("/reset", "/step", "/verify", "/mcp"):
                assert http.post(path, json={}, headers=headers).status_code == 401, path
            for path in ("/metadata", "/openapi.json", "/sessions/x/trajectory"):
                assert http.get(path, headers=headers).status_code == 401, path
        assert http.post("/reset", json={}, headers=right).status_code == 200

    async def play() -> None:
        with pytest.raises(InvalidStatus):
            async with connect(url.replace("http", "ws") + "/ws"):
                pass
        async with client_of("websocket", url, headers=right) as client:
            await client.reset()

    asyncio.run(play())


def test_web_sites_cannot_come_in(url: str) -> None:
    with httpx.Client(base_url=url) as http:
        assert http.post("/reset", json={}, headers={"origin": "https://evil.example"}).status_code == 403
        assert http.post("/reset", json={}, headers={"host": "evil.example"}).status_code == 403, "DNS rebinding"
        assert http.post("/reset", json={}, headers={"origin": url}).status_code == 200

    async def play() -> None:
        with pytest.raises(InvalidStatus):
            async with connect(url.replace("http", "ws") + "/ws", origin="https://evil.example"):
                pass

    asyncio.run(play())


def test_a_cookie_of_the_clients_own_choice_is_not_taken_over(url: str) -> None:
    with httpx.Client(base_url=url, cookies={"turnwise_session": "chosen"}) as http:
        answer = http.post("/reset", json={})
        assert answer.cookies["turnwise_session"] not in ("", "chosen")
        assert "httponly" in answer.headers["set-cookie"].lower()
    assert httpx.get(f"{url}/state", cookies={"turnwise_session": "chosen"}).status_code == 409


def test_other_machines_need_a_token() -> None:
    with pytest.raises(ConfigError, match="token"):
        ServerOptions(env=CHAOS, host="0.0.0.0")
    ServerOptions(env=CHAOS, host="0.0.0.0", token=TOKEN)
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        ServerOptions(env=CHAOS, host=host)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_sessions": 0},
        {"port": -1},
        {"idle_s": 0.0},
        {"idle_s": float("nan")},
        {"token": "short"},
        {"max_body_bytes": 1},
        {"spares": True},
    ],
)
def test_wrong_options_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServerOptions(env=CHAOS, **wrong)


def test_wrong_worlds_are_told() -> None:
    with pytest.raises(ConfigError, match="Household"), running(ServerOptions(env="turnwise/Houshold-v0")):
        pass
    with (
        pytest.raises(ConfigError, match="option"),
        running(ServerOptions(env="turnwise/Household-v0", env_options={"nope": 1})),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "0.0.0.0"], "pass a token"),
        (["--env", "turnwise/Houshold-v0"], "Household"),
        (["--idle", "soon"], "--idle"),
        (["--max-body", "none"], "--max-body"),
        (["--rewards", "no-such-preset"], "no-such-preset"),
    ],
)
def test_the_command_tells_what_is_wrong_in_a_line(options: list[str], told: str) -> None:
    command = [sys.executable, "-c", "from turnwise.rollout.cli import main; main()", "serve-env", *options]
    environment = {**os.environ, "COLUMNS": "500"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


# -- scored episodes ---------------------------------------------------------------------------------


def test_trajectories_are_behind_the_token(serving: Callable[..., str]) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    url = serving(rewards="default", token=TOKEN, env_options={"turns": 3})

    async def play() -> None:
        async with client_of("http", url, headers=headers) as client:
            await client.reset(task_id="ep-0000")
            session = (await client.http.get("/state")).json()["session_id"]
            path = f"/sessions/{session}/trajectory"
            assert (await client.http.get(path)).status_code == 404, "the episode goes on"
            for text in ("wait", "dance", "wait", "wait"):
                seen = await client.step(text)
            record = (await client.http.get(path)).json()
            assert record == seen.facts["trajectory"]
            assert [turn["rewards"]["valid_action"]["value"] for turn in record["turns"]] == [1.0, 0.0, 1.0, 1.0]
            assert record["outcome"]["success"]
            assert record["turns"][1]["action_text"] == "dance"

    asyncio.run(play())


def test_without_a_token_nobody_gets_trajectories(serving: Callable[..., str]) -> None:
    url = serving(rewards="default")
    assert httpx.get(f"{url}/sessions/x/trajectory").status_code == 403


def test_numbers_are_finite_in_every_reply(url: str) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    with httpx.Client(base_url=url) as http:
        texts = [http.post("/reset", json={"task_id": "ep-0000"}).text]
        texts += [http.post("/step", json={"action": {"text": "wait"}}).text for _ in range(4)]
        row = gym_row(response=gym_response("wait"))
        texts.append(http.post("/verify", json=row).text)
    for text in texts:
        json.loads(text, parse_constant=refuse)
