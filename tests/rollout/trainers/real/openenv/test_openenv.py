"""OpenEnv's own client, and the 1.x generation of the MCP SDK that it brings, against a real server process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import mcp
import pytest
from mcp.client.streamable_http import streamablehttp_client
from openenv import GenericEnvClient

import turnwise  # noqa: F401 - registers the worlds

WORLDS = ("turnwise/Household-v0", "turnwise/SearchQA-v0")
TOKEN = "correct horse battery"


def start(log: Path, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start ``turnwise serve-env``; returns the process and its address."""
    command = [str(Path(sys.executable).parent / "turnwise"), "serve-env", "--port", "0", *options]
    with log.open("w") as out:
        process = subprocess.Popen(command, stderr=out, env={**os.environ, "COLUMNS": "200"})
    deadline = time.monotonic() + 120
    while "http://" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
    return process, "http://" + log.read_text().split("http://")[1].split()[0]


@pytest.fixture(scope="module", params=WORLDS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    log = tmp_path_factory.mktemp("served") / "log"
    process, url = start(log, "--env", request.param, "--max-sessions", "8", "--rewards", "default")
    yield request.param, url
    process.send_signal(signal.SIGTERM)
    process.wait(60)


async def expert_episode(client: Any, env_id: str, seed: int) -> Any:
    """Play an expert episode over the stock client beside the same one in this process."""
    world: Any = gymnasium.make(env_id).unwrapped
    observation, info = world.reset(seed=seed)
    expert = world.expert()
    result = await client.reset(seed=seed, episode_id=f"mine-{seed}")
    assert result.observation["text"] == observation
    assert result.reward is None
    done = False
    while not done:
        action = expert.act(observation, info)
        observation, reward, terminated, truncated, info = world.step(action)
        done = terminated or truncated
        result = await client.step({"text": action})
        assert (result.observation["text"], result.reward, result.done) == (observation, reward, done)
    state = await client.state()
    assert state["episode_id"] == f"mine-{seed}"
    assert state["step_count"] == len(result.observation["trajectory"]["turns"])
    assert info["success"]
    return result


def test_the_stock_client_plays_episodes_side_by_side(served: tuple[str, str]) -> None:
    env_id, url = served

    async def one(seed: int) -> Any:
        async with GenericEnvClient(base_url=url) as client:
            return await expert_episode(client, env_id, seed)

    async def several() -> list[Any]:
        return await asyncio.gather(*map(one, range(6)))

    for result in asyncio.run(several()):
        assert result.observation["trajectory"]["rewards"]["outcome"]["value"] == 1.0


def test_the_stock_client_plays_on_in_one_session(served: tuple[str, str]) -> None:
    env_id, url = served

    async def play() -> None:
        async with GenericEnvClient(base_url=url) as client:
            for seed in (1, 2):
                await expert_episode(client, env_id, seed)

    asyncio.run(play())


def test_the_stock_sync_client_plays(served: tuple[str, str]) -> None:
    _, url = served
    with GenericEnvClient(base_url=url).sync() as client:
        assert client.reset(seed=3).observation["task_id"]
        assert client.step({"text": "dance"}).observation["action_valid"] is False


def test_the_stock_client_is_told_codes(served: tuple[str, str]) -> None:
    _, url = served

    async def play() -> None:
        async with GenericEnvClient(base_url=url) as client:
            with pytest.raises(RuntimeError, match="EXECUTION_ERROR"):
                await client.step({"text": "look"})
            with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
                await client.reset(task_id="nope")
            await client.reset()
            with pytest.raises(RuntimeError, match="VALIDATION_ERROR"):
                await client.step({"bogus": 1})
        crowd = [GenericEnvClient(base_url=url) for _ in range(9)]
        try:
            for client in crowd[:8]:
                await client.reset()
            with pytest.raises(RuntimeError, match="CAPACITY_REACHED"):
                await crowd[8].reset()
        finally:
            for client in crowd:
                await client.close()

    asyncio.run(play())


def test_the_stock_client_sends_the_token(tmp_path: Path) -> None:
    process, url = start(tmp_path / "log", "--token", TOKEN)

    async def play() -> None:
        with pytest.raises(ConnectionError):
            await GenericEnvClient(base_url=url).connect()
        async with GenericEnvClient(base_url=url, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
            assert (await client.reset()).observation["text"]

    try:
        asyncio.run(play())
    finally:
        process.terminate()
        process.wait(60)


def test_the_first_generation_of_the_mcp_sdk(served: tuple[str, str]) -> None:
    env_id, url = served
    world: Any = gymnasium.make(env_id).unwrapped
    observation, info = world.reset(seed=4)
    expert = world.expert()

    async def play() -> None:
        nonlocal observation, info
        async with streamablehttp_client(f"{url}/mcp") as (read, write, _), mcp.ClientSession(read, write) as session:
            await session.initialize()
            tools = {tool.name for tool in (await session.list_tools()).tools}
            assert tools == {"reset", *(tool["function"]["name"] for tool in world.tools)}
            result = await session.call_tool("reset", {"seed": 4})
            assert result.content[0].text == observation
            over = False
            while not over:
                text = expert.act(observation, info)
                action = world.grammar.parse(text)
                observation, reward, terminated, truncated, info = world.step(text)
                over = terminated or truncated
                result = await session.call_tool(action.name, dict(action.arguments))
                assert result.content[0].text == observation
                turn = result.meta["turnwise/turn"]
                assert (turn["reward"], turn["terminated"], turn["truncated"]) == (reward, terminated, truncated)
            assert "over" in result.content[1].text

    assert not hasattr(mcp, "Client"), "this is the second generation"
    asyncio.run(play())
