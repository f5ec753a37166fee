"""Where each stored trajectory lies: the files of a run directory, listed without a lock."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from turnwise.errors import UnknownNameError, unknown_name
from turnwise.records import Trajectory, from_json
from turnwise.rollout.store import journal, shards
from turnwise.rollout.store.errors import StoreError, StoreWarning
from turnwise.rollout.store.layout import journal_numbers, journal_path, shard_numbers, shard_path

# A writer may turn a journal into a shard between our listing and our reading; then we list again.
_SCANS = 20


@dataclass(frozen=True)
class Place:
    """Position of one trajectory: a shard's row, or a journal's byte range when ``size`` is set."""

    path: Path
    at: int
    size: int | None = None

    def read(self) -> Trajectory:
        """Read the trajectory from its file."""
        if self.size is None:
            return shards.read_row(self.path, self.at)
        return from_json(journal.read_line(self.path, self.at, self.size))


@dataclass
class Index:
    """All trajectories of a run directory at one moment.

    Attributes:
        places: Id to position, in stored order.
        damaged: Damaged files or lines, each described with its name.
    """

    places: dict[str, Place] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    def add_shard(self, path: Path) -> None:
        """Add a shard's rows; an id that is there already stays where it was first."""
        try:
            ids = shards.read_ids(path)
        except shards.DamagedShardError as error:
            self.damaged.append(str(error))
            return
        for row, name in enumerate(ids):
            self.places.setdefault(name, Place(path, row))

    def add_journal(self, path: Path) -> None:
        """Add a journal's lines, except those that a shard holds already."""
        for number, line in enumerate(journal.scan(path), start=1):
            if line.id is None:
                self.damaged.append(f"line {number} of {path} is damaged")
            else:
                self.places.setdefault(line.id, Place(path, line.offset, line.size))


def build_index(folder: Path) -> Index:
    """List every trajectory once, shards before the journals that were to become them.

    Raises:
        StoreError: The directory keeps changing faster than it can be listed.
    """
    for _ in range(_SCANS):
        index = Index()
        try:
            in_shards, in_journals = set(shard_numbers(folder)), set(journal_numbers(folder))
            for number in sorted(in_shards | in_journals):
                if number in in_shards:
                    index.add_shard(shard_path(folder, number))
                if number in in_journals:
                    index.add_journal(journal_path(folder, number))
        except FileNotFoundError:
            continue
        return index
    raise StoreError(f"{folder} changes faster than it can be listed: try again")


def warn_damaged(folder: Path, damaged: list[str]) -> None:
    """Say which parts of a run were left out."""
    for what in damaged:
        warnings.warn(
            f"{what}. Its trajectories count as missing; resume the run to play them again ({folder}).",
            StoreWarning,
            stacklevel=3,
        )


def resolve_id(name: str, known: dict[str, Place], folder: Path) -> str:
    """Return the id that ``name`` is, or is the only beginning of.

    Raises:
        UnknownNameError: No id, or more than one, begins like this; the message lists near misses.
    """
    if name in known:
        return name
    starting = [full for full in known if full.startswith(name)]
    if len(starting) == 1:
        return starting[0]
    if name and starting:
        shown = ", ".join(repr(s) for s in starting[:5])
        more = ", ..." if len(starting) > 5 else ""
        raise UnknownNameError(f"{name!r} begins {len(starting)} trajectories of {folder}: {shown}{more}")
    raise unknown_name(f"trajectory of {folder}", name, known)
