"""``Rollout`` in this process: options, iteration, the store and resuming. No Ray, no children."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import chaosworld
import gymnasium
import pytest

from turnwise.errors import ConfigError, EnvError, UnknownNameError
from turnwise.records import Trajectory, to_json, without_timings
from turnwise.rollout import Deadlines, Rollout
from turnwise.rollout.store import RunStore

HOUSEHOLD = "turnwise/Household-v0"


def chaos(**options: Any) -> Rollout:
    return Rollout(**{"env": chaosworld.ENV_ID, "tasks": "train:6", "agent": "chaotic", "workers": 0, **options})


def as_bytes(trajectories: Any) -> dict[str, bytes]:
    return {t.id: to_json(without_timings(t)) for t in trajectories}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "chaos/Wrold-v0"}, "Did you mean 'chaos/World-v0'"),
        ({"env": 3}, "env is the id"),
        ({"agent": "chaotik"}, "Did you mean 'chaotic'"),
        ({"rewards": "defualt"}, "Did you mean 'default'"),
        ({"tasks": "train:0"}, "names no task"),
        ({"tasks": "train:5-5"}, "names no task"),
        ({"tasks": "train:2000-2010"}, "has 2000 tasks"),
        ({"tasks": "train:1-2-3"}, "SPLIT:A-B"),
        ({"tasks": ""}, "SPLIT"),
        ({"tasks": []}, "empty"),
        ({"tasks": ["ep-0001", "ep-1"]}, "unknown task 'ep-1'"),
        ({"tasks": ["ep-0001", "ep-0001"]}, "listed twice"),
        ({"tasks": 7}, "tasks are a split"),
        ({"group": 0}, "group is a whole number of at least 1"),
        ({"group": True}, "group is a whole number"),
        ({"seed": -1}, "seed is a whole number of at least 0"),
        ({"max_turns": 0}, "max_turns is a whole number"),
        ({"max_turns": 3, "env_options": {"max_turns": 4}}, "max_turns is given twice"),
        ({"tasks": "train:2", "env_options": {"split": "test"}}, "split is given twice"),
        ({"env_options": {"notes": object()}}, "JSON values only"),
        (
            {"env": "turnwise/Household-v0", "agent": "expert", "env_options": {"maxturns": 4}},
            "Did you mean 'max_turns'",
        ),
        ({"workers": -1}, "workers is a whole number"),
        ({"slots": 0}, "slots is a whole number"),
        ({"memory_limit": 0}, "memory_limit is a whole number"),
        ({"agent": "human", "workers": 2}, "workers=0"),
    ],
)
def test_wrong_options_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chaos(**options)


@pytest.mark.parametrize("value", [0, -1, float("nan"), True, "1"])
def test_deadlines_are_positive_seconds(value: Any) -> None:
    with pytest.raises(ConfigError, match="step_s"):
        Deadlines(step_s=value)


def test_an_unknown_world_is_a_key_error_too() -> None:
    with pytest.raises(UnknownNameError):
        chaos(env="turnwise/Househould-v0")


def test_worlds_of_a_script_need_a_module_for_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    from turnwise import registry

    monkeypatch.setitem(registry.envs._entries, "chaos/Script-v0", "__main__:World")
    with pytest.raises(ConfigError, match="move it into a module"):
        chaos(workers=1)
    assert chaos(workers=0).total == 6


def test_each_task_and_sample_comes_once() -> None:
    rollout = chaos(tasks="train:3-5", group=3)
    assert rollout.total == 6
    played = list(rollout)
    assert sorted(t.id for t in played) == [f"ep-{i:04d}#{s}" for i in (3, 4) for s in range(3)]
    assert all(t.ending.kind == "terminated" and t.env_id == chaosworld.ENV_ID for t in played)
    assert len({t.seed for t in played}) == 6
    assert {t.env_options["split"] for t in played} == {"train"}


def test_the_same_seed_gives_the_same_trajectories() -> None:
    first, again, other = (as_bytes(chaos(seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_an_episode_does_not_depend_on_the_others() -> None:
    whole = as_bytes(chaos(group=2))
    alone = as_bytes(chaos(tasks=["ep-0004"], group=2))
    assert alone == {name: data for name, data in whole.items() if name.startswith("ep-0004")}


def test_failures_are_trajectories() -> None:
    faults = {"ep-0001": "step:raise", "ep-0002": "reset:raise", "ep-0003": "step:sysexit", "ep-0004": "step:nan"}
    played = {t.task.id: t for t in chaos(env_options={"faults": faults})}
    assert {name for name, t in played.items() if t.failed} == set(faults)
    kinds = {name: (t.ending.failure.boundary, t.ending.failure.kind) for name, t in played.items() if t.ending.failure}
    assert kinds["ep-0001"] == kinds["ep-0002"] == kinds["ep-0004"] == ("env", "exception")
    assert kinds["ep-0003"] == ("env", "exit")
    assert played["ep-0005"].outcome is not None


def test_a_world_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(EnvError, match="chaos was asked for"):
        list(chaos(env_options={"boot": "raise"}))


def test_max_turns_truncates() -> None:
    played = list(chaos(max_turns=2))
    assert {(t.ending.kind, t.ending.cause, len(t.turns)) for t in played} == {("truncated", "turns", 2)}
    assert all(t.outcome is not None and not t.outcome.success for t in played)


def test_run_returns_a_summary() -> None:
    summary = chaos(env_options={"faults": {"ep-0001": "step:raise"}}).run()
    assert (summary.episodes, summary.failed, summary.succeeded) == (6, 1, 5)


def test_a_run_is_stored_and_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    rollout = chaos(out=out, group=2)
    for count, _ in enumerate(rollout, start=1):
        if count == 5:
            break
    store = RunStore.open(out)
    assert len(store.ids()) == 5
    assert store.status == "interrupted"
    again = chaos(out=out, group=2)
    assert len(again.stored) == 5
    rest = list(again)
    assert len(rest) == 7
    assert not {t.id for t in rest} & store.ids()
    stored = list(RunStore.open(out).trajectories())
    assert as_bytes(stored) == as_bytes(chaos(group=2))
    assert RunStore.open(out).status == "complete"
    assert list(chaos(out=out, group=2)) == []
    assert chaos(out=out, group=2).run().episodes == 12


def test_a_trajectory_is_stored_before_it_is_yielded(tmp_path: Path) -> None:
    for trajectory in chaos(out=tmp_path / "run"):
        assert trajectory.id in RunStore.open(tmp_path / "run").ids()


@pytest.mark.parametrize("change", [{"seed": 1}, {"group": 3}, {"tasks": "train:5"}, {"agent": "random"}])
def test_another_run_is_not_mixed_in(change: dict[str, Any], tmp_path: Path) -> None:
    list(chaos(out=tmp_path / "run"))
    with pytest.raises(ConfigError, match=f"holds another run: {next(iter(change))} was"):
        chaos(out=tmp_path / "run", **change)


def test_workers_and_slots_are_no_part_of_a_run(tmp_path: Path) -> None:
    list(chaos(out=tmp_path / "run"))
    assert len(chaos(out=tmp_path / "run", workers=2, slots=8, deadlines=Deadlines(step_s=5)).stored) == 6


def test_an_exception_of_the_consumer_closes_the_store(tmp_path: Path) -> None:
    def consume() -> None:
        for trajectory in chaos(out=tmp_path / "run"):
            raise KeyError(trajectory.id)

    with pytest.raises(KeyError):
        consume()
    assert RunStore.open(tmp_path / "run").status == "interrupted"
    assert len(list(chaos(out=tmp_path / "run"))) == 5


class Echo(gymnasium.Env[str, str]):
    """A foreign world: text in, text out, nothing of ours."""

    observation_space = gymnasium.spaces.Text(100)
    action_space = gymnasium.spaces.Text(100)

    def __init__(self, loud: bool = False) -> None:
        self.loud = loud

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        assert options is None
        return f"Number {self.np_random.integers(1000)}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return action.upper() if self.loud else action, 1, False, False, {}


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(chaosworld, "Echo", Echo, raising=False)
    gymnasium.register("foreign/Echo-v0", "chaosworld:Echo", kwargs={"loud": True}, max_episode_steps=9)
    yield "foreign/Echo-v0"
    del gymnasium.registry["foreign/Echo-v0"]


def test_foreign_worlds_run(echo: str) -> None:
    played: list[Trajectory] = list(Rollout(echo, tasks="any:3", agent="chaotic", max_turns=4, workers=0))
    assert [t.task.id for t in played] == ["any-0", "any-1", "any-2"]
    assert {(t.ending.kind, t.ending.cause, len(t.turns)) for t in played} == {("truncated", "turns", 4)}
    assert {t.outcome.env_return for t in played if t.outcome} == {4.0}
    assert played[0].turns[2].observation == "DANCE WILDLY"
    assert played[0].env_options == {"loud": True}
    assert len({t.turns[0].observation for t in played}) > 1
    with pytest.raises(ConfigError, match="how many episodes"):
        Rollout(echo, agent="chaotic", workers=0)
    named = Rollout(echo, tasks=["a", "b"], agent="chaotic", workers=0)
    assert [len(t.turns) for t in named] == [9, 9]
