"""``configs/webshop.yaml`` on episodes of the embedded shop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnwise.records import Trajectory
from turnwise.registry import make_task_set
from turnwise.rewards import load_rewards
from turnwise.rollout import Rollout

CONFIG = Path(__file__).parents[3] / "configs" / "webshop.yaml"
ENV = "turnwise/WebShop-v0"
MILESTONES, EFFICIENCY = 0.25, 0.2


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TURNWISE_CACHE")
    os.environ["TURNWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TURNWISE_CACHE"]
    else:
        os.environ["TURNWISE_CACHE"] = before


def played(agent: str, split: str, tasks: int) -> Iterator[Trajectory]:
    yield from Rollout(ENV, tasks=f"{split}:{tasks}", agent=agent, workers=0, rewards=str(CONFIG))


def totals_of(trajectory: Trajectory) -> dict[str, float]:
    found = {name: value.value for name, value in trajectory.rewards.items()}
    assert None not in found.values(), trajectory.rewards
    return {name: value for name, value in found.items() if value is not None}


def test_it_is_what_it_says() -> None:
    tree = load_rewards(CONFIG)
    assert load_rewards(tree.describe()).describe() == tree.describe()
    assert "--rewards configs/webshop.yaml" in CONFIG.read_text()
    tree.check_levels(("no_purchase", "wrong_type", "partial", "perfect"))


@pytest.mark.parametrize("split", ["test", "val", "train"])
def test_every_expert_episode_earns_everything(split: str) -> None:
    count = 0
    for trajectory in played("expert", split, len(make_task_set(ENV, split=split))):
        count += 1
        totals = totals_of(trajectory)
        turns = trajectory.turns
        assert totals["gated"] == pytest.approx(1.0 + MILESTONES), trajectory.id
        options = len(turns[-1].info["milestones"]["options"])
        efficiency = EFFICIENCY * (30 - max(len(turns), options + 3)) / (30 - options - 3)
        assert totals["shop_gated"] == pytest.approx(efficiency), trajectory.id
        assert totals["reward"] == pytest.approx(totals["gated"] + totals["shop_gated"])
        assert all(turn.rewards["reward"].valid and turn.rewards["shop_r1"].evidence for turn in turns)
        if len(turns) == options + 3:
            assert totals["shop_r1"] == pytest.approx(1001.0 * len(turns) + 0.1)
    assert count == len(make_task_set(ENV, split=split))


def test_an_erring_expert_earns_the_parts_that_are_right() -> None:
    seen: set[str] = set()
    for trajectory in played("noisy-expert:0.8", "train", 150):
        totals = totals_of(trajectory)
        assert trajectory.outcome is not None
        worth = trajectory.outcome.env_return
        gate = trajectory.rewards["gated"].evidence
        parts = [turn.rewards["gated"].evidence.get("parts", {}) for turn in trajectory.turns]
        paid = sum(share for part in parts for name, share in part.items() if name.startswith("purchase/"))
        assert paid == pytest.approx(worth), trajectory.id
        milestones = sum(part.get("shop_milestones", 0.0) for part in parts)
        assert gate["passed"] is (worth >= 0.5)
        assert (milestones > 0.0) is (worth >= 0.5)
        assert milestones <= MILESTONES + 1e-9
        assert (totals["shop_gated"] > 0.0) <= (worth == 1.0)
        assert totals["reward"] == pytest.approx(totals["gated"] + totals["shop_gated"])
        seen.add("perfect" if worth == 1.0 else "half" if worth >= 0.5 else "little" if worth else "nothing")
        if any("type" in name and share < 0 for part in parts for name, share in part.items()):
            seen.add("wrong type")
    assert {"perfect", "half", "wrong type"} <= seen
    assert seen & {"little", "nothing"}


def test_the_purchase_is_the_worlds_own_reward() -> None:
    tree = load_rewards({"version": 1, "rewards": [{"name": "shop_purchase"}]})
    for trajectory in played("noisy-expert:0.5", "val", 40):
        for turn, value in zip(trajectory.turns, tree.score(trajectory)["reward"], strict=True):
            assert value.value == turn.env_reward
