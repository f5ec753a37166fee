"""One worker without Ray: faults of every kind cost their own episode and nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import chaosworld
import psutil
import pytest

from turnwise import registry
from turnwise.records import Trajectory
from turnwise.rollout import Deadlines
from turnwise.rollout.engine import supervisor
from turnwise.rollout.engine.journal import parse
from turnwise.rollout.engine.plan import make_plan
from turnwise.rollout.engine.processes import MARK
from turnwise.rollout.engine.supervisor import Supervisor
from turnwise.rollout.engine.wire import assemble, encode

from .conftest import HERE, alive, noted, wait_until, zygotes

pytestmark = pytest.mark.usefixtures("none_left")

SHORT = Deadlines(boot_s=20.0, step_s=2.0, act_s=2.0, grade_s=2.0)
Disturb = Callable[[Supervisor, list[Trajectory]], None]


def plan_for(n: int, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "env": chaosworld.ENV_ID,
        "tasks": f"train:{n}",
        "data": None,
        "env_options": {},
        "max_turns": None,
        "group": 1,
        "agent": "chaotic",
        "rewards": None,
        "seed": 1,
        "workers": 1,
        "slots": 4,
        "deadlines": SHORT,
        "memory_limit": 128 * 2**20,
    }
    return make_plan(**{**options, **changes})


async def _play(plan: Any, disturb: Disturb | None) -> list[Trajectory]:
    supervisor = Supervisor(plan.spec)
    requests = {request.id: request for request in plan.requests()}
    done: list[Trajectory] = []
    await supervisor.start()
    try:
        supervisor.submit((name, encode(request)) for name, request in requests.items())
        while len(done) < len(requests) and supervisor.fatal is None:
            for name, data in await supervisor.collect(1.0):
                done.append(assemble(plan.spec, requests[name], *parse(data).decoded()))
            if disturb is not None:
                disturb(supervisor, done)
        assert supervisor.fatal is None, supervisor.fatal
    finally:
        await supervisor.close()
    return done


def play(n: int, *, disturb: Disturb | None = None, **changes: Any) -> dict[str, Trajectory]:
    """Play ``n`` episodes of the chaos world; each must come back exactly once."""
    plan = plan_for(n, **changes)
    done = asyncio.run(asyncio.wait_for(_play(plan, disturb), 120))
    assert sorted(t.id for t in done) == sorted(request.id for request in plan.requests())
    return {t.task.id: t for t in done}


def assert_unharmed(trajectories: Iterable[Trajectory]) -> None:
    for trajectory in trajectories:
        assert trajectory.ending.kind == "terminated", trajectory.ending
        assert trajectory.outcome is not None
        assert trajectory.outcome.success
        assert len(trajectory.turns) == 5  # one of them malformed
        assert all("reward" in turn.rewards for turn in trajectory.turns)


def failure_of(trajectory: Trajectory) -> tuple[str, str, int | None]:
    assert trajectory.failed
    assert trajectory.outcome is None
    assert all(value.value is None for value in trajectory.rewards.values()), "a failure is never a number"
    failure = trajectory.ending.failure
    assert failure is not None
    return failure.boundary, failure.kind, failure.turn


def test_plain_episodes() -> None:
    played = play(12)
    assert_unharmed(played.values())
    first = played["ep-0000"]
    assert first.outcome is not None
    assert first.outcome.levels == ("started", "won")
    assert first.policy_version == "v7"
    assert [turn.index for turn in first.turns] == [0, 1, 2, 3, 4]
    assert not first.turns[1].action_valid
    assert first.turns[0].action is not None
    assert first.turns[0].action.thought is not None
    assert first.tokens is not None
    assert first.turns[2].token_span == (3, 5)
    assert first.turns[3].token_span == (8, 10)
    assert first.tokens.loss_mask == (0, 0, 0, 1, 1) * 3
    assert first.final_observation.startswith("You did wait")


FAULTS = {
    "sleep": ("env", "hang"),
    "spin": ("env", "hang"),
    "raise": ("env", "exception"),
    "exit": ("env", "exit"),
    "sysexit": ("env", "exit"),
    "kill": ("env", "exit"),
    "abort": ("env", "exit"),
    "memory": ("env", "memory"),
    "nan": ("env", "exception"),
}


@pytest.mark.parametrize("where", ["step", "reset"])
def test_faults_cost_their_own_episode(where: str) -> None:
    faults = {kind: name for kind, name in FAULTS.items() if not (where == "reset" and kind == "nan")}
    planned = {f"ep-{3 * i + 1:04d}": f"{where}:{kind}" for i, kind in enumerate(faults)}
    played = play(32, env_options={"faults": planned}, deadlines=Deadlines(boot_s=2.0, step_s=1.0))
    assert_unharmed(t for name, t in played.items() if name not in planned)
    for name, plan in planned.items():
        boundary, kind, turn = failure_of(played[name])
        assert (boundary, kind) == faults[plan.partition(":")[2]], played[name].ending
        # The second well-formed action is the third message: the second one is malformed.
        assert turn == (2 if where == "step" else None)
        assert len(played[name].turns) == (2 if where == "step" else 0)


def test_a_failure_says_what_happened() -> None:
    faults = {"ep-0000": "step:sleep", "ep-0001": "step:exit", "ep-0002": "step:raise", "ep-0003": "step:nan"}
    played = play(4, env_options={"faults": faults})
    messages = {name: t.ending.failure.message for name, t in played.items() if t.ending.failure}
    assert "env.step at turn 2 took more than its deadline of 2 s" in messages["ep-0000"]
    assert "action 'wait'" in messages["ep-0000"]
    assert "exited with status 17" in messages["ep-0001"]
    assert "ValueError" in messages["ep-0002"]
    assert "chaos was asked for" in messages["ep-0002"]
    assert "nan" in messages["ep-0003"]
    assert "finite" in messages["ep-0003"]
    # What the agent was answering when it ended: the explanation of its malformed message.
    assert "dance" in played["ep-0000"].final_observation


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        ("act:raise", ("policy", "exception", 1)),
        ("act:sleep", ("policy", "hang", 1)),
        ("act:exit", ("policy", "exit", 1)),
        ("act:type", ("policy", "exception", 1)),
        ("reset:raise", ("policy", "exception", None)),
        ("reset:sleep", ("policy", "hang", None)),
    ],
)
def test_agents_that_misbehave(plan: str, expected: tuple[str, str, int | None]) -> None:
    played = play(6, agent=f"chaotic:ep-0002={plan}")
    assert failure_of(played.pop("ep-0002")) == expected
    assert_unharmed(played.values())


@pytest.mark.parametrize(("fault", "kind"), [("sleep", "hang"), ("exit", "exit"), ("sysexit", "exit")])
def test_rewards_that_misbehave(fault: str, kind: str) -> None:
    options = {"task": "ep-0002", "fault": fault}
    config = {"version": 1, "rewards": [{"name": "chaos", "use": "chaosworld:ChaosReward", "options": options}]}
    played = play(6, rewards=config)
    bad = played.pop("ep-0002")
    assert failure_of(bad) == ("judge", kind, 4)
    assert len(bad.turns) == 5
    assert_unharmed(played.values())


def test_a_reward_that_raises_is_invalid_and_not_zero() -> None:
    options = {"task": "ep-0002", "fault": "raise"}
    config = {"version": 1, "rewards": [{"name": "chaos", "use": "chaosworld:ChaosReward", "options": options}]}
    bad = play(4, rewards=config)["ep-0002"]
    assert not bad.failed
    assert bad.rewards["chaos"].value is None
    assert "chaos was asked for" in str(bad.rewards["chaos"].invalid)


def test_an_episode_out_of_time_is_truncated_and_scored() -> None:
    deadlines = Deadlines(episode_s=1.0, step_s=30.0)
    played = play(3, env_options={"faults": {"ep-0001": "step:sleep"}}, deadlines=deadlines)
    late = played.pop("ep-0001")
    assert (late.ending.kind, late.ending.cause) == ("truncated", "time")
    assert late.ending.failure is not None
    assert late.ending.failure.boundary == "env"
    assert late.ending.failure.turn == 2
    assert late.outcome is not None
    assert late.outcome.progress == late.turns[-1].progress > 0
    assert len(late.turns) == 2
    assert all(turn.rewards["valid_action"].valid for turn in late.turns)
    assert_unharmed(played.values())


def test_short_steps_do_not_hide_a_long_episode() -> None:
    deadlines = Deadlines(episode_s=1.0, step_s=30.0)
    options = {"turns": 100_000, "sleep_s": 0.01}
    late = play(1, env_options=options, max_turns=100_000, deadlines=deadlines)["ep-0000"]
    assert late.ending.cause == "time"
    assert len(late.turns) > 5


def test_a_close_that_hangs_costs_no_episode() -> None:
    # The world is closed after a failure only, and at the end of the run.
    faults = {"ep-0001": "close:sleep", "ep-0005": "step:raise"}
    played = play(12, slots=2, env_options={"faults": faults}, deadlines=Deadlines(boot_s=2.0, step_s=1.0))
    assert failure_of(played.pop("ep-0005")) == ("env", "exception", 2)
    assert_unharmed(played.values())


@pytest.mark.parametrize("fault", ["sleep", "raise", "exit"])
def test_a_constructor_that_fails_once_costs_no_episode(fault: str, tmp_path: Path) -> None:
    boot = f"once:{tmp_path / 'tried'}:{fault}"
    assert_unharmed(play(8, env_options={"boot": boot}, deadlines=Deadlines(boot_s=1.5)).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"env_options": {"boot": "raise"}}, "chaos was asked for"),
        ({"env_options": {"boot": "exit"}}, "exited with status 17"),
        ({"env_options": {"boot": "sleep"}, "deadlines": Deadlines(boot_s=0.7)}, "deadline of 0.7 s"),
    ],
)
def test_a_world_that_cannot_boot_stops_the_worker(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        play(8, slots=2, **changes)


ELSEWHERE = """
import os, time
from chaosworld import ChaosEnv
if {mark!r} in os.environ:
    {fault}
"""


HANGS_AT_IMPORT = """
import asyncio, sys
sys.path[:0] = {path!r}
from turnwise import register_env
from turnwise.rollout import Rollout
from turnwise.rollout.engine.supervisor import Supervisor
register_env("chaos/Elsewhere-v0", "elsewhere:ChaosEnv")

async def main():
    await Supervisor(Rollout("chaos/Elsewhere-v0", tasks="train:4", agent="random").plan.spec).start()
    print("started", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def test_a_zygote_that_hangs_at_import_dies_with_its_supervisor(tmp_path: Path) -> None:
    fault = f"open({str(tmp_path / 'hanging')!r}, 'w').close(); time.sleep(3600)"
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE.format(mark=MARK, fault=fault))
    script = HANGS_AT_IMPORT.format(path=[str(HERE.parent), str(tmp_path)])
    driver = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline().strip() == "started"
    assert wait_until((tmp_path / "hanging").exists)
    assert zygotes()
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert wait_until(lambda: not zygotes(), 10)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("time.sleep(3600)", "took more than 2 s"),
        ("os._exit(3)", "what it printed says why"),
        ("raise ImportError('no such luck')", "no such luck"),
    ],
)
def test_an_import_that_fails_in_the_worker_only(
    fault: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path.name
    (tmp_path / f"{name}.py").write_text(ELSEWHERE.format(mark=MARK, fault=fault))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(supervisor, "IMPORT_S", 2.0)
    monkeypatch.setitem(registry.envs._entries, "chaos/Elsewhere-v0", f"{name}:ChaosEnv")
    with pytest.raises(AssertionError, match=message):
        play(4, env="chaos/Elsewhere-v0", deadlines=Deadlines(boot_s=1.0))


@pytest.mark.parametrize(("fault", "kind"), [("grandchild", "hang"), ("grandchild-exit", "exit")])
def test_what_a_world_leaves_behind_dies_with_its_episode(fault: str, kind: str, notes: Path) -> None:
    seen: list[set[int]] = []

    def disturb(supervisor: Supervisor, done: list[Trajectory]) -> None:
        if not seen and any(t.failed for t in done):
            seen.append(noted(notes, "grandchild"))
            assert not alive(seen[0]), "they are gone before the episode is reported"

    options = {"faults": {"ep-0000": f"step:{fault}"}, "notes": str(notes)}
    played = play(6, env_options=options, disturb=disturb)
    assert failure_of(played.pop("ep-0000")) == ("env", kind, 2)
    assert_unharmed(played.values())
    assert len(seen[0]) == 2


def test_worlds_are_closed(notes: Path) -> None:
    play(6, slots=2, env_options={"faults": {"ep-0000": "step:raise"}, "notes": str(notes)})
    assert noted(notes, "closed") == noted(notes, "child")


def test_a_killed_child_costs_one_episode() -> None:
    killed: list[int] = []

    def disturb(supervisor: Supervisor, done: list[Trajectory]) -> None:
        if not killed and len(done) >= 3:
            children = psutil.Process(supervisor._zygote.pid).children()  # type: ignore[union-attr]
            killed.append(children[0].pid)
            os.kill(children[0].pid, signal.SIGKILL)

    played = play(24, env_options={"sleep_s": 0.05}, disturb=disturb)
    assert killed
    failed = [t for t in played.values() if t.failed]
    assert len(failed) <= 1  # none, if it died between two episodes
    assert all(failure_of(t)[1] == "exit" for t in failed)


def test_a_killed_zygote_costs_no_episode(notes: Path) -> None:
    killed: list[int] = []

    def disturb(supervisor: Supervisor, done: list[Trajectory]) -> None:
        if not killed and len(done) >= 3:
            killed.append(supervisor._zygote.pid)  # type: ignore[union-attr, arg-type]
            os.kill(killed[0], signal.SIGKILL)

    played = play(24, env_options={"sleep_s": 0.05, "notes": str(notes)}, disturb=disturb)
    assert killed
    assert_unharmed(played.values())
    assert not alive(noted(notes, "child")) & zygotes()


def test_children_die_with_the_zygote_whatever_the_supervisor_does(notes: Path) -> None:
    killed: list[int] = []

    def disturb(supervisor: Supervisor, done: list[Trajectory]) -> None:
        if not killed and done:
            killed.append(supervisor._zygote.pid)  # type: ignore[union-attr]
            os.kill(killed[0], signal.SIGKILL)
            # The supervisor's loop stands still here.
            assert wait_until(lambda: not alive(noted(notes, "child")), 10)

    assert_unharmed(play(8, env_options={"sleep_s": 0.05, "notes": str(notes)}, disturb=disturb).values())
    assert killed


def test_an_episode_whose_process_died_before_it_began_is_played(notes: Path) -> None:
    plan = plan_for(2, slots=1, env_options={"notes": str(notes)})

    async def scenario() -> list[str]:
        supervisor = Supervisor(plan.spec)
        await supervisor.start()
        try:
            first, second = ((request.id, encode(request)) for request in plan.requests())
            supervisor.submit([first])
            assert [name for name, _ in await supervisor.collect(30)] == [first[0]]
            [child] = alive(noted(notes, "child"))
            os.kill(child, signal.SIGSTOP)
            supervisor.submit([second])
            os.kill(child, signal.SIGKILL)
            results = await supervisor.collect(30)
            assert parse(results[0][1]).decoded()[1].ending.kind == "terminated"
            return [name for name, _ in results]
        finally:
            await supervisor.close()

    assert asyncio.run(scenario()) == ["ep-0001#0"]


def test_the_result_of_a_process_that_has_left_counts() -> None:
    heard: list[int] = []

    def disturb(supervisor: Supervisor, done: list[Trajectory]) -> None:
        if not heard and done:
            time.sleep(1.0)  # the loop stands still; the next episode fails, and its process leaves
            supervisor._zygote._readable()  # type: ignore[union-attr] # its death is heard of first
            heard.append(len(done))

    options = {"faults": {"ep-0001": "step:raise"}, "sleep_s": 0.05}
    played = play(4, slots=1, env_options=options, disturb=disturb)
    assert failure_of(played.pop("ep-0001")) == ("env", "exception", 2)
    assert_unharmed(played.values())
    assert heard == [1]


def test_an_episode_that_keeps_killing_the_zygote_is_given_up() -> None:
    played = play(3, slots=1, env_options={"faults": {"ep-0001": "step:kill-zygote"}})
    assert failure_of(played.pop("ep-0001"))[0] == "transport"
    assert_unharmed(played.values())


def test_everything_comes_back_exactly_once() -> None:
    kinds = list(FAULTS)
    faults = {f"ep-{i:04d}": f"step:{kinds[(i // 20) % len(kinds)]}" for i in range(0, 300, 20)}
    played = play(300, slots=8, env_options={"faults": faults}, deadlines=Deadlines(step_s=0.5))
    assert len(played) == 300
    assert {name for name, t in played.items() if t.failed} == set(faults)
