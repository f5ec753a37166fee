"""``turnwise rollout``: what it prints, stores and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from turnwise.rollout.cli.options import read_deadline, read_size
from turnwise.rollout.store import RunStore

IN_PROCESS = ("--workers", 0)


def test_a_run_ends_with_a_table_and_its_path(cli, toy, tmp_path) -> None:
    args = ("rollout", "--env", toy, "--tasks", "train:4", "--group", 2, "--agent", "noisy-expert:0.5", *IN_PROCESS)
    result = cli(*args, "--seed", 3, "--out", tmp_path / "run")
    for text in ("success", "mean turns", "episodes/s", "gated gate passed", "outcome (mean)", "failed"):
        assert text in result.stdout
    assert result.stdout.rstrip().splitlines()[-1] == str(tmp_path / "run")
    assert "8/8" in result.stderr  # the progress bar
    assert "ok" in result.stderr

    store = RunStore.open(tmp_path / "run")
    assert store.status == "complete"
    assert store.ids() == {f"count-{n}#{k}" for n in range(4) for k in range(2)}
    manifest = store.manifest
    assert (manifest["env"], manifest["tasks"], manifest["group"]) == (toy, "train:4", 2)
    assert (manifest["agent"], manifest["seed"]) == ("noisy-expert:0.5", 3)
    assert [reward["name"] for reward in manifest["rewards"]["rewards"]] == [
        "outcome",
        "format",
        "valid_action",
        "progress",
        "gated",
    ]
    for trajectory in store.trajectories():
        assert all({"outcome", "format", "gated", "reward"} <= turn.rewards.keys() for turn in trajectory.turns)


def test_json_is_the_summary_and_nothing_else(cli, toy, tmp_path) -> None:
    result = cli("rollout", "--env", toy, "--tasks", "train:3", *IN_PROCESS, "--out", tmp_path / "run", "--json")
    found = json.loads(result.stdout)
    assert found["run"] == str(tmp_path / "run")
    assert found["status"] == "complete"
    assert (found["summary"]["episodes"], found["summary"]["success_rate"]) == (3, 1.0)
    assert result.stderr == ""


def test_quiet_prints_the_path_alone(cli, toy, tmp_path) -> None:
    result = cli("rollout", "--env", toy, "--tasks", "train:1", *IN_PROCESS, "--out", tmp_path / "run", "--quiet")
    assert (result.stdout, result.stderr) == (f"{tmp_path / 'run'}\n", "")


def test_without_out_the_run_gets_a_directory_of_its_own(cli, toy, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = {
        cli("rollout", "--env", toy, "--tasks", "train:1", *IN_PROCESS, "--quiet").stdout.strip() for _ in range(3)
    }
    assert len(paths) == 3
    for path in paths:
        assert Path(path).parent == Path("runs")
        assert "counting" in path
        assert len(RunStore.open(path)) == 1


def test_a_complete_run_has_nothing_left_to_play(cli, toy, tmp_path) -> None:
    args = ("rollout", "--env", toy, "--tasks", "train:3", *IN_PROCESS, "--out", tmp_path / "run")
    cli(*args)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("run/*.parquet")}
    result = cli(*args)
    assert "holds 3 of 3 episodes: nothing is left to play" in result.stderr
    assert "3 of 3 episodes" in result.stdout
    assert {path.name: path.read_bytes() for path in tmp_path.glob("run/*.parquet")} == before


def test_a_run_is_not_resumed_with_other_options(cli, toy, tmp_path) -> None:
    args = ("rollout", "--env", toy, *IN_PROCESS, "--out", tmp_path / "run")
    cli(*args, "--tasks", "train:3")
    result = cli(*args, "--tasks", "train:4", "--seed", 1, code=2)
    assert "holds another run" in result.stderr
    assert "seed was 0, now 1" in result.stderr


def test_missing_episodes_of_a_damaged_shard_are_played_again(cli, toy, tmp_path) -> None:
    args = ("rollout", "--env", toy, "--tasks", "train:5", "--agent", "random", *IN_PROCESS, "--out", tmp_path / "run")
    cli(*args)
    before = {t.id: [turn.action_text for turn in t.turns] for t in RunStore.open(tmp_path / "run").trajectories()}
    shard = tmp_path / "run" / "shard-00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-50])
    result = cli(*args)
    assert "kept as shard-00000.parquet.corrupt" in result.stderr
    after = {t.id: [turn.action_text for turn in t.turns] for t in RunStore.open(tmp_path / "run").trajectories()}
    assert after == before


def test_failed_episodes_are_counted_and_stored(cli, toy, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOY_BREAK", "count-1")
    args = ("rollout", "--env", toy, "--tasks", "train:3", *IN_PROCESS, "--out", tmp_path / "run")
    found = json.loads(cli(*args, "--json").stdout)["summary"]
    assert found["failures"] == {"env": {"exception": 1}}
    assert (found["success_rate"], found["failed"]) == (1.0, 1)
    assert "the abacus broke" in cli("show", tmp_path / "run", "count-1").output


def test_a_run_in_which_everything_failed_exits_with_1(cli, toy, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOY_BREAK", "count-1")
    args = ("rollout", "--env", toy, "--tasks", "train:1-2", *IN_PROCESS, "--out", tmp_path / "run")
    assert "every episode failed" in cli(*args, code=1).stderr


def test_options_reach_the_run(cli, toy, tmp_path) -> None:
    (tmp_path / "cheap.yaml").write_text("version: 1\nrewards: [{name: turn_cost}]\n")
    options = ("--rewards", tmp_path / "cheap.yaml", "--max-turns", 1, "--env-option", "render_mode=ansi")
    limits = ("--step-deadline", 5, "--episode-deadline", "none", "--memory-limit", "2GiB", "--slots", 3)
    cli("rollout", "--env", toy, "--tasks", "train:2", *IN_PROCESS, *options, *limits, "--out", tmp_path / "run")
    for trajectory in RunStore.open(tmp_path / "run").trajectories():
        assert trajectory.ending.cause == "turns"
        assert len(trajectory.turns) == 1
        assert set(trajectory.turns[0].rewards) == {"turn_cost", "reward"}
        assert trajectory.env_options["render_mode"] == "ansi"


def test_a_stored_run_is_replayed_by_the_replay_agent(cli, toy, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = ("rollout", "--env", toy, "--tasks", "train:4", *IN_PROCESS)
    cli(*args, "--agent", "random", "--out", tmp_path / "first")
    cli(*args, "--agent", "replay:first", "--out", tmp_path / "second")
    # Workers may run in another directory, so the path is made absolute.
    assert RunStore.open(tmp_path / "second").manifest["agent"] == f"replay:{tmp_path / 'first'}"
    first, second = (
        {t.id: [(turn.observation, turn.action_text) for turn in t.turns] for t in RunStore.open(path).trajectories()}
        for path in (tmp_path / "first", tmp_path / "second")
    )
    assert first == second
    assert "4 of 4 trajectories replayed the same" in cli("replay", tmp_path / "second").output


def test_the_household_from_rollout_to_replay(cli, tmp_path) -> None:
    path = tmp_path / "run"
    cli("rollout", "--tasks", "train:3", "--group", 2, "--agent", "noisy-expert:0.3", *IN_PROCESS, "--out", path)
    assert "6 of 6 trajectories replayed the same" in cli("replay", path).output
    assert "gated" in cli("score", path, "--rewards", "direct").output
    (first, *_) = RunStore.open(path).trajectories()
    text = cli("show", path, first.id).output
    assert "Your task is to" in text
    assert "outcome_level" in text  # the gate's evidence


def test_the_real_kitchen_with_the_same_command(cli, tmp_path, shared_data) -> None:
    path, real = tmp_path / "run", shared_data / "alfworld" / "real"
    args = ("rollout", "--data", real, "--tasks", "train:64", "--group", 3, "--agent", "noisy-expert", *IN_PROCESS)
    found = json.loads(cli(*args, "--out", path, "--json").stdout)["summary"]
    assert (found["episodes"], found["failed"]) == (3, 0)
    assert "3 of 3 trajectories replayed the same" in cli("replay", path).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--env", "turnwise/Houshold-v0"], "Did you mean 'turnwise/Household-v0'"),
        (["--agent", "expret"], "Did you mean 'expert'"),
        (["--agent", "noisy-expert:2"], "epsilon is a probability"),
        (["--agent", "human", "--workers", "1"], "workers=0"),
        (["--tasks", "trian:2"], "Did you mean 'train'"),
        (["--tasks", "train:x"], "tasks are"),
        (["--rewards", "gatd"], "Did you mean 'gated'"),
        (["--rewards", "nowhere.yaml"], "no such file"),
        (["--group", "0"], "group is a whole number of at least 1"),
        (["--workers", "-1"], "workers is a whole number"),
        (["--max-turns", "0"], "max_turns"),
        (["--env-option", "colour=red"], "no option 'colour'"),
        (["--env-option", "colour"], "KEY=VALUE"),
        (["--step-deadline", "soon"], "--step-deadline takes a positive number of seconds"),
        (["--memory-limit", "lots"], "--memory-limit takes bytes"),
        (["--out", "FILE"], "is a file"),
    ],
)
def test_mistakes_are_one_clear_line_before_anything_starts(cli, toy, tmp_path, options, message) -> None:
    (tmp_path / "FILE").write_text("")
    options = [str(tmp_path / "FILE") if option == "FILE" else option for option in options]
    defaults = ["--env", toy, "--tasks", "train:2", "--workers", "0", "--out", str(tmp_path / "run")]
    result = cli("rollout", *defaults, *options, code=2)
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_sizes_and_deadlines() -> None:
    assert [read_size("x", text) for text in ("1000", "1k", "512MiB", "1.5 GB", "2g", "none")] == [
        1000,
        1024,
        512 * 2**20,
        3 * 2**29,
        2 * 2**30,
        None,
    ]
    assert [read_deadline("x", text) for text in ("5", "0.5", "none")] == [5.0, 0.5, None]
