"""File names of a run directory, and writes that are either complete or absent.

::

    runs/x/
      manifest.json         what was run, and how it stands
      shard-00000.parquet   committed trajectories, one row each
      journal-00001.jsonl   trajectories appended since the last commit, one line each
      images/<sha256>.png   observations of pixel worlds, by content
      .lock                 held by the one writer
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MANIFEST = "manifest.json"
LOCK = ".lock"
IMAGES = "images"
TEMP_PREFIX = ".tmp-"
CORRUPT_SUFFIX = ".corrupt"


def shard_path(folder: Path, number: int) -> Path:
    """Path of a committed shard."""
    return folder / f"shard-{number:05d}.parquet"


def journal_path(folder: Path, number: int) -> Path:
    """Path of the journal that becomes shard ``number``."""
    return folder / f"journal-{number:05d}.jsonl"


def _numbers(folder: Path, prefix: str, suffix: str) -> tuple[int, ...]:
    found = []
    for path in folder.glob(f"{prefix}*{suffix}"):
        digits = path.name[len(prefix) : len(path.name) - len(suffix)]
        if digits.isdigit():
            found.append(int(digits))
    return tuple(sorted(found))


def shard_numbers(folder: Path) -> tuple[int, ...]:
    """Numbers of the shards there are, ascending."""
    return _numbers(folder, "shard-", ".parquet")


def journal_numbers(folder: Path) -> tuple[int, ...]:
    """Numbers of the journals there are, ascending."""
    return _numbers(folder, "journal-", ".jsonl")


def next_number(folder: Path) -> int:
    """Smallest number above every shard, journal and quarantined file, so that no name is used twice."""
    used = [*shard_numbers(folder), *journal_numbers(folder)]
    for path in folder.glob(f"*{CORRUPT_SUFFIX}*"):
        digits = path.name.partition("-")[2].partition(".")[0]
        if digits.isdigit():
            used.append(int(digits))
    return max(used, default=-1) + 1


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it is synced and renamed to ``target``, else removed."""
    temp = target.with_name(f"{TEMP_PREFIX}{os.getpid()}-{target.name}")
    try:
        yield temp
        with temp.open("rb+") as file:
            os.fsync(file.fileno())
        temp.replace(target)
        sync_folder(target.parent)
    finally:
        # After the rename nothing is left under this name; on a full disk even unlink may fail.
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)


def write_atomically(target: Path, data: bytes) -> None:
    """Replace ``target`` by ``data`` in one step."""
    with atomic_file(target) as temp:
        temp.write_bytes(data)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of a writer that died. Only the lock holder may call this."""
    for path in folder.glob(f"{TEMP_PREFIX}*"):
        path.unlink(missing_ok=True)


def quarantine(path: Path) -> Path:
    """Rename a damaged file so that it is kept but no longer read, and return its new path."""
    target = path.with_name(path.name + CORRUPT_SUFFIX)
    copy = 1
    while target.exists():
        copy += 1
        target = path.with_name(f"{path.name}{CORRUPT_SUFFIX}-{copy}")
    path.rename(target)
    sync_folder(path.parent)
    return target
