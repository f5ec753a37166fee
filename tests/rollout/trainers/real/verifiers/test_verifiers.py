"""Our worlds against the real verifiers: its loaders, interception and null harness, a scripted model."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import verifiers.v1 as vf

from turnwise.errors import ConfigError
from turnwise.protocols import TurnAdvantages
from turnwise.rollout.trainers.verifiers import assign_advantages, trajectory_of

REWARDS = {
    "version": 1,
    "rewards": [{"name": "progress"}, {"name": "outcome"}, {"name": "valid_action", "weight": 0.25}],
}


def config(base_url: str, **taskset: Any) -> vf.EnvConfig:
    agent = {
        "model": "scripted",
        "runtime": {"type": "subprocess"},
        "client": {"type": "eval", "base_url": base_url, "api_key_var": "OPENAI_API_KEY"},
    }
    options = {"id": "turnwise-worlds", "tasks": "train:1", "rewards": json.dumps(REWARDS), "max_turns": 3, **taskset}
    return vf.resolve_env_config({"taskset": options, "agent": agent})


async def play(settings: vf.EnvConfig) -> vf.Episode:
    env = vf.load_environment(settings)
    agent = settings.agent
    context = vf.ModelContext(model=agent.model, client=vf.resolve_client(agent.client))
    async with env.serving():
        return await env.run_episode(next(iter(env.taskset)), context)


def test_the_package_is_found_by_its_name() -> None:
    taskset = vf.load_taskset(vf.taskset_config_type("turnwise-worlds")(id="turnwise-worlds", tasks="train:3"))
    tasks = list(taskset)
    assert len(tasks) == 3
    assert len({task.key for task in tasks}) == 3
    wire = tasks[0].data.model_dump(mode="json")
    assert wire["prompt"] is None
    assert "data" not in wire


def test_an_episode_is_played_and_scored_turn_by_turn(serve: Callable[[list[str]], str]) -> None:
    episode = asyncio.run(play(config(serve(["look", "fly away", "inventory"]))))
    assert episode.errors == []
    (trace,) = episode.traces
    assert trace.errors == []
    assert trace.ok
    trajectory = trajectory_of(trace)
    assert [turn.action_text for turn in trajectory.turns] == ["look", "fly away", "inventory"]
    assert [message.content for message in trace.assistant_messages] == ["look", "fly away", "inventory"]
    # Named rewards: the tree's own, and they sum to its total.
    assert {name: one.score for name, one in trace.rewards.items()} == {
        "progress": 0.0,
        "outcome": 0.0,
        "valid_action": pytest.approx(0.5),
    }
    assert trace.reward == pytest.approx(trajectory.rewards["reward"].value)
    assert trace.info["turnwise"]["turn_rewards"] == pytest.approx([0.25, 0.0, 0.25])
    assert trace.metrics == {"success": 0.0, "progress": 0.0, "turns": 3.0}
    # What the grader knows goes nowhere.
    assert trajectory.task.data == {}


class PerTurn:
    """Credit whose numbers show where they went."""

    def assign(self, group: Any) -> tuple[TurnAdvantages, ...]:
        return tuple(
            TurnAdvantages(
                trajectory_id=one.id,
                advantages=tuple(float(turn.index + 1) for turn in one.turns),
                mask=tuple(turn.index != 1 for turn in one.turns),
            )
            for one in group
        )


def sampled_tokens(trace: vf.Trace) -> None:
    """Give the nodes tokens, as a training client does: here one per letter, two of scaffold before."""
    for node in trace.nodes:
        text = node.message.content or ""
        node.token_ids = [1, 2, *range(10, 10 + len(text))]
        node.mask = [False, False, *([node.sampled] * len(text))]
        node.logprobs = [-0.5] * len(text) if node.sampled else []


def test_advantages_reach_every_sampled_token_of_their_turn(serve: Callable[[list[str]], str]) -> None:
    (trace,) = asyncio.run(play(config(serve(["look", "fly", "look"])))).traces
    sampled_tokens(trace)
    assign_advantages([trace], credit=PerTurn())
    (branch,) = trace.branches
    said = [value for value, mask in zip(branch.advantages, branch.sampled_mask, strict=True) if mask]
    assert said == [1.0] * 4 + [0.0] * 3 + [3.0] * 4
    assert sum(map(abs, branch.advantages)) == sum(map(abs, said))
    weights = [one for one, mask in zip(branch.loss_weights("turnwise"), branch.sampled_mask, strict=True) if mask]
    assert weights == [1.0] * 4 + [0.0] * 3 + [1.0] * 4


def test_a_group_is_compared_turn_by_turn(serve: Callable[[list[str]], str]) -> None:
    traces = [asyncio.run(play(config(serve(lines)))).traces[0] for lines in (["look"] * 3, ["look", "fly", "look"])]
    for trace in traces:
        sampled_tokens(trace)
    assign_advantages(traces)
    (one,), (other,) = traces[0].branches, traces[1].branches
    # Same first message, more to come for the first: what is left to earn is 0.75 against 0.5.
    assert max(one.advantages) > 0.0 > min(other.advantages)
    assert one.advantages[-1] == other.advantages[-1] == 0.0  # the last turns are equal
    assert sum(v * (m or 0) for v, m in zip(one.advantages, one.sampled_mask, strict=True)) > 0


def test_an_episode_without_a_reward_fails_its_trace_and_is_not_zero(serve: Callable[[list[str]], str]) -> None:
    broken = {"version": 1, "rewards": [{"name": "broken", "use": "brokenreward:Broken"}]}
    episode = asyncio.run(play(config(serve(["look"]), rewards=json.dumps(broken))))
    (trace,) = episode.traces
    assert not trace.ok
    assert not episode.ok
    assert all(reward is None for reward in trace.rewards.values())


def test_a_foreign_trace_is_named() -> None:
    foreign = SimpleNamespace(id="t1", info={})
    with pytest.raises(ConfigError, match="the trace t1 is no episode of turnwise"):
        assign_advantages([foreign])


def test_the_example_plays_a_group(serve: Callable[[list[str]], str]) -> None:
    play_example = runpy.run_path(str(Path(__file__).resolve().parents[5] / "examples" / "verifiers_world.py"))["play"]
    traces = asyncio.run(play_example(serve(["look"]), "scripted", tasks="train:1", group=2, max_turns=1))
    assert [trace.ok for trace in traces] == [True, True]
    assert [len(trace.info["turnwise"]["turn_rewards"]) for trace in traces] == [1, 1]
