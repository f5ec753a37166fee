"""A policy without a model that takes a state dict; replicas import it by name."""

from __future__ import annotations

from typing import Any

from chaospolicy import ChaosPolicy

from turnwise.errors import ConfigError


class WeightedPolicy(ChaosPolicy):
    def __init__(self, rest: str) -> None:
        super().__init__(rest)
        self.spec = "weighted-policy"

    async def update(self, weights: Any, version: str) -> None:
        if weights != {"w": "on the cpu"}:
            raise ConfigError(f"these weights do not fit: {weights!r}")
        self._version = version
