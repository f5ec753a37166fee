"""Policies on Ray: one pool for many runs, new weights between them, and replicas that die."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chaosworld
import psutil
import pytest

from turnwise.errors import ConfigError, PolicyError
from turnwise.rollout import Deadlines, PolicyPool, Rollout

from .conftest import wait_until

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One local cluster for all runs of this module; starting one takes seconds."""
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def chaos(agent: Any, **options: Any) -> Rollout:
    deadlines = Deadlines(act_s=60.0)
    given = {"env": chaosworld.ENV_ID, "tasks": "train:12", "agent": agent, "workers": 2, "deadlines": deadlines}
    return Rollout(**{**given, **options})


def versions(rollout: Rollout) -> list[tuple[str | None, ...]]:
    return [tuple(turn.policy_version for turn in trajectory.turns) for trajectory in rollout]


def policies() -> list[int]:
    """Return the running replicas; other test sessions' are of other parents."""
    mine = psutil.Process().children(recursive=True)
    with_names = [(process.pid, process.cmdline()) for process in mine if process.status() != psutil.STATUS_ZOMBIE]
    return [pid for pid, words in with_names if any("PolicyActor" in word for word in words)]


def test_a_run_starts_and_ends_a_pool_of_its_own() -> None:
    done = list(chaos("chaos-policy", replicas=2))
    assert len(done) == 12
    assert all(trajectory.ending.kind == "terminated" for trajectory in done)
    assert wait_until(lambda: not policies()), "a replica is left"


def test_one_policy_serves_both_workers() -> None:
    # Six episodes of two workers must be with the one replica at once.
    done = list(chaos("chaos-policy:together:6", slots=3))
    assert all(trajectory.ending.kind == "terminated" for trajectory in done)


def test_weights_change_between_batches_and_are_stamped() -> None:
    with PolicyPool("chaos-policy", replicas=2) as pool:
        assert pool.version == "0"
        assert versions(chaos(pool)) == [("0",) * 4] * 12
        pool.update("good", version="step-1")
        assert pool.version == "step-1"
        assert versions(chaos(pool)) == [("step-1",) * 4] * 12
        assert versions(chaos(pool, workers=0, tasks="train:2")) == [("step-1",) * 4] * 2
        with pytest.raises(ConfigError, match="these weights do not fit"):
            pool.update("bad", version="step-2")
        assert pool.version == "step-1"
        assert versions(chaos(pool, tasks="train:2")) == [("step-1",) * 4] * 2
    with pytest.raises(PolicyError, match="not started"):
        pool.handles  # noqa: B018


@pytest.mark.parametrize("updated", [False, True])
def test_a_replica_that_dies_comes_back_with_the_right_weights(tmp_path: Path, updated: bool) -> None:
    mark = tmp_path / "died"
    with PolicyPool(f"chaos-policy:die:{mark}") as pool:
        if updated:
            pool.update("good", version="step-1")
        done = list(chaos(pool))
        assert mark.exists()
        assert all(trajectory.ending.kind == "terminated" for trajectory in done)
        expected = "step-1" if updated else "0"
        assert {turn.policy_version for trajectory in done for turn in trajectory.turns} == {expected}


def test_a_policy_that_cannot_be_loaded_says_so_at_once() -> None:
    with pytest.raises(ConfigError, match="there is no such model"):
        list(chaos("chaos-policy:unloadable"))


def test_an_agent_without_a_model_has_no_pool() -> None:
    with pytest.raises(ConfigError, match="has no model behind it"):
        PolicyPool("expert")
