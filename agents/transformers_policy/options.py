"""The options of :class:`~turnwise.agents.transformers_policy.TransformersPolicy`, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from turnwise.errors import ConfigError, unknown_name

DTYPES = ("auto", "float32", "bfloat16", "float16")
# The end of a tool call in the Hermes form, and of an action in the Search-R1 form.
ACTION_ENDS = ("</tool_call>", "</search>", "</answer>")
_LOWEST_TEMPERATURE = 0.01


@dataclass(frozen=True, kw_only=True)
class PolicyOptions:
    """How messages are sampled and what they may cost.

    Attributes:
        temperature: 0 takes the most probable token, else 0.01 to 100.
        top_p: Samples from the smallest set of tokens with at least this probability, in (0, 1].
        top_k: Samples from this many tokens; 0 from all.
        max_tokens: Most tokens sampled per message, at least 1.
        max_total_tokens: Most tokens per episode, prompts and messages; 0 for the model's context.
        max_batch: Most episodes in one batch, at least 1.
        max_batch_tokens: Most tokens that the running batch may come to, its padding included, at
            least 1; an episode longer than that runs alone.
        tools: Whether the world's tools are given to the chat template, if it takes any.
        stop: ``"auto"``, or texts that end a message, separated by commas; empty for none.
        device: Where the model runs, such as ``"cuda:0"``; None for a GPU if there is one.
        dtype: Number type to load a model in; ``"auto"`` is float32 on a CPU, else the model's own.
        cache: Whether keys and values are kept between the turns of an episode.
        cache_tokens: Most tokens kept so for episodes that wait for their world, at least 1.
        version: Version of the weights at the start.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 512
    max_total_tokens: int = 0
    max_batch: int = 16
    max_batch_tokens: int = 65_536
    tools: bool = True
    stop: str = "auto"
    device: str | None = None
    dtype: str = "auto"
    cache: bool = True
    cache_tokens: int = 65_536
    version: str = "0"

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: An option is out of range.
        """
        _between("temperature", self.temperature, 0.0, 100.0)
        if 0.0 < self.temperature < _LOWEST_TEMPERATURE:
            raise ConfigError(f"temperature must be 0 or at least {_LOWEST_TEMPERATURE}, got {self.temperature!r}")
        _between("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0.0:
            raise ConfigError("top_p must be above 0: use temperature=0 for the most probable token")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name in ("tools", "cache"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False, got {getattr(self, name)!r}")
        for name in ("stop", "version"):
            if not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} must be text, got {getattr(self, name)!r}")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", str(self.dtype), DTYPES)
        if self.device is not None and not (isinstance(self.device, str) and self.device):
            raise ConfigError(f"device must be None or a name such as 'cuda:0', got {self.device!r}")

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end a message."""
        if self.stop == "auto":
            return ACTION_ENDS
        return tuple(text for text in self.stop.split(",") if text)

    def given(self) -> dict[str, Any]:
        """Return the options that are not at their defaults."""
        every = ((each.name, getattr(self, each.name), each.default) for each in fields(self))
        return {name: value for name, value, default in every if value != default}


_LEAST = {
    "top_k": 0,
    "max_tokens": 1,
    "max_total_tokens": 0,
    "max_batch": 1,
    "max_batch_tokens": 1,
    "cache_tokens": 1,
}


def _between(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a finite number, got {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low:g} to {high:g}, got {value!r}")
