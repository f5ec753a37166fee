"""N episodes that only wait: 4 turns of 1 s each. The ideal is 4 s, whatever N is.

    python benchmarks/waiting.py --n 256 1024

The engine (one process a slot, with deadlines) beside a pool of N threads and Gymnasium's
AsyncVectorEnv (one process an environment), each in a process of its own, one after another.
Memory is the peak of the proportional set size over all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import toy_worlds

TURNS, SLEEP_S = 4, 1.0
IDEAL_S = TURNS * SLEEP_S


def engine(n: int, workers: int) -> dict[str, float]:
    from turnwise.rollout import Rollout

    began = time.monotonic()
    rollout = Rollout(
        toy_worlds.WAITING,
        tasks=f"train:{n}",
        agent="waiter",
        env_options={"turns": TURNS, "sleep_s": SLEEP_S},
        rewards=toy_worlds.ONE_REWARD,
        workers=workers,
        slots=-(-n // workers),
    )
    times, slept = [], []
    for trajectory in rollout:
        assert trajectory.ending.kind == "terminated"
        times.append(time.monotonic() - began)
        slept.append(trajectory.timings.step_s)
    ended = time.monotonic() - began
    assert len(times) == n
    # From the earliest moment at which an episode can have begun to the last result in our hands.
    startup = min(times) - min(slept)
    return {"wall_s": max(times) - startup, "startup_s": startup, "close_s": ended - max(times)}


def threads(n: int) -> dict[str, float]:
    began = time.monotonic()
    agent = toy_worlds.Waiter()
    envs = [toy_worlds.WaitingEnv(turns=TURNS, sleep_s=SLEEP_S) for _ in range(n)]

    def play(i: int) -> int:
        observation, info = envs[i].reset(seed=i, options={"task_id": f"{i:04d}"})
        turns, over = 0, False
        while not over:
            observation, _, terminated, truncated, info = envs[i].step(agent.act(observation, info).text)
            over, turns = terminated or truncated, turns + 1
        return turns

    with ThreadPoolExecutor(n) as pool:
        ready = time.monotonic()
        assert sum(pool.map(play, range(n))) == n * TURNS
        done = time.monotonic()
    return {"wall_s": done - ready, "startup_s": ready - began, "close_s": time.monotonic() - done}


def async_vector(n: int) -> dict[str, float]:
    began = time.monotonic()
    envs = gymnasium.vector.AsyncVectorEnv([toy_worlds.NumbersEnv] * n)
    ready = time.monotonic()
    envs.reset(seed=0)
    for _ in range(TURNS):
        envs.step(np.zeros(n, dtype=np.int64))
    done = time.monotonic()
    envs.close()
    return {"wall_s": done - ready, "startup_s": ready - began, "close_s": time.monotonic() - done}


CASES = {
    "turnwise, 1 worker": lambda n: engine(n, 1),
    "turnwise, 2 workers": lambda n: engine(n, 2),
    "thread pool": threads,
    "AsyncVectorEnv": async_vector,
}


def run_case(name: str, n: int) -> dict[str, Any]:
    toy_worlds.register()
    cpu = time.process_time()
    with toy_worlds.PeakMemory() as memory:
        times = CASES[name](n)
    whole = times["wall_s"] + times["startup_s"] + times["close_s"]
    return {
        "case": name,
        "n": n,
        **times,
        "share_of_ideal": IDEAL_S / times["wall_s"],
        "share_with_startup": IDEAL_S / whole,
        "peak_pss_mb": memory.peak_mb,
        "processes": memory.processes,
        "driver_cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--case", choices=list(CASES), help="run this case alone, for one N, and print JSON")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(run_case(options.case, options.n[0])))
        return
    rows = []
    for n in options.n:
        for name in CASES:
            command = [sys.executable, str(Path(__file__)), "--n", str(n), "--case", name]
            env = {**os.environ, toy_worlds.TOKEN: f"{name}-{n}"}  # forks show what their parent was started with
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=600)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{name}, {n}: {rows[-1]['wall_s']:.2f} s", file=sys.stderr)
    toy_worlds.table(rows)
    toy_worlds.save("waiting", {**toy_worlds.machine(), "ideal_s": IDEAL_S, "rows": rows})


if __name__ == "__main__":
    main()
