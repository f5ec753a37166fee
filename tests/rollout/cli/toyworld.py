"""A world for the tests of the command line, installed as a third party's plug-in would be.

Count up to a goal. The environment variable TOY_DRIFT changes what the world says, TOY_SLEEP slows
its steps, and TOY_BREAK names a task whose second step raises.
"""

from __future__ import annotations

import os
import time
from typing import Any

from turnwise.actions import ActionGrammar, ActionSpec
from turnwise.env import StepResult, TurnEnv
from turnwise.errors import unknown_name
from turnwise.records import Action, Task
from turnwise.tasks import ListTaskSet


class Counting(TurnEnv[str]):
    """Count up to a goal."""

    grammar = ActionGrammar(
        (
            ActionSpec(name="add", template="add {n}", description="Add a number.", parameters={"n": "1, 2 or 3"}),
            ActionSpec(name="wait", template="wait", description="Do nothing."),
        )
    )
    outcome_levels = ("idle", "counted", "reached")
    default_max_turns = 12

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> ListTaskSet:
        if split != "train":
            raise unknown_name("split", split, ["train"])
        tasks = [
            Task(id=f"count-{i}", split=split, instruction=f"count to {3 + i % 4}", data={"goal": 3 + i % 4})
            for i in range(40)
        ]
        return ListTaskSet(tasks, split=split)

    def _begin(self, task: Task) -> StepResult[str]:
        self._goal = task.data["goal"]
        self._total = 0
        self._mood = ("calm", "windy", "bright")[int(self.np_random.integers(3))]
        self._steps = 0
        return self._tell()

    def _tell(self, **more: Any) -> StepResult[str]:
        drift = os.environ.get("TOY_DRIFT", "")
        won = self._total == self._goal
        return StepResult(
            observation=f"a {self._mood} day: {self._total} of {self._goal}{drift}",
            reward=float(won),
            terminated=won,
            success=won,
            progress=min(1.0, self._total / self._goal),
            level="reached" if won else "counted" if self._total else "idle",
            admissible=["add 1", "add 2", "add 3", "wait"],
            extra={"total": self._total},
            **more,
        )

    def _apply(self, action: Action) -> StepResult[str]:
        time.sleep(float(os.environ.get("TOY_SLEEP", "0")))
        self._steps += 1
        if self._steps == 2 and self.task.id == os.environ.get("TOY_BREAK"):
            raise RuntimeError("the abacus broke")
        if action.name == "wait":
            return self._tell()
        number = action.arguments["n"]
        if number not in ("1", "2", "3") or self._total + int(number) > self._goal:
            return self._tell(valid=False, error=f"cannot add {number}")
        self._total += int(number)
        return self._tell()

    def expert(self, kind: str | None = None) -> Any:
        if kind not in (None, "expert"):
            raise unknown_name("expert", kind, self.experts)
        world = self

        class Solver:
            def act(self, observation: Any, info: Any) -> str:
                return f"add {min(2, world._goal - world._total)}"

        return Solver()
