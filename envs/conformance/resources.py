"""The rule on what an environment leaves behind."""

from __future__ import annotations

import gc
import threading
import time

from turnwise.envs.conformance.policies import RandomPolicy
from turnwise.envs.conformance.rule import demand, rule
from turnwise.envs.conformance.subject import Subject, play

_LIVES = 3
_GRACE_S = 2.0  # a terminated child or a joined thread takes a moment to go


@rule(
    "close",
    "close() leaves no process, thread or open file, and may be called twice",
    why="A long run makes thousands of environments.",
)
def close(subject: Subject) -> str:
    """Compare what the process holds before and after a few lives of the environment."""
    import psutil

    process = psutil.Process()

    def children() -> set[int]:
        return {child.pid for child in process.children(recursive=True)}

    def files() -> int:
        return process.num_fds() if hasattr(process, "num_fds") else 0

    before = children()
    _live(subject)  # caches and lazily opened files of the libraries are filled once
    threads, opened = threading.active_count(), files()
    for _ in range(_LIVES):
        _live(subject)
    deadline = time.monotonic() + _GRACE_S
    while True:
        gc.collect()
        left = len(children() - before)
        grown = threading.active_count() - threads, files() - opened
        if (left == 0 and max(grown) <= 0) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    demand(left == 0, f"close() leaves {left} child processes after {_LIVES + 1} environments")
    demand(grown[0] <= 0, f"close() leaves {grown[0]} threads after {_LIVES} environments")
    demand(grown[1] <= 0, f"close() leaves {grown[1]} open files after {_LIVES} environments")
    return "no process, thread or open file is left"


def _live(subject: Subject) -> None:
    with subject.make() as env:
        play(env, RandomPolicy(env, subject.generator(6)), seed=0, turns=3)
        env.close()
    with subject.make():
        pass  # closed without ever being reset
