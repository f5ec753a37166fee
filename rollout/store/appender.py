"""Appending: a journal that becomes a shard when it is full."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

from turnwise.rollout.store import shards
from turnwise.rollout.store.index import Place
from turnwise.rollout.store.journal import JournalWriter
from turnwise.rollout.store.layout import journal_path, next_number, shard_path
from turnwise.rollout.store.schema import line_to_row

log = logging.getLogger(__name__)


class Appender:
    """The journal of the next shard. Used by the one writer of a run directory."""

    def __init__(self, folder: Path, *, shard_rows: int, shard_bytes: int, fsync_interval_s: float) -> None:
        """Prepare to append; no file is made before the first line.

        Args:
            folder: The run directory.
            shard_rows: Trajectories a shard.
            shard_bytes: Journal bytes after which a shard is written even with fewer rows.
            fsync_interval_s: Seconds between syncs of the journal.
        """
        self._folder = folder
        self._shard_rows = shard_rows
        self._shard_bytes = shard_bytes
        self._fsync_interval_s = fsync_interval_s
        self._number = next_number(folder)
        self._journal: JournalWriter | None = None
        self._places: dict[str, Place] = {}
        self._tried = (0, 0)

    def append(self, name: str, line: bytes) -> dict[str, Place]:
        """Append a trajectory's line; return where it lies, and the whole shard when that was due.

        Raises:
            OSError: The journal cannot be made.
            StoreError: The disk refuses the line; the journal holds what it held before.
        """
        if self._journal is None:
            path = journal_path(self._folder, self._number)
            self._journal = JournalWriter(path, fsync_interval_s=self._fsync_interval_s)
        current = self._journal
        place = Place(current.path, current.append(line), len(line))
        self._places[name] = place
        rows, size = self._tried
        if current.lines - rows >= self._shard_rows or current.size - size >= self._shard_bytes:
            return {name: place, **self._try_commit(current)}
        return {name: place}

    def _try_commit(self, current: JournalWriter) -> Mapping[str, Place]:
        """Write the shard; if the disk refuses, go on with the journal for as long again."""
        try:
            return self.commit()
        except OSError as error:
            self._tried = (current.lines, current.size)
            log.warning("cannot write shard %d of %s (%s): its journal goes on", self._number, self._folder, error)
            return {}

    def commit(self) -> dict[str, Place]:
        """Write the shard, then drop its journal: at every moment one of the two is complete.

        Returns:
            Where the journal's trajectories lie now; empty when there were none.

        Raises:
            OSError: The disk refuses; the journal stays.
        """
        current = self._journal
        if current is None:
            return {}
        target = shard_path(self._folder, self._number)
        shards.write_shard(target, [line_to_row(line) for line in read_lines(current.path, self._places)])
        moved = {name: Place(target, row) for row, name in enumerate(self._places)}
        self._journal, self._places, self._tried = None, {}, (0, 0)
        self._number += 1
        current.drop()
        return moved

    def close(self) -> None:
        """Close the journal, which stays where it is unless it was committed."""
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self._journal.close()
            self._journal = None


def read_lines(path: Path, places: Mapping[str, Place]) -> Iterator[bytes]:
    """Yield a journal's lines at the given places, in their order."""
    with path.open("rb") as file:
        for place in places.values():
            file.seek(place.at)
            yield file.read(place.size or 0)
