"""How the web shop grows with its catalogue; a part of ``webshop.py``, which runs it.

For each size: a shop is generated, its catalogue built, opened and searched, each in a process of its own; then one
and four worker processes play at once over the same catalogue. Memory is read from ``/proc/PID/smaps_rollup``: RSS
counts the shared pages of the catalogue in every process, PSS counts each page once, divided among those that map it.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

QUERIES = 500
WARM_UP = 20
AGAIN = 2
EPISODES = 20
WORKERS = (1, 4)
Measure = Callable[..., Any]


def growth(size: int, folder: Path, in_new_process: Measure) -> dict[str, Any]:
    """Measure one size; a shop that ``folder`` holds already is not generated again."""
    shop = folder / f"shop-{size}"
    complete = shop / "complete"  # holds how long it took
    if not complete.exists():
        seconds = in_new_process("generate", shop, size)["seconds"]
        complete.write_text(str(seconds))
    row: dict[str, Any] = {
        "generate_s": float(complete.read_text() or "nan"),
        "files_mb": sum(file.stat().st_size for file in shop.iterdir()) / 1e6,
        "build": in_new_process("build", shop),
        **in_new_process("search", shop),
        "memory": {f"{count}_workers": memory_of(count, shop) for count in WORKERS},
    }
    print(
        f"{size} products: built in {row['build']['seconds']:.1f} s, start {row['start_s']:.2f} s, "
        f"search p95 {row['search_ms']['all']['p95']:.2f} ms",
        file=sys.stderr,
        flush=True,
    )
    return row


def generate(shop: str, size: str) -> dict[str, float]:
    from turnwise.envs.webshop.generator import write_shop

    begin = time.perf_counter()
    write_shop(Path(shop), products=int(size))
    return {"seconds": time.perf_counter() - begin}


def build(shop: str) -> dict[str, float]:
    """Build the catalogue aside, so that it is measured also where the cache has it; then leave it in the cache."""
    import resource
    import shutil
    import tempfile

    from turnwise.envs.retrieval.cache import cache_root
    from turnwise.envs.webshop.catalogue_build import build_catalogue
    from turnwise.envs.webshop.sources import catalogue_key, find_files, read_human, read_products

    files = find_files(shop)
    begin = time.perf_counter()
    key = catalogue_key(files)  # reads every byte once
    hashed = time.perf_counter() - begin
    work = Path(tempfile.mkdtemp(dir=cache_root()))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    build_catalogue(read_products(files), work, human=read_human(files.human))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    size = sum(file.stat().st_size for file in work.rglob("*") if file.is_file())
    target = cache_root() / "webshop" / key
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        shutil.rmtree(work)
    else:
        work.rename(target)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"seconds": seconds, "cpu_s": cpu, "hash_s": hashed, "catalogue_mb": size / 1e6, "peak_rss_mb": peak}


def search(shop: str) -> dict[str, Any]:
    """Open the built catalogue and time searches of three kinds, none of which it has an answer to.

    ``all_cpu`` and ``all_best_of_3`` show what of the latencies is due to other processes on the machine.
    """
    from turnwise.envs.webshop import WebShopEnv

    begin, begin_cpu = time.perf_counter(), time.process_time()
    env = WebShopEnv(data=shop, split="test")
    started, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    begin = time.perf_counter()
    env.reset(seed=0)
    reset = time.perf_counter() - begin
    goals = [env.tasks.get(task_id).data["goal"] for task_id in env.tasks.ids()]
    asked = {
        "instruction": [re.sub(r", and price lower.*", "", goal["instruction_text"]) for goal in goals],
        "title": [goal["name"] for goal in goals],
        "few_words": [f"{goal['query']} {' '.join(goal['attributes'][:1])}" for goal in goals],
    }
    times: dict[str, list[float]] = {}
    cpus: list[float] = []
    again: list[list[float]] = []
    for kind, texts in asked.items():
        distinct = list(dict.fromkeys(text.lower() for text in texts))[:QUERIES]
        for text in distinct[:WARM_UP]:
            env.shop.catalogue.search(text)
        times[kind], cpu_s = _timed(env.shop.catalogue, distinct[WARM_UP:])
        cpus += cpu_s
        passes = [_timed(env.shop.catalogue, distinct[WARM_UP:])[0] for _ in range(AGAIN)]
        again += [list(found) for found in zip(times[kind], *passes, strict=True)]
    times["all"] = [one for kind in asked for one in times[kind]]
    summaries = {kind: _summary(found) for kind, found in times.items()}
    return {
        "start_s": started,
        "start_cpu_s": cpu,
        "first_reset_ms": 1e3 * reset,
        "search_ms": summaries | {"all_cpu": _summary(cpus), "all_best_of_3": _summary([min(one) for one in again])},
    }


def _timed(catalogue: Any, texts: list[str]) -> tuple[list[float], list[float]]:
    """Search for texts that the catalogue remembers no answer to; returns wall and CPU seconds of each."""
    catalogue._found.cache_clear()
    wall, cpu = [], []
    for text in texts:
        begin, begin_cpu = time.perf_counter(), time.thread_time()
        catalogue.search(text)
        wall.append(time.perf_counter() - begin)
        cpu.append(time.thread_time() - begin_cpu)
    return wall, cpu


def _summary(seconds: list[float]) -> dict[str, float]:
    p50, p95, top = (1e3 * float(np.percentile(seconds, point)) for point in (50, 95, 100))
    return {"queries": len(seconds), "p50": p50, "p95": p95, "max": top}


# -- memory ----------------------------------------------------------------------------------------


def memory_of(count: int, shop: Path) -> dict[str, Any]:
    """RSS and PSS of worker processes that have played and searched, read while all are alive."""
    script = str(Path(__file__).with_name("webshop.py"))
    command = [sys.executable, script, "--part", "worker", "--", str(shop)]
    workers = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    try:
        for worker in workers:
            if worker.stdout is None or worker.stdout.readline() != "ready\n":
                sys.exit(f"a worker over {shop} ended; its message is above")
        read = [rollup(worker.pid) for worker in workers]
    finally:
        for worker in workers:
            worker.communicate(timeout=60)
    names = ("rss_mb", "pss_mb", "private_mb")
    whole = {f"sum_{name}": sum(one[name] for one in read) for name in names}
    return {"each": read, **whole}


def worker(shop: str, number: str) -> dict[str, int]:
    """Play and search, say so, and stay until told to go."""
    from turnwise.envs.webshop import WebShopEnv

    env = WebShopEnv(data=shop, split="test")
    expert, ids, steps = env.expert(), env.tasks.ids(), 0
    for place in range(EPISODES):
        task = ids[(int(number) * EPISODES + place) % len(ids)]
        observation, info = env.reset(seed=place, options={"task_id": task})
        over = False
        while not over:
            observation, _, terminated, truncated, info = env.step(expert.act(observation, info))
            over, steps = terminated or truncated, steps + 1
    for task in ids[:200]:
        env.shop.catalogue.search(env.tasks.get(task).instruction.lower())
    print("ready", flush=True)
    sys.stdin.readline()
    return {"steps": steps}


def rollup(pid: int) -> dict[str, float]:
    """Return a process's memory in MB."""
    file = Path(f"/proc/{pid}/smaps_rollup")
    if not file.exists():  # not Linux: what there is
        info = psutil.Process(pid).memory_info()
        return {"rss_mb": info.rss / 1e6, "pss_mb": float("nan"), "private_mb": float("nan")}
    kib = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", file.read_text(), re.MULTILINE)}
    private = kib["Private_Clean"] + kib["Private_Dirty"]
    return {"rss_mb": kib["Rss"] * 1.024e-3, "pss_mb": kib["Pss"] * 1.024e-3, "private_mb": private * 1.024e-3}


GROWTH_PARTS = {"generate": generate, "build": build, "search": search, "worker": worker}
