"""A run that is killed or interrupted goes on: no trajectory twice and none missing."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from turnwise.records import from_json, to_json, without_timings
from turnwise.rollout.store import RunStore

# A shell that runs the tests in the background has its children ignore Ctrl-C.
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
TURNWISE = [sys.executable, "-c", HEED + "from turnwise.rollout.cli import main; main()"]
PATIENCE_S = 120.0


def start(args: list[str], **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TURNWISE, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


def acknowledged(path: Path) -> list[str]:
    """Ids in the journals, whole lines only."""
    lines = [line for file in path.glob("journal-*") for line in file.read_bytes().split(b"\n")[:-1]]
    return [from_json(line).id for line in lines]


def wait_for(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(acknowledged(path)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.02)


def rows(path: Path) -> Counter[str]:
    """How often each trajectory is on disk."""
    return Counter(
        name for file in path.glob("*.parquet") for name in pq.read_table(file, columns=["id"])["id"].to_pylist()
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=[pytest.mark.ray, pytest.mark.slow])])
def test_kill_9_in_the_middle(toy, tmp_path, workers) -> None:
    path = tmp_path / "run"
    args = ["rollout", "--env", toy, "--tasks", "train:12", "--group", "2", "--agent", "noisy-expert:0.5"]
    args += ["--workers", str(workers), "--out", str(path)]
    wanted = {f"count-{n}#{k}" for n in range(12) for k in range(2)}

    process = start(args, TOY_SLEEP="0.05")
    try:
        wait_for(path, 5, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)
    assert RunStore.open(path).status == "interrupted"
    before = {t.id: to_json(t) for t in RunStore.open(path).trajectories()}
    assert 5 <= len(before) < len(wanted)

    code, out, err = finish(start(args))
    assert code == 0, err
    assert out.rstrip().endswith(str(path))
    assert f"holds {len(before)} of 24 episodes: playing the rest" in err
    store = RunStore.open(path)
    assert store.status == "complete"
    assert rows(path) == Counter(wanted)
    assert not acknowledged(path)
    assert {t.id: to_json(t) for t in store.trajectories() if t.id in before} == before

    # The resumed run is the run that was never killed.
    whole = tmp_path / "whole"
    assert finish(start([*args[:-3], "0", "--out", str(whole)]))[0] == 0
    both = [{t.id: to_json(without_timings(t)) for t in RunStore.open(run).trajectories()} for run in (path, whole)]
    assert both[0] == both[1]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_says_how_to_resume(toy, tmp_path, stop) -> None:
    path = tmp_path / "my run"
    args = ["rollout", "--env", toy, "--tasks", "train:30", "--workers", "0", "--out", str(path)]
    args += ["--env-option", "render_mode=ansi"]
    process = start(args, TOY_SLEEP="0.05")
    wait_for(path, 3, process)
    process.send_signal(stop)
    code, out, err = finish(process)
    assert code == 130
    assert out.rstrip().endswith(str(path))
    store = RunStore.open(path)
    assert store.status == "interrupted"
    assert store.manifest["status"] == "interrupted"
    assert f"interrupted: {len(store)} of 30 episodes are stored" in err
    (line,) = [line for line in err.splitlines() if line.startswith("resume with: ")]
    command = shlex.split(line.removeprefix("resume with: "))
    assert command[0] == "turnwise"
    assert "--group" not in command  # what was left at its default stays out
    code, _, err = finish(start(command[1:]))
    assert code == 0, err
    assert RunStore.open(path).status == "complete"
    assert rows(path) == Counter({f"count-{n}#0": 1 for n in range(30)})


def test_two_writers_of_one_run(toy, tmp_path) -> None:
    path = tmp_path / "run"
    args = ["rollout", "--env", toy, "--tasks", "train:30", "--workers", "0", "--out", str(path)]
    first = start(args, TOY_SLEEP="0.05")
    try:
        wait_for(path, 1, first)
        code, _, err = finish(start(args))
        assert code == 1
        assert f"is being written by another process (pid {first.pid})" in err
        listed = subprocess.run([*TURNWISE, "show", str(path), "--json"], capture_output=True, text=True, timeout=60)
        assert json.loads(listed.stdout)["status"] == "running"
    finally:
        first.kill()
        first.communicate()
