"""How an oracle is served: limits, deadlines, fallbacks."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from turnwise.errors import ConfigError, did_you_mean
from turnwise.records import Json

# The smallest of the clients' time-outs is 120 s (slime, CaRR); OpenRLHF's is 180 s.
DEADLINE_S = 60.0
FALLBACKS: Mapping[str, float] = {"openrlhf": 0.0, "slime": 0.0, "carr": 0.0, "nemo_gym": 0.0}


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Limits and deadlines of a served oracle.

    Attributes:
        deadline_s: Seconds after which an item that is not scored has the status ``"timeout"``.
        stall_s: Seconds after which a worker that is busy with one item counts as stalled: what waits behind it
            goes to others, and a further worker is started.
        workers: Worker processes; None takes one per CPU.
        max_workers: How many there may be while some are stalled; None takes eight more than ``workers``.
        threads: Items that a worker scores at once; None takes 1 where rewards compute and 32 where they wait.
        max_body_bytes: Largest body; more is a 413.
        max_items: Most items in one request; more is a 413.
        max_pending: Most items waiting or being scored; more is a 429 with ``Retry-After``.
        retry_after_s: What that header says.
        cache_entries: How many results are kept by content; 0 keeps none.
        cache_bytes: How much memory they may take.
        sessions: Whether NeMo-Gym's sessions are offered; they live in one process.
        max_sessions: Most NeMo-Gym sessions; the oldest goes first.
        session_idle_s: Seconds after which a session that nobody uses is forgotten.
        fallbacks: What a dialect without a word for "no reward" answers then, by the dialect's name.
    """

    deadline_s: float = DEADLINE_S
    stall_s: float = 1.0
    workers: int | None = None
    max_workers: int | None = None
    threads: int | None = None
    max_body_bytes: int = 64 * 2**20
    max_items: int = 4_096
    max_pending: int = 4_096
    retry_after_s: int = 1
    cache_entries: int = 16_384
    cache_bytes: int = 256 * 2**20
    sessions: bool = True
    max_sessions: int = 65_536
    session_idle_s: float = 3_600.0
    fallbacks: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, low in (("deadline_s", 0.001), ("stall_s", 0.001), ("session_idle_s", 0.001)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value < math.inf:
                raise ConfigError(f"{name} must be a positive number of seconds, got {value!r}")
        if not isinstance(self.sessions, bool):
            raise ConfigError(f"sessions must be true or false, got {self.sessions!r}")
        whole = {"max_body_bytes": 1, "max_items": 1, "max_pending": 1, "retry_after_s": 0, "max_sessions": 1}
        whole |= {"cache_entries": 0, "cache_bytes": 0}
        whole |= {name: 1 for name in ("workers", "max_workers", "threads") if getattr(self, name) is not None}
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
        for name, value in self.fallbacks.items():
            if name not in FALLBACKS:
                raise ConfigError(f"fallbacks: no dialect {name!r} needs one.{did_you_mean(name, FALLBACKS)}")
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"fallbacks: that of {name!r} must be a finite number, got {value!r}")

    @property
    def worker_count(self) -> int:
        """Workers to keep."""
        return self.workers or os.cpu_count() or 1

    @property
    def most_workers(self) -> int:
        """Workers there may be."""
        return max(self.worker_count, self.max_workers or self.worker_count + 8)

    def fallback(self, dialect: str) -> float:
        """Return what a dialect answers where there is no reward."""
        return float(self.fallbacks.get(dialect, FALLBACKS[dialect]))


def make_settings(options: Mapping[str, Json]) -> ServeSettings:
    """Make settings from a mapping.

    Raises:
        ConfigError: There is no such setting, or a value is out of range.
    """
    known = [entry.name for entry in fields(ServeSettings)]
    for name in options:
        if name not in known:
            raise ConfigError(f"there is no setting {name!r}.{did_you_mean(name, known)}")
    return ServeSettings(**options)
