"""What the engine's tests share: the chaos world, and a look at what processes are left."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from turnwise import register_env
from turnwise.agents.registry import agents

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # workers get it too: the engine passes it on

import chaosworld  # noqa: E402

# Other test sessions may run on this machine: every process below this one inherits the token.
TOKEN = secrets.token_hex(8)
os.environ[chaosworld.SESSION] = TOKEN

register_env(chaosworld.ENV_ID, "chaosworld:ChaosEnv")
agents.register("chaotic", "chaosworld:ChaosAgent")


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder in which the chaos world's processes leave their ids."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def alive(pids: set[int]) -> set[int]:
    """Return those of ``pids`` that are running; a zombie is not."""
    running = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                running.add(pid)
    return running


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait for something that has no notification."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def noted(folder: Path, name: str) -> set[int]:
    """Return the process ids that ``name`` left in ``folder``."""
    return {int(path.name.rpartition("-")[2]) for path in folder.glob(f"{name}-*")}


def _of_this_session(text: str) -> set[int]:
    """Return the processes that this test session started and that have ``text`` in their command line."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(text in part for part in process.cmdline()) and process.environ().get(chaosworld.SESSION) == TOKEN:
                found.add(process.pid)
    return found


def zygotes() -> set[int]:
    """Return the running zygotes and their children."""
    return alive(_of_this_session("turnwise.rollout.engine.zygote"))


def workers() -> set[int]:
    """Return the running Ray actors of ours."""
    return alive(_of_this_session("RolloutWorker"))


@pytest.fixture
def none_left() -> Iterator[None]:
    """Fail when the test leaves a zygote or a child of one."""
    before = zygotes()
    descriptors = len(os.listdir("/proc/self/fd"))
    yield
    assert wait_until(lambda: not zygotes() - before), "processes are left"
    assert wait_until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 1, 5), "descriptors are left"
