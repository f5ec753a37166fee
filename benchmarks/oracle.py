"""The served oracle: requests/s and latency, beside CaRR's published server when its checkout is given.

    python benchmarks/oracle.py --carr PATH/TO/CaRR --seconds 5

Both servers get the request that CaRR published (about 220 KB, 45 tool calls, 10 rubrics, ratio 0.5, three judge
calls), with another report in every request and caches off, and ask the same stub, which answers at once in a process
of its own. The rule rows send the same request with the facts that the rule judge needs, and, as what training on our
worlds sends, native items of the searching world. The other rows: one judge call in 50 refused, judge calls of 1 s
(beside quick ones), scoring in process, and Ray Serve with 1 and 2 replicas. The load comes from a process of its own
that keeps N connections busy and reads replies without decoding more than their status. Results go to
``benchmarks/results/oracle.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

HERE = Path(__file__).resolve().parent
SHARED = Path(os.environ.get("TURNWISE_SHARED", HERE.parent.parent / "shared"))
MARK = "@@@@@@@@@@@@"  # replaced by a number of the same length, so that bodies differ
PATH = {"carr": "/evaluate", "native": "/v1/score"}
RUBRICS = [
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
NAMES = {"E0": "UFC 219", "E1": "Ricky Glenn", "E2": "Myles Jury", "E3": "John McCarthy"}


def main() -> None:
    options = _options()
    if options.stub is not None:
        asyncio.run(stub_serve(options.stub))
        return
    if options.load is not None:
        load_main(json.loads(options.load))
        return
    result: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "seconds_per_row": options.seconds,
        "repeats": options.repeats,
    }
    for name, measure in ROWS.items():
        if not options.only or name in options.only:
            print(f"-- {name}", file=sys.stderr, flush=True)
            result[name] = measure(options)
    if "CaRR's server" in result.get("instant_judge", {}):
        result["times_carr"] = comparison(result["instant_judge"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a row")
    parser.add_argument("--repeats", type=int, default=3, help="rows of a kind; the median and the range are shown")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--carr", type=Path, help="checkout of github.com/THUDM/CaRR")
    parser.add_argument("--carr-python", default=sys.executable, help="interpreter with CaRR's requirements")
    parser.add_argument("--workers", type=int, help="worker processes of the oracle; one per CPU by default")
    parser.add_argument("--only", nargs="*", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "oracle.json")
    parser.add_argument("--stub", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    return parser.parse_args()


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "low": round(min(values), 1), "high": round(max(values), 1)}


# -- bodies ------------------------------------------------------------------------------------------


def carr_body(*, facts: bool = False) -> bytes:
    """CaRR's own example, with a mark in the report; ``facts`` adds what the rule judge goes by."""
    path = SHARED / "data" / "carr" / "example.json"
    (record,) = json.loads(path.read_text())
    history = record["history"][0]
    history[-1]["content"] = f"(Report {MARK}.) {history[-1]['content']}"
    question = history[0]["content"].split("\n\nYour response should be")[0]
    info: dict[str, Any] = {"search_forbidden_strs": [question], "rubrics": RUBRICS, "rubric_reward_ratio": 0.5}
    if facts:
        info["rubric_entities"] = {slot: [name] for slot, name in NAMES.items()}
        info["rubric_support"] = [[[cited(history), "UFC"]] for _ in RUBRICS]
    body = {"history": history, "label": record["label"][0], "task_unfinished": False, "remote_env_info": info}
    return json.dumps(body).encode()


def cited(history: list[dict[str, Any]]) -> str:
    """Return the first page that the report cites and a tool returned."""
    from turnwise.rewards.carr import read_history
    from turnwise.rewards.carr.report import citations
    from turnwise.rewards.carr.session import read_session

    session = read_session(read_history(history, rubrics=RUBRICS, label="x"))
    return next(url for url in citations(session.report or "") if url in session.of_page)


def expert_messages(env_id: str, task_id: str) -> list[dict[str, str]]:
    import gymnasium

    import turnwise  # noqa: F401 - registers the worlds

    env = gymnasium.make(env_id).unwrapped
    observation, info = env.reset(seed=0, options={"task_id": task_id})
    expert = env.expert()
    messages = [{"role": "user", "content": observation}]
    over = False
    while not over:
        said = expert.act(observation, info)
        observation, _, terminated, truncated, info = env.step(said)
        messages += [{"role": "assistant", "content": said}, {"role": "tool", "content": observation}]
        over = terminated or truncated
    return messages


def native_body() -> bytes:
    """An episode of the searching world by its expert, as messages."""
    messages = expert_messages("turnwise/SearchQA-v0", "train/bridge-1hop-0000")
    item = {"id": MARK, "messages": messages, "label": "gold", "metadata": {"n": MARK}}
    return json.dumps({"items": [item]}).encode()


def trajectory_body() -> bytes:
    """The same episode as the engine records it, with the facts that the rule judge goes by."""
    from turnwise.records import to_json
    from turnwise.rollout.oracle import Oracle

    oracle = Oracle(env="turnwise/SearchQA-v0")
    assert oracle.world is not None
    task_id = "train/bridge-1hop-0000"
    said = [m["content"] for m in expert_messages("turnwise/SearchQA-v0", task_id) if m["role"] == "assistant"]
    episode = oracle.world.play(task_id, said, trajectory_id=MARK)
    return b'{"items":[{"id":"%s","trajectory":%s}]}' % (MARK.encode(), to_json(episode))


# -- the load ----------------------------------------------------------------------------------------


def load(url: str, path: str, body: bytes, clients: int, seconds: float, *, first: int = 0) -> dict[str, float]:
    """Keep ``clients`` connections busy from a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body)
        file.flush()
        plan = {"url": url, "path": path, "body": file.name, "clients": clients, "seconds": seconds, "first": first}
        command = [sys.executable, __file__, "--load", json.dumps(plan)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def load_main(plan: dict[str, Any]) -> None:
    try:
        import uvloop

        uvloop.install()
    except ModuleNotFoundError:
        pass
    print(json.dumps(asyncio.run(drive(plan, Path(plan["body"]).read_bytes()))))


async def drive(plan: dict[str, Any], template: bytes) -> dict[str, float]:
    host, _, port = plan["url"].removeprefix("http://").partition(":")
    before, _, rest = template.partition(MARK.encode())
    parts = [before, *rest.split(MARK.encode())]
    length = sum(map(len, parts)) + len(MARK) * (len(parts) - 1)
    head = (
        f"POST {plan['path']} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()
    numbers = iter(range(plan["first"], plan["first"] + 10**9))
    times: list[float] = []
    failed: list[bytes] = []
    not_ok = 0
    until = time.perf_counter() + plan["seconds"]

    async def client() -> None:
        nonlocal not_ok
        reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
        while time.perf_counter() < until:
            mark = b"%0*d" % (len(MARK), next(numbers))
            began = time.perf_counter()
            writer.write(head + mark.join(parts))
            top = (await reader.readuntil(b"\r\n\r\n")).lower()
            if b"chunked" in top:
                answer = await chunks(reader)
            else:
                answer = await reader.readexactly(int(top.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
            times.append(time.perf_counter() - began)
            if not top.startswith(b"http/1.1 200"):
                failed.append(top[:100] + answer[:300])
            elif b'"status":"judge_failed"' in answer or b'"status":"timeout"' in answer:
                not_ok += 1
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(plan["clients"])))
    elapsed = time.perf_counter() - started
    if len(failed) > len(times) // 2:
        raise RuntimeError(f"{len(failed)} of {len(times)} failed: {failed[0]!r}")
    times.sort()
    return {
        "requests": len(times),
        "http_errors": len(failed),
        "judge_failed": not_ok,
        "requests_per_s": len(times) / elapsed,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[min(len(times) - 1, int(len(times) * 0.99))],
    }


async def chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).strip() or b"0", 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)


class Target(NamedTuple):
    """A server, and what to send to it."""

    name: str
    url: str
    path: str
    body: bytes


def rows(targets: list[Target], options: argparse.Namespace) -> dict[str, Any]:
    """Measure servers in turn, so that whatever else the machine does meets all of them alike."""
    for target in targets:
        load(target.url, target.path, target.body, 8, 1.0, first=10**9)  # opens connections, fills lazily made things
    measured: dict[str, Any] = {target.name: {} for target in targets}
    for count in options.clients:
        runs: dict[str, list[dict[str, float]]] = {target.name: [] for target in targets}
        for repeat in range(options.repeats):
            for target in targets:
                first = (count * 100 + repeat) * 10**6
                run = load(target.url, target.path, target.body, count, options.seconds, first=first)
                runs[target.name].append(run)
                shown = f"{run['requests_per_s']:8.1f} requests/s  p50 {run['p50_ms']:8.1f} ms  {target.name}"
                print(f"   {count:3} clients  {shown}", file=sys.stderr, flush=True)
        for name, found in runs.items():
            measured[name][f"{count} clients"] = {key: spread([run[key] for run in found]) for key in found[0]}
    return measured


# -- the servers -------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(command: list[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> Iterator[str]:
    """Start a server that prints its address on its first line."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http"):
            raise RuntimeError(f"{command} printed {url!r}")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def oracle(options: argparse.Namespace, rewards: dict[str, Any], **settings: Any) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump({"version": 1, "rewards": rewards}, file)
        file.flush()
        workers = ["--workers", str(options.workers)] if options.workers else []
        limits = [f"--setting={key}={value}" for key, value in {"cache_entries": 0, **settings}.items()]
        command = [sys.executable, "-c", "from turnwise.rollout.cli import main; main()", "serve", "--port", "0"]
        with started([*command, "--rewards", file.name, *workers, *limits]) as url:
            yield url


def llm(url: str, *, concurrency: int = 64, **judge: Any) -> list[dict[str, Any]]:
    made = {"use": "llm", "base_url": url, "model": "stub", "max_concurrency": concurrency, **judge}
    return [{"name": "citation_rubric", "options": {"judge": made, "ratio": 0.5}}]


@contextlib.contextmanager
def carr_server(options: argparse.Namespace, stub: str) -> Iterator[str]:
    """CaRR's launch_server.py, as it is."""
    folder = options.carr / "deepsearch_rm_with_rubrics"
    port = free_port()
    command = [options.carr_python, "launch_server.py", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model_name", "stub", "--base_url", stub, "--api_key", "x"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_port(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    import socket

    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on {port}")


# -- the judge stub ----------------------------------------------------------------------------------


@contextlib.contextmanager
def stub(*, fail_every: int = 0, slow_every: int = 0) -> Iterator[str]:
    """A judge in a process of its own: at once, or refusing or taking 1 s every so many calls."""
    plan = json.dumps({"fail_every": fail_every, "slow_every": slow_every})
    with started([sys.executable, __file__, "--stub", plan]) as url:
        yield url


def contents() -> dict[bytes, str]:
    """What to answer, by what the prompt holds: our prompts, and CaRR's."""
    supported = {
        f"S{n}": {"supported": True, "passages": [{"page": 1, "quote": ""}], "reason": ""} for n in range(1, 11)
    }
    fenced = {
        b"<right_answer>": {"final_answer": "UFC 219", "correct": True, "reason": "same"},
        b"<conditions>": NAMES,
        b"<statements>": supported,
        b"identify": NAMES,
        b"[Webpage 1]": {f"S{n}": True for n in range(1, 11)},
    }
    said = {mark: f"```json\n{json.dumps(value)}\n```" for mark, value in fenced.items()}
    said[b"extracted_final_answer"] = "extracted_final_answer: UFC 219\nreasoning: same\ncorrect: yes\nconfidence: 100"
    return said


def reply_to(body: bytes, replies: dict[bytes, bytes]) -> bytes:
    ours = (b"<right_answer>", b"<conditions>", b"<statements>")
    for mark in (*ours, b"extracted_final_answer", b"[Webpage 1]"):
        if mark in body:
            return replies[mark]
    return replies[b"identify"]


async def stub_serve(plan: str) -> None:
    every = json.loads(plan)
    replies = {}
    for mark, content in contents().items():
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "x", "object": "chat.completion", "created": 1, "model": "stub", "choices": [choice]})
        top = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        replies[mark] = f"{top}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    calls = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]))
                calls += 1
                if every["slow_every"] and calls % every["slow_every"] == 0:
                    await asyncio.sleep(1.0)
                refused = every["fail_every"] and calls % every["fail_every"] == 0
                writer.write(refusal if refused else reply_to(body, replies))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=2**20)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


# -- what is measured --------------------------------------------------------------------------------


def few(options: argparse.Namespace, *counts: int) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(options), "clients": [n for n in counts if n in options.clients]})


CHEAP = [{"name": name} for name in ("outcome", "format", "valid_action", "repeat_penalty")]
RULE = [{"name": "citation_rubric", "options": {"judge": "rule", "ratio": 0.5}}]
EXAMPLE = "CaRR's example"


def instant_rows(options: argparse.Namespace) -> Any:
    """Both servers with the LLM judge and ours with rules, all up at once and measured in turn."""
    with contextlib.ExitStack() as stack:
        judge = stack.enter_context(stub())
        targets = []
        if options.carr is not None:
            targets.append(
                Target("CaRR's server", stack.enter_context(carr_server(options, judge)), "/evaluate", carr_body())
            )
        ours = stack.enter_context(oracle(options, llm(judge)))
        rule = stack.enter_context(oracle(options, RULE))
        cheap = stack.enter_context(oracle(options, CHEAP))
        sample = {"query": [f"where? {MARK} gold"], "prompts": ["where? "], "labels": ["gold"]}
        facts, episode, text = carr_body(facts=True), trajectory_body(), native_body()
        targets += [
            Target(f"LLM judge, {EXAMPLE}", ours, "/evaluate", carr_body()),
            Target(f"rule judge, {EXAMPLE}, {len(facts) // 1000} KB", rule, "/evaluate", facts),
            Target(f"rule judge, search episode, {len(episode) // 1000} KB", rule, "/v1/score", episode),
            Target(f"four rule rewards, search episode, {len(text) // 1000} KB", cheap, "/v1/score", text),
            Target("four rule rewards, OpenRLHF sample", cheap, "/get_reward", json.dumps(sample).encode()),
        ]
        return rows(targets, options)


def fault_rows(options: argparse.Namespace) -> Any:
    """Judge calls that are refused, or take 1 s: all of them, or one in 50."""
    cases: tuple[tuple[str, dict[str, int], argparse.Namespace], ...] = (
        ("one judge call in 50 refused", {"fail_every": 50}, options),
        ("judge takes 1 s", {"slow_every": 1}, few(options, 8, 64)),
        ("one judge call in 50 takes 1 s", {"slow_every": 50}, few(options, 8, 64)),
    )
    measured = {}
    for name, faults, counts in cases:
        print(f"   {name}", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            judge = stack.enter_context(stub(**faults))
            targets = [
                Target("ours", stack.enter_context(oracle(options, llm(judge, retries=0))), "/evaluate", carr_body())
            ]
            if options.carr is not None:
                theirs = stack.enter_context(carr_server(options, stack.enter_context(stub(**faults))))
                targets.insert(0, Target("CaRR's server", theirs, "/evaluate", carr_body()))
            measured[name] = rows(targets, counts)
    return measured


def in_process_rows(options: argparse.Namespace) -> Any:
    from turnwise.rollout.oracle import Item, Oracle

    cheap = Oracle(
        {"version": 1, "rewards": [{"name": n} for n in ("outcome", "format", "valid_action", "repeat_penalty")]}
    )
    items = msgspec.convert(json.loads(native_body())["items"], list[Item]) * 100
    trajectories = [cheap.reader.trajectory(item) for item in items]

    def rate(work: Callable[[], object]) -> float:
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < options.seconds:
            work()
            count += len(items)
        return count / (time.perf_counter() - began)

    default = Oracle()
    return {
        "trajectories_per_s, four rule rewards": spread(
            [rate(lambda: cheap.score(trajectories)) for _ in range(options.repeats)]
        ),
        "trajectories_per_s, default preset": spread(
            [rate(lambda: default.score(trajectories)) for _ in range(options.repeats)]
        ),
        "items_per_s, four rule rewards": spread(
            [rate(lambda: cheap.score_items(items)) for _ in range(options.repeats)]
        ),
    }


def ray_rows(options: argparse.Namespace) -> Any:
    body = native_body()
    measured = {}
    for replicas in (1, 2):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"version": 1, "rewards": CHEAP}, file)
            file.flush()
            command = [sys.executable, "-c", "from turnwise.rollout.cli import main; main()", "serve", "--ray"]
            command += ["--port", str(free_port()), "--replicas", f"{replicas}:{replicas}", "--rewards", file.name]
            with started([*command, "--setting=cache_entries=0"]) as url:
                measured |= rows([Target(f"{replicas} replicas", url, "/v1/score", body)], options)
    return measured


def comparison(instant: dict[str, Any]) -> dict[str, Any]:
    """Return how many times CaRR's requests/s each of ours has, by number of clients."""
    base = instant["CaRR's server"]
    return {
        name: {
            count: round(row["requests_per_s"]["median"] / base[count]["requests_per_s"]["median"], 1)
            for count, row in measured.items()
        }
        for name, measured in instant.items()
        if measured is not base
    }


ROWS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "instant_judge": instant_rows,
    "faults": fault_rows,
    "in_process": in_process_rows,
    "ray": ray_rows,
}

if __name__ == "__main__":
    main()
