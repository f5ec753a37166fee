"""The web shop in a browser as an environment: the text world's reward, every kind of action, and failures."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest

import turnwise  # noqa: F401 - registers the worlds
from turnwise.envs import conformance
from turnwise.envs.webshop import WebShopEnv
from turnwise.envs.webshop_browser import WebShopBrowserEnv
from turnwise.envs.webshop_browser.expert import translate
from turnwise.errors import ConfigError, EnvError, SandboxError, UnknownNameError, attribute_to
from turnwise.registry import make_task_set

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def env() -> Iterator[WebShopBrowserEnv]:
    made = WebShopBrowserEnv(split="test", observation_mode="axtree", max_turns=1000)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pixel_env() -> Iterator[WebShopBrowserEnv]:
    made = WebShopBrowserEnv(split="test", viewport=(900, 500))
    yield made
    made.close()


def number(env: WebShopBrowserEnv, role: str, name: str) -> int:
    """The number of an element of the page."""
    for element in env.tree.elements.values():
        if element.role == role and element.name.lower() == name:
            return element.number
    raise AssertionError(f"no {role} {name!r} in\n{env.tree.outline}")


def search(env: WebShopBrowserEnv, words: str) -> tuple[Any, dict[str, Any]]:
    env.step(f"type[{number(env, 'searchbox', 'search the shop')}, {words}]")
    observation, _, _, _, info = env.step(f"click[{number(env, 'button', 'search')}]")
    return observation, info


# -- the same shop ---------------------------------------------------------------------------------


def stray(text: WebShopEnv, command: str, admissible: list[str], chances: Any) -> str:
    """Go astray now and then: look elsewhere, choose something else, or buy too early."""
    kind = text.visit.page.kind
    if kind == "item" and chances[0] < 0.35:
        return "click[buy now]"
    if kind in ("results", "item") and chances[0] < 0.7:
        return admissible[int(chances[1] * len(admissible))]
    return command


def scripts(count: int) -> Iterator[tuple[str, int, list[str]]]:
    """Task, seed and commands of episodes in the text world: what the expert does, and purchases gone wrong."""
    text = WebShopEnv(split="test")
    generator = np.random.default_rng(7)
    for episode in range(count):
        task_id = text.tasks.ids()[episode * 3]
        commands: list[str] = []
        observation, info = text.reset(seed=episode, options={"task_id": task_id})
        expert, over = text.expert(), False
        while not over:
            command = expert.act(observation, info)
            if episode % 2:
                command = stray(text, command, info["admissible_actions"], generator.random(2))
            observation, _, over, truncated, info = text.step(command)
            commands.append(command)
            assert not truncated, commands
        yield task_id, episode, commands


def test_fifty_scripted_episodes_get_the_reward_of_the_text_world(env: WebShopBrowserEnv) -> None:
    text = WebShopEnv(split="test")
    rewards = []
    for task_id, seed, commands in scripts(50):
        text.reset(seed=seed, options={"task_id": task_id})
        env.reset(seed=seed, options={"task_id": task_id})
        for command in commands:
            _, reward, terminated, _, info = text.step(command)
            # What is chosen already cannot be chosen again with a mouse, and need not be.
            idle = command[6:-1] in dict(env.visit.page.options).values()
            moves: list[str] = []
            while True:
                actions = translate(command, env.tree)
                _, paid, over, _, seen = env.step(actions[0])
                assert seen["action_valid"], (command, actions, seen["action_error"])
                moves += seen["extra"]["moves"]
                if len(actions) == 1:
                    break
            assert moves == ([] if idle else [command])
            assert (paid, over, seen["level"]) == (reward, terminated, info["level"])
            shared = {key: value for key, value in seen["extra"].items() if key in info["extra"]}
            assert shared == info["extra"]
            assert (seen["progress"], seen["success"]) == (info["progress"], info["success"])
        assert terminated
        rewards.append(reward)
    assert rewards.count(1.0) >= 25
    assert sum(reward < 1.0 for reward in rewards) >= 10
    assert len({round(reward, 6) for reward in rewards}) >= 5


@pytest.mark.parametrize("kind", ["expert", "heuristic"])
def test_experts_use_the_site(env: WebShopBrowserEnv, kind: str) -> None:
    rewards = []
    for episode in range(6):
        observation, info = env.reset(seed=episode)
        expert, over = env.expert(kind), False
        while not over:
            observation, reward, over, _, info = env.step(expert.act(observation, info))
            assert info["action_valid"], info["action_error"]
        rewards.append(reward)
    assert rewards == [1.0] * 6 if kind == "expert" else sum(rewards) > 2


def test_tasks_are_those_of_the_text_world(env: WebShopBrowserEnv) -> None:
    text = make_task_set("turnwise/WebShop-v0", split="test")
    assert list(make_task_set("turnwise/WebShopBrowser-v0", split="test").ids()) == list(text.ids())
    plain = WebShopEnv(split="test")
    for seed in (1, 2):
        assert env.reset(seed=seed)[1]["task_id"] == plain.reset(seed=seed)[1]["task_id"]
    goal = dict(text.get("human-3").data["goal"])
    assert env.reset(seed=0, options={"goal": goal})[1]["task_id"].startswith("given-")
    state = env.state()
    env.reset(seed=1)
    assert env.restore(state)[1]["task_id"] == state.task_id
    with pytest.raises(ConfigError, match="not both"):
        env.reset(options={"goal": goal, "task_id": "human-3"})


# -- observations ----------------------------------------------------------------------------------


def test_it_is_registered_and_shows_text_and_picture() -> None:
    made = gymnasium.make("turnwise/WebShopBrowser-v0", split="val", max_turns=7)
    try:
        observation, _ = made.reset(seed=0)
        assert observation["image"].shape == (720, 1280, 3)
        assert observation["image"].dtype == np.uint8
        assert made.observation_space.contains(observation)
        assert '[2] searchbox "Search the shop"' in observation["text"]
        assert made.unwrapped.max_turns == 7
    finally:
        made.close()


def test_observation_modes() -> None:
    shown = {}
    for mode in ("axtree", "text", "screenshot", "text+screenshot"):
        made = WebShopBrowserEnv(split="test", observation_mode=mode, viewport=[640, 480])  # type: ignore[arg-type]
        try:
            shown[mode], _ = made.reset(seed=0, options={"task_id": "human-3"})
            instruction = made.task.instruction
            assert made.observation_space.contains(shown[mode])
        finally:
            made.close()
    assert '[3] button "Search"' in shown["axtree"]
    assert "[3] Search" in shown["text"]
    assert "button" not in shown["text"]
    assert shown["text+screenshot"]["text"] == shown["text"]
    assert shown["screenshot"]["text"].endswith(f"Instruction: {instruction}")
    assert "[3]" not in shown["screenshot"]["text"]
    assert shown["screenshot"]["image"].shape == (480, 640, 3)


def test_pictures_are_the_same_every_time(pixel_env: WebShopBrowserEnv) -> None:
    def play(made: WebShopBrowserEnv) -> list[Any]:
        seen = [made.reset(seed=4)[0]["image"]]
        expert, over = made.expert(), False
        while not over:
            observation, _, over, _, _ = made.step(expert.act(None, {}))
            seen.append(observation["image"])
        return seen

    first, again = play(pixel_env), play(pixel_env)
    fresh_env = WebShopBrowserEnv(split="test", viewport=(900, 500))
    try:
        fresh = play(fresh_env)
    finally:
        fresh_env.close()
    assert len({image.tobytes() for image in first}) == len(first)
    for other in (again, fresh):
        assert [image.tobytes() for image in other] == [image.tobytes() for image in first]


def test_nothing_of_the_address_or_the_grader_reaches_the_agent(env: WebShopBrowserEnv) -> None:
    observation, info = env.reset(seed=3)
    expert, over, seen = env.expert(), False, [observation]
    while not over:
        observation, _, over, _, info = env.step(expert.act(observation, info))
        seen.append(observation)
    for text in seen:
        assert env._token not in text
        assert "127.0.0.1" not in text
        assert "reward" not in text.lower()


# -- actions ---------------------------------------------------------------------------------------


def test_by_coordinates_and_keyboard_alone(pixel_env: WebShopBrowserEnv) -> None:
    pixel_env.reset(seed=0, options={"task_id": "human-3"})
    page = pixel_env.page
    field = page.evaluate(
        "() => { const b = document.querySelector('#words').getBoundingClientRect(); return [b.x, b.y]; }"
    )
    for action in (f"click_at[{field[0] + 9}, {field[1] + 9}]", "write[green tea]", "press[enter]"):
        *_, info = pixel_env.step(action)
        assert info["action_valid"], info["action_error"]
    assert info["extra"]["moves"] == ["search[green tea]"]
    assert (info["extra"]["page"], info["extra"]["query"]) == ("results", "green tea")


def test_tool_calls_and_thoughts(env: WebShopBrowserEnv) -> None:
    env.reset(seed=0, options={"task_id": "human-3"})
    *_, info = env.step('{"name": "type", "arguments": {"element": 2, "text": "tea, green"}}')
    assert (info["action_valid"], info["action"].form) == (True, "json")
    assert env.tree.elements[2].value == "tea, green"
    *_, info = env.step("Thought: now search.\nAction: press[Enter]")
    assert info["extra"]["moves"] == ["search[tea, green]"]


def test_options_by_group_and_going_back_and_forward(env: WebShopBrowserEnv) -> None:
    env.reset(seed=0, options={"task_id": "human-3"})
    search(env, "winter jacket")
    env.step(f"click[{next(n for n, e in env.tree.elements.items() if 'to=b0' in e.url)}]")
    assert env.visit.page.kind == "item"
    group, members = next(
        (element, [member for member in env.tree.elements.values() if member.group == element.number])
        for element in env.tree.elements.values()
        if element.role == "radiogroup"
    )
    *_, info = env.step(f"select[{group.number}, {members[-1].name.upper()}]")
    assert info["extra"]["options"] == {group.name: members[-1].name}
    observation, *_, info = env.step(f"select[{group.number}, no such option]")
    assert not info["action_valid"]
    assert members[0].name in observation
    env.step(f"click[{number(env, 'link', 'features')}]")
    *_, info = env.step("back")
    assert (info["extra"]["page"], info["extra"]["options"]) == ("item", {group.name: members[-1].name})
    assert "checked" in env.tree.elements[members[-1].number].states
    *_, info = env.step("forward")
    assert info["extra"]["sub_page"] == "features"
    for _ in range(3):
        *_, info = env.step("back")
    assert info["extra"]["page"] == "search"
    observation, *_, info = env.step("back")
    assert (info["action_valid"], observation) == (False, "Invalid action: there is nothing to go back to")


def test_an_episode_cannot_go_back_into_the_one_before(env: WebShopBrowserEnv) -> None:
    env.reset(seed=0)
    search(env, "tea")
    env.reset(seed=1)
    *_, info = env.step("back")
    assert not info["action_valid"]
    assert info["extra"]["page"] == "search"


def test_scrolling_shows_more_and_stops_at_the_ends(pixel_env: WebShopBrowserEnv) -> None:
    pixel_env.reset(seed=0, options={"task_id": "human-3"})
    search(pixel_env, "winter jacket")
    before = pixel_env._image
    observation, *_, info = pixel_env.step("scroll[down]")
    assert info["extra"]["scrolled"][0] == 400
    assert "showing 400 to 900 of" in observation["text"]
    assert not np.array_equal(before, observation["image"])
    pixel_env.step("scroll[bottom]")
    *_, info = pixel_env.step("scroll[down]")
    assert "its bottom is in view" in info["action_error"]
    *_, info = pixel_env.step("scroll[top]")
    assert info["extra"]["scrolled"][0] == 0


@pytest.mark.parametrize(
    ("action", "why"),
    [
        ("click[999]", "they go from 1 to"),
        ("click[0]", "no element of this page has the number '0'"),
        ("click[buy now]", "no element of this page has the number 'buy now'"),
        ("click[9999999999999999999999]", "no element of this page"),
        ("click[¹]", "no element of this page"),
        ("click_at[1280, 5]", "outside the screen: x is 0 to 1279"),
        ("click_at[-3, 5]", "outside the screen"),
        ("click_at[nan, 5]", "x must be a number of pixels"),
        ("click_at[left, 5]", "x must be a number of pixels, got 'left'"),
        ("type[3, words]", "[3] is a button, not a text field"),
        ("select[3, words]", "[3] is a button, not a group of options"),
        ("write[words]", "no text field has the focus"),
        ("press[Control+A]", "unknown key 'Control+A'"),
        ("scroll[sideways]", "unknown direction 'sideways'"),
        ("scroll[down]", "its bottom is in view"),
        (f"type[2, {'x' * 3000}]", "the field takes only 2000 characters"),
        ("buy it", "none of the actions"),
    ],
)
def test_what_cannot_be_done_is_explained(env: WebShopBrowserEnv, action: str, why: str) -> None:
    env.reset(seed=0, options={"task_id": "human-3"})
    observation, reward, terminated, truncated, info = env.step(action)
    assert observation.startswith("Invalid action: ")
    assert why in observation
    assert why in info["action_error"]
    assert (info["action_valid"], reward, terminated, truncated) == (False, 0.0, False, False)
    assert info["extra"]["page"] == "search"
    assert info["extra"]["moves"] == []


def test_an_empty_search_is_answered_by_the_shop(env: WebShopBrowserEnv) -> None:
    env.reset(seed=0)
    observation, *_, info = env.step("click[3]")
    assert info["action_valid"]
    assert "Type what to look for" in observation


def test_configuration_errors() -> None:
    for options, hint in (
        ({"observation_mode": "axtre"}, "axtree"),
        ({"viewport": (100, 100)}, "200 to 4096"),
        ({"viewport": "big"}, "width and height"),
        ({"deadline_s": 0}, "positive number"),
        ({"reward_mode": "kind"}, "strict"),
        ({"shop_seed": -1}, "shop_seed"),
    ):
        with pytest.raises(ConfigError, match=hint):
            WebShopBrowserEnv(**options)  # type: ignore[arg-type]
    made = WebShopBrowserEnv(split="test")
    with pytest.raises(UnknownNameError, match="expert"):
        made.expert("experts")


# -- failures --------------------------------------------------------------------------------------


def test_a_crash_fails_the_episode_and_the_next_one_plays() -> None:
    made = WebShopBrowserEnv(split="test", observation_mode="axtree")
    try:
        made.reset(seed=0)
        assert made._browser is not None
        for process in made._browser.processes()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):  # Chromium ends some of its own at any time
                process.kill()
        with pytest.raises(SandboxError) as caught, attribute_to("env"):
            made.step("click[3]")
        assert caught.value.boundary == "sandbox"
        observation, _ = made.reset(seed=0)
        assert "Search the shop" in observation
        assert made.step("scroll[down]")[4]["action_valid"] is False
    finally:
        made.close()


def ended(process: psutil.Process) -> bool:
    """Whether a process ends within a while; nobody may have buried it yet."""
    for _ in range(200):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_hung_browser_fails_the_episode_and_the_next_one_plays() -> None:
    made = WebShopBrowserEnv(split="test", observation_mode="axtree", deadline_s=4)
    try:
        made.reset(seed=0)
        assert made._browser is not None
        hung = []
        for process in made._browser.processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # Chromium ends some of its own at any time
                if process.name().startswith("chrom"):
                    process.suspend()
                    hung.append(process)
        assert len(hung) > 2
        begin = time.monotonic()
        with pytest.raises(SandboxError) as caught:
            made.step("click[3]")
        assert caught.value.kind == "hang"
        assert time.monotonic() - begin < 30
        made.reset(seed=0)
        assert all(ended(process) for process in hung)
        made.step("click[3]")
    finally:
        made.close()


def test_a_fault_of_the_site_is_the_environments_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = WebShopBrowserEnv(split="test", observation_mode="axtree")
    try:
        made.reset(seed=0)
        monkeypatch.setattr(made.session, "search", lambda *_: 1 / 0)
        with pytest.raises(EnvError, match="ZeroDivisionError"), attribute_to("env"):
            search(made, "tea")
        made.reset(seed=0)
    finally:
        made.close()


OWNER = """
from turnwise.envs.webshop_browser import WebShopBrowserEnv
env = WebShopBrowserEnv(split="test")
env.reset(seed=0)
print(*(process.pid for process in env._browser.processes()), flush=True)
while True:
    env.step("click[3]")
"""


def test_a_killed_worker_leaves_no_chromium() -> None:
    worker = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    try:
        assert worker.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in worker.stdout.readline().split()]
        processes += psutil.Process(worker.pid).children(recursive=True)
        assert len(processes) > 4
        worker.send_signal(signal.SIGKILL)
        worker.wait(20)
        assert all(ended(process) for process in processes)
    finally:
        worker.kill()
        worker.wait()


def test_environments_of_a_thread_share_browser_and_server_and_nothing_else() -> None:
    first, second = (WebShopBrowserEnv(split="test", observation_mode="axtree") for _ in range(2))
    try:
        first.reset(seed=0)
        second.reset(seed=1)
        assert first._browser is second._browser
        assert first._server is second._server
        search(first, "tea")
        assert second.page.read().outline == second.tree.outline
        first.close()
        search(second, "tea")
        assert second.visit.page.kind == "results"
    finally:
        first.close()
        second.close()


@pytest.mark.slow
def test_it_keeps_the_contract() -> None:
    options = {"split": "test", "observation_mode": "axtree"}
    report = conformance.check("turnwise/WebShopBrowser-v0", env_options=options, episodes=1)
    assert report.ok, report.to_json()


@pytest.mark.slow
def test_it_keeps_the_contract_with_pictures() -> None:
    options = {"split": "test", "viewport": [400, 300]}
    rules = ["spaces", "info-keys", "same-seed", "state-restore", "malformed-actions", "fresh-results", "close"]
    report = conformance.check("turnwise/WebShopBrowser-v0", env_options=options, episodes=1, rules=rules)
    assert report.ok, report.to_json()
