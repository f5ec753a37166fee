"""A reward that does what the task's data say: score, hang, crash, burn the CPU, raise or give nonsense."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from turnwise.errors import JudgeError
from turnwise.protocols import RewardSpec
from turnwise.records import RewardValue, Trajectory


class Moody:
    def __init__(self, *, per_turn: float = 0.25) -> None:
        self.name = "moody"
        self.per_turn = per_turn
        self.spec = RewardSpec(low=-10.0, high=10.0, placement="turn", source="test", summary="As it is told.")

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        data = trajectory.task.data
        if "count" in data:
            with Path(data["count"]).open("a") as file:
                file.write("x")
        mood = data.get("mood", "")
        if mood == "sleep":
            time.sleep(float(data.get("seconds", 3600)))
        elif mood == "spin":
            while True:
                math.factorial(500)
        elif mood == "crash":
            os._exit(3)
        elif mood == "raise":
            raise RuntimeError("the verifier is down")
        elif mood == "judge":
            raise JudgeError("the judge is down")
        elif mood == "nan":
            return (RewardValue.__new__(RewardValue),) * len(trajectory.turns)
        elif mood == "object":
            return tuple(RewardValue(value=1.0, evidence={"it": object()}) for _ in trajectory.turns)
        return tuple(RewardValue(value=self.per_turn, evidence={"said": t.action_text[:20]}) for t in trajectory.turns)

    def describe(self) -> dict[str, float]:
        return {"per_turn": self.per_turn}


class Waiting(Moody):
    """The same with a judge that is waited for, so that workers get threads."""

    class _Judge:
        remote = True

    def __init__(self, *, per_turn: float = 0.25) -> None:
        super().__init__(per_turn=per_turn)
        self.judge = self._Judge()
