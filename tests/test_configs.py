"""The reward configurations in ``configs/``: those of the demo have three families of turn rewards in one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnwise.rewards import load_rewards
from turnwise.rollout import Rollout

CONFIGS = Path(__file__).parent.parent / "configs"
FAMILIES = ("gated", "information_gain", "citation_rubric")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("TURNWISE_CACHE")
    os.environ["TURNWISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["TURNWISE_CACHE"]
    else:
        os.environ["TURNWISE_CACHE"] = before


@pytest.mark.parametrize("name", ["household", "searchqa"])
def test_the_demos_have_the_three_families(name: str) -> None:
    assert set(FAMILIES) < set(load_rewards(CONFIGS / f"{name}.yaml").names)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_describes_itself_and_says_how_to_use_it(path: Path) -> None:
    tree = load_rewards(path)
    assert load_rewards(tree.describe()).describe() == tree.describe()
    assert f"--rewards configs/{path.name}" in path.read_text()


def test_every_turn_of_a_search_has_a_value_of_each_family_and_says_why() -> None:
    solved = 0
    run = Rollout(
        "turnwise/SearchQA-v0",
        tasks="train:40",
        agent="noisy-expert",
        workers=0,
        rewards=str(CONFIGS / "searchqa.yaml"),
    )
    for trajectory in run:
        assert trajectory.outcome is not None
        solved += trajectory.outcome.success
        for turn in trajectory.turns:
            for name in FAMILIES:
                assert turn.rewards[name].value is not None, (trajectory.id, turn.index, name)
                assert turn.rewards[name].evidence, (trajectory.id, turn.index, name)
            assert turn.rewards["reward"].value is not None
        totals = {name: trajectory.rewards[name].value or 0.0 for name in (*FAMILIES, "reward")}
        weighted = totals["gated"] + totals["information_gain"] + 0.5 * totals["citation_rubric"]
        assert totals["reward"] == pytest.approx(weighted)
        if trajectory.outcome.success:
            assert totals["citation_rubric"] == pytest.approx(1.0)
            assert trajectory.turns[-1].rewards["gated"].evidence["passed"] is True
    assert 0 < solved < 40


def test_in_a_household_citations_do_not_apply_and_the_rest_does() -> None:
    run = Rollout(
        "turnwise/Household-v0",
        tasks="train:6",
        agent="noisy-expert",
        workers=0,
        max_turns=30,
        rewards=str(CONFIGS / "household.yaml"),
    )
    for trajectory in run:
        for turn in trajectory.turns:
            for name in ("gated", "information_gain"):
                assert turn.rewards[name].value is not None
                assert turn.rewards[name].evidence
            rubric = turn.rewards["citation_rubric"]
            assert rubric.value is None
            assert str(rubric.invalid).startswith("does not apply: ")
            assert turn.rewards["reward"].value is not None  # what does not apply does not spoil the total
