"""A reward whose judge is down."""

from __future__ import annotations

from typing import Any

from turnwise.errors import JudgeError
from turnwise.protocols import RewardSpec


class Broken:
    spec = RewardSpec(low=0.0, high=1.0, placement="turn", source="test", summary="Never answers.")

    def __init__(self) -> None:
        self.name = "broken"

    def score(self, trajectory: Any) -> Any:
        raise JudgeError("the judge is down")

    def describe(self) -> dict[str, Any]:
        return {}
