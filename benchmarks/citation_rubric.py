"""Rule-judged CaRR, and the LLM-judge path against a local stub that answers at once.

    python benchmarks/citation_rubric.py --seconds 5

The rule judge scores synthetic search episodes and the expert's in the embedded world (or those of ``--trajectories``,
JSON lines). The LLM judge scores the
example that CaRR published, 45 tool calls and 10 rubrics at ratio 0.5, so three judge calls each; the stub runs in a
process of its own, every episode's text differs, and nothing is cached unless the row says so. What is measured is
reading episodes, prompts, HTTP and parsing, not any model. Results go to ``benchmarks/results/citation_rubric.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from turnwise.records import Action, Ending, Outcome, Task, Trajectory, Turn, from_json, replace
from turnwise.rewards.carr import read_history
from turnwise.rewards.citation_rubric import CitationRubric

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("TURNWISE_SHARED", HERE.parent.parent / "shared"))
EXAMPLE_RUBRICS = [
    "<E0> is an MMA event that occurred before 2022.",
    "<E0> featured a featherweight bout between <E1> and <E2>.",
    "<E1> was the loser of the featherweight bout in <E0>.",
    "<E1> landed 14 significant strikes out of 83 attempted in <E0>.",
    "<E1> failed to land any takedowns out of 4 attempts in <E0>.",
    "Both <E1> and <E2> were under 35 years old at the time of <E0>.",
    "<E1> and <E2> shared the same nationality.",
    'The nickname of <E1> is a synonym for "swordsman".',
    "<E3> was the referee who officiated the featherweight bout in <E0>.",
    "<E3> worked his first event for the same MMA promotion as <E0> in 1994.",
]


def main() -> None:
    options = _options()
    if options.serve:
        asyncio.run(serve())
        return
    result: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "seconds_per_row": options.seconds,
        "rule_judge": rule_rows(options),
    }
    example = SHARED / "data" / "carr" / "example.json"
    if example.exists():
        result["llm_judge"] = llm_rows(read_example(example), options)
    else:
        print(f"no example at {example}: set TURNWISE_SHARED; the LLM rows are left out", file=sys.stderr)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a row")
    parser.add_argument("--repeats", type=int, default=3, help="rows of a kind; the median and the range are shown")
    parser.add_argument(
        "--trajectories", type=Path, help="JSON lines of search episodes with rubrics, for the rule judge"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results" / "citation_rubric.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "low": round(min(values), 1), "high": round(max(values), 1)}


# -- the rule judge ----------------------------------------------------------------------------------


def rule_rows(options: argparse.Namespace) -> dict[str, Any]:
    if options.trajectories:
        sets = {"given": [from_json(line) for line in options.trajectories.read_bytes().splitlines() if line.strip()]}
    else:
        sets = {
            f"{rubrics} rubrics, {2 * rubrics + 1} turns, 10 results a search": [
                synthetic(random.Random(n), rubrics) for n in range(50)
            ]
            for rubrics in (3, 5, 10)
        }
        sets["embedded world, expert"] = played(100)
    rows = {}
    for name, episodes in sets.items():
        per_second = []
        for placement in ("last_turn", "turn"):
            reward = CitationRubric(ratio=0.5, placement=placement)
            values = [sum(value.value or 0.0 for value in reward.score(episode)) for episode in episodes]
            per_second = [score_for(reward, episodes, options.seconds) for _ in range(options.repeats)]
            rows[f"{name}, {placement}"] = {
                "trajectories_per_s": spread(per_second),
                "mean_value": round(statistics.fmean(values), 3),
            }
    return rows


def played(episodes: int) -> list[Trajectory]:
    """Return episodes of the embedded search world, all kinds of questions mixed."""
    from turnwise.rollout import Rollout

    run = Rollout("turnwise/SearchQA-v0", tasks=f"train:{episodes}", agent="expert", workers=0, rewards="gated")
    return list(run)


def score_for(reward: CitationRubric, episodes: list[Trajectory], seconds: float) -> float:
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for episode in episodes:
            reward.score(episode)
        count += len(episodes)
    return count / (time.perf_counter() - started)


def synthetic(chance: random.Random, rubrics: int) -> Trajectory:
    """A chain of facts, one page each; every page is searched for, opened and, four times in five, cited."""
    words = [f"{chance.choice('BDGKLM')}{chance.choice('aeiou')}{n}r" for n in range(rubrics + 1)]
    turns: list[Turn] = []
    cites = []

    def turn(name: str, arguments: dict[str, str], shown: list[dict[str, Any]]) -> None:
        action = Action(name=name, arguments=arguments, command=name, form="json")
        turns.append(Turn(index=len(turns), observation="", action_text=name, action=action, info={"shown": shown}))

    def piece(page: str, kind: str, text: str, sentences: list[int]) -> dict[str, Any]:
        return {"id": page, "url": f"https://w.example/{page}", "kind": kind, "text": text, "sentences": sentences}

    for n in range(rubrics):
        filler = [f"Sentence {m} about {words[n]} says nothing much." for m in range(7)]
        filler.insert(3, f"{words[n]} was built by {words[n + 1]}.")
        hits = [piece(words[n], "search", f"{words[n]} {filler[0]}", [])]
        hits += [piece(f"d{chance.randrange(10_000)}", "search", "Something else entirely.", []) for _ in range(9)]
        turn("search", {"query": f"who built {words[n]}"}, hits)
        turn("open", {"doc": words[n]}, [piece(words[n], "open", " ".join(filler), list(range(8)))])
        if chance.random() < 0.8:
            cites.append(f"{words[n]} was built by {words[n + 1]} [[{n}](https://w.example/{words[n]})].")
    report = f"## Explanation with Citations\n{' '.join(cites)}\n## Exact Answer\n{words[-1]}\n## References\n"
    turn("answer", {"text": report}, [])
    slots = {f"E{rubrics - n}": [words[n]] for n in range(1, rubrics + 1)}
    statements = [
        f"{words[0] if n == 0 else f'<E{rubrics - n}>'} was built by <E{rubrics - n - 1}>." for n in range(rubrics)
    ]
    data = {
        "rubrics": statements,
        "rubric_entities": slots,
        "rubric_support": [[[words[n], 3]] for n in range(rubrics)],
        "answer": words[-1],
    }
    return Trajectory(
        id="s#0",
        env_id="synthetic",
        task=Task(
            id="s", split="", instruction=f"Who is at the end of {words[0]}?", data=data | {"rubric_entities": slots}
        ),
        seed=0,
        agent="synthetic",
        turns=tuple(turns),
        ending=Ending(kind="terminated"),
        outcome=Outcome(success=True, env_return=1.0),
    )


# -- the LLM judge -----------------------------------------------------------------------------------


def read_example(path: Path) -> Trajectory:
    (record,) = json.loads(path.read_text())
    return read_history(record["history"][0], rubrics=EXAMPLE_RUBRICS, label=record["label"][0])


def varied(example: Trajectory, number: int) -> Trajectory:
    """The example with another text, so that nothing about it can be kept from the last time."""
    last = example.turns[-1]
    text = f"(Report {number}.) {last.action.arguments['text']}" if last.action else ""
    answer = Action(name="answer", arguments={"text": text}, command="answer")
    changed: Trajectory = replace(example, turns=(*example.turns[:-1], replace(last, action=answer)))
    return changed


def llm_rows(example: Trajectory, options: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    with stub() as url, tempfile.TemporaryDirectory() as folder:
        for clients in (1, 8, 64):
            judge = {"use": "llm", "base_url": url, "model": "stub", "max_concurrency": max(2, clients)}
            reward = CitationRubric(judge=judge, ratio=0.5)
            runs = [drive(reward, example, clients, options.seconds) for _ in range(options.repeats)]
            rows[f"{clients} clients"] = summary(runs)
        for name, warm in (("1 client, cache being filled", False), ("1 client, all replies cached", True)):
            judge = {"use": "llm", "base_url": url, "model": "stub", "cache": f"{folder}/judge.sqlite"}
            reward = CitationRubric(judge=judge, ratio=0.5)
            if warm:
                for number in range(50):
                    reward.score(varied(example, number))
            runs = [
                drive(reward, example, 1, options.seconds, first=10**6 * n, modulo=50 if warm else None)
                for n in range(options.repeats)
            ]
            rows[name] = summary(runs)
    return rows


def summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    return {key: spread([run[key] for run in runs]) for key in runs[0]}


def drive(
    reward: CitationRubric,
    example: Trajectory,
    clients: int,
    seconds: float,
    *,
    first: int = 0,
    modulo: int | None = None,
) -> dict[str, float]:
    reward.score(varied(example, -1))  # opens the connections
    numbers = iter(range(first, first + 10**6))
    deadline = time.perf_counter() + seconds
    cpu = time.process_time()

    def client(_: int) -> list[float]:
        times = []
        while time.perf_counter() < deadline:
            number = next(numbers)
            episode = varied(example, number if modulo is None else number % modulo)
            began = time.perf_counter()
            values = reward.score(episode)
            times.append(time.perf_counter() - began)
            if values[-1].value is None or abs(values[-1].value - 1.0) > 1e-9:
                raise RuntimeError(f"wrong value: {values[-1]}")
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        times = sorted(t for one in pool.map(client, range(clients)) for t in one)
    elapsed = time.perf_counter() - started
    return {
        "trajectories_per_s": len(times) / elapsed,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[min(len(times) - 1, int(len(times) * 0.99))],
        "cpu_ms_each": 1000 * (time.process_time() - cpu) / len(times),
    }


@contextmanager
def stub() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


async def serve() -> None:
    """Answer chat completions at once, by what the prompt holds."""
    support = {f"S{n}": {"supported": True, "passages": [{"page": 1, "quote": ""}], "reason": ""} for n in range(1, 11)}
    said = {
        b"<right_answer>": {"final_answer": "UFC 219", "correct": True, "reason": "same"},
        b"<conditions>": {"E0": "UFC 219", "E1": "Ricky Glenn", "E2": "Myles Jury", "E3": "John McCarthy"},
        b"<statements>": support,
    }
    replies = {}
    for mark, value in said.items():
        content = f"```json\n{json.dumps(value)}\n```"
        body = json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).encode()
        replies[mark] = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
                writer.write(next(reply for mark, reply in replies.items() if mark in body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=2**20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    main()
