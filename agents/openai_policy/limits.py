"""How fast and how many at once: the clock, a token bucket, and the pauses between tries."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import numpy as np

LONGEST_PAUSE_S = 60.0


class Clock(Protocol):
    """Time as the limits see it."""

    def now(self) -> float:
        """Return seconds since some fixed moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""
        ...


class WallClock:
    """Real time."""

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep without blocking the event loop."""
        await asyncio.sleep(seconds)


class TokenBucket:
    """At most ``rate`` passes a second, in the order in which they were asked for.

    The bucket holds one second's worth of passes, at least one; so a pause is made up for by a short burst.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        """Start with a full bucket.

        Args:
            rate: Passes per second; 0 for no limit.
            clock: Where the time comes from.
        """
        self.rate = rate
        self._clock = clock
        self._room = max(1.0, rate)
        self._tokens = self._room
        self._filled = clock.now()
        self._lock = asyncio.Lock()  # whose waiters are served first come, first served

    async def take(self) -> None:
        """Wait for a pass."""
        if not self.rate:
            return
        async with self._lock:
            self._fill()
            # Sums of floats may fall short of a whole token by a rounding error.
            while self._tokens < 1.0 - 1e-9:
                await self._clock.sleep((1.0 - self._tokens) / self.rate)
                self._fill()
            self._tokens -= 1.0

    def _fill(self) -> None:
        now = self._clock.now()
        self._tokens = min(self._room, self._tokens + (now - self._filled) * self.rate)
        self._filled = now


class Backoff:
    """Pauses that double from try to try, each shortened by chance to between half of it and all of it."""

    def __init__(self, pause_s: float, generator: np.random.Generator | None = None) -> None:
        """Set the first pause.

        Args:
            pause_s: Seconds before the first retry, before chance.
            generator: Where chance comes from. By default its seed differs from process to process: replicas that
                failed together must not come back together. Nothing that is recorded depends on it.
        """
        self.pause_s = pause_s
        self._generator = generator or np.random.default_rng(np.random.SeedSequence())

    def pause(self, attempt: int, asked_s: float | None = None) -> float:
        """Return the seconds to wait, at most :data:`LONGEST_PAUSE_S`.

        Args:
            attempt: 0-based number of the try that failed.
            asked_s: What the server asks for, which is done instead; None for nothing.
        """
        if asked_s is not None:
            return min(asked_s, LONGEST_PAUSE_S)
        # The exponent is bounded so that many retries do not overflow a float.
        longest = min(self.pause_s * 2.0 ** min(attempt, 60), LONGEST_PAUSE_S)
        return longest * float(self._generator.uniform(0.5, 1.0))
