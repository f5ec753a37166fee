"""A deadline for calls that have none of their own: when it passes, what they wait for is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Watchdog:
    """Runs one function, once, if a deadline passes. Uses one thread, which sleeps."""

    def __init__(self, bite: Callable[[], None], *, name: str) -> None:
        """Watch nothing yet.

        Args:
            bite: What to run when a deadline passes.
            name: Name of the thread.
        """
        self._bite = bite
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._waking: float | None = None  # when the thread looks next by itself; None: when it is told to
        self._closed = False
        self.bitten = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def arm(self, seconds: float) -> None:
        """Set the deadline."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            # The thread need not be told of a deadline later than when it looks anyway.
            if self._waking is None or self._deadline < self._waking:
                self._changed.notify()

    def disarm(self) -> None:
        """Take the deadline back."""
        with self._changed:
            self._deadline = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                if self._deadline is not None and now >= self._deadline:
                    self.bitten = True
                    break
                self._waking = self._deadline
                self._changed.wait(None if self._deadline is None else self._deadline - now)
        if self.bitten:
            self._bite()
