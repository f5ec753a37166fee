"""What the engine asks of the operating system."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from turnwise.rollout.engine import processes

from .conftest import alive, wait_until


def in_child(work: Callable[[], int]) -> int:
    """Run ``work`` in a fork; return its wait status."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: 17, "exited with status 17"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by signal 9 SIGKILL (by the kernel, if memory ran out)"),
        (lambda: os.kill(os.getpid(), signal.SIGUSR1), "killed by signal 10 SIGUSR1"),
    ],
)
def test_an_exit_in_words(work: Callable[[], int], words: str) -> None:
    assert words in processes.describe_exit(in_child(work))


def test_memory_is_limited_and_the_limit_can_be_lifted() -> None:
    def work() -> int:
        kept = bytearray(50 * 2**20)
        processes.limit_memory(64 * 2**20)
        bytearray(32 * 2**20)
        try:
            bytearray(128 * 2**20)
        except MemoryError:
            processes.lift_memory_limit()
            bytearray(128 * 2**20)
            return len(kept) % 2
        return 1

    assert in_child(work) == 0


def test_a_hard_limit_is_kept() -> None:
    def work() -> int:
        resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
        processes.limit_memory(2**40)
        return int(resource.getrlimit(resource.RLIMIT_DATA) != (2**30, 2**30))

    assert in_child(work) == 0


def test_open_files_are_allowed_up_to_the_hard_limit() -> None:
    def work() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        processes.allow_open_files(100)
        first = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        processes.allow_open_files(10)
        processes.allow_open_files(1000)
        return int((first, resource.getrlimit(resource.RLIMIT_NOFILE)) != (100, (128, 128)))

    assert in_child(work) == 0


def test_orphans_are_adopted_and_killed() -> None:
    def work() -> int:
        processes.adopt_orphans()
        known = os.fork()
        if known == 0:
            time.sleep(60)
        subprocess.run([sys.executable, "-c", "import os, time\nif not os.fork(): os.setsid(); time.sleep(60)"])
        processes.kill_orphans({known})
        found = [child.pid for child in psutil.Process().children(recursive=True)]
        os.kill(known, signal.SIGKILL)
        return int(found != [known])

    assert in_child(work) == 0


def test_marked_processes_are_found_wherever_they_are() -> None:
    env = {**os.environ, processes.MARK: "a mark of this test"}
    script = "import os, time\nif not os.fork(): os.setsid(); print(os.getpid(), flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    daemon = int(parent.stdout.readline())
    assert processes.kill_marked("another mark") == 0
    assert processes.kill_marked("a mark of this test") >= 1
    assert wait_until(lambda: not alive({daemon}))
    parent.stdout.close()
    parent.wait()
