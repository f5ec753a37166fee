"""The household, which breaks when it is told to, and notes when it is made and closed."""

from __future__ import annotations

from typing import Any, ClassVar

from turnwise.envs.household import HouseholdEnv

ENV_ID = "tests/Fragile-v0"


class FragileEnv(HouseholdEnv):
    log: ClassVar[list[str]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.log.append("made")

    def step(self, action: str) -> Any:
        if action == "break":
            raise OSError("it broke")
        return super().step(action)

    def close(self) -> None:
        self.log.append("closed")
