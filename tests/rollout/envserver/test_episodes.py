"""Episodes over every protocol are the environment's own, and tell nothing that it does not tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import gymnasium
import pytest
from served import CHAOS, PROTOCOLS, Seen, client_of, gym_response, gym_row, running

from turnwise.rollout.envserver import ServerOptions

HOUSEHOLD = "turnwise/Household-v0"
SEARCH = "turnwise/SearchQA-v0"
WORLDS = (HOUSEHOLD, SEARCH)
FACTS = ("action_valid", "action_error", "progress", "success", "level", "truncation", "task_id", "admissible_actions")


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as stack:
        yield {
            env: stack.enter_context(running(ServerOptions(env=env, port=0, spares=1, rewards="default")))
            for env in WORLDS
        }


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a JSON tree that is long enough to be recognised."""
    if isinstance(value, str):
        if len(value) > 2:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def same(seen: Seen, observation: str, info: dict[str, Any], reward: float = 0.0) -> None:
    assert seen.text == observation
    assert seen.reward == reward
    for name in FACTS:
        if name in seen.facts or name != "admissible_actions":
            assert seen.facts[name] == info.get(name), name


def no_labels(seen: Seen, data: dict[str, Any], told: str) -> None:
    """Fail if a reply holds the key or a text of the task's data that the world had not told itself."""
    leaked = [text for text in strings(data) if text in seen.raw and text not in told]
    leaked += [key for key in data if f'"{key}"' in seen.raw and f'"{key}"' not in told]
    assert not leaked, leaked


@pytest.mark.parametrize("env_id", WORLDS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_expert_episode_is_the_worlds_own_and_no_label_leaves(
    protocol: str, env_id: str, urls: dict[str, str]
) -> None:
    world: Any = gymnasium.make(env_id).unwrapped
    observation, info = world.reset(seed=7)
    expert = world.expert()

    async def play() -> None:
        nonlocal observation, info
        async with client_of(protocol, urls[env_id], env_id) as client:
            seen = await client.reset(seed=7)
            same(seen, observation, info)
            assert seen.facts["instruction"] == world.task.instruction
            told = json.dumps([world.system_prompt, world.tools, world.task.id, world.task.instruction])
            over = False
            while not over:
                told += json.dumps([observation, info["level"], info.get("admissible_actions")]) + observation
                no_labels(seen, world.task.data, told)
                action = expert.act(observation, info)
                told += action + json.dumps(action)
                observation, reward, terminated, truncated, info = world.step(action)
                over = terminated or truncated
                seen = await client.step(action)
                same(seen, observation, info, reward)
                assert (seen.terminated, seen.truncated) == (terminated, truncated)
            no_labels(seen, world.task.data, told + json.dumps(observation) + observation)
            record = seen.facts["trajectory"]
            assert record["rewards"]["outcome"] == {"value": 1.0, "invalid": None}
            assert len(record["turns"]) == seen.facts["turn"]
            assert info["success"]
            assert "evidence" not in seen.raw

    asyncio.run(play())


@pytest.mark.parametrize(
    "raw",
    [
        '{"observation": "Who?", "info": {"answers": []}}',
        '{"observation": "Who?", "info": ["Ada Lovelace"]}',
        '{"observation": "Who? The doc-17 says it."}',
    ],
)
def test_the_check_for_labels_finds_them(raw: str) -> None:
    data = {"answers": ["Ada Lovelace"], "supporting_facts": [["doc-17", 2]]}
    no_labels(Seen("Who?", 0.0, False, False, raw='{"observation": "Who?"}'), data, "Who?")
    with pytest.raises(AssertionError):
        no_labels(Seen("Who?", 0.0, False, False, raw=raw), data, "Who?")
    no_labels(Seen("", 0.0, False, False, raw="I read doc-17."), data, "I read doc-17.")


def test_a_task_by_name_is_the_one_that_a_seed_draws(urls: dict[str, str]) -> None:
    async def play() -> None:
        async with client_of("websocket", urls[HOUSEHOLD]) as client:
            drawn = await client.reset(seed=11)
            named = await client.reset(seed=11, task_id=drawn.facts["task_id"])
            as_object = await client.reset(seed=11, task={"id": drawn.facts["task_id"], "split": "train"})
            assert drawn.raw == named.raw == as_object.raw

    asyncio.run(play())


def test_sessions_side_by_side_do_not_mix(urls: dict[str, str]) -> None:
    actions = ("look", "inventory", "go to cabinet 1", "dance", "help")

    def alone(seed: int) -> list[Any]:
        world = gymnasium.make(HOUSEHOLD)
        told: list[Any] = [world.reset(seed=seed)[0]]
        return told + [world.step(action)[0] for action in actions]

    async def play(seed: int) -> list[Any]:
        async with client_of(PROTOCOLS[seed % 3], urls[HOUSEHOLD]) as client:
            told = [(await client.reset(seed=seed)).text]
            return told + [(await client.step(action)).text for action in actions]

    async def all_of_them() -> list[list[Any]]:
        return await asyncio.gather(*map(play, range(12)))

    assert asyncio.run(all_of_them()) == [alone(seed) for seed in range(12)]


def test_a_tool_call_is_an_action_in_every_protocol(urls: dict[str, str]) -> None:
    world = gymnasium.make(HOUSEHOLD)
    world.reset(seed=3)
    expected = world.step("go to cabinet 1")[0]

    async def play() -> None:
        async with client_of("websocket", urls[HOUSEHOLD]) as client:
            await client.reset(seed=3)
            call = {"name": "go_to", "arguments": {"receptacle": "cabinet 1"}, "metadata": {}}
            assert (await client.ask("step", call))["data"]["observation"]["text"] == expected
        async with client_of("gym", urls[HOUSEHOLD]) as client:
            await client.reset(seed=3)
            calls = [("go_to", '{"receptacle": "cabinet 1"}')]
            answer = (await client.http.post("/step", json=gym_row(response=gym_response("I go.", calls)))).json()
            assert answer["observation"] is None
            assert answer["info"]["tool_outputs"] == [{"call_id": "c0", "output": expected}]
            answer = (await client.http.post("/step", json=gym_row(response=gym_response("", calls * 2)))).json()
            assert not answer["info"]["action_valid"]
            assert [output["call_id"] for output in answer["info"]["tool_outputs"]] == ["c0", "c1"]

    asyncio.run(play())


def test_verify_echoes_the_row_with_the_episodes_return(urls: dict[str, str]) -> None:
    world: Any = gymnasium.make(HOUSEHOLD).unwrapped
    observation, info = world.reset(seed=5)
    expert = world.expert()

    async def play() -> None:
        nonlocal observation, info
        async with client_of("gym", urls[HOUSEHOLD]) as client:
            row = gym_row(response=gym_response("done"), label="mine", verifier_metadata={"seed": 5})
            assert (await client.http.post("/verify", json=row)).status_code == 409
            assert (await client.http.post("/seed_session", json=row)).status_code == 200
            assert (await client.http.post("/verify", json=row)).status_code == 409, "nothing was played yet"
            assert (await client.http.post("/reset", json=row)).json()["observation"] == observation
            terminated = False
            while not terminated:
                action = expert.act(observation, info)
                observation, _, terminated, _, info = world.step(action)
                await client.step(action)
            answer = (await client.http.post("/verify", json=row)).json()
            assert {name: answer[name] for name in row} == row
            assert answer["reward"] == sum(answer["reward_components"].values()) == 1.0
            assert (await client.http.post("/step", json=row)).status_code == 409, "the episode is over"
            assert (await client.http.post("/reset", json=row)).status_code == 200, "the cookie begins another one"

    asyncio.run(play())


def test_tasks_can_be_listed(urls: dict[str, str]) -> None:
    async def look() -> None:
        async with client_of("http", urls[HOUSEHOLD]) as client:
            http = client.http
            assert (await http.get("/list_environments")).json() == [HOUSEHOLD]
            assert (await http.get(f"/{HOUSEHOLD}/splits")).json() == {"splits": [{"name": "train"}]}
            count = (await http.post(f"/{HOUSEHOLD}/num_tasks", json={"split": "train"})).json()["num_tasks"]
            listed = (await http.post(f"/{HOUSEHOLD}/tasks", json={"split": "train"})).json()["tasks"]
            assert len(listed) == count > 1_000
            task = (await http.post(f"/{HOUSEHOLD}/task", json={"split": "train", "index": 4})).json()["task"]
            assert set(task) == {"id", "split", "instruction"}
            some = await http.post(f"/{HOUSEHOLD}/task_range", json={"split": "train", "start": 3, "stop": 6})
            assert [one["id"] for one in some.json()["tasks"]] == [one["id"] for one in listed[3:6]]
            assert task == some.json()["tasks"][1]
            for wrong in ({"split": "test", "index": 0}, {"split": "train", "index": count}, {"index": -1}, {}):
                assert (await http.post(f"/{HOUSEHOLD}/task", json=wrong)).status_code == 422
            assert (await http.post("/other/World-v0/tasks", json={})).status_code == 404

    asyncio.run(look())


def test_what_the_world_says_of_itself(urls: dict[str, str]) -> None:
    async def look() -> None:
        async with client_of("http", urls[SEARCH]) as client:
            metadata = (await client.http.get("/metadata")).json()
            assert metadata["name"] == SEARCH
            assert "Questions over documents" in metadata["description"]
            assert set((await client.http.get("/schema")).json()) >= {"action", "observation", "state"}
            assert (await client.http.get("/health")).json()["status"] == "healthy"
            assert "/seed_session" in (await client.http.get("/openapi.json")).json()["paths"]

    asyncio.run(look())


def test_a_foreign_world_is_served_too() -> None:
    gymnasium.register(id="plain/Guess-v0", entry_point="plainworld:GuessEnv", max_episode_steps=3)

    async def play(url: str) -> None:
        async with client_of("websocket", url) as client:
            first = await client.reset(seed=4)
            assert first.text == "Guess."
            seen = [await client.step("wrong") for _ in range(3)]
            assert [one.truncated for one in seen] == [False, False, True]
            assert seen[-1].facts["truncation"] == "turns"
            assert (await client.ask("reset", {"task_id": "a"}))["data"]["code"] == "VALIDATION_ERROR"
        async with client_of("mcp", url, CHAOS) as client:
            await client.call("reset", {"seed": 4})
            seen = await client.call("act", {"text": "right"})
            assert (seen.terminated, seen.reward) == (True, 1.0)

    with running(ServerOptions(env="plain/Guess-v0", port=0)) as url:
        asyncio.run(play(url))
