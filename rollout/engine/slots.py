"""The slots of a supervisor: where its child processes are, and what each is at."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from turnwise.records import Ending
from turnwise.rollout.engine.jobs import Job
from turnwise.rollout.engine.journal import FIRST_BYTES, shared_file

LOOK_AHEAD = 32  # jobs


class SlotState(Enum):
    """Where a slot's process stands."""

    EMPTY = "empty"
    BOOTING = "booting"
    READY = "ready"
    BUSY = "busy"
    LEAVING = "leaving"


@dataclass(kw_only=True)
class Slot:
    """One place for a child process.

    Attributes:
        index: Its row in the heartbeat table.
        state: Where its process stands.
        pid: Its process, 0 for none.
        sock: The socket to it.
        journal: Descriptor of its journal, or -1.
        job: What it works on.
        task: The last task it was given, of which its world may have kept something.
        cut: Why the supervisor had it killed, or None.
    """

    index: int
    state: SlotState = SlotState.EMPTY
    pid: int = 0
    sock: socket.socket | None = None
    journal: int = -1
    job: Job | None = None
    task: str = ""
    cut: Ending | None = None


class SlotTable:
    """All slots of a supervisor, by number, by state and by process id."""

    def __init__(self, count: int, on_words: Callable[[Slot, bytes], None]) -> None:
        """Make ``count`` empty slots.

        Args:
            count: Number of slots, at least 1.
            on_words: Called with what a child says over its socket, one byte a word.
        """
        self.all = [Slot(index=i) for i in range(count)]
        self._on_words = on_words
        self._in: dict[SlotState, dict[int, Slot]] = {state: {} for state in SlotState}
        self._in[SlotState.EMPTY] = {slot.index: slot for slot in self.all}
        self._by_pid: dict[int, Slot] = {}
        self._tasks: Counter[str] = Counter()
        self.all_gone = asyncio.Event()
        self.all_gone.set()

    def count(self, state: SlotState) -> int:
        """Return how many slots are in a state."""
        return len(self._in[state])

    def first(self, state: SlotState) -> Slot | None:
        """Return a slot in this state, if there is one."""
        return next(iter(self._in[state].values()), None)

    def listed(self, *states: SlotState) -> list[Slot]:
        """Return the slots in these states."""
        return [slot for state in states for slot in self._in[state].values()]

    def give(self, slot: Slot, job: Job) -> None:
        """Note what a slot works on now."""
        slot.job = job
        self._set_task(slot, job.task)
        self.move(slot, SlotState.BUSY)

    def _set_task(self, slot: Slot, task: str) -> None:
        self._tasks[slot.task] -= 1
        if self._tasks[slot.task] <= 0:
            del self._tasks[slot.task]
        slot.task = task
        self._tasks[task] += 1

    def suits(self, slot: Slot, queue: Sequence[Job]) -> int:
        """Return which of the first jobs of a queue, which is not empty, suits a slot best.

        One of the task that the slot played last, as worlds keep what they have read of a task; else
        one that is nobody's; else the first.
        """
        nobodys = 0
        for position in range(min(len(queue), LOOK_AHEAD)):
            task = queue[position].task
            if task == slot.task:
                return position
            if self._tasks[task] == 0 and self._tasks[queue[nobodys].task] > 0:
                nobodys = position
        return nobodys

    def move(self, slot: Slot, state: SlotState) -> None:
        """Note that a slot's process is in another state now."""
        del self._in[slot.state][slot.index]
        slot.state = state
        self._in[state][slot.index] = slot

    def open(self, slot: Slot) -> int:
        """Prepare an empty slot for a child; return the descriptor of the child's end of the socket.

        Raises:
            OSError: There are too many open files.
        """
        journal = shared_file("turnwise-journal", FIRST_BYTES)
        try:
            ours, theirs = socket.socketpair()
        except OSError:
            os.close(journal)
            raise
        ours.setblocking(False)
        slot.sock, slot.journal = ours, journal
        self.move(slot, SlotState.BOOTING)
        asyncio.get_running_loop().add_reader(ours.fileno(), self.listen, slot)
        return theirs.detach()

    def started(self, slot: Slot, pid: int) -> None:
        """Note a slot's process."""
        slot.pid = pid
        self._by_pid[pid] = slot
        self.all_gone.clear()

    def died(self, pid: int) -> Slot | None:
        """Note that a process is gone; return its slot, unless it was no process of a slot."""
        slot = self._by_pid.pop(pid, None)
        if not self._by_pid:
            self.all_gone.set()
        return slot

    def all_died(self) -> None:
        """Note that all processes are gone."""
        self._by_pid.clear()
        self.all_gone.set()

    def listen(self, slot: Slot) -> None:
        """Hear what a child has said, if anything."""
        if slot.sock is None:
            return
        try:
            words = slot.sock.recv(64)
        except BlockingIOError:
            return
        except OSError:
            words = b""
        if not words:
            # It is dying, or a stray thread of it closed this. The zygote reports deaths; stop polling.
            asyncio.get_running_loop().remove_reader(slot.sock.fileno())
        for i in range(len(words)):
            self._on_words(slot, words[i : i + 1])

    def hang_up(self, slot: Slot) -> None:
        """Close the socket to a child; an idle one takes this as the sign to leave."""
        if slot.sock is not None:
            asyncio.get_running_loop().remove_reader(slot.sock.fileno())
            slot.sock.close()
            slot.sock = None

    def vacate(self, slot: Slot) -> None:
        """Forget a child that is gone."""
        self.hang_up(slot)
        if slot.journal >= 0:
            os.close(slot.journal)
        self.move(slot, SlotState.EMPTY)
        self._set_task(slot, "")
        slot.pid, slot.journal, slot.job, slot.cut = 0, -1, None, None
