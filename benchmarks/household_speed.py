"""The household engine beside TextWorld: the same games, the same action sequences, in one run.

    python benchmarks/household_speed.py --textworld-python /path/with/alfworld/bin/python

Without ``--textworld-python`` a virtual environment with ``alfworld`` from PyPI is made under
``~/.cache/turnwise``. Each game is played by both sides in turn; what they say is compared, so the ratio
is one of equal work. Results go to ``benchmarks/results/household_speed.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from turnwise.envs.household import HouseholdEnv
from turnwise.envs.household.cache import SCENES
from turnwise.envs.household.game import Game

HERE = Path(__file__).resolve().parent
PLAYER = HERE / "textworld_player.py"
VENV = Path.home() / ".cache" / "turnwise" / "alfworld-venv"
REPEATS = 20  # of our side, which is too fast to be timed once


def main() -> None:
    options = _options()
    if options.memory is not None:
        print(json.dumps(memory_of(options.memory)))
        return
    python = options.textworld_python or make_venv()
    result = {
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "options": {"steps": options.steps, "episodes": options.episodes, "seed": options.seed},
        **compare(games_in(options), python, options),
        "memory": {f"{count}_envs_mb": memory_in_new_process(count) for count in (1, 100)},
    }
    memory = result["memory"]
    memory["100_minus_1_mb"] = memory["100_envs_mb"] - memory["1_envs_mb"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def _options() -> argparse.Namespace:
    shared = Path(os.environ.get("TURNWISE_SHARED", HERE.parent.parent / "shared"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--textworld-python", type=Path, help="an interpreter that has `alfworld` installed")
    parser.add_argument(
        "--games", type=Path, default=shared / "data" / "alfworld", help="folder with game.tw-pddl files"
    )
    parser.add_argument("--limit", type=int, default=0, help="play at most so many games (0: all)")
    parser.add_argument("--steps", type=int, default=20, help="steps of an episode")
    parser.add_argument("--episodes", type=int, default=1, help="episodes of a game")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "household_speed.json")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_venv() -> Path:
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "alfworld"], check=True)
    return python


def games_in(options: argparse.Namespace) -> list[Path]:
    games = sorted(options.games.rglob("game.tw-pddl"))
    if not games:
        sys.exit(f"no game.tw-pddl under {options.games}: pass --games, or set TURNWISE_SHARED")
    return games[: options.limit] if options.limit else games


# -- speed -----------------------------------------------------------------------------------------


def compare(games: list[Path], python: Path, options: argparse.Namespace) -> dict[str, Any]:
    rng = random.Random(options.seed)
    player = subprocess.Popen([str(python), str(PLAYER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ours: dict[str, float] = {"game": 0.0, "env": 0.0}
    theirs, steps, differences = 0.0, 0, 0
    resets: dict[str, list[float]] = {
        "from_pddl_ms": [],
        "from_cache_ms": [],
        "textworld_reset_ms": [],
        "textworld_load_ms": [],
    }
    for path in games:
        env = HouseholdEnv(data=str(path), max_turns=10**9)
        episodes = [random_walk(env, options.steps, rng) for _ in range(options.episodes)]
        time_resets(path, resets)
        said, seconds = play_game(env, episodes)
        ours["game"] += seconds
        ours["env"] += play_env(env, episodes)
        answer = ask(player, {"game": str(path), "commands": episodes})
        theirs += sum(answer["step_s"])
        resets["textworld_reset_ms"] += [1e3 * s for s in answer["reset_s"]]
        resets["textworld_load_ms"].append(1e3 * answer["load_s"])
        steps += sum(map(len, episodes))
        differences += count_differences(said, answer["transcripts"], episodes)
        print(
            f"{path.parent}: {steps / theirs:.1f} and {steps / ours['game']:.0f} steps/s", file=sys.stderr, flush=True
        )
    player.stdin.close()
    player.wait(timeout=60)
    speed = {
        "textworld": steps / theirs,
        "turnwise_game": steps / ours["game"],
        "turnwise_env": steps / ours["env"],
    }
    return {
        "games": len(games),
        "steps": steps,
        "steps_that_differ": differences,
        "steps_per_s_with_admissible_list": speed,
        "ratio_to_textworld": {name: speed[name] / speed["textworld"] for name in ("turnwise_game", "turnwise_env")},
        "reset": {name: summary(values) for name, values in resets.items()},
    }


def random_walk(env: HouseholdEnv, steps: int, rng: random.Random) -> list[str]:
    """Commands drawn from the admissible list; a walk ends early when it wins."""
    env.reset(seed=0)
    game, commands = env.game, []
    while len(commands) < steps and not game.won:
        commands.append(rng.choice(game.admissible()))
        game.step(commands[-1])
    return commands


def play_game(env: HouseholdEnv, episodes: list[list[str]]) -> tuple[list[Any], float]:
    """Play on the bare engine; returns what was said in the last repeat, and seconds per repeat."""
    env.reset(seed=0)
    game: Game = env.game
    begin = time.perf_counter()
    for _ in range(REPEATS):
        game.scene.local_moves.clear()  # else every repeat but the first would find its answers ready
        transcripts = []
        for commands in episodes:
            said = [[game.reset(), game.admissible(), game.won]]
            for command in commands:
                feedback = game.step(command)
                said.append([feedback, game.admissible(), game.won])
            transcripts.append(said)
    return transcripts, (time.perf_counter() - begin) / REPEATS


def play_env(env: HouseholdEnv, episodes: list[list[str]]) -> float:
    seconds = 0.0
    for _ in range(REPEATS):
        env.game.scene.local_moves.clear()
        for commands in episodes:
            env.reset(seed=0)
            begin = time.perf_counter()
            for command in commands:
                env.step(command)
            seconds += time.perf_counter() - begin
    return seconds / REPEATS


def time_resets(path: Path, resets: dict[str, list[float]]) -> None:
    env = HouseholdEnv(data=str(path))
    for name in ("from_pddl_ms", "from_cache_ms"):
        for _ in range(5):
            if name == "from_pddl_ms":
                SCENES.clear()
                env = HouseholdEnv(data=str(path))
            begin = time.perf_counter()
            env.reset(seed=0)
            resets[name].append(1e3 * (time.perf_counter() - begin))


def ask(player: subprocess.Popen[str], request: dict[str, Any]) -> dict[str, Any]:
    player.stdin.write(json.dumps(request) + "\n")
    player.stdin.flush()
    line = player.stdout.readline()
    if not line:
        sys.exit(f"the TextWorld side ended at {request['game']}; its messages are above")
    return json.loads(line)


def count_differences(ours: list[Any], theirs: list[Any], episodes: list[list[str]]) -> int:
    """Answers that are not equal; the text of `help` is our own and does not count."""
    differ = 0
    for mine, other, commands in zip(ours, theirs, episodes, strict=True):
        for a, b, command in zip(mine, other, ["", *commands], strict=True):
            differ += a[1:] != b[1:] or (a[0] != b[0] and command != "help")
    return differ


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "p95": ordered[int(0.95 * (len(ordered) - 1))], "max": ordered[-1]}


# -- memory ----------------------------------------------------------------------------------------


def memory_in_new_process(count: int) -> float:
    command = [sys.executable, str(Path(__file__)), "--memory", str(count)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def memory_of(count: int) -> float:
    """Resident MB of this process with ``count`` environments, each 50 random steps into its own task."""
    rng = random.Random(0)
    envs = [HouseholdEnv() for _ in range(count)]
    ids = envs[0].tasks.ids()
    for number, env in enumerate(envs):
        _, info = env.reset(seed=number, options={"task_id": ids[number]})
        for _ in range(50):
            _, _, terminated, truncated, info = env.step(rng.choice(info["admissible_actions"]))
            if terminated or truncated:
                break
    return psutil.Process().memory_info().rss / 1e6


if __name__ == "__main__":
    main()
