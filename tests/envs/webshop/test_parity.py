"""What the real WebShop answered in 120 recorded sessions, 400 purchases and 202 searches, and what we answer."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from turnwise.envs.webshop import WebShopEnv, purchase_reward
from turnwise.envs.webshop.catalogue import Catalogue
from turnwise.envs.webshop.nouns import NounRule
from turnwise.envs.webshop.sources import load_catalogue


@pytest.fixture(scope="module")
def catalogue(recordings: Path) -> Catalogue:
    return load_catalogue(recordings)


@pytest.mark.parametrize("mode", ["text_rich", "text"])
def test_every_recorded_session_is_reproduced(
    mode: Any, recordings: Path, recorded: Callable[[str], list[Any]], recorded_tagger: NounRule
) -> None:
    sessions = recorded(f"transcripts_{mode}.jsonl.gz")
    assert (len(sessions), sum(len(session["steps"]) for session in sessions)) == (60, 491)
    env = WebShopEnv(
        data=str(recordings), split="test", observation_mode=mode, compat=True, tagger=recorded_tagger, max_turns=1000
    )
    for session in sessions:
        observation, info = env.reset(seed=0, options={"goal": session["goal"]})
        assert (observation, info["available_actions"]) == (session["initial"], session["initial_actions"])
        for number, step in enumerate(session["steps"]):
            observation, reward, terminated, truncated, info = env.step(step["action"])
            where = f"session {session['session']}, step {number}: {step['action']!r}"
            assert observation == step["observation"], where
            assert (reward, terminated, truncated) == (pytest.approx(step["reward"], abs=1e-9), step["done"], False)
            if not terminated:
                assert info["available_actions"] == step["actions"], where


def test_the_default_environment_shows_the_same_pages(
    recordings: Path, recorded: Callable[[str], list[Any]], recorded_tagger: NounRule
) -> None:
    env = WebShopEnv(data=str(recordings), split="test", tagger=recorded_tagger, max_turns=1000)
    understood = 0
    for session in recorded("transcripts_text_rich.jsonl.gz"):
        env.reset(seed=0, options={"goal": session["goal"]})
        for step in session["steps"]:
            before = env.state()
            observation, reward, _, _, info = env.step(step["action"])
            if info["action_valid"] and not step["action"].startswith("CLICK"):
                understood += 1
                assert (observation, reward) == (step["observation"], step["reward"])
            elif info["action_valid"]:  # "CLICK[Buy Now]" is understood here, not there
                env.restore(before)
    assert understood > 400


def test_every_recorded_purchase_is_worth_the_same(
    catalogue: Catalogue, recorded: Callable[[str], list[Any]], recorded_tagger: NounRule
) -> None:
    cases = recorded("reward_cases.jsonl.gz")
    assert len(cases) == 400
    for number, case in enumerate(cases):
        product = catalogue.product(catalogue.row(case["asin"]))
        found = purchase_reward(product, case["goal"], case["price"], case["options"], tagger=recorded_tagger)
        assert found.total == pytest.approx(case["reward"], abs=1e-9), number
        parts = found.as_json()
        for name, value in case["info"].items():
            assert parts[name] == pytest.approx(value, abs=1e-9), f"case {number}: {name}"
        assert all(parts[name] is None for name in ("r_option", "w_option") if name not in case["info"])


def test_searches_rank_as_lucene_did(catalogue: Catalogue, recordings: Path) -> None:
    with gzip.open(recordings / "lucene_rankings.json.gz", "rt", encoding="utf-8") as file:
        rankings = json.load(file)
    assert len(rankings) == 202
    same_10 = same_50 = 0
    for query, hits in rankings.items():
        wanted = [asin for asin, _ in hits]
        found = [catalogue.product(row).asin for row in catalogue.search(query.lower())]
        same_10 += found[:10] == wanted[:10]
        same_50 += found == wanted
    assert same_10 >= 0.99 * len(rankings)
    assert same_50 >= 0.97 * len(rankings)


def test_goals_come_in_webshops_order(recordings: Path, recorded: Callable[[str], list[Any]]) -> None:
    tasks = WebShopEnv(data=str(recordings), split="test").tasks
    for session in recorded("transcripts_text.jsonl.gz"):
        goal = tasks.get(f"human-{session['session']}").data["goal"]
        for key in ("asin", "category", "query", "name", "product_category", "attributes", "goal_options", "weight"):
            assert goal[key] == session["goal"][key], key
        # The ceilings of the recordings come from an unseeded generator: only the text before them is the same.
        ours, theirs = goal["instruction_text"], session["goal"]["instruction_text"]
        assert ours.partition(", and price")[0] == theirs.partition(", and price")[0]


def test_prices_are_those_of_the_recordings(catalogue: Catalogue, recordings: Path) -> None:
    prices = json.loads((recordings / "product_prices.json").read_text())
    assert {asin: catalogue.price(catalogue.row(asin), seed=0) for asin in prices} == prices
    assert len(catalogue) == len(prices) == 1000


def test_splits_are_those_of_the_baselines(recordings: Path) -> None:
    data = str(recordings)
    sizes = {
        split: len(WebShopEnv(data=data, split=split).tasks) for split in ("test", "val", "verl-val", "verl-train")
    }
    assert sizes == {"test": 500, "val": 315, "verl-val": 500, "verl-train": 315}
    synthetic = WebShopEnv(data=data, split="test", goals="synthetic").tasks
    assert (len(synthetic), synthetic.ids()[0]) == (500, "synthetic-0")
    assert len(WebShopEnv(data=data, split="synthetic-train").tasks) > 1000
