"""The summary of a run."""

from __future__ import annotations

import io
import json
import random

import pytest
from rich.console import Console

from turnwise.records import Ending, Failure, Outcome, RewardValue, Task, Trajectory, Turn
from turnwise.rollout.summary import RunSummary


def episode(
    number: int = 0,
    *,
    turns: int = 2,
    success: bool = False,
    cause: str | None = None,
    failure: tuple[str, str] | None = None,
    rewards: dict[str, RewardValue] | None = None,
    level: str | None = None,
) -> Trajectory:
    if failure:
        ending = Ending(kind="failed", failure=Failure(boundary=failure[0], kind=failure[1], message="m"))
    else:
        ending = Ending(kind="truncated", cause=cause) if cause else Ending(kind="terminated")
    levels = ("low", "high") if level else ()
    return Trajectory(
        id=f"t{number}#0",
        env_id="e",
        task=Task(id=f"t{number}", split="train", instruction=""),
        seed=0,
        agent="a",
        turns=tuple(Turn(index=i, observation="", action_text="") for i in range(turns)),
        ending=ending,
        outcome=None if failure else Outcome(success=success, env_return=0.0, level=level, levels=levels),
        rewards=rewards or {},
    )


def summed(*episodes: Trajectory) -> RunSummary:
    summary = RunSummary()
    for trajectory in episodes:
        summary.add(trajectory)
    return summary


def test_success_and_turns_leave_failures_out() -> None:
    summary = summed(
        episode(turns=2, success=True),
        episode(turns=4),
        episode(turns=9, failure=("env", "hang")),
        episode(turns=6, cause="turns"),
        episode(turns=8, cause="time"),
    )
    found = summary.to_dict()
    assert found["success_rate"] == 1 / 4
    assert found["mean_turns"] == 5.0
    assert (found["episodes"], found["terminated"], found["failed"]) == (5, 2, 1)
    assert found["truncated"] == {"time": 1, "turns": 1}


def test_failures_are_counted_by_boundary_and_kind() -> None:
    summary = summed(
        episode(failure=("env", "hang")),
        episode(failure=("env", "exit")),
        episode(failure=("env", "hang")),
        episode(failure=("judge", "exception")),
    )
    assert summary.to_dict()["failures"] == {"env": {"exit": 1, "hang": 2}, "judge": {"exception": 1}}
    assert summary.success_rate is None
    assert summary.mean_turns is None


def test_an_invalid_reward_is_counted_and_not_averaged_as_0() -> None:
    summary = summed(
        episode(rewards={"r": RewardValue(value=1.0)}),
        episode(rewards={"r": RewardValue(value=0.5)}),
        episode(rewards={"r": RewardValue(invalid="judge down")}),
        episode(),
    )
    assert summary.to_dict()["rewards"] == {"r": {"mean": 0.75, "valid": 2, "invalid": 1}}


def gated(passed: bool | None, **options) -> Trajectory:
    evidence = {"gates": [{"reward": "outcome_level", "passed": passed}], "passed": passed}
    value = {"invalid": "no verdict"} if passed is None else {"value": 1.0}
    return episode(rewards={"g": RewardValue(evidence=evidence, **value)}, **options)


def test_the_gate_pass_rate_comes_from_the_gates_own_evidence() -> None:
    summary = summed(gated(True), gated(False), gated(True), gated(None), gated(False, failure=("env", "exit")))
    assert summary.to_dict()["gates"] == {"g": {"rate": 2 / 3, "passed": 2, "held": 1, "undecided": 2}}


def test_levels_are_counted_in_the_worlds_order() -> None:
    summary = summed(episode(level="high"), episode(level="high"), episode(failure=("env", "exit")))
    assert list(summary.to_dict()["levels"].items()) == [("low", 0), ("high", 2)]


def test_the_order_of_arrival_changes_nothing() -> None:
    generator = random.Random(0)
    episodes = [
        episode(i, success=i % 3 == 0, rewards={"r": RewardValue(value=generator.uniform(-1e6, 1))}) for i in range(200)
    ]
    shuffled = generator.sample(episodes, len(episodes))
    assert summed(*episodes).to_dict() == summed(*shuffled).to_dict()


def test_the_speed_counts_what_came_since_the_clock_started(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr("turnwise.rollout.summary.time.monotonic", lambda: now[0])
    summary = summed(episode(), episode())
    assert summary.episodes_per_s is None
    summary.start()
    now[0] = 104.0
    summary.add(episode())
    now[0] = 105.0  # ending the workers takes its time, but no speed
    summary.stop()
    now[0] = 200.0
    assert summary.to_dict()["wall_s"] == 5.0
    assert summary.to_dict()["episodes_per_s"] == 0.25


def test_an_empty_summary_has_no_rates_and_prints() -> None:
    summary = RunSummary()
    assert json.loads(json.dumps(summary.to_dict()))["success_rate"] is None
    console = Console(file=io.StringIO(), width=100)
    console.print(summary.table())
    assert "success" in console.file.getvalue()


@pytest.mark.parametrize(
    "text",
    ["success", "50.0 %", "mean turns", "truncated by turns", "env: hang", "r (mean)", "1 invalid", "g gate passed"],
)
def test_the_closing_table_names_everything(text: str) -> None:
    summary = summed(
        gated(True, success=True),
        episode(cause="turns", rewards={"r": RewardValue(invalid="down")}),
        episode(failure=("env", "hang")),
    )
    console = Console(file=io.StringIO(), width=100)
    console.print(summary.table())
    assert text in console.file.getvalue()
