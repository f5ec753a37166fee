"""Episodes a second of a rollout at 0, 1 and 2 workers, and what the engine adds to a turn.

    python benchmarks/rollout_throughput.py

The overhead is measured with a world that does nothing and one cheap reward: a bare loop of the same
world and agent, then the engine's episode loop around them, then the whole engine.
"""

from __future__ import annotations

import argparse
import mmap
import statistics
import time
from collections.abc import Callable
from typing import Any

import toy_worlds

from turnwise.records import Task
from turnwise.rollout import Rollout
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.episode import run_episode
from turnwise.rollout.engine.journal import Heartbeats, Journal, Recording
from turnwise.rollout.engine.player import load_kit
from turnwise.rollout.engine.wire import EpisodeRequest, encode, end_of

TURNS = 1000


def throughput(agent: str, workers: int, episodes: int) -> dict[str, Any]:
    """Play the household; the speed counts from the first result to the last, start-up apart."""
    began = time.monotonic()
    times, turns = [], 0
    for trajectory in Rollout(tasks=f"train:{episodes // 4}", group=4, agent=agent, workers=workers):
        times.append(time.monotonic() - began)
        turns += len(trajectory.turns)
    busy = times[-1] - times[0]
    return {
        "agent": agent,
        "workers": workers,
        "episodes": len(times),
        "mean_turns": turns / len(times),
        "episodes_per_s": (len(times) - 1) / busy,
        "turns_per_s": turns / busy,
        "first_after_s": times[0],
        "whole_call_s": time.monotonic() - began,
    }


def per_turn(play: Callable[[], Any], repeat: int) -> float:
    """Return the median microseconds a turn takes."""
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        play()
        times.append((time.perf_counter() - began) / TURNS * 1e6)
    return statistics.median(times)


def overhead(repeat: int) -> list[dict[str, Any]]:
    env, agent = toy_worlds.NoOpEnv(TURNS), toy_worlds.Waiter()

    def bare() -> None:
        observation, info = env.reset(seed=1)
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info).text)
            over = terminated or truncated

    plan = Rollout(toy_worlds.NO_OP, tasks="any:64", agent="waiter", rewards=toy_worlds.ONE_REWARD, workers=0).plan
    kit = load_kit(plan.spec)
    task = Task(id="t", split="s", instruction="")
    request = EpisodeRequest(id="t#0", task=task, sample=0, seed=1)

    def looped(recorder: Any) -> Any:
        return run_episode(plan.spec, request, env=env, agent=agent, rewards=kit.rewards, recorder=recorder)

    beats = Heartbeats(1)
    journal = Journal(entries.shared_file("bench", entries.FIRST_BYTES), mmap.mmap(beats.fd, 0), 0)

    def journalled() -> None:
        journal.begin()
        journal.finish(entries.END, encode(end_of(looped(journal))))

    rows = [
        {"what": "bare loop: env.step and agent.act", "us_per_turn": per_turn(bare, repeat)},
        {
            "what": "engine's episode loop, with one reward",
            "us_per_turn": per_turn(lambda: looped(Recording()), repeat),
        },
        {"what": "the same in a worker: journal, heartbeat", "us_per_turn": per_turn(journalled, repeat)},
    ]
    beats.close()
    for workers in (0, 1, 2):
        rollout = Rollout(
            toy_worlds.NO_OP, tasks="any:64", agent="waiter", rewards=toy_worlds.ONE_REWARD, workers=workers
        )
        times = [time.perf_counter() for _ in rollout]
        each = (times[-1] - times[0]) / (len(times) - 1) / TURNS * 1e6
        rows.append({"what": f"whole engine, {workers} workers, wall clock", "us_per_turn": each})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=4000)
    parser.add_argument("--repeat", type=int, default=20)
    options = parser.parse_args()
    toy_worlds.register()
    figures = toy_worlds.machine()
    turns = overhead(options.repeat)
    toy_worlds.table(turns)
    speeds = [throughput(agent, workers, options.episodes) for agent in ("expert", "random") for workers in (0, 1, 2)]
    toy_worlds.table(speeds)
    toy_worlds.save("rollout_throughput", {**figures, "overhead": turns, "household": speeds})


if __name__ == "__main__":
    main()
