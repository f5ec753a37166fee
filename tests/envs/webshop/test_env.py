"""The web shop as an environment: its contract, what agents see, and what they cannot."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import turnwise  # noqa: F401 - registers the worlds
from turnwise.agents.randomness import random_action
from turnwise.envs.webshop import WebShopEnv
from turnwise.envs.webshop.product import Product
from turnwise.errors import ConfigError, EpisodeOverError, UnknownNameError


def play(env: WebShopEnv, act: Any, **reset: Any) -> tuple[float, dict[str, Any], list[str]]:
    """Play an episode; returns the last reward, the last info and what the agent saw."""
    observation, info = env.reset(**reset)
    seen = [observation]
    while True:
        observation, reward, terminated, truncated, info = env.step(act(observation, info))
        seen.append(observation)
        if terminated or truncated:
            return reward, info, seen


@pytest.fixture(scope="module")
def env() -> WebShopEnv:
    return WebShopEnv(split="test")


def test_it_is_registered() -> None:
    made = gymnasium.make("turnwise/WebShop-v0", split="val", max_turns=7)
    observation, info = made.reset(seed=0)
    assert observation.startswith("WebShop\nInstruction: \n")
    assert info["available_actions"] == {"has_search_bar": True, "clickables": ["search"]}
    assert made.unwrapped.max_turns == 7


@pytest.mark.parametrize("mode", ["compat", "strict"])
def test_the_expert_earns_everything_on_every_embedded_goal(mode: Any) -> None:
    count = 0
    for split in ("test", "val", "train"):
        env = WebShopEnv(split=split, reward_mode=mode)
        for task_id in env.tasks.ids():
            reward, info, seen = play(env, env.expert().act, seed=0, options={"task_id": task_id})
            goal = env.task.data["goal"]
            assert (reward, info["success"], info["progress"], info["level"]) == (1.0, True, 1.0, "perfect"), task_id
            purchase = info["extra"]["purchase"]
            assert purchase["asin"] == goal["asin"]
            assert len(purchase["options"]) == len(goal["goal_options"])
            assert len(seen) <= 7
            count += 1
    assert count == 2000


def test_the_expert_solves_synthetic_goals_and_takes_over_anywhere() -> None:
    env = WebShopEnv(split="test", goals="synthetic")
    for number, task_id in enumerate(env.tasks.ids()[:40]):
        generator = np.random.default_rng(number)
        env.reset(seed=number, options={"task_id": task_id})
        info: dict[str, Any] = {}
        observation, over = env.render(), False
        for _ in range(6):
            actions = [f"search[{['kettle', 'tea', 'shoes'][number % 3]}]", *(info.get("admissible_actions") or [])]
            action = actions[int(generator.integers(len(actions)))]
            if action != "click[buy now]":
                observation, _, over, _, info = env.step(action)
        expert = env.expert()
        while not over:
            observation, reward, over, truncated, info = env.step(expert.act(observation, info))
            assert not truncated
        assert reward == 1.0


def test_the_heuristic_shopper_sees_pages_only(env: WebShopEnv) -> None:
    rewards = []
    for number, task_id in enumerate(env.tasks.ids()):
        shopper = env.expert("heuristic")
        reward, _, _ = play(env, lambda o, i, s=shopper: s.act(o, {}), seed=number, options={"task_id": task_id})
        rewards.append(reward)
    assert np.mean(rewards) > 0.85
    assert min(rewards) < 1.0
    other = WebShopEnv(split="test", observation_mode="html")
    other.reset(seed=0)
    assert play(other, other.expert("heuristic").act, seed=0)[2][0].startswith("<!DOCTYPE")
    with pytest.raises(UnknownNameError):
        env.expert("heuristics")


def test_random_play_earns_next_to_nothing(env: WebShopEnv) -> None:
    rewards = []
    for number, task_id in enumerate(env.tasks.ids()):
        generator = np.random.default_rng(number)
        reward, _, _ = play(
            env, lambda o, i, g=generator: random_action(env, o, i, g), seed=number, options={"task_id": task_id}
        )
        rewards.append(reward)
    assert np.mean(rewards) < 0.1


def test_what_is_wanted_is_never_told_before_the_purchase(env: WebShopEnv) -> None:
    for number, task_id in enumerate(env.tasks.ids()[:60]):
        goal = env.tasks.get(task_id).data["goal"]
        product: Product = env.shop.catalogue.product(env.shop.catalogue.row(goal["asin"]))
        observation, info = env.reset(seed=number, options={"task_id": task_id})
        for action in ("", "search[the]", "click[nothing]", "click[next >]", "click[back to search]"):
            said = observation + json.dumps({key: value for key, value in info.items() if key != "action"})
            assert goal["asin"].lower() not in said.lower()
            assert product.title not in said
            for attribute in product.attributes:  # those that the instruction keeps to itself
                assert attribute in goal["instruction_text"] or attribute not in said
            observation, _, _, _, info = env.step(action)
    observation, info = env.reset(seed=0, options={"goal": goal})
    assert goal["asin"] not in env.task.id


def test_milestones_follow_the_way_to_the_goal(env: WebShopEnv) -> None:
    task_id = next(t for t in env.tasks.ids() if len(env.tasks.get(t).data["goal"]["goal_options"]) == 2)
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    goal, expert = env.task.data["goal"], env.expert()
    steps = []
    while not steps or not steps[-1]["success"]:
        observation, _, _, _, info = env.step(expert.act(observation, info))
        steps.append(info)
    assert [info["progress"] for info in steps] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [info["extra"]["page"] for info in steps] == ["results", "item", "item", "item", "done"]
    assert goal["asin"] in steps[0]["extra"]["listed"]
    assert steps[3]["extra"]["milestones"] == {"listed": True, "opened": True, "options": [True, True], "bought": False}
    assert [info["extra"]["purchase"] for info in steps[:-1]] == [None] * 4
    assert [info["level"] for info in steps] == ["no_purchase"] * 4 + ["perfect"]
    purchase = steps[-1]["extra"]["purchase"]
    assert (purchase["total"], purchase["r_option"], purchase["options_matched"]) == (1.0, 1.0, [True, True])
    assert purchase["price"] <= goal["price_upper"]


def test_levels_tell_what_was_bought(env: WebShopEnv) -> None:
    task_id = next(t for t in env.tasks.ids() if env.tasks.get(t).data["goal"]["goal_options"])
    goal = env.tasks.get(task_id).data["goal"]
    levels = {}
    for words in (goal["name"], "<c> " + ("grocery" if goal["category"] != "grocery" else "fashion")):
        env.reset(seed=0, options={"task_id": task_id})
        _, _, _, _, info = env.step(f"search[{words}]")
        env.step(f"click[{info['extra']['listed'][0]}]")
        _, reward, terminated, _, info = env.step("click[Buy Now]")
        assert terminated
        levels[info["level"]] = reward
    assert 0.0 < levels["partial"] < 1.0
    assert levels["wrong_type"] < 0.1


def test_invalid_actions_are_flagged_and_explained(env: WebShopEnv) -> None:
    env.reset(seed=0)
    observation, reward, terminated, _, info = env.step("click[search]")
    assert (reward, terminated, info["action_valid"]) == (0.0, False, False)
    assert "search[keywords]" in observation
    env.step("search[olive oil]")
    observation, _, _, _, info = env.step("click[next page]")
    assert not info["action_valid"]
    assert info["action_error"] in observation
    assert "Did you mean 'next >'" in observation
    assert "'back to search'" in observation
    assert info["extra"]["page"] == "results"
    observation, _, _, _, info = env.step("buy it")
    assert "search[{keywords}]" in observation


def test_compat_answers_nothing_with_the_same_page() -> None:
    env = WebShopEnv(split="test", compat=True)
    env.reset(seed=0)
    page, *_ = env.step("search[olive oil]")
    for message in (
        "click[nothing]",
        "CLICK[next >]",
        "",
        "search[]",
        "Thought: x\nAction: click[next >]",
        "click[search]",
        '{"name": "click", "arguments": {"label": "next >"}}',
        "\x00[\ud800]",
    ):
        observation, reward, terminated, _, info = env.step(message)
        assert (observation, reward, terminated) == (page, 0.0, False)
        assert info["action_valid"] is False
        assert info["action_error"]
    observation, _, _, _, info = env.step("click[NEXT >] and more")
    assert info["action_valid"]
    assert "Page 2" in observation


def test_tool_calls_thoughts_and_case_are_understood(env: WebShopEnv) -> None:
    env.reset(seed=0)
    first = env.step("search[Olive Oil]")[0]
    for message in (
        '{"name": "search", "arguments": {"keywords": "olive oil"}}',
        "Thought: oil.\nAction: search[olive oil]",
        '<tool_call>{"name": "search", "arguments": {"keywords": "OLIVE OIL"}}</tool_call>',
    ):
        assert env.step(message)[0] == first
    asin = env.step("search[olive oil]")[4]["extra"]["listed"][0]
    assert env.step(f"click[{asin}]")[4]["extra"]["asin"] == asin
    assert env.step('{"name": "click", "arguments": {"label": "Features"}}')[4]["extra"]["sub_page"] == "features"


def test_a_given_goal_is_played(env: WebShopEnv) -> None:
    goal = env.tasks.get("human-3").data["goal"] | {"unknown": "ignored"}
    reward, info, seen = play(env, env.expert().act, seed=0, options={"goal": goal})
    assert (reward, info["task_id"]) == (1.0, env.task.id)
    assert goal["instruction_text"] in seen[0]
    state = env.state()
    env.reset(seed=1)
    assert env.restore(state)[1]["task_id"] == state.mark.task.id
    stranger = goal | {"asin": "B0XXXXXXXX"}
    reward, info, _ = play(env, env.expert().act, seed=0, options={"goal": stranger})
    assert info["extra"]["milestones"]["opened"] is False
    for options in ({"goal": {"asin": "x"}}, {"goal": 7}, {"goal": goal, "task_id": "human-3"}, {"gaol": goal}):
        with pytest.raises(ConfigError):
            env.reset(options=options)


def test_a_point_of_an_episode_is_restored_elsewhere(env: WebShopEnv) -> None:
    env.reset(seed=4)
    env.step("search[<r>]")
    state, seen = env.state(), env.step("click[next >]")
    other = WebShopEnv(split="test")
    assert other.restore(state)[1]["task_id"] == env.task.id
    after = other.step("click[next >]")
    assert (after[0], after[4]["extra"]) == (seen[0], seen[4]["extra"])
    with pytest.raises(ConfigError):
        other.restore("elsewhere")


def test_observation_modes(env: WebShopEnv) -> None:
    shown = {}
    for mode in ("text_rich", "text", "html", "url"):
        made = WebShopEnv(split="test", observation_mode=mode)  # type: ignore[arg-type]
        made.reset(seed=0)
        shown[mode] = made.step("search[olive oil]")[0]
    assert "[button] Next > [button_]" in shown["text_rich"]
    assert " [SEP] Next > [SEP] " in shown["text"]
    assert shown["html"].startswith("<!DOCTYPE html>")
    assert shown["url"].endswith("/olive+oil/1")


def test_options_are_checked() -> None:
    mistakes: tuple[dict[str, Any], ...] = (
        {"observation_mode": "txt"},
        {"reward_mode": "loose"},
        {"goals": "mixed"},
        {"tagger": "nltk"},
        {"shop_seed": -1},
        {"shop_seed": True},
        {"split": "verl-val"},
        {"split": "synthetic-tran"},
    )
    for options in mistakes:
        with pytest.raises(ConfigError):
            WebShopEnv(**options)
    with pytest.raises(EpisodeOverError):
        WebShopEnv().step("search[x]")
    with pytest.raises(EpisodeOverError):
        WebShopEnv().visit  # noqa: B018


def test_another_seed_changes_order_and_ceilings() -> None:
    one, two = WebShopEnv(split="test"), WebShopEnv(split="test", shop_seed=1)
    goals = [[env.tasks.get(task_id).data["goal"] for task_id in env.tasks.ids()] for env in (one, two)]
    assert [goal["asin"] for goal in goals[0]] != [goal["asin"] for goal in goals[1]]
    assert one.shop.catalogue is two.shop.catalogue


def test_a_tagger_may_be_a_function() -> None:
    asked: list[str] = []

    def tagger(title: str) -> tuple[str, ...]:
        asked.append(title)
        return ("x",)

    env = WebShopEnv(split="test", tagger=tagger)
    play(env, env.expert().act, seed=0)
    assert len(asked) == 2


MESSAGES = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.builds(lambda text: f"search[{text}]", st.text(max_size=20) | st.sampled_from(["<r>", "tea", "<c> beauty"])),
        st.integers(0, 30),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(messages=MESSAGES, compat=st.booleans(), mode=st.sampled_from(["text_rich", "text", "html", "url"]))
def test_no_message_crashes_and_progress_never_falls(messages: list[Any], compat: bool, mode: Any) -> None:
    env = WebShopEnv(split="val", compat=compat, observation_mode=mode)
    _, info = env.reset(seed=1)
    before = 0.0
    for message in messages:
        if isinstance(message, int):
            actions = info["admissible_actions"] or ["search[tea]"]
            message = actions[message % len(actions)]
        observation, reward, terminated, truncated, info = env.step(message)
        assert env.observation_space.contains(observation)
        assert 0.0 <= reward <= 1.0
        assert before <= info["progress"] <= 1.0
        before = info["progress"]
        assert info["action_valid"] is (info["action_error"] is None)
        assert json.loads(json.dumps(info["extra"])) == info["extra"]
        if terminated or truncated:
            break


def test_every_admissible_action_is_carried_out(env: WebShopEnv) -> None:
    generator = random.Random(3)
    _, info = env.reset(seed=3)
    for _ in range(25):
        for action in info["admissible_actions"]:
            state = env.state()
            assert env.step(action)[4]["action_valid"], action
            env.restore(state)
        choices = [action for action in info["admissible_actions"] if action != "click[buy now]"]
        info = env.step(generator.choice(choices) if choices else "search[face moisturizer]")[4]


def test_conformance() -> None:
    from turnwise.envs.conformance.check import check

    for options in ({"split": "test"}, {"split": "val", "compat": True, "observation_mode": "html"}):
        report = check("turnwise/WebShop-v0", env_options=options, episodes=5)
        assert [finding.detail for finding in report.findings if not finding.ok] == []


def test_import_is_light_and_starts_no_threads() -> None:
    WebShopEnv(split="val")  # makes the data, which takes yaml
    code = (
        "import sys, threading, turnwise.envs.webshop as s; s.WebShopEnv(split='val').reset(seed=0);"
        "bad = {'yaml', 'spacy', 'bs4', 'jinja2', 'fastapi', 'torch', 'ray', 'pyarrow', 'networkx'} & {*sys.modules};"
        "assert not bad, bad; assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_rewards_find_what_they_need_in_a_trajectory(tmp_path: Path) -> None:
    from turnwise.rollout import Rollout

    found = list(Rollout(env="turnwise/WebShop-v0", tasks="test:2", agent="expert", workers=0))
    for trajectory in found:
        goal, last = trajectory.task.data["goal"], trajectory.turns[-1]
        assert last.info["purchase"]["asin"] == goal["asin"]
        assert trajectory.turns[0].info["milestones"]["listed"] is True
        assert [turn.action.name for turn in trajectory.turns][:1] == ["search"]
        assert trajectory.outcome.level == "perfect"
