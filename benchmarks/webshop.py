"""The web shop: speed beside the recorded cost of the real engine, start, memory, and growth up to 1.18 M products.

    python benchmarks/webshop.py                      # everything; the largest shop takes about 10 minutes and 5 GB
    python benchmarks/webshop.py --quick              # without the largest shop
    python benchmarks/webshop.py --webshop-python /path/with/webshop/bin/python --webshop-repo /path/to/WebShop

Speed is measured on the recorded products and action sequences (``TURNWISE_SHARED``); what comes back is compared with
what the real engine answered, so it is a speed of equal work. The real engine's cost is the one recorded with them
(1,000 products, steps alone); with ``--webshop-python`` it is also run live, on the data of its own installation.

Wall-clock times are those of the best of several passes, since other processes may run beside; times of the CPU stand
beside them. Every measurement has a process of its own. Results go to ``benchmarks/results/webshop.json``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from webshop_growth import GROWTH_PARTS, growth

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("TURNWISE_SHARED", HERE.parent.parent / "shared"))
# Steps per second of the real engine without resets, and resident memory after a run, recorded on such a machine.
RECORDED = {"text_rich": 84.0, "text": 106.7, "html": 142.7}
RECORDED_RESET_MS = {"text_rich": 2.4, "text": 2.2, "html": 1.3}
RECORDED_START_S = (2.5, 3.7)
RECORDED_MEMORY_MB = (640, 986)
SECTIONS = ("speed", "start", "growth")
PASSES = 40  # of under 0.1 s each, so that some of them are left alone by what else runs
STARTS = 15


def main() -> None:
    options = _options()
    if options.part:
        print(json.dumps(PARTS[options.part](*options.arguments)))
        return
    folder = options.work or Path(tempfile.mkdtemp(prefix="turnwise-webshop-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TURNWISE_CACHE"] = str(folder / "cache")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        measure(options, folder)
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    print(options.out.read_text())


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Measure the sections asked for, and save after each; those left out stay as the results have them."""
    result = json.loads(options.out.read_text()) if options.only and options.out.exists() else {}
    result["machine"] = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    result["python"] = platform.python_version()
    chosen = options.only or SECTIONS
    if "speed" in chosen:
        save(options, result, "speed", speed(options))
    if "start" in chosen:
        save(options, result, "start_at_1000_products", start())
    if "growth" in chosen:
        rows: dict[str, Any] = {}
        for size in options.sizes[:-1] if options.quick else options.sizes:
            rows[str(size)] = growth(size, folder, in_new_process) | {"load_average": os.getloadavg()[0]}
            save(options, result, "growth", rows)


def save(options: argparse.Namespace, result: dict[str, Any], name: str, found: dict[str, Any]) -> None:
    result[name] = found if name == "growth" else found | {"load_average": os.getloadavg()[0]}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave the largest shop out")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_180_000])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to measure anew")
    parser.add_argument("--recordings", type=Path, default=SHARED / "data" / "webshop")
    parser.add_argument("--webshop-python", type=Path, help="an interpreter in which the real WebShop runs")
    parser.add_argument("--webshop-repo", type=Path, help="the real WebShop's repository, set up with its data")
    parser.add_argument("--work", type=Path, help="folder for generated shops and catalogues, kept and used again")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "webshop.json")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_new_process(part: str, *arguments: object) -> Any:
    """Measure one part in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--part", part, "--", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- speed -----------------------------------------------------------------------------------------


def speed(options: argparse.Namespace) -> dict[str, Any]:
    if not (options.recordings / "transcripts_text_rich.jsonl.gz").is_file():
        sys.exit(f"no recordings at {options.recordings}: set TURNWISE_SHARED, or pass --recordings")
    modes: dict[str, Any] = {}
    for mode in ("text_rich", "text", "html", "url"):
        modes[mode] = ours = in_new_process("speed", options.recordings, mode)
        if mode in RECORDED:
            ours["real_engine_recorded"] = RECORDED[mode]
            ours["ratio_to_recorded"] = ours["steps_per_s"] / RECORDED[mode]
            ours["ratio_to_recorded_by_cpu_time"] = ours["steps_per_cpu_s"] / RECORDED[mode]
        if options.webshop_python and mode in RECORDED:
            ours["real_engine_live"] = live = real_engine(options, mode)
            ours["ratio_to_live"] = ours["steps_per_s"] / live["steps_per_s"]
        beside = f", {ours['ratio_to_recorded']:.0f} times the recorded" if mode in RECORDED else ""
        log(f"{mode}: {ours['steps_per_s']:.0f} steps/s{beside}")
    modes["real_engine_reset_ms_recorded"] = RECORDED_RESET_MS
    return modes


def measure_speed(recordings: str, mode: str) -> dict[str, Any]:
    """Play the recorded sessions; every pass searches anew, as the real engine does."""
    from turnwise.envs.webshop import WebShopEnv
    from turnwise.envs.webshop.nouns import NounRule

    data = Path(recordings)
    name = f"transcripts_{mode}.jsonl.gz" if mode in ("text_rich", "text") else "transcripts_text_rich.jsonl.gz"
    with gzip.open(data / name, "rt", encoding="utf-8") as lines:
        sessions = [json.loads(line) for line in lines]
    tagger = NounRule(json.loads((data / "noun_rule_stop_words.json").read_text()))
    env = WebShopEnv(data=recordings, split="test", observation_mode=mode, compat=True, tagger=tagger, max_turns=1000)
    differences = _differences(env, sessions) if mode in ("text_rich", "text") else None
    wall, cpu, cached, resets = [], [], [], []
    for number in range(2 * PASSES):
        if number < PASSES:
            env.shop.catalogue._found.cache_clear()
        passed = _play(env, sessions, resets)
        if number < PASSES:
            wall.append(passed[0])
            cpu.append(passed[1])
        else:
            cached.append(passed[0])
    steps = sum(len(session["steps"]) for session in sessions)
    return {
        "sessions": len(sessions),
        "steps": steps,
        "steps_that_differ": differences,
        "steps_per_s": steps / min(wall),
        "steps_per_s_median": steps / statistics.median(wall),
        "steps_per_cpu_s": steps / min(cpu),
        "steps_per_s_queries_seen_before": steps / min(cached),
        "reset_ms": {"median": 1e3 * statistics.median(resets), "p95": 1e3 * sorted(resets)[int(0.95 * len(resets))]},
        "rss_mb": psutil.Process().memory_info().rss / 1e6,
    }


def _play(env: Any, sessions: list[Any], resets: list[float]) -> tuple[float, float]:
    """Play all sessions; returns wall and CPU seconds of the steps alone."""
    wall = cpu = 0.0
    for session in sessions:
        chosen = {"goal": session["goal"]}
        begin = time.perf_counter()
        env.reset(seed=0, options=chosen)
        resets.append(time.perf_counter() - begin)
        actions = [step["action"] for step in session["steps"]]
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        for action in actions:
            env.step(action)
        wall += time.perf_counter() - begin
        cpu += time.thread_time() - begin_cpu
    return wall, cpu


def _differences(env: Any, sessions: list[Any]) -> int:
    """Steps whose observation, reward or end is not the recorded one."""
    differ = 0
    for session in sessions:
        env.reset(seed=0, options={"goal": session["goal"]})
        for step in session["steps"]:
            observation, reward, terminated, _, _ = env.step(step["action"])
            same = observation == step["observation"] and terminated == step["done"]
            differ += not (same and abs(reward - step["reward"]) < 1e-9)
    return differ


def real_engine(options: argparse.Namespace, mode: str) -> dict[str, Any]:
    """Run the real WebShop live."""
    command = [str(options.webshop_python), str(HERE / "webshop_player.py"), mode]
    repo = options.webshop_repo or Path.cwd()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=repo)
    return json.loads(done.stdout.splitlines()[-1])


# -- start -----------------------------------------------------------------------------------------


def start() -> dict[str, Any]:
    """Import and start with the embedded shop, from nothing and from the built catalogue."""
    with tempfile.TemporaryDirectory() as cache:
        first = measure_start(cache)
        runs = [measure_start(cache) for _ in range(STARTS)]
    whole = [run["import_s"] + run["make_s"] for run in runs]
    result = {
        "making_the_catalogue_s": first["make_s"],
        "import_and_start_s": {"best": min(whole), "median": statistics.median(whole), "max": max(whole)},
        "import_and_start_cpu_s": {"best": min(r["cpu_s"] for r in runs)},
        "import_s_median": statistics.median(run["import_s"] for run in runs),
        "reset_ms_median": statistics.median(run["reset_ms"] for run in runs),
        "rss_mb_after_start": max(run["rss_start_mb"] for run in runs),
        "rss_mb_after_300_episodes": max(run["rss_played_mb"] for run in runs),
        "real_engine_recorded": {"start_s": RECORDED_START_S, "memory_mb": RECORDED_MEMORY_MB},
    }
    log(f"start: {result['import_and_start_s']['median']:.2f} s, {result['rss_mb_after_300_episodes']:.0f} MB")
    return result


# Run on its own, so that nothing that the benchmark imports is there already.
START = """
import json, time
begin, begin_cpu = time.perf_counter(), time.process_time()
from turnwise.envs.webshop import WebShopEnv
imported = time.perf_counter()
env = WebShopEnv()
made, cpu = time.perf_counter(), time.process_time() - begin_cpu
env.reset(seed=0)
import psutil, statistics
memory = psutil.Process()
rss_start, resets, expert = memory.memory_info().rss / 1e6, [], env.expert()
for number in range(300):
    before = time.perf_counter()
    observation, info = env.reset(seed=number)
    resets.append(time.perf_counter() - before)
    over = False
    while not over:
        observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
        over = terminated or truncated
rss_played = memory.memory_info().rss / 1e6
print(json.dumps({
    "import_s": imported - begin, "make_s": made - imported, "cpu_s": cpu,
    "reset_ms": 1e3 * statistics.median(resets), "rss_start_mb": rss_start, "rss_played_mb": rss_played,
}))
"""


def measure_start(cache: str) -> dict[str, float]:
    """Run ``START`` in an interpreter of its own; the time that the interpreter takes to start is not in it."""
    env = os.environ | {"TURNWISE_CACHE": cache}
    done = subprocess.run([sys.executable, "-c", START], check=True, stdout=subprocess.PIPE, text=True, env=env)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


PARTS = {"speed": measure_speed, **GROWTH_PARTS}

if __name__ == "__main__":
    main()
