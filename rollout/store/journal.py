"""The journal: what was appended since the last shard, one JSON line a trajectory.

An append is acknowledged once its line has been handed to the operating system, so it survives a
``kill -9`` of the writer; ``fsync`` follows at an interval, which bounds what a power cut can take.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.layout import sync_folder


class _Head(msgspec.Struct):
    """The part of a line that the index needs."""

    id: str


_decode_head = msgspec.json.Decoder(_Head).decode


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a journal.

    Attributes:
        id: The trajectory's id, or None when the line is damaged.
        offset: Where the line begins, in bytes.
        size: Its length in bytes, without the newline.
    """

    id: str | None
    offset: int
    size: int


class JournalWriter:
    """Appends lines to a new journal file."""

    def __init__(self, path: Path, *, fsync_interval_s: float) -> None:
        """Create ``path``, which must not exist; it is synced at most every ``fsync_interval_s``."""
        self.path = path
        self.size = 0
        self.lines = 0
        self._interval = fsync_interval_s
        self._synced = time.monotonic()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def append(self, line: bytes) -> int:
        """Write one line and return its offset.

        Raises:
            StoreError: The disk is full or gone. The journal holds what it held before.
        """
        data = memoryview(line + b"\n")
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            # Half a line at the end would swallow the next append.
            os.ftruncate(self._fd, self.size)
            raise StoreError(
                f"cannot append to {self.path}: {error}. What was stored before is safe; free space and resume the run."
            ) from error
        offset = self.size
        self.size += len(data)
        self.lines += 1
        if time.monotonic() - self._synced >= self._interval:
            self.sync()
        return offset

    def sync(self) -> None:
        """Make everything appended so far survive a power cut."""
        os.fsync(self._fd)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close the file, which stays where it is."""
        try:
            self.sync()
        finally:
            os.close(self._fd)

    def drop(self) -> None:
        """Close and delete the file, once a shard holds its lines."""
        os.close(self._fd)
        self.path.unlink()
        sync_folder(self.path.parent)


def scan(path: Path) -> Iterator[Line]:
    """List the lines of a journal; a torn last line was never acknowledged and is left out."""
    offset = 0
    with path.open("rb") as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            try:
                found: str | None = _decode_head(raw).id
            except msgspec.MsgspecError:
                found = None
            yield Line(id=found, offset=offset, size=len(raw) - 1)
            offset += len(raw)


def read_line(path: Path, offset: int, size: int) -> bytes:
    """Return one line by the position that :func:`scan` gave."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
