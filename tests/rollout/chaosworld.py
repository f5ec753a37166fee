"""A world, an agent and a reward that misbehave on demand, for tests of the engine.

Worker processes import this module by name, so its folder is put on ``sys.path`` by the tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.env import StepResult, TurnEnv
from turnwise.protocols import AgentMessage, Episode, Info, RewardSpec
from turnwise.records import Action, RewardValue, Task, Trajectory, TurnTokens
from turnwise.tasks import ListTaskSet

ENV_ID = "chaos/World-v0"
SESSION = "TURNWISE_TEST_SESSION"  # inherited by every process that a test session starts
GRAMMAR = ActionGrammar(
    (
        ActionSpec(name="wait", template="wait", description="Do nothing."),
        ActionSpec(name="say", template="say {word}", description="Say a word.", parameters={"word": "What to say."}),
    )
)


def note(folder: str | None, name: str) -> None:
    """Leave a process id behind for the test to look at."""
    if folder is not None:
        (Path(folder) / f"{name}-{os.getpid()}").touch()


def misbehave(fault: str, folder: str | None) -> Any:
    """Do what ``fault`` says; returns a value only where the fault is a wrong value."""
    if fault == "sleep":
        while True:
            time.sleep(3600)
    if fault == "spin":
        while True:
            pass
    if fault == "raise":
        raise ValueError("chaos was asked for")
    if fault == "exit":
        os._exit(17)
    if fault == "sysexit":
        sys.exit(3)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "abort":
        os.abort()
    if fault == "kill-zygote":
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(3600)
    if fault == "kill-workers":
        kill_workers()
        time.sleep(3600)
    if fault == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(16 * 2**20))
    if fault in ("grandchild", "grandchild-exit"):
        spawn_detached(folder)
        return misbehave("sleep" if fault == "grandchild" else "exit", folder)
    if fault == "nan":
        return float("nan")
    raise AssertionError(f"unknown fault {fault}")


def kill_workers() -> None:
    """Kill all Ray actors of this test session."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            ours = process.environ().get(SESSION) == os.environ.get(SESSION)
            if ours and any("RolloutWorker" in part for part in process.cmdline()):
                process.kill()


def spawn_detached(folder: str | None) -> None:
    """Start a process in a session of its own that would live for an hour, and a daemon of it."""
    script = (
        "import os, pathlib, sys, time\n"
        "os.fork()\n"
        "folder = sys.argv[1]\n"
        "pathlib.Path(folder, f'grandchild-{os.getpid()}').touch()\n"
        "time.sleep(3600)\n"
    )
    subprocess.Popen([sys.executable, "-c", script, folder or "."], start_new_session=True)
    if folder is not None:
        while len(list(Path(folder).glob("grandchild-*"))) < 2:
            time.sleep(0.01)


class ChaosEnv(TurnEnv[str]):
    """Episodes of a few waits, the last of which wins, unless a fault is planned for the task."""

    grammar = GRAMMAR
    outcome_levels = ("started", "won")
    reward_range = (0.0, 1.0)

    def __init__(
        self,
        *,
        faults: dict[str, str] | None = None,
        turns: int = 4,
        sleep_s: float = 0.0,
        boot: str | None = None,
        notes: str | None = None,
        **options: Any,
    ) -> None:
        """Plan chaos.

        Args:
            faults: Task id to ``"WHERE:FAULT"`` with WHERE one of reset, step (the second), close.
            turns: Length of an episode.
            sleep_s: Time a step takes.
            boot: A fault of the constructor; ``"once:PATH:FAULT"`` only while PATH does not exist.
            notes: Folder in which processes leave their ids.
            options: What every world takes.
        """
        super().__init__(**options)
        self._faults = {task: tuple(fault.split(":")) for task, fault in (faults or {}).items()}
        self._turns = turns
        self._sleep_s = sleep_s
        self._notes = notes
        self._played = 0
        self._closing: str | None = None
        note(notes, "child")
        if boot is not None:
            self._boot(boot)

    def _boot(self, boot: str) -> None:
        if boot.startswith("once:"):
            _, path, boot = boot.split(":")
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        misbehave(boot, self._notes)

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> ListTaskSet:
        return ListTaskSet(
            [Task(id=f"ep-{i:04d}", split=split, instruction=f"Wait, number {i}.") for i in range(2000)], split=split
        )

    def _fault(self, where: str) -> str | None:
        planned = self._faults.get(self.task.id)
        return planned[1] if planned and planned[0] == where else None

    def _begin(self, task: Task) -> StepResult[str]:
        self._played = 0
        self._closing = self._fault("close")
        fault = self._fault("reset")
        if fault is not None:
            misbehave(fault, self._notes)
        return StepResult(observation=f"Start of {task.id}, draw {self.np_random.integers(10**6)}.", level="started")

    def _apply(self, action: Action) -> StepResult[str]:
        self._played += 1
        if self._sleep_s:
            time.sleep(self._sleep_s)
        reward = 0.0
        fault = self._fault("step")
        if fault is not None and self._played == 2:
            reward = misbehave(fault, self._notes)
        won = self._played >= self._turns
        return StepResult(
            observation=f"You did {action.command}, draw {self.np_random.integers(10**6)}.",
            reward=1.0 if won else reward,
            terminated=won,
            progress=self._played / self._turns,
            success=won,
            level="won" if won else "started",
            extra={"played": self._played, "half": self._played / 2},
        )

    def close(self) -> None:
        note(self._notes, "closed")
        if self._closing is not None:
            misbehave(self._closing, self._notes)


class ChaosAgent:
    """Waits, and misbehaves as ``chaotic:TASK=WHERE:FAULT`` says (WHERE is reset or act, at turn 1)."""

    policy_version: str | None = "v7"

    def __init__(self, rest: str) -> None:
        self.spec = f"chaotic:{rest}" if rest else "chaotic"
        self._task, _, plan = rest.partition("=")
        self._where, _, self._fault = plan.partition(":")
        if self._where == "make":
            misbehave(self._fault, None)
        self._turn = 0
        self._here = False

    @classmethod
    def from_spec(cls, rest: str) -> ChaosAgent:
        return cls(rest)

    def reset(self, episode: Episode) -> None:
        self._turn = 0
        self._here = episode.task.id == self._task
        if self._here and self._where == "reset":
            misbehave(self._fault, None)

    def act(self, observation: Any, info: Info) -> AgentMessage:
        self._turn += 1
        if self._here and self._where == "act" and self._turn == 2:
            if self._fault == "type":
                return "wait"  # type: ignore[return-value]
            misbehave(self._fault, None)
        if self._turn == 1:
            return AgentMessage(text="Thought: first I talk.\nAction: say hello")
        if self._turn == 2:
            return AgentMessage(text="dance wildly")
        tokens = TurnTokens(prompt_ids=(1, 2, self._turn), completion_ids=(7, 8), logprobs=(-0.5, -0.25))
        return AgentMessage(text="wait", tokens=tokens)


class ChaosReward:
    """1 on every turn, unless a fault is planned for the task."""

    def __init__(self, *, task: str = "", fault: str = "") -> None:
        self.name = "chaos"
        self.spec = RewardSpec(low=0.0, high=1.0, placement="turn", source="turnwise", summary="For tests.")
        self.task = task
        self.fault = fault

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        if trajectory.task.id == self.task:
            misbehave(self.fault, None)
        if trajectory.failed:
            return tuple(RewardValue(invalid="the episode failed") for _ in trajectory.turns)
        return tuple(RewardValue(value=1.0, evidence={"turn": turn.index}) for turn in trajectory.turns)

    def describe(self) -> dict[str, Any]:
        return {"task": self.task, "fault": self.fault}
