"""One bad environment among 64: how many of the others come back, and when.

    python benchmarks/one_bad_env.py

64 episodes of 4 turns of 0.1 s; number 5 hangs in blocking code at its second step, number 6 raises,
number 7 ends its process. A step may take 2 s. Start-up is everything from the call to the moment at
which the first episode can have begun: Ray, the workers, their imports, the first processes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import toy_worlds

from turnwise.rollout import Deadlines, Rollout

SLEEP_S, TURNS, STEP_DEADLINE_S = 0.1, 4, 2.0
FAULTS = {"0005": "hang", "0006": "raise", "0007": "exit"}


def measure(workers: int, slots: int) -> dict[str, Any]:
    began = time.monotonic()
    rollout = Rollout(
        toy_worlds.WAITING,
        tasks="train:64",
        agent="waiter",
        env_options={"turns": TURNS, "sleep_s": SLEEP_S, "faults": FAULTS},
        deadlines=Deadlines(step_s=STEP_DEADLINE_S),
        workers=workers,
        slots=slots,
    )
    times: list[float] = []
    good: list[float] = []
    bad: dict[str, str] = {}
    for trajectory in rollout:
        now = time.monotonic() - began
        times.append(now)
        if trajectory.failed:
            failure = trajectory.ending.failure
            bad[trajectory.task.id] = f"{failure.boundary}: {failure.kind}" if failure else "?"
        else:
            good.append(now)
    ended = time.monotonic() - began
    # The first good episode took TURNS * SLEEP_S; before that was start-up.
    startup = min(good) - TURNS * SLEEP_S
    return {
        "workers": workers,
        "slots": slots,
        "came_back": len(times),
        "good": len(good),
        "failed": bad,
        "startup_s": startup,
        "last_good_s": max(good) - startup,
        "all_s": max(times) - startup,
        "whole_call_s": ended,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    toy_worlds.register()
    figures = {**toy_worlds.machine(), "step_deadline_s": STEP_DEADLINE_S, "ideal_s": TURNS * SLEEP_S}
    runs = [measure(workers, 64 // workers) for workers in (1, 2) for _ in range(options.repeat)]
    toy_worlds.table(runs)
    toy_worlds.save("one_bad_env", {**figures, "runs": runs})


if __name__ == "__main__":
    main()
