"""Whole runs on Ray: equal results for any number of workers, and what survives when parts are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chaosworld
import psutil
import pytest

from turnwise.errors import EnvError, MissingExtraError, TransportError
from turnwise.records import Trajectory, to_json, without_timings
from turnwise.rollout import Deadlines, Rollout
from turnwise.rollout.store import RunStore

from .conftest import HERE, alive, noted, wait_until, workers, zygotes

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One local cluster for all runs of this module; starting one takes seconds."""
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def nothing_left(cluster: None) -> Iterator[None]:
    before = zygotes() | workers()
    yield
    assert wait_until(lambda: not (zygotes() | workers()) - before), "processes are left"


def chaos(**options: Any) -> Rollout:
    return Rollout(**{"env": chaosworld.ENV_ID, "tasks": "train:12", "agent": "chaotic", "workers": 2, **options})


def as_bytes(trajectories: Any) -> dict[str, bytes]:
    played = list(trajectories)
    found = {t.id: to_json(without_timings(t)) for t in played}
    assert len(found) == len(played), "each trajectory comes once"
    return found


@pytest.mark.usefixtures("nothing_left")
def test_chaos_is_the_same_for_any_number_of_workers() -> None:
    options: dict[str, Any] = {
        "group": 2,
        "env_options": {"faults": {"ep-0001": "step:raise", "ep-0004": "reset:raise", "ep-0006": "step:nan"}},
    }
    here = as_bytes(chaos(workers=0, **options))
    assert len(here) == 24
    for count, slots in ((1, 1), (1, 5), (2, None), (5, None)):
        assert as_bytes(chaos(workers=count, slots=slots, **options)) == here


@pytest.mark.usefixtures("nothing_left")
def test_kills_are_the_same_for_one_and_two_workers() -> None:
    faults = {"ep-0001": "step:sleep", "ep-0004": "step:exit", "ep-0006": "reset:sleep", "ep-0008": "step:memory"}
    options: dict[str, Any] = {
        "env_options": {"faults": faults},
        "deadlines": Deadlines(boot_s=2.0, step_s=1.0),
        "memory_limit": 2**27,
    }
    one, two = (as_bytes(chaos(workers=count, **options)) for count in (1, 2))
    assert one == two


@pytest.mark.usefixtures("nothing_left")
def test_the_household_is_the_same_for_any_number_of_workers() -> None:
    runs = [
        as_bytes(Rollout(tasks="train:10", group=2, agent="noisy-expert:0.3", seed=4, workers=count))
        for count in (0, 1, 2)
    ]
    assert len(runs[0]) == 20
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.usefixtures("nothing_left")
def test_one_bad_env() -> None:
    """64 episodes of 4 turns; one hangs in blocking code, one raises, one kills its process."""
    faults = {"ep-0005": "step:sleep", "ep-0006": "step:raise", "ep-0007": "step:exit"}
    rollout = chaos(
        tasks="train:64",
        env_options={"faults": faults, "sleep_s": 0.1},
        slots=32,
        deadlines=Deadlines(step_s=2.0),
    )
    played = {t.task.id: t for t in rollout}
    assert len(played) == 64
    bad = {name: played.pop(name) for name in faults}
    assert all(t.outcome is not None and t.outcome.success for t in played.values())
    assert len(played) == 61
    found = {name: (t.ending.failure.boundary, t.ending.failure.kind) for name, t in bad.items() if t.ending.failure}
    assert found == {"ep-0005": ("env", "hang"), "ep-0006": ("env", "exception"), "ep-0007": ("env", "exit")}
    assert all(len(t.turns) == 2 and t.outcome is None for t in bad.values())


@pytest.mark.usefixtures("nothing_left")
def test_leaving_the_loop_ends_everything() -> None:
    for count, _ in enumerate(chaos(tasks="train:200", env_options={"sleep_s": 0.05})):
        if count == 3:
            assert zygotes()
            break
    assert wait_until(lambda: not zygotes())

    def consume() -> None:
        for trajectory in chaos(tasks="train:200", env_options={"sleep_s": 0.05}):
            raise KeyError(trajectory.id)

    with pytest.raises(KeyError):
        consume()


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("victim", ["worker", "zygote", "child"])
def test_a_kill_in_mid_run_loses_nothing(victim: str, notes: Path) -> None:
    rollout = chaos(tasks="train:40", slots=4, env_options={"sleep_s": 0.05, "notes": str(notes)})
    played: list[Trajectory] = []
    killed = 0
    for trajectory in rollout:
        played.append(trajectory)
        if len(played) in (5, 20):
            children = alive(noted(notes, "child"))
            pids = {"worker": workers(), "zygote": zygotes() - children, "child": children}[victim]
            os.kill(min(pids), signal.SIGKILL)
            killed += 1
    assert killed == 2
    assert sorted(t.id for t in played) == [f"ep-{i:04d}#0" for i in range(40)]
    failed = [t.ending.failure.kind for t in played if t.ending.failure]
    assert failed == [] if victim != "child" else set(failed) <= {"exit"}
    assert len(failed) <= 2


@pytest.mark.usefixtures("nothing_left")
def test_an_episode_that_keeps_killing_its_worker_is_given_up() -> None:
    played = {
        t.task.id: t for t in chaos(tasks="train:8", slots=1, env_options={"faults": {"ep-0003": "step:kill-workers"}})
    }
    assert len(played) == 8
    failure = played["ep-0003"].ending.failure
    assert failure is not None
    assert (failure.boundary, failure.kind) == ("transport", "exit")
    assert "lost with 3 workers" in failure.message
    # What was on its way in the same workers may be lost with them, and says so.
    assert {t.ending.failure.boundary for t in played.values() if t.ending.failure} == {"transport"}
    assert sum(not t.failed for t in played.values()) >= 4


@pytest.mark.usefixtures("nothing_left")
def test_a_recording_is_found_by_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = as_bytes(chaos(tasks="train:4", workers=0, out="run"))
    again = list(chaos(tasks="train:4", workers=1, agent="replay:run"))
    assert len(first) == len(again) == 4
    assert not any(t.failed for t in again), again[0].ending


@pytest.mark.usefixtures("nothing_left")
def test_a_world_that_cannot_boot_stops_the_run() -> None:
    with pytest.raises(EnvError, match="chaos was asked for"):
        list(chaos(env_options={"boot": "raise"}))


@pytest.mark.usefixtures("nothing_left")
def test_a_module_that_workers_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "only_in_the_driver", chaosworld)
    from turnwise import registry

    monkeypatch.setitem(registry.envs._entries, "chaos/Elsewhere-v0", "only_in_the_driver:ChaosEnv")
    with pytest.raises(Exception, match="only_in_the_driver"):
        list(chaos(env="chaos/Elsewhere-v0"))


def test_ray_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'turnwise\[ray\]'"):
        list(chaos())
    assert len(list(chaos(workers=0))) == 12


DRIVER = """
    import sys
    sys.path.insert(0, {folder!r})
    import chaosworld
    from turnwise import register_env
    from turnwise.agents.registry import agents
    from turnwise.rollout import Rollout
    register_env(chaosworld.ENV_ID, "chaosworld:ChaosEnv")
    agents.register("chaotic", "chaosworld:ChaosAgent")
    options = {options!r}
    try:
        for trajectory in Rollout(chaosworld.ENV_ID, agent="chaotic", workers=2, **options):
            print(trajectory.id, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def drive(options: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a driver in a process of its own, with a cluster of its own."""
    script = textwrap.dedent(DRIVER.format(folder=str(HERE.parent), options=options))
    env = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    # A shell that runs the tests in the background has its children ignore Ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen([sys.executable, "-c", heed + script], stdout=subprocess.PIPE, text=True, env=env)


def read_lines(driver: subprocess.Popen[str], count: int) -> list[str]:
    assert driver.stdout is not None
    return [driver.stdout.readline().strip() for _ in range(count)]


def session_of(driver: subprocess.Popen[str]) -> set[int]:
    """Return the driver's descendants, among them all processes of its cluster."""
    return {child.pid for child in psutil.Process(driver.pid).children(recursive=True)}


@pytest.mark.usefixtures("nothing_left")
def test_a_running_cluster_is_joined_and_left_running() -> None:
    address = ray.get_runtime_context().gcs_address
    driver = drive({"tasks": "train:6", "address": address})
    assert driver.stdout is not None
    assert sorted(driver.stdout.read().split()) == [f"ep-{i:04d}#0" for i in range(6)]
    assert driver.wait(60) == 0
    assert len(list(chaos(tasks="train:3"))) == 3


def test_killing_the_driver_leaves_nothing_and_the_run_resumes(tmp_path: Path, notes: Path) -> None:
    before = zygotes() | workers()
    out = tmp_path / "run"
    faults = {"ep-0003": "step:grandchild"}
    options: dict[str, Any] = {
        "tasks": "train:60",
        "env_options": {"sleep_s": 0.05, "notes": str(notes), "faults": faults},
        "out": str(out),
    }
    driver = drive(options)
    names = read_lines(driver, 10)
    assert wait_until(lambda: len(noted(notes, "grandchild")) == 2)
    driver.kill()
    driver.wait()
    ours = (zygotes() | workers()) - before | noted(notes, "grandchild") | noted(notes, "child")
    assert ours
    assert wait_until(lambda: not alive(ours)), "processes of the engine are left"

    stored = RunStore.open(out).ids()
    assert set(names) <= stored
    again = Rollout(chaosworld.ENV_ID, agent="chaotic", workers=2, deadlines=Deadlines(step_s=1.0), **options)
    assert again.stored == stored
    rest = [trajectory.id for trajectory in again]
    assert not set(rest) & stored
    assert sorted([*rest, *stored]) == [f"ep-{i:04d}#0" for i in range(60)]
    assert len(list(RunStore.open(out).trajectories())) == 60


def test_ctrl_c_ends_everything(notes: Path) -> None:
    before = zygotes() | workers()
    driver = drive({"tasks": "train:500", "env_options": {"sleep_s": 0.05, "notes": str(notes)}})
    read_lines(driver, 5)
    family = session_of(driver)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) == 0
    assert driver.stdout is not None
    assert "interrupted" in driver.stdout.read()
    assert not (zygotes() | workers()) - before
    assert not alive(noted(notes, "child"))
    assert wait_until(lambda: not alive(family))


@pytest.fixture
def no_cluster() -> None:
    if ray.is_initialized():
        ray.shutdown()


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1"])
def test_a_cluster_that_is_not_there_is_a_transport_error(address: str) -> None:
    with pytest.raises(TransportError, match="no Ray cluster at"):
        list(chaos(address=address))
