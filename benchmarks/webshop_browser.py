"""The web shop in a browser: steps per second with and without screenshot, with 1, 2 and 4 contexts.

    python benchmarks/webshop_browser.py

Each context plays the expert's episodes of the embedded test split: typing, searching, opening products, choosing
options, buying. Contexts are measured both ways that they are used: as pages of one browser that take turns in one
process, and as worker processes with a browser each, which is how rollouts run them. The text world plays the same
episodes for comparison. Results go to ``benchmarks/results/webshop_browser.json``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from turnwise.envs.browser.chromium import find_chromium
from turnwise.envs.webshop import WebShopEnv
from turnwise.envs.webshop_browser import WebShopBrowserEnv

HERE = Path(__file__).resolve().parent
CONTEXTS = (1, 2, 4)
MODES = {"without_screenshot": "axtree", "with_screenshot": "axtree+screenshot"}
WARM_UP = 6  # steps of each context that are not counted


def main() -> None:
    options = _options()
    WebShopEnv(split="test")  # makes the embedded shop, once
    result: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "chromium": _version(),
        "load_average_before": os.getloadavg()[0],
        "options": {"seconds": options.seconds, "viewport": [1280, 720]},
        "text_world_steps_per_s": text_world(options.seconds),
    }
    for name, mode in MODES.items():
        result[name] = {
            "one_browser": {str(count): taking_turns(mode, count, options.seconds) for count in CONTEXTS},
            "a_browser_each": {str(count): side_by_side(mode, count, options.seconds) for count in CONTEXTS},
        }
    result["load_average_after"] = os.getloadavg()[0]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each case runs")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "webshop_browser.json")
    return parser.parse_args()


def _version() -> str:
    asked = subprocess.run([find_chromium(), "--version"], capture_output=True, text=True, timeout=30, check=True)
    return asked.stdout.strip()


def steps_of(env: Any, first_seed: int, resets: list[float]) -> Iterator[None]:
    """Play the expert's episodes for ever; yields after every step."""
    seed = first_seed
    while True:
        begin = time.perf_counter()
        observation, info = env.reset(seed=seed)
        resets.append(time.perf_counter() - begin)
        expert, over = env.expert(), False
        while not over:
            observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
            over = terminated or truncated
            yield
        seed += 1


def text_world(seconds: float) -> float:
    begin = time.perf_counter()
    for count, _ in enumerate(steps_of(WebShopEnv(split="test"), 0, []), start=1):
        if time.perf_counter() - begin > min(seconds, 5.0):
            return count / (time.perf_counter() - begin)
    raise AssertionError("episodes go on for ever")


def measure(mode: str, contexts: int, seconds: float, first_seed: int = 0, ready: Any = None) -> dict[str, Any]:
    """Let the contexts of one browser take turns, a step each."""
    envs = [WebShopBrowserEnv(split="test", observation_mode=mode) for _ in range(contexts)]
    resets: list[float] = []
    try:
        players = [steps_of(env, first_seed + 10_000 * place, resets) for place, env in enumerate(envs)]
        for player in players * WARM_UP:
            next(player)
        if ready is not None:
            ready.wait()
        first_reset, resets[:] = resets[0], []
        times: list[float] = []
        begin = time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for player in players:
                before = time.perf_counter()
                next(player)
                times.append(time.perf_counter() - before)
        elapsed = time.perf_counter() - begin
        memory = sum(process.memory_full_info().pss for process in psutil.Process().children(recursive=True))
    finally:
        for env in envs:
            env.close()
    return {
        "steps": len(times),
        "seconds": elapsed,
        "steps_per_s": len(times) / elapsed,
        "step_ms_p50": 1e3 * statistics.median(times),
        "step_ms_p95": 1e3 * statistics.quantiles(times, n=20)[-1],
        "reset_ms_p50": 1e3 * statistics.median(resets) if resets else None,
        "first_reset_ms": 1e3 * first_reset,
        "browser_memory_mb": memory / 2**20,
    }


def taking_turns(mode: str, contexts: int, seconds: float) -> dict[str, Any]:
    return in_new_processes(mode, 1, contexts, seconds)[0]


def side_by_side(mode: str, processes: int, seconds: float) -> dict[str, Any]:
    parts = in_new_processes(mode, processes, 1, seconds)
    return {"steps_per_s": sum(part["steps_per_s"] for part in parts), "workers": parts}


def _work(results: Any, mode: str, contexts: int, seconds: float, first_seed: int, ready: Any) -> None:
    results.put(measure(mode, contexts, seconds, first_seed, ready))


def in_new_processes(mode: str, processes: int, contexts: int, seconds: float) -> list[dict[str, Any]]:
    """Measure in processes of their own that begin together."""
    spawn = multiprocessing.get_context("spawn")
    results, ready = spawn.Queue(), spawn.Barrier(processes, timeout=120)
    workers = [
        spawn.Process(target=_work, args=(results, mode, contexts, seconds, 1000 * place, ready))
        for place in range(processes)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=seconds + 180) for _ in workers]
    for worker in workers:
        worker.join(60)
    return found


if __name__ == "__main__":
    main()
