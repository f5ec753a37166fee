"""Worlds that do nothing, or only wait, so that what is measured is the machinery around them."""

from __future__ import annotations

import functools
import json
import os
import platform
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil

from turnwise import register_env
from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.agents.registry import agents
from turnwise.env import StepResult, TurnEnv
from turnwise.protocols import AgentMessage, Episode, Info
from turnwise.records import Action, Task
from turnwise.tasks import ListTaskSet

RESULTS = Path(__file__).resolve().parent / "results"
WAITING, NO_OP = "bench/Waiting-v0", "bench/NoOp-v0"
ONE_REWARD = {"version": 1, "rewards": [{"name": "turn_cost"}]}


@functools.cache
def _numbered(split: str) -> ListTaskSet:
    """Static tables belong to the process, not to each environment."""
    return ListTaskSet([Task(id=f"{i:04d}", split=split, instruction="Wait.") for i in range(4096)], split=split)


class WaitingEnv(TurnEnv[str]):
    """Episodes of ``turns`` turns that take ``sleep_s`` seconds each; a task may misbehave at its second step."""

    grammar = ActionGrammar((ActionSpec(name="wait", template="wait", description="Wait."),))

    def __init__(
        self, *, turns: int = 4, sleep_s: float = 1.0, faults: dict[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._turns, self._sleep_s, self._faults = turns, sleep_s, faults or {}
        self._played = 0

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> ListTaskSet:
        """Numbered tasks."""
        return _numbered(split)

    def _begin(self, task: Task) -> StepResult[str]:
        self._played = 0
        return StepResult(observation="begin")

    def _apply(self, action: Action) -> StepResult[str]:
        self._played += 1
        fault = self._faults.get(self.task.id) if self._played == 2 else None
        if fault == "hang":
            time.sleep(10**6)
        if fault == "raise":
            raise ValueError("the bad episode")
        if fault == "exit":
            os._exit(17)
        time.sleep(self._sleep_s)
        done = self._played >= self._turns
        return StepResult(observation="went on", reward=float(done), terminated=done, success=done)


class NoOpEnv(gymnasium.Env[str, str]):
    """Plain Gymnasium, text in and text out, nothing done."""

    observation_space = gymnasium.spaces.Text(10)
    action_space = gymnasium.spaces.Text(10)

    def __init__(self, turns: int = 1000) -> None:
        self._turns, self._played = turns, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin."""
        super().reset(seed=seed)
        self._played = 0
        return "begin", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Count."""
        self._played += 1
        return "went on", 0.0, self._played >= self._turns, False, {}


class NumbersEnv(gymnasium.Env[np.ndarray, int]):
    """The waiting world with numbers instead of text, as Gymnasium's vector environments want it."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, sleep_s: float = 1.0) -> None:
        self._sleep_s = sleep_s

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begin."""
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        """Wait."""
        time.sleep(self._sleep_s)
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Waiter:
    """Says "wait"."""

    spec = "waiter"
    policy_version: str | None = None

    @classmethod
    def from_spec(cls, rest: str) -> Waiter:
        """Make it."""
        return cls()

    def reset(self, episode: Episode) -> None:
        """Nothing to begin."""

    def act(self, observation: Any, info: Info) -> AgentMessage:
        """Say it."""
        return AgentMessage(text="wait")


def register() -> None:
    """Make the worlds known by import strings, so that workers find them."""
    register_env(WAITING, "toy_worlds:WaitingEnv")
    register_env(NO_OP, "toy_worlds:NoOpEnv")
    agents.register("waiter", "toy_worlds:Waiter")


# -- measuring -------------------------------------------------------------------------------------


class PeakMemory:
    """Peak of the proportional set size of this process and all below it, in MB, sampled from a thread."""

    def __init__(self, every_s: float = 2.5) -> None:
        self.peak_mb = 0.0
        self.processes = 0
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._every_s):
            total, count = 0, 0
            for process in family():
                try:
                    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
                except OSError:
                    continue
                total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
                count += 1
            self.peak_mb = max(self.peak_mb, total / 1024)
            self.processes = max(self.processes, count)


TOKEN = "TURNWISE_BENCHMARK"


def family() -> list[int]:
    """This process and everything that inherited its token: zygotes are not among its descendants."""
    os.environ.setdefault(TOKEN, str(os.getpid()))
    found = [os.getpid()]
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(TOKEN) == os.environ[TOKEN]:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def machine() -> dict[str, Any]:
    """Where a figure was taken."""
    import ray

    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "gymnasium": gymnasium.__version__,
        "ray": ray.__version__,
        "load_average_at_start": os.getloadavg()[0],
    }


def save(name: str, figures: dict[str, Any]) -> None:
    """Store the figures as ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"-> {path}")


def table(rows: list[dict[str, Any]]) -> None:
    """Print rows as columns."""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_show(row.get(head, "")) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(heads)]
    for line in [heads, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
