"""Bringing a run directory in order after its writer died, before a new writer goes on."""

from __future__ import annotations

from pathlib import Path

from turnwise.errors import ConfigError
from turnwise.records import Trajectory, from_json
from turnwise.rollout.store import journal, shards
from turnwise.rollout.store.index import Index, warn_damaged
from turnwise.rollout.store.layout import (
    journal_numbers,
    journal_path,
    quarantine,
    remove_leftovers,
    shard_numbers,
    shard_path,
    sync_folder,
)
from turnwise.rollout.store.schema import to_row


def recover(folder: Path) -> None:
    """Remove temporary files, set damaged shards aside and turn left-over journals into shards.

    Every case a crash can leave is one of these: a temporary file (killed while writing a shard), a
    journal without its shard (killed before the rename), a journal with its shard (killed between
    rename and deletion), a torn last line (killed while appending; never acknowledged), and, from
    a failing disk only, a damaged shard or line. Only the holder of the writer's lock may call this.
    """
    remove_leftovers(folder)
    damaged = _set_aside_damaged_shards(folder)
    stored = Index()
    for number in shard_numbers(folder):
        stored.add_shard(shard_path(folder, number))
    for number in journal_numbers(folder):
        damaged += _commit_journal(folder, number, stored)
    warn_damaged(folder, damaged)


def _set_aside_damaged_shards(folder: Path) -> list[str]:
    damaged = []
    for number in shard_numbers(folder):
        path = shard_path(folder, number)
        try:
            shards.verify(path)
        except shards.DamagedShardError as error:
            damaged.append(f"{error}; kept as {quarantine(path).name}")
    return damaged


def _commit_journal(folder: Path, number: int, stored: Index) -> list[str]:
    """Write what is in the journal and in no shard to a shard, drop the journal, name damaged lines."""
    path = journal_path(folder, number)
    wanted, damaged = _read_journal(path, stored)
    if wanted:
        target = shard_path(folder, number)
        if target.exists():
            # Its journal holds more than it does, which no crash of ours leaves; keep both.
            target = shard_path(folder, 1 + max([*shard_numbers(folder), *journal_numbers(folder)]))
        shards.write_shard(target, [to_row(trajectory) for trajectory in wanted])
        stored.add_shard(target)
    if damaged:
        kept = quarantine(path).name
        return [f"{what}; kept as {kept}" for what in damaged]
    path.unlink()
    sync_folder(folder)
    return []


def _read_journal(path: Path, stored: Index) -> tuple[list[Trajectory], list[str]]:
    found: dict[str, Trajectory] = {}
    damaged = []
    with path.open("rb") as file:
        for number, line in enumerate(journal.scan(path), start=1):
            if line.id is not None and (line.id in stored.places or line.id in found):
                continue
            file.seek(line.offset)
            try:
                trajectory = from_json(file.read(line.size))
                found[trajectory.id] = trajectory
            except ConfigError as error:
                damaged.append(f"line {number} of {path} is damaged ({error})")
    return list(found.values()), damaged
