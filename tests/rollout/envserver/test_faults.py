"""What goes wrong in one session stays there, is told as it is, and leaves no process behind."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chaosworld
import httpx
import psutil
import pytest
from served import CHAOS, client_of, gym_response, gym_row, of_session, wait_until

from turnwise.rollout.engine.wire import Deadlines

HANGS = ("sleep", "spin")
DEATHS = ("exit", "kill", "abort", "grandchild-exit")


def faulty(fault: str, where: str = "step", **options: Any) -> dict[str, Any]:
    return {"faults": {"ep-0001": f"{where}:{fault}"}, **options}


async def problem_of(client: Any, *actions: str, task: str = "ep-0001") -> dict[str, Any]:
    """Begin the faulty task, act, and return the error that comes."""
    answer = await client.ask("reset", {"task_id": task})
    for action in actions:
        assert answer["type"] == "observation", answer
        answer = await client.ask("step", {"text": action})
    assert answer["type"] == "error", answer
    return answer["data"]


@pytest.mark.parametrize("fault", HANGS)
@pytest.mark.parametrize("where", ["step", "reset"])
def test_a_hang_is_killed_and_neighbours_go_on(fault: str, where: str, serving: Callable[..., str]) -> None:
    options = faulty(fault, where, turns=100_000)
    url = serving(env_options=options, max_turns=100_000, deadlines=Deadlines(boot_s=1.0, step_s=1.0))

    async def play() -> None:
        async with client_of("websocket", url) as stuck, client_of("websocket", url) as neighbour:
            await neighbour.reset(task_id="ep-0000")
            waiting = asyncio.create_task(problem_of(stuck, *(["wait", "wait"] if where == "step" else [])))
            turns = 0
            while not waiting.done():
                await neighbour.step("wait")
                turns += 1
            problem = await waiting
            assert (problem["code"], problem["boundary"], problem["kind"]) == ("EXECUTION_ERROR", "env", "hang")
            assert "deadline of 1 s" in problem["message"]
            assert turns > 20, "the neighbour stood still"
            over = await stuck.ask("step", {"text": "wait"})
            assert over["data"]["code"] == "EXECUTION_ERROR", "a failed episode does not go on"
            assert (await stuck.reset(task_id="ep-0002")).facts["turn"] == 0, "the session plays again"
            assert (await stuck.step("wait")).facts["turn"] == 1

    asyncio.run(play())


@pytest.mark.parametrize("fault", DEATHS)
def test_a_death_is_told_and_the_session_plays_again(fault: str, serving: Callable[..., str], tmp_path: Path) -> None:
    url = serving(env_options=faulty(fault, notes=str(tmp_path)))

    async def play() -> None:
        async with client_of("websocket", url) as client:
            problem = await problem_of(client, "wait", "wait")
            assert (problem["boundary"], problem["kind"]) == ("env", "exit")
            assert "during env.step at turn 1" in problem["message"]
            assert (await client.reset(task_id="ep-0002")).text.startswith("Start of ep-0002")

    asyncio.run(play())
    left = {int(path.name.rpartition("-")[2]) for path in tmp_path.glob("grandchild-*")}
    assert wait_until(lambda: not any(map(psutil.pid_exists, left))), "what the world started is left"


@pytest.mark.parametrize(("fault", "kind"), [("raise", "exception"), ("nan", "exception"), ("sysexit", "exit")])
def test_an_exception_is_told_without_its_words(fault: str, kind: str, serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty(fault))

    async def play() -> None:
        async with client_of("websocket", url) as client:
            problem = await problem_of(client, "wait", "wait")
            assert (problem["code"], problem["boundary"], problem["kind"]) == ("EXECUTION_ERROR", "env", kind)
            assert "chaos was asked for" not in str(problem), "the exception's words may quote a label"
            assert (await client.reset(task_id="ep-0002")).facts["turn"] == 0

    asyncio.run(play())


def test_memory_is_limited(serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty("memory"), memory_limit=256 * 2**20)

    async def play() -> None:
        async with client_of("websocket", url) as client:
            assert (await problem_of(client, "wait", "wait"))["kind"] == "memory"
            assert (await client.reset(task_id="ep-0002")).facts["turn"] == 0

    asyncio.run(play())


def test_an_episode_has_a_deadline_as_a_whole(serving: Callable[..., str]) -> None:
    url = serving(
        env_options={"turns": 10_000}, deadlines=Deadlines(episode_s=0.5), rewards="default", token="a secret"
    )

    async def play() -> None:
        async with client_of("websocket", url, headers={"Authorization": "Bearer a secret"}) as client:
            await client.reset(task_id="ep-0002")
            await client.step("wait")
            await asyncio.sleep(1.0)  # the client thinks for too long
            problem = (await client.ask("step", {"text": "wait"}))["data"]
            assert (problem["code"], problem["kind"]) == ("EXECUTION_ERROR", "deadline")
            session = (await client.ask("state"))["data"]["session_id"]
            async with httpx.AsyncClient(base_url=url, headers={"Authorization": "Bearer a secret"}) as http:
                record = (await http.get(f"/sessions/{session}/trajectory")).json()
            assert (record["status"], record["truncation"]) == ("truncated", "time")

    asyncio.run(play())


def test_a_failed_episode_keeps_its_turns_and_has_no_rewards(serving: Callable[..., str]) -> None:
    headers = {"Authorization": "Bearer a secret"}
    url = serving(env_options=faulty("exit"), rewards="default", token="a secret")

    async def play() -> None:
        async with client_of("websocket", url, headers=headers) as client:
            await problem_of(client, "wait", "wait")
            session = (await client.ask("state"))["data"]["session_id"]
            async with httpx.AsyncClient(base_url=url, headers=headers) as http:
                record = (await http.get(f"/sessions/{session}/trajectory")).raise_for_status().json()
        assert record["status"] == "failed"
        assert record["failure"]["kind"] == "exit"
        assert [turn["action_text"] for turn in record["turns"]] == ["wait"]
        assert record["rewards"] == {}, "a failure is no 0"
        assert record["outcome"] is None

    asyncio.run(play())


def test_a_failed_episode_is_no_zero_to_nemo_gym(serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty("exit"))

    async def play() -> None:
        async with client_of("gym", url) as client:
            await client.reset(task_id="ep-0001")
            await client.step("wait")
            failed = await client.http.post("/step", json=gym_row(response=gym_response("wait")))
            assert failed.status_code == 500
            assert failed.json()["error"]["kind"] == "exit"
            verified = (await client.http.post("/verify", json=gym_row(response=gym_response("wait")))).json()
            assert verified["_ng_failure_class"] == "env_failed"

    asyncio.run(play())


def test_a_hang_in_closing_is_killed_too(serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty("sleep", "close"), max_sessions=1)

    async def play() -> None:
        async with client_of("websocket", url) as client:
            await client.reset(task_id="ep-0001")
        async with client_of("websocket", url) as client:
            await client.reset(task_id="ep-0002")

    asyncio.run(play())


def test_a_world_that_cannot_be_made_is_told_when_the_server_starts(serving: Callable[..., str]) -> None:
    with pytest.raises(Exception, match="chaos was asked for"):
        serving(env_options={"boot": "raise"})


def test_a_lost_zygote_costs_its_episodes_only(serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty("kill-zygote"))

    async def play() -> None:
        async with client_of("websocket", url) as client:
            problem = await problem_of(client, "wait", "wait")
            assert (problem["boundary"], problem["kind"]) == ("transport", "exit")
            assert (await client.reset(task_id="ep-0002")).facts["turn"] == 0

    asyncio.run(play())


def test_a_client_that_leaves_in_the_middle_of_a_step_leaves_no_process(serving: Callable[..., str]) -> None:
    url = serving(env_options=faulty("sleep"), spares=0, deadlines=Deadlines(step_s=1.0))

    async def play() -> None:
        async with client_of("websocket", url) as client:
            await client.reset(task_id="ep-0001")
            await client.step("wait")
            await client.socket.send('{"type": "step", "data": {"text": "wait"}}')
        async with httpx.AsyncClient(base_url=url) as http:
            for _ in range(200):
                if (await http.get("/health")).json()["active_sessions"] == 0:
                    return
                await asyncio.sleep(0.05)
        raise AssertionError("the session is still open")

    asyncio.run(play())


def test_nothing_outlives_a_killed_server(tmp_path: Path) -> None:
    token = secrets.token_hex(8)
    environment = {**os.environ, chaosworld.SESSION: token, "PYTHONPATH": str(Path(chaosworld.__file__).parent)}
    script = (
        "import sys\n"
        "from turnwise import register_env\n"
        "from turnwise.rollout.cli import main\n"
        f"register_env({CHAOS!r}, 'chaosworld:ChaosEnv')\n"
        "main()\n"
    )
    options = ["--env", CHAOS, "--port", "0", "--env-option", 'faults={"ep-0001": "step:spin"}']
    log = tmp_path / "log"
    with log.open("w") as out:
        server = subprocess.Popen([sys.executable, "-c", script, "serve-env", *options], stderr=out, env=environment)
    try:
        assert wait_until(lambda: "http://" in log.read_text() or server.poll() is not None, 60), log.read_text()
        url = "http://" + log.read_text().split("http://")[1].split()[0]

        async def play() -> None:
            async with client_of("websocket", url) as stuck, client_of("websocket", url) as idle:
                await stuck.reset(task_id="ep-0001")
                await stuck.step("wait")
                await stuck.socket.send('{"type": "step", "data": {"text": "wait"}}')  # spins for ever
                await idle.reset(task_id="ep-0000")
                assert len(of_session(token)) >= 3, "a zygote and two sessions"
                server.send_signal(signal.SIGKILL)
                await asyncio.sleep(0.1)

        asyncio.run(play())
        assert wait_until(lambda: not of_session(token)), "processes are left"
    finally:
        server.kill()
        server.wait(30)


def test_a_server_ends_on_sigterm(tmp_path: Path) -> None:
    token = secrets.token_hex(8)
    environment = {**os.environ, chaosworld.SESSION: token}
    log = tmp_path / "log"
    with log.open("w") as out:
        run = "from turnwise.rollout.cli import main; main()"
        command = [sys.executable, "-c", run, "serve-env", "--port", "0"]
        server = subprocess.Popen(command, stderr=out, env=environment, cwd=tmp_path)
    try:
        assert wait_until(lambda: "http://" in log.read_text() or server.poll() is not None, 60), log.read_text()
        server.terminate()
        server.wait(30)
        assert wait_until(lambda: not of_session(token)), "processes are left"
        assert "Traceback" not in log.read_text()
    finally:
        server.kill()
        server.wait(30)
