"""``turnwise score``: other rewards for stored trajectories, without stepping."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import pytest

from turnwise.rollout.store import RunStore

COSTLY = """
version: 1
rewards:
  - {name: outcome, weight: 1}
  - {name: turn_cost, weight: 1, options: {cost: 0.5}}
"""


@pytest.fixture
def costly(tmp_path: Path) -> Path:
    path = tmp_path / "costly.yaml"
    path.write_text(COSTLY)
    return path


def test_a_new_run_with_new_rewards_and_the_same_turns(cli, run, costly, tmp_path, monkeypatch) -> None:
    def no_stepping(*_, **__):
        raise AssertionError("score must not make a world")

    monkeypatch.setattr(gymnasium, "make", no_stepping)
    result = cli("score", run, "--rewards", costly, "--out", tmp_path / "new")
    assert result.stdout.rstrip().endswith(str(tmp_path / "new"))
    old, new = RunStore.open(run), RunStore.open(tmp_path / "new")
    assert new.status == "complete"
    assert new.ids() == old.ids()
    assert new.manifest["source"]["run_id"] == old.manifest["run_id"]
    assert new.manifest["rewards"]["rewards"][1]["name"] == "turn_cost"
    assert new.manifest["agent"] == "test"
    scored = new.get("count-1#0")
    assert scored.rewards["turn_cost"].value == pytest.approx(-2.0)
    assert scored.rewards["reward"].value == pytest.approx(-1.0)
    assert [turn.action_text for turn in scored.turns] == [turn.action_text for turn in old.get("count-1#0").turns]
    assert "gated" not in scored.rewards
    assert new.get("count-2#0").rewards["reward"].value is None  # it failed


def test_the_comparison_of_old_and_new_means(cli, run, costly) -> None:
    found = json.loads(cli("score", run, "--rewards", costly, "--json").stdout)
    assert found["means"]["outcome"] == {"old": 1.0, "new": 1.0}  # the failed and the cut episode have none
    assert found["means"]["turn_cost"] == {"old": None, "new": pytest.approx(-(2 + 4 + 1) * 0.5 / 3)}
    assert found["means"]["gated"]["new"] is None
    assert Path(found["run"]).name == "run-costly"
    again = cli("score", run, "--rewards", costly).stdout
    assert "turn_cost" in again
    assert again.rstrip().endswith("run-costly-2")


def test_scoring_with_the_same_rewards_changes_nothing(cli, run, tmp_path) -> None:
    cli("score", run, "--rewards", "default", "--out", tmp_path / "same")
    assert list(RunStore.open(tmp_path / "same").trajectories()) == list(RunStore.open(run).trajectories())


def test_mistakes(cli, run, tmp_path, costly) -> None:
    assert "Did you mean 'gated'" in cli("score", run, "--rewards", "gatd", code=2).stderr
    assert "holds a run already" in cli("score", run, "--rewards", costly, "--out", run, code=2).stderr
    assert "is not a run" in cli("score", tmp_path / "no", "--rewards", costly, code=2).stderr
