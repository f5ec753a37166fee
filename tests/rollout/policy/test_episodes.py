"""Episodes of one worker whose agent has a policy: what is recorded, and what goes wrong."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import chaosworld
import pytest
from chaospolicy import ChaosPolicy

from turnwise.agents import PolicyAgent, make_agent
from turnwise.errors import ConfigError, PolicyError
from turnwise.records import Trajectory
from turnwise.rollout import Deadlines, Rollout
from turnwise.rollout.engine.journal import parse
from turnwise.rollout.engine.supervisor import Supervisor
from turnwise.rollout.engine.wire import assemble, encode
from turnwise.rollout.policy import frames

SHORT = Deadlines(boot_s=20.0, step_s=5.0, act_s=1.0, grade_s=5.0)


class Near:
    """A replica in this process, as the gateway sees it."""

    def __init__(self, what: str) -> None:
        self.policy = ChaosPolicy(what)

    async def ask(self, data: bytes) -> bytes:
        return await frames.answer(self.policy, data)


def chaos(what: str = "", **options: Any) -> Rollout:
    agent = f"chaos-policy:{what}" if what else "chaos-policy"
    given = {"env": chaosworld.ENV_ID, "tasks": "train:6", "agent": agent, "slots": 6, "deadlines": SHORT, **options}
    return Rollout(**given)


async def _play(rollout: Rollout, replica: Near) -> list[Trajectory]:
    supervisor = Supervisor(rollout.plan.spec, [replica])
    requests = {request.id: request for request in rollout.plan.requests()}
    done: list[Trajectory] = []
    await supervisor.start()
    try:
        supervisor.submit((name, encode(request)) for name, request in requests.items())
        while len(done) < len(requests) and supervisor.fatal is None:
            for name, data in await supervisor.collect(1.0):
                done.append(assemble(rollout.plan.spec, requests[name], *parse(data).decoded()))
        assert supervisor.fatal is None, supervisor.fatal
    finally:
        await supervisor.close()
    return done


def play(what: str = "", **options: Any) -> tuple[list[Trajectory], ChaosPolicy]:
    """Play with the policy in this process and the episodes in children of theirs."""
    replica = Near(what)
    done = asyncio.run(asyncio.wait_for(_play(chaos(what, **options), replica), 60))
    return done, replica.policy


def test_tokens_versions_and_finish_are_on_every_turn() -> None:
    done, policy = play()
    assert len(done) == 6
    for trajectory in done:
        assert trajectory.ending.kind == "terminated"
        assert trajectory.agent == "chaos-policy"
        assert trajectory.policy_version == "0"
        assert [turn.policy_version for turn in trajectory.turns] == ["0"] * 4
        assert {turn.finish for turn in trajectory.turns} == {"action"}
        assert [turn.token_span for turn in trajectory.turns] == [(2, 4), (6, 8), (10, 12), (14, 16)]
        assert trajectory.tokens is not None
        assert trajectory.tokens.loss_mask == (0, 0, 1, 1) * 4
        assert trajectory.tokens.logprobs == (0.0, 0.0, -0.5, -0.25) * 4
    assert len(set(policy.forgotten)) == 6, "every episode is forgotten in the end"


def test_many_episodes_ask_one_policy_at_once() -> None:
    done, _ = play("together:6")  # answers nobody before six ask
    assert all(trajectory.ending.kind == "terminated" for trajectory in done)


def test_the_policy_runs_in_no_worker_process(tmp_path: Path) -> None:
    play(f"note:{tmp_path}")
    assert [path.name for path in tmp_path.iterdir()] == [f"policy-{os.getpid()}"]


@pytest.mark.parametrize(("what", "cause"), [("budget", "tokens"), ("context", "context")])
def test_a_spent_budget_truncates(what: str, cause: str) -> None:
    done, _ = play(what)
    for trajectory in done:
        assert trajectory.ending.kind == "truncated"
        assert trajectory.ending.cause == cause
        assert not trajectory.failed
        assert trajectory.outcome is not None
        assert len(trajectory.turns) == 1
        assert trajectory.rewards["reward"].valid


@pytest.mark.parametrize(
    ("what", "boundary", "kind"),
    [
        ("raise", "policy", "exception"),
        ("transport", "transport", "connection"),
        ("type", "policy", "exception"),
        ("hang", "policy", "hang"),
    ],
)
def test_a_failing_policy_is_never_a_reward(what: str, boundary: str, kind: str) -> None:
    done, policy = play(what, tasks="train:3")
    for trajectory in done:
        assert trajectory.failed
        assert trajectory.ending.failure is not None
        assert (trajectory.ending.failure.boundary, trajectory.ending.failure.kind) == (boundary, kind)
        assert len(trajectory.turns) == 1
        assert all(value.value is None for value in trajectory.rewards.values())
        assert trajectory.policy_version == "0", "the turns before say who sampled them"
    if what == "hang":
        assert len(policy.cancelled) == 3, "a killed episode's request is given up"


def test_in_this_process_the_same_episodes_are_played() -> None:
    here = {t.id: t for t in chaos(workers=0)}
    there = {t.id: t for t in play()[0]}
    assert here.keys() == there.keys()
    for name, trajectory in here.items():
        assert trajectory.tokens == there[name].tokens
        assert [t.action_text for t in trajectory.turns] == [t.action_text for t in there[name].turns]


def test_an_agent_with_a_model_works_by_itself() -> None:
    agent = make_agent("chaos-policy")
    assert isinstance(agent, PolicyAgent)
    with pytest.raises(PolicyError, match="was not reset"):
        agent.act("", {})
    agent.close()


def test_options_are_checked_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="replicas is a whole number of at least 1, got 0"):
        chaos(replicas=0)
    with pytest.raises(ConfigError, match="or a PolicyPool, got int"):
        chaos(agent=3)
    assert chaos(slots=None).plan.spec.slots == 8
    assert chaos(slots=None, agent="expert").plan.spec.slots == 2
