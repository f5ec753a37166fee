"""A running server in a thread, clients of every protocol, and a look at what processes are left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import chaosworld
import httpx
import psutil
import uvicorn
from websockets.asyncio.client import connect

from turnwise import register_env
from turnwise.actions import ActionProblem
from turnwise.registry import env_class
from turnwise.rollout.envserver import ServerOptions, make_app
from turnwise.rollout.envserver.app import open_sessions
from turnwise.rollout.envserver.serve import config

CHAOS = chaosworld.ENV_ID
os.environ.setdefault(chaosworld.SESSION, secrets.token_hex(8))
register_env(CHAOS, "chaosworld:ChaosEnv")

START_S = 60.0


@contextlib.contextmanager
def running(options: ServerOptions) -> Iterator[str]:
    """Serve in a thread; yields the address."""
    listening = socket.create_server((options.host, 0))
    stopping: list[Callable[[], None]] = []
    ready = threading.Event()
    failed: list[BaseException] = []

    async def main() -> None:
        async with open_sessions(options) as sessions:
            server = uvicorn.Server(config(make_app(sessions, options), options))
            stopping.append(lambda: setattr(server, "should_exit", True))
            ready.set()
            await server.serve(sockets=[listening])

    def target() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=target)
    thread.start()
    try:
        assert ready.wait(START_S), "the server does not start"
        if failed:
            raise failed[0]
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        for stop in stopping:
            stop()
        thread.join(30)
        listening.close()
    assert not thread.is_alive(), "the server does not stop"


def of_session(token: str) -> set[int]:
    """Return the running processes below a test session that are zygotes or forked from one."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(chaosworld.SESSION) == token
            if ours and process.status() != psutil.STATUS_ZOMBIE and "engine.zygote" in " ".join(process.cmdline()):
                found.add(process.pid)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait for something that has no notification."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


# -- clients -----------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What a client saw of a reset or a turn, in any protocol."""

    text: str
    reward: float
    terminated: bool
    truncated: bool
    facts: dict[str, Any] = field(default_factory=dict)
    raw: str = ""


class WebSocketClient:
    """OpenEnv's messages over a WebSocket."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    async def ask(self, kind: str, data: Any = None) -> dict[str, Any]:
        await self.socket.send(json.dumps({"type": kind, "data": {} if data is None else data}))
        return json.loads(await asyncio.wait_for(self.socket.recv(), 60))

    async def _seen(self, kind: str, data: Any) -> Seen:
        answer = await self.ask(kind, data)
        assert answer["type"] == "observation", answer
        return openenv_seen(answer["data"])

    async def reset(self, **fields: Any) -> Seen:
        return await self._seen("reset", fields)

    async def step(self, text: str) -> Seen:
        return await self._seen("step", {"text": text})


class HttpClient:
    """OpenEnv's routes, with a cookie."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def reset(self, **fields: Any) -> Seen:
        return openenv_seen((await self.http.post("/reset", json=fields)).raise_for_status().json())

    async def step(self, text: str) -> Seen:
        return openenv_seen((await self.http.post("/step", json={"action": {"text": text}})).raise_for_status().json())


class GymClient:
    """NeMo-Gym's gymnasium endpoints."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def reset(self, **fields: Any) -> Seen:
        answer = (await self.http.post("/reset", json=gym_row(**fields))).raise_for_status().json()
        return Seen(answer["observation"], 0.0, False, False, answer["info"], json.dumps(answer))

    async def step(self, text: str) -> Seen:
        row = gym_row(response=gym_response(text))
        answer = (await self.http.post("/step", json=row)).raise_for_status().json()
        names = ("observation", "reward", "terminated", "truncated", "info")
        return Seen(*(answer[name] for name in names), json.dumps(answer))


class McpClient:
    """The official SDK's client; commands become tool calls."""

    def __init__(self, call: Callable[[str, dict[str, Any]], Any], env_id: str) -> None:
        self._call = call
        self._grammar = env_class(env_id).grammar

    async def call(self, name: str, arguments: dict[str, Any]) -> Seen:
        result = await self._call(name, arguments)
        plain = result.model_dump(by_alias=True, mode="json")
        facts = dict(plain["_meta"]["turnwise/turn"])
        taken = {key: facts.pop(key, None) for key in ("reward", "terminated", "truncated")}
        facts["is_error"] = plain["isError"]
        return Seen(plain["content"][0]["text"], **taken, facts=facts, raw=json.dumps(plain))

    async def reset(self, **fields: Any) -> Seen:
        return await self.call("reset", fields)

    async def step(self, text: str) -> Seen:
        action = self._grammar.parse(text)
        assert not isinstance(action, ActionProblem)
        return await self.call(action.name, dict(action.arguments))


def openenv_seen(result: dict[str, Any]) -> Seen:
    observation = result["observation"]
    assert result["done"] == (observation["terminated"] or observation["truncated"])
    facts = {k: v for k, v in observation.items() if k not in ("text", "terminated", "truncated")}
    return Seen(
        observation["text"],
        result["reward"] or 0.0,
        observation["terminated"],
        observation["truncated"],
        facts,
        json.dumps(result),
    )


def gym_row(**fields: Any) -> dict[str, Any]:
    return {"responses_create_params": {"input": [{"role": "user", "content": "Play."}]}, **fields}


def gym_response(text: str, calls: list[tuple[str, str]] | None = None) -> dict[str, Any]:
    """Return a Responses object that says something, or calls tools."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    output: list[dict[str, Any]] = [
        {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    ]
    output += [
        {"type": "function_call", "call_id": f"c{i}", "name": name, "arguments": arguments}
        for i, (name, arguments) in enumerate(calls or [])
    ]
    return {
        "id": "r1",
        "created_at": 1.0,
        "model": "m",
        "object": "response",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


PROTOCOLS = ("websocket", "http", "gym", "mcp")


@contextlib.asynccontextmanager
async def client_of(
    protocol: str, url: str, env_id: str = CHAOS, headers: dict[str, str] | None = None
) -> AsyncIterator[Any]:
    """Connect a client."""
    if protocol == "websocket":
        async with connect(url.replace("http", "ws") + "/ws", additional_headers=headers) as ws:
            yield WebSocketClient(ws)
    elif protocol == "mcp":
        async with mcp_call(url) as call:
            yield McpClient(call, env_id)
    else:
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:
            yield HttpClient(http) if protocol == "http" else GymClient(http)


@contextlib.asynccontextmanager
async def mcp_call(url: str) -> AsyncIterator[Callable[[str, dict[str, Any]], Any]]:
    """Connect the SDK's client, of either generation; yields its ``call_tool``."""
    import mcp

    if hasattr(mcp, "Client"):
        async with mcp.Client(f"{url}/mcp") as client:
            yield client.call_tool
        return
    from mcp.client.streamable_http import streamablehttp_client

    async with streamablehttp_client(f"{url}/mcp") as (read, write, _), mcp.ClientSession(read, write) as session:
        await session.initialize()
        yield session.call_tool
