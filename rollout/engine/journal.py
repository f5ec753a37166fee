"""A child's journal and heartbeat: shared memory that survives the child.

A child writes every turn into its journal the moment it is played, and what it is doing into its
row of the heartbeat table. Both are plain memory writes, so a turn costs no system call and wakes
nobody; and both can be read after the child was killed, so that a hang loses no turn and is
attributed to whoever hung.

A journal is ``[committed length: u64][entry]...``, an entry is ``[kind: 1 byte][length: u32][data]``.
The length is stored after the data it covers: a reader never sees half an entry.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from turnwise.errors import TransportError
from turnwise.records import Turn
from turnwise.rollout.engine.wire import EpisodeEnd, Phase, decode_end, decode_turn

TURN = b"T"
IMAGE = b"I"
OBSERVATION = b"O"  # what the agent is to answer next; replaced by the turn that answers it
ACTION = b"A"  # the message being stepped; replaced by its turn
END = b"E"
FAILURE = b"F"
REQUEST = b"Q"

_LENGTH = struct.Struct("<Q")
_HEAD = struct.Struct("<cI")
_BEAT = struct.Struct("<id")
_ROW = np.dtype([("phase", "u1"), ("_", "V3"), ("turn", "<i4"), ("since", "<f8")])
ROW_BYTES = _ROW.itemsize
FIRST_BYTES = 1 << 16
KEEP_BYTES = 1 << 22


class Recorder(Protocol):
    """Where the episode loop reports to while it plays."""

    def phase(self, phase: Phase, turn: int = -1) -> None:
        """The loop enters ``phase``; ``turn`` is -1 before the first one."""
        ...

    def observation(self, text: str) -> None:
        """The agent is to answer ``text``."""
        ...

    def action(self, text: str) -> None:
        """The environment is to step ``text``."""
        ...

    def image(self, png: bytes) -> None:
        """A turn refers to this image by its SHA-256."""
        ...

    def turn(self, encoded: bytes) -> None:
        """A turn is complete."""
        ...


@dataclass(kw_only=True)
class Recording:
    """The entries of a journal, and a :class:`Recorder` that keeps them in this process.

    Attributes:
        turns: Encoded turns, in order.
        images: Encoded PNG images that the turns refer to.
        pending_observation: What the agent was to answer when the journal ends.
        pending_action: The message being stepped when the journal ends, or None.
        end: The encoded end, or None when the episode was cut off.
        failure: An encoded failure to boot, or None.
        request: The encoded request, in what is sent to be graded.
    """

    turns: list[bytes] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    pending_observation: str = ""
    pending_action: str | None = None
    end: bytes | None = None
    failure: bytes | None = None
    request: bytes = b""

    def phase(self, phase: Phase, turn: int = -1) -> None:
        """Nothing watches an in-process episode."""

    def observation(self, text: str) -> None:
        """Keep the pending observation."""
        self.pending_observation, self.pending_action = text, None

    def action(self, text: str) -> None:
        """Keep the pending action."""
        self.pending_action = text

    def image(self, png: bytes) -> None:
        """Keep an image."""
        self.images.append(png)

    def turn(self, encoded: bytes) -> None:
        """Keep a turn."""
        self.turns.append(encoded)

    def decoded(self) -> tuple[list[Turn], EpisodeEnd]:
        """Decode the turns and the end.

        Raises:
            TransportError: There is no end.
        """
        if self.end is None:
            raise TransportError("an episode came back without its end")
        return [decode_turn(turn) for turn in self.turns], decode_end(self.end)


def pack(entries: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Join entries into the form that :func:`parse` reads."""
    return b"".join(part for kind, data in entries for part in (_HEAD.pack(kind, len(data)), data))


def _entries(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(data):
        kind, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield kind, data[at : at + length]
        at += length


def parse(data: bytes) -> Recording:
    """Sort a journal's committed bytes."""
    recording = Recording()
    for kind, entry in _entries(data):
        if kind == TURN:
            recording.turns.append(entry)
        elif kind == IMAGE:
            recording.images.append(entry)
        elif kind == OBSERVATION:
            recording.observation(entry.decode("utf-8", "replace"))
        elif kind == ACTION:
            recording.action(entry.decode("utf-8", "replace"))
        elif kind == END:
            recording.end = entry
        elif kind == FAILURE:
            recording.failure = entry
        elif kind == REQUEST:
            recording.request = entry
    return recording


def shared_file(name: str, size: int) -> int:
    """Return a descriptor of an anonymous file of ``size`` zero bytes that lives in memory."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
    else:  # pragma: no cover - other systems than Linux
        with tempfile.TemporaryFile(prefix=name) as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


def read_journal(fd: int) -> bytes:
    """Return the committed entries of a journal, whoever wrote them and whether it is still alive."""
    committed = _LENGTH.unpack(os.pread(fd, _LENGTH.size, 0))[0]
    parts = []
    at, left = _LENGTH.size, committed
    while left > 0:
        part = os.pread(fd, left, at)
        if not part:
            break
        parts.append(part)
        at += len(part)
        left -= len(part)
    return b"".join(parts)


class Journal:
    """The writing side of a journal and of one heartbeat row; a :class:`Recorder`."""

    def __init__(self, fd: int, beats: mmap.mmap, slot: int) -> None:
        """Write to the journal ``fd`` and to row ``slot`` of ``beats``."""
        self._fd = fd
        self._map = mmap.mmap(fd, FIRST_BYTES)
        self._beats = beats
        self._row = slot * ROW_BYTES
        self._at = _LENGTH.size
        self._mark = self._at

    def begin(self) -> None:
        """Start a new episode: forget the last one."""
        if len(self._map) > KEEP_BYTES:
            self._resize(FIRST_BYTES)
        self._at = self._mark = _LENGTH.size
        self._commit()

    def phase(self, phase: Phase, turn: int = -1) -> None:
        """Write the heartbeat: time first, so that a new phase is never seen with an old time."""
        _BEAT.pack_into(self._beats, self._row + 4, turn, time.monotonic())
        self._beats[self._row] = phase

    def observation(self, text: str) -> None:
        """Write what the agent is to answer."""
        self._append(OBSERVATION, text.encode("utf-8", "replace"))
        self._commit()

    def action(self, text: str) -> None:
        """Write what the environment is to step."""
        self._append(ACTION, text.encode("utf-8", "replace"))
        self._commit()

    def image(self, png: bytes) -> None:
        """Write an image, in place of what is pending."""
        self._settle(IMAGE, png)

    def turn(self, encoded: bytes) -> None:
        """Write a complete turn in place of its pending observation and action."""
        self._settle(TURN, encoded)

    def finish(self, kind: bytes, data: bytes) -> None:
        """Write the last entry, in place of what is pending."""
        self._settle(kind, data)

    def _settle(self, kind: bytes, data: bytes) -> None:
        self._at = self._mark
        self._commit()
        self._append(kind, data)
        self._commit()
        self._mark = self._at

    def _append(self, kind: bytes, data: bytes) -> None:
        body = self._at + _HEAD.size
        end = body + len(data)
        if end > len(self._map):
            self._resize(max(end, 2 * len(self._map)))
        _HEAD.pack_into(self._map, self._at, kind, len(data))
        self._map[body:end] = data
        self._at = end

    def _commit(self) -> None:
        _LENGTH.pack_into(self._map, 0, self._at - _LENGTH.size)

    def _resize(self, size: int) -> None:
        self._map.close()
        os.ftruncate(self._fd, size)
        self._map = mmap.mmap(self._fd, size)


class Heartbeats:
    """The table of all slots' heartbeats, as the supervisor reads it."""

    def __init__(self, slots: int) -> None:
        """Create a table of ``slots`` rows."""
        size = max(slots * ROW_BYTES, mmap.PAGESIZE)
        self.fd = shared_file("turnwise-beats", size)
        self._map = mmap.mmap(self.fd, size)
        self.rows: npt.NDArray[np.void] = np.frombuffer(self._map, dtype=_ROW, count=slots)

    def booting(self, slot: int) -> None:
        """Note that a child is being started in a slot."""
        self.rows["turn"][slot] = -1
        self.rows["since"][slot] = time.monotonic()
        self.rows["phase"][slot] = Phase.BOOT

    def of(self, slot: int) -> tuple[Phase, int, float]:
        """Return phase, turn (-1 for none) and the monotonic time since when, read in this order."""
        phase = Phase(int(self.rows["phase"][slot]))
        return phase, int(self.rows["turn"][slot]), float(self.rows["since"][slot])

    def close(self) -> None:
        """Let the memory go."""
        self.rows = np.zeros(0, dtype=_ROW)
        self._map.close()
        os.close(self.fd)
