"""The watch: which slots have passed a deadline, read from the heartbeat table."""

from __future__ import annotations

import math

import numpy as np

from turnwise.records import Ending
from turnwise.rollout.engine.jobs import hung, out_of_time
from turnwise.rollout.engine.journal import Heartbeats
from turnwise.rollout.engine.wire import Deadlines, Phase

_EPISODE_PHASES = (Phase.IDLE, Phase.RESET, Phase.POLICY, Phase.ENV)


class Watch:
    """Finds overdue slots; one look over a thousand slots takes some tens of microseconds."""

    def __init__(self, deadlines: Deadlines, beats: Heartbeats) -> None:
        """Watch all rows of ``beats``."""
        self._deadlines = deadlines
        self._beats = beats
        self._limits = np.array([deadlines.of(phase) for phase in Phase])
        self._episode_s = math.inf if deadlines.episode_s is None else deadlines.episode_s
        self._began = np.full(len(beats.rows), math.inf)
        self._suspects: dict[int, tuple[Phase, int, float]] = {}

    def episode_began(self, slot: int, now: float) -> None:
        """Start the clock of an episode."""
        self._began[slot] = now

    def episode_ended(self, slot: int) -> None:
        """Stop the clock of an episode."""
        self._began[slot] = math.inf

    def overdue(self, now: float) -> list[tuple[int, Ending]]:
        """Return the slots that are past a deadline at the monotonic time ``now``, and how to end them."""
        rows = self._beats.rows
        late = now - rows["since"] > self._limits[rows["phase"]]
        late |= now - self._began > self._episode_s
        suspects, self._suspects = self._suspects, {}
        found = []
        for index in map(int, np.flatnonzero(late)):
            ending = self._judge(index, now, suspects)
            if ending is not None:
                found.append((index, ending))
        return found

    def _judge(self, slot: int, now: float, suspects: dict[int, tuple[Phase, int, float]]) -> Ending | None:
        beat = phase, turn, since = self._beats.of(slot)
        if now - since > self._deadlines.of(phase):
            # Late at a second look too: a single one may see a row half written.
            if suspects.get(slot) == beat:
                return hung(self._deadlines, phase, turn)
            self._suspects[slot] = beat
        if now - self._began[slot] > self._episode_s and phase in _EPISODE_PHASES:
            return out_of_time(self._deadlines, phase, turn)
        return None
