"""``RunStore``: one run directory, appended to by one writer and read by anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal

from turnwise.errors import ConfigError, unknown_name
from turnwise.records import Json, Trajectory, from_json
from turnwise.rollout.store import shards
from turnwise.rollout.store.appender import Appender, read_lines
from turnwise.rollout.store.errors import StoreError, store_errors
from turnwise.rollout.store.images import ImageFolder
from turnwise.rollout.store.index import Index, Place, build_index, resolve_id, warn_damaged
from turnwise.rollout.store.layout import IMAGES
from turnwise.rollout.store.lock import WriterLock, is_locked
from turnwise.rollout.store.manifest import Status, check_unused, new_manifest, read_manifest, write_manifest
from turnwise.rollout.store.recovery import recover
from turnwise.rollout.store.schema import check_ranges, encode_line

SHARD_ROWS = 256
SHARD_BYTES = 64 * 2**20  # keeps a shard's text columns far below Arrow's 2 GiB per column
FSYNC_INTERVAL_S = 2.0


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
        self._appender = Appender(
            path, shard_rows=shard_rows, shard_bytes=shard_bytes, fsync_interval_s=fsync_interval_s
        )
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
        with store_errors(f"create {folder}"):
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
        with store_errors(f"open {folder}"):
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
            yield from map(from_json, read_lines(path, places))
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
        line = encode_line(trajectory)
        with store_errors(f"write to {self.path}"):
            self._index.places.update(self._appender.append(trajectory.id, line))

    def update(self, **fields: Json) -> None:
        """Set fields of the manifest, such as a summary.

        Raises:
            StoreError: The store is read-only or closed, or the disk refuses.
        """
        if self._lock is None:
            raise StoreError(f"{self.path} is open for reading: open it with mode 'a'")
        self._manifest.update(fields)
        with store_errors(f"write the manifest of {self.path}"):
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
            with store_errors(f"finish {self.path}"):
                self._index.places.update(self._appender.commit())
                self.update(status=status or "interrupted", counts={"trajectories": len(self)})
        finally:
            self._appender.close()
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
