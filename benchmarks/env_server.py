"""The environment server beside OpenEnv's own, driven by OpenEnv's stock client.

    python tests/rollout/trainers/real/run.py openenv     # makes .venv-trainers/openenv
    python benchmarks/env_server.py [--openenv PYTHON]

Both serve an environment that echoes: OpenEnv's own server inside its process, ours in a process per session.
Then ours serves the household. The client is the same in all cases and shares the machine with the server, so
it is a good part of what is measured. Servers take turns, several rounds; the median round counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SIDE = str(HERE / "openenv_side.py")
OURS = "import echo_world; from turnwise.rollout.cli import main; main()"
SESSIONS = (1, 8, 32, 64)
MAX_SESSIONS = max(SESSIONS) + 8
START_S, PLAY_S = 60.0, 300.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(command: list[str], port: int) -> Iterator[str]:
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{url}/health"):
            return
        time.sleep(0.05)
    raise SystemExit("a server does not start")


def servers(openenv: str) -> dict[str, tuple[list[str], int]]:
    """Return the command and the port of each server."""
    ports = [free_port() for _ in range(3)]
    limit = ["--max-sessions", str(MAX_SESSIONS)]

    def ours(env: str, port: int, *more: str) -> list[str]:
        return [sys.executable, "-c", OURS, "serve-env", "--env", env, "--port", str(port), *limit, *more]

    return {
        "openenv echo": ([openenv, SIDE, "serve", str(ports[0]), str(MAX_SESSIONS)], ports[0]),
        "turnwise echo": (ours("bench/Echo-v0", ports[1]), ports[1]),
        "turnwise household": (ours("turnwise/Household-v0", ports[2], "--max-turns", "100000"), ports[2]),
    }


def measure(openenv: str, rounds: int, steps: int) -> dict[str, list[dict[str, Any]]]:
    results: dict[str, list[dict[str, Any]]] = {}
    with contextlib.ExitStack() as stack:
        urls = {name: stack.enter_context(running(*server)) for name, server in servers(openenv).items()}
        for sessions in SESSIONS:
            for number in range(rounds):
                for name, url in urls.items():
                    command = [openenv, SIDE, "play", url, str(sessions), str(steps // sessions)]
                    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PLAY_S)
                    if done.returncode:
                        raise SystemExit(done.stderr)
                    result = {"round": number, **json.loads(done.stdout)}
                    results.setdefault(name, []).append(result)
                    print(name, json.dumps(result), flush=True)
    return results


def has(python: str, module: str) -> bool:
    """Whether a Python has a module; uvicorn takes uvloop where it is installed."""
    find = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([python, "-c", find], check=False).returncode == 0


def medians(results: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, dict[str, float]]]:
    return {
        name: {
            str(sessions): {
                key: round(statistics.median(one[key] for one in rounds if one["sessions"] == sessions), 3)
                for key in rounds[0]
                if key not in ("round", "sessions", "steps")
            }
            for sessions in SESSIONS
        }
        for name, rounds in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openenv", default=str(HERE.parent / ".venv-trainers" / "openenv" / "bin" / "python"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6_400, help="in all sessions together")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "env_server.json")
    options = parser.parse_args()
    if not Path(options.openenv).exists():
        raise SystemExit(f"no {options.openenv}: make it with tests/rollout/trainers/real/run.py openenv, or --openenv")
    load = os.getloadavg()[0]
    version = "import importlib.metadata as m; print(m.version('openenv'))"
    openenv_version = subprocess.run(
        [options.openenv, "-c", version], capture_output=True, text=True, check=True
    ).stdout.strip()
    results = measure(options.openenv, options.rounds, options.steps)
    report = {
        "command": f"python benchmarks/env_server.py --rounds {options.rounds} --steps {options.steps}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_average_at_start": load,
        "openenv": openenv_version,
        "uvloop": {"openenv": has(options.openenv, "uvloop"), "turnwise": has(sys.executable, "uvloop")},
        "medians": medians(results),
        "rounds": results,
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["medians"], indent=1))


if __name__ == "__main__":
    main()
