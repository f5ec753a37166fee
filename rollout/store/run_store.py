"""``RunStore``: one run directory, appended to by one writer and read by anybody."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

import msgspec

from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Json, Trajectory, from_json, to_json
from turnwise.rollout.store import journal, shards
from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.images import ImageFolder
from turnwise.rollout.store.index import Index, Place, build_index, resolve_id, warn_damaged
from turnwise.rollout.store.layout import IMAGES, MANIFEST, journal_path, next_number, shard_path
from turnwise.rollout.store.lock import WriterLock, is_locked
from turnwise.rollout.store.manifest import Status, new_manifest, read_manifest, write_manifest
from turnwise.rollout.store.recovery import recover
from turnwise.rollout.store.schema import check_ranges, line_to_row

log = logging.getLogger(__name__)

SHARD_ROWS = 256
SHARD_BYTES = 64 * 2**20  # keeps a shard's text columns far below Arrow's 2 GiB per column
FSYNC_INTERVAL_S = 2.0
_SURROGATE = re.compile("[\ud800-\udfff]")


class RunStore:
    """A run directory: Parquet shards, a journal, a manifest and images.

    Make one with :meth:`create` or :meth:`open`. Readers take no lock and see the trajectories that
    were there when they opened the run; :meth:`refresh` looks again.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Json],
        *,
        lock: WriterLock | None = None,
        shard_rows: int = SHARD_ROWS,
        shard_bytes: int = SHARD_BYTES,
        fsync_interval_s: float = FSYNC_INTERVAL_S,
    ) -> None:
        """Used by :meth:`create` and :meth:`open`."""
        self.path = path
        self.images = ImageFolder(path / IMAGES)
        self._manifest = manifest
        self._lock = lock
        self._shard_rows = shard_rows
        self._shard_bytes = shard_bytes
        self._fsync_interval_s = fsync_interval_s
        self._journal: journal.JournalWriter | None = None
        self._number = next_number(path)
        self._commit_failed_at = 0
        self._index = Index()
        self.refresh()

    # -- making one ------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        manifest: Mapping[str, Json],
        *,
        shard_rows: int = SHARD_ROWS,
        shard_bytes: int = SHARD_BYTES,
        fsync_interval_s: float = FSYNC_INTERVAL_S,
    ) -> RunStore:
        """Begin a new run directory.

        Args:
            path: Directory to make; it may exist if it is empty.
            manifest: The run's configuration, JSON-compatible.
            shard_rows: Trajectories a shard, at least 1.
            shard_bytes: Journal bytes after which a shard is written even with fewer rows.
            fsync_interval_s: Seconds between syncs of the journal; 0 syncs every append.

        Raises:
            ConfigError: The directory is in use, or the manifest is not JSON-compatible.
            StoreError: Another process is making a run there, or the disk refuses.
        """
        if shard_rows < 1 or shard_bytes < 1 or fsync_interval_s < 0:
            raise ConfigError(
                "shard_rows and shard_bytes are at least 1 and fsync_interval_s at least 0, "
                f"got {shard_rows}, {shard_bytes} and {fsync_interval_s}"
            )
        folder = Path(path)
        check_unused(folder)
        full = new_manifest(manifest)
        with _store_errors(f"create {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            lock = WriterLock(folder)
            try:
                write_manifest(folder, full)
            except BaseException:
                lock.release()
                raise
        return cls(
            folder,
            full,
            lock=lock,
            shard_rows=shard_rows,
            shard_bytes=shard_bytes,
            fsync_interval_s=fsync_interval_s,
        )

    @classmethod
    def open(
        cls,
        path: str | Path,
        mode: Literal["r", "a"] = "r",
        *,
        shard_rows: int = SHARD_ROWS,
        shard_bytes: int = SHARD_BYTES,
        fsync_interval_s: float = FSYNC_INTERVAL_S,
    ) -> RunStore:
        """Open a run directory for reading, or for appending to it.

        Opening with ``"a"`` brings the directory in order first: what a killed writer left in a
        journal becomes a shard, damaged shards are set aside (a :class:`StoreWarning` names them).

        Raises:
            ConfigError: There is no run, or it is of a newer version.
            StoreError: It has a writer already, or the disk refuses.
        """
        folder = Path(path)
        if mode == "r":
            return cls(folder, read_manifest(folder))
        if mode != "a":
            raise ConfigError(f"a run is opened with mode 'r' or 'a', got {mode!r}")
        read_manifest(folder)
        with _store_errors(f"open {folder}"):
            lock = WriterLock(folder)
            try:
                recover(folder)
                # Read again under the lock: another writer may have finished the run meanwhile.
                manifest = {**read_manifest(folder), "status": "running"}
                write_manifest(folder, manifest)
                store = cls(
                    folder,
                    manifest,
                    lock=lock,
                    shard_rows=shard_rows,
                    shard_bytes=shard_bytes,
                    fsync_interval_s=fsync_interval_s,
                )
            except BaseException:
                lock.release()
                raise
        return store

    # -- reading ---------------------------------------------------------------------------------

    @property
    def manifest(self) -> dict[str, Json]:
        """A copy of the manifest."""
        return dict(self._manifest)

    @property
    def status(self) -> Status:
        """How the run stands; a run whose writer died while it ran is interrupted."""
        status: Status = self._manifest["status"]
        if status == "running" and self._lock is None and not is_locked(self.path):
            return "interrupted"
        return status

    @property
    def damaged(self) -> tuple[str, ...]:
        """What of the run cannot be read, each with the file's name."""
        return tuple(self._index.damaged)

    def refresh(self) -> None:
        """Look again at what is stored; needed by readers of a run that is still being written."""
        self._index = build_index(self.path)
        warn_damaged(self.path, self._index.damaged)

    def ids(self) -> set[str]:
        """Ids of all stored trajectories."""
        return set(self._index.places)

    def __len__(self) -> int:
        """Number of stored trajectories."""
        return len(self._index.places)

    def __contains__(self, trajectory_id: object) -> bool:
        """Whether a trajectory is stored."""
        return trajectory_id in self._index.places

    def resolve(self, name: str) -> str:
        """Return the id that ``name`` is, or is the only beginning of.

        Raises:
            UnknownNameError: None or several begin like this; the message lists near misses.
        """
        return resolve_id(name, self._index.places, self.path)

    def get(self, trajectory_id: str) -> Trajectory:
        """Return one trajectory.

        Raises:
            UnknownNameError: It is not stored; the message lists near misses.
            StoreError: Its shard is damaged.
        """
        if trajectory_id not in self._index.places:
            raise unknown_name(f"trajectory of {self.path}", trajectory_id, self._index.places)
        try:
            return self._index.places[trajectory_id].read()
        except FileNotFoundError:
            # The writer turned the journal into a shard since we listed it.
            self.refresh()
            return self._index.places[trajectory_id].read()

    def trajectories(self) -> Iterator[Trajectory]:
        """Yield all trajectories in stored order with a bounded number in memory.

        A shard that turns out to be damaged is named in a :class:`StoreWarning` and skipped.
        """
        done: set[str] = set()
        while True:
            try:
                for path, places in self._by_file(done).items():
                    for trajectory in self._read_file(path, places):
                        done.add(trajectory.id)
                        yield trajectory
                return
            except FileNotFoundError:
                # The writer turned a journal into a shard since we listed it.
                self.refresh()

    def _by_file(self, done: set[str]) -> dict[Path, dict[str, Place]]:
        """Group the trajectories that are not done yet by the file that holds them."""
        files: dict[Path, dict[str, Place]] = {}
        for name, place in self._index.places.items():
            if name not in done:
                files.setdefault(place.path, {})[name] = place
        return files

    def _read_file(self, path: Path, places: Mapping[str, Place]) -> Iterator[Trajectory]:
        if path.suffix != ".parquet":
            yield from map(from_json, _lines(path, places))
            return
        try:
            yield from (t for t in shards.read_shard(path) if t.id in places)
        except shards.DamagedShardError as error:
            self._index.damaged.append(str(error))
            warn_damaged(self.path, [str(error)])

    # -- writing ---------------------------------------------------------------------------------

    def append(self, trajectory: Trajectory) -> None:
        """Store a trajectory; once this returns, killing the process does not lose it.

        Raises:
            ConfigError: Its id is stored already, or a number does not fit the schema.
            StoreError: The store is read-only or closed, or the disk refuses; nothing is lost.
        """
        if self._lock is None:
            raise StoreError(f"{self.path} is open for reading: open it with mode 'a'")
        if trajectory.id in self._index.places:
            raise ConfigError(f"{self.path} holds the trajectory {trajectory.id!r} already: none is stored twice")
        check_ranges(trajectory)
        line = _encode(trajectory)
        if self._journal is None:
            with _store_errors(f"write to {self.path}"):
                path = journal_path(self.path, self._number)
                self._journal = journal.JournalWriter(path, fsync_interval_s=self._fsync_interval_s)
        offset = self._journal.append(line)
        self._index.places[trajectory.id] = Place(self._journal.path, offset, len(line))
        rows = self._journal.lines - self._commit_failed_at
        if rows >= self._shard_rows or self._journal.size >= self._shard_bytes:
            self._try_commit()

    def _try_commit(self) -> None:
        """Turn the journal into a shard; if the disk refuses, go on with the journal for a while."""
        try:
            self._commit()
        except OSError as error:
            self._commit_failed_at = self._journal.lines if self._journal else 0
            log.warning("cannot write shard %d of %s (%s): its journal goes on", self._number, self.path, error)

    def _commit(self) -> None:
        """Write the shard, then drop its journal: at every moment one of the two is complete."""
        current = self._journal
        if current is None:
            return
        target = shard_path(self.path, self._number)
        here = {name: place for name, place in self._index.places.items() if place.path == current.path}
        shards.write_shard(target, [line_to_row(line) for line in _lines(current.path, here)])
        self._index.places.update({name: Place(target, row) for row, name in enumerate(here)})
        self._journal = None
        self._commit_failed_at = 0
        self._number += 1
        current.drop()

    def update(self, **fields: Json) -> None:
        """Set fields of the manifest, such as a summary.

        Raises:
            StoreError: The store is read-only or closed, or the disk refuses.
        """
        if self._lock is None:
            raise StoreError(f"{self.path} is open for reading: open it with mode 'a'")
        self._manifest.update(fields)
        with _store_errors(f"write the manifest of {self.path}"):
            write_manifest(self.path, self._manifest)

    def close(self, status: Status | None = None) -> None:
        """Commit what the journal holds, note the status and let the directory go.

        Args:
            status: How the run stands; None means "interrupted".

        Raises:
            StoreError: The disk refuses. Every appended trajectory is in the journal.
        """
        if self._lock is None:
            return
        try:
            with _store_errors(f"finish {self.path}"):
                self._commit()
                self.update(status=status or "interrupted", counts={"trajectories": len(self)})
        finally:
            if self._journal is not None:
                with contextlib.suppress(OSError):
                    self._journal.close()
                self._journal = None
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunStore:
        """Use the store in a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close: complete after a clean block, interrupted after an exception."""
        self.close("interrupted" if kind else "complete")


def check_unused(folder: Path) -> None:
    """Check that a new run may be made in ``folder``.

    Raises:
        ConfigError: It is a file, holds a run, or holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file: a run is a directory, choose another path")
    if (folder / MANIFEST).exists():
        raise ConfigError(f"{folder} holds a run already: open it with mode 'a' to resume, or choose another")
    # A writer killed right after it made the directory leaves hidden files only.
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and not a run: choose another directory")


def _lines(path: Path, places: Mapping[str, Place]) -> Iterator[bytes]:
    """Yield a journal's lines at the given places, in their order."""
    with path.open("rb") as file:
        for place in places.values():
            file.seek(place.at)
            yield file.read(place.size or 0)


def _encode(trajectory: Trajectory) -> bytes:
    try:
        return to_json(trajectory)
    except ConfigError as error:
        if not isinstance(error.__cause__, UnicodeEncodeError):
            raise
        # Half a surrogate pair, which an agent may send, has no UTF-8 form: keep the rest of the text.
        return msgspec.json.encode(_without_surrogates(msgspec.to_builtins(trajectory)), order="deterministic")


def _without_surrogates(value: Json) -> Json:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_surrogates(item) for item in value]
    return value


@contextlib.contextmanager
def _store_errors(doing: str) -> Iterator[None]:
    """Turn what the operating system refuses into a :class:`StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {doing}: {error}. What was stored before is safe.") from error
