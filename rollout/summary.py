"""What a run achieved, counted while its trajectories arrive."""

from __future__ import annotations

import math
import time
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnwise.records import Json, Trajectory

if TYPE_CHECKING:
    from rich.table import Table


@dataclass
class RewardStats:
    """One reward over the trajectories.

    Attributes:
        values: The valid values. Kept, and summed exactly, so that the mean does not depend on the
            order in which episodes finish.
        invalid: How many trajectories have no value.
    """

    values: array[float] = field(default_factory=lambda: array("d"))
    invalid: int = 0

    @property
    def mean(self) -> float | None:
        """Mean over the valid values, or None when there are none."""
        return _mean(self.values)


@dataclass
class GateStats:
    """How often the gates of one reward were passed.

    Attributes:
        passed: Trajectories that cleared every gate.
        held: Trajectories that did not.
        undecided: Trajectories whose gate has no verdict, because they failed or a value is invalid.
    """

    passed: int = 0
    held: int = 0
    undecided: int = 0

    @property
    def rate(self) -> float | None:
        """Share of the decided trajectories that passed, or None when none is decided."""
        decided = self.passed + self.held
        return self.passed / decided if decided else None


class RunSummary:
    """Counts of a run: endings, success, turns, rewards, gates and speed.

    Failed episodes have no outcome: they are counted as failed, by boundary and kind, and take no
    part in the success rate, the mean number of turns or any reward's mean.
    """

    def __init__(self) -> None:
        self.episodes = 0
        self.succeeded = 0
        self.endings: Counter[str] = Counter()
        self.truncations: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.levels: dict[str, int] = {}
        self.rewards: dict[str, RewardStats] = {}
        self.gates: dict[str, GateStats] = {}
        self.wall_s: float | None = None
        self._turns = 0
        self._began: tuple[float, int] | None = None
        self._latest = 0.0

    def start(self) -> None:
        """Start the clock: episodes added from now on count for the speed."""
        self._latest = time.monotonic()
        self._began = (self._latest, self.episodes)

    @property
    def episodes_per_s(self) -> float | None:
        """Episodes a second from :meth:`start` to the latest one, or None when there is none."""
        if self._began is None:
            return None
        began, before = self._began
        return (self.episodes - before) / (self._latest - began) if self._latest > began else None

    @property
    def elapsed_s(self) -> float | None:
        """Seconds since :meth:`start`, up to :meth:`stop` if that was called."""
        if self.wall_s is not None or self._began is None:
            return self.wall_s
        return time.monotonic() - self._began[0]

    def stop(self) -> None:
        """Stop the clock."""
        self.wall_s = self.elapsed_s

    def add(self, trajectory: Trajectory) -> None:
        """Count a trajectory."""
        self.episodes += 1
        if self._began is not None:
            self._latest = time.monotonic()
        ending = trajectory.ending
        self.endings[ending.kind] += 1
        if ending.cause is not None:
            self.truncations[ending.cause] += 1
        if ending.kind == "failed" and ending.failure is not None:
            self.failures[ending.failure.boundary, ending.failure.kind] += 1
        if not trajectory.failed:
            self._turns += len(trajectory.turns)
        if trajectory.outcome is not None:
            self.succeeded += trajectory.outcome.success
            for level in trajectory.outcome.levels:
                self.levels.setdefault(level, 0)
            if trajectory.outcome.level is not None:
                self.levels[trajectory.outcome.level] = self.levels.get(trajectory.outcome.level, 0) + 1
        self._add_rewards(trajectory)

    def _add_rewards(self, trajectory: Trajectory) -> None:
        for name, reward in trajectory.rewards.items():
            stats = self.rewards.setdefault(name, RewardStats())
            if reward.value is None:
                stats.invalid += 1
            else:
                stats.values.append(reward.value)
            if "gates" in reward.evidence:
                gate = self.gates.setdefault(name, GateStats())
                passed = None if trajectory.failed else reward.evidence.get("passed")
                gate.passed += passed is True
                gate.held += passed is False
                gate.undecided += passed is None

    @property
    def failed(self) -> int:
        """Number of failed episodes."""
        return self.endings["failed"]

    @property
    def success_rate(self) -> float | None:
        """Share of the episodes with an outcome that succeeded, or None when there are none."""
        decided = self.episodes - self.failed
        return self.succeeded / decided if decided else None

    @property
    def mean_turns(self) -> float | None:
        """Mean turns of the episodes that did not fail, or None when there are none."""
        decided = self.episodes - self.failed
        return self._turns / decided if decided else None

    def to_dict(self) -> dict[str, Json]:
        """Return the summary JSON-compatible; only ``wall_s`` and ``episodes_per_s`` depend on the clock."""
        by_boundary: dict[str, dict[str, int]] = {}
        for (boundary, kind), count in sorted(self.failures.items()):
            by_boundary.setdefault(boundary, {})[kind] = count
        return {
            "episodes": self.episodes,
            "succeeded": self.succeeded,
            "success_rate": self.success_rate,
            "mean_turns": self.mean_turns,
            "terminated": self.endings["terminated"],
            "truncated": dict(sorted(self.truncations.items())),
            "failed": self.failed,
            "failures": by_boundary,
            "levels": dict(self.levels),
            "rewards": {
                name: {"mean": stats.mean, "valid": len(stats.values), "invalid": stats.invalid}
                for name, stats in sorted(self.rewards.items())
            },
            "gates": {
                name: {"rate": gate.rate, "passed": gate.passed, "held": gate.held, "undecided": gate.undecided}
                for name, gate in sorted(self.gates.items())
            },
            "wall_s": self.elapsed_s,
            "episodes_per_s": self.episodes_per_s,
        }

    def table(self) -> Table:
        """Return the summary as a table for ``rich.print``."""
        from rich.table import Table

        table = Table(show_header=True, header_style="bold")
        table.add_column("what")
        table.add_column("value", justify="right")
        table.add_column("of")
        for section in (self._outcome_rows(), self._reward_rows(), self._failure_rows()):
            for row in section:
                table.add_row(*row)
            table.add_section()
        return table

    def _outcome_rows(self) -> list[tuple[str, str, str]]:
        decided = self.episodes - self.failed
        rows = [
            ("success", _percent(self.success_rate), f"{self.succeeded} of {decided} episodes"),
            ("mean turns", _number(self.mean_turns), ""),
            ("terminated", str(self.endings["terminated"]), ""),
        ]
        rows += [(f"truncated by {cause}", str(count), "") for cause, count in sorted(self.truncations.items())]
        rows += [(f"level {level}", str(count), "") for level, count in self.levels.items()]
        if self.elapsed_s is not None:
            rows.append(("episodes/s", _number(self.episodes_per_s), f"{self.elapsed_s:.1f} s"))
        return rows

    def _reward_rows(self) -> list[tuple[str, str, str]]:
        rows = []
        for name, stats in sorted(self.rewards.items()):
            invalid = f", {stats.invalid} invalid" if stats.invalid else ""
            rows.append((f"{name} (mean)", _number(stats.mean), f"{len(stats.values)} valid{invalid}"))
        for name, gate in sorted(self.gates.items()):
            undecided = f", {gate.undecided} undecided" if gate.undecided else ""
            rows.append(
                (f"{name} gate passed", _percent(gate.rate), f"{gate.passed} of {gate.passed + gate.held}{undecided}")
            )
        return rows

    def _failure_rows(self) -> list[tuple[str, str, str]]:
        rows = [("failed", str(self.failed), f"{self.episodes} episodes")]
        rows += [(f"  {boundary}: {kind}", str(count), "") for (boundary, kind), count in sorted(self.failures.items())]
        return rows


def _mean(values: array[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
