"""Parquet shards: written whole or not at all, read in small batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from turnwise.errors import ConfigError
from turnwise.records import Trajectory
from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.layout import atomic_file
from turnwise.rollout.store.schema import arrow_schema, from_row

# Rows that are decoded at once when reading: bounds memory and the cost of reading one trajectory.
ROW_GROUP = 32


class DamagedShardError(StoreError):
    """A shard cannot be read; the message names the file."""


def _arrow() -> tuple[Any, Any]:
    """Import pyarrow where it is used: it costs more than the rest of turnwise together."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as error:
        raise ConfigError(
            "runs are stored with pyarrow, a dependency of turnwise that is missing here. "
            "Install it with: pip install 'pyarrow>=15'"
        ) from error
    return pa, parquet


def _open(path: Path) -> Any:
    pa, parquet = _arrow()
    try:
        return parquet.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DamagedShardError(f"{path} is damaged: {error}") from error


def write_shard(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows of the schema atomically: after this the shard exists completely, or not at all."""
    pa, parquet = _arrow()
    table = pa.Table.from_pylist(rows, schema=arrow_schema())
    with atomic_file(path) as temp:
        parquet.write_table(table, temp, compression="zstd", row_group_size=ROW_GROUP, write_page_checksum=True)


def read_ids(path: Path) -> list[str]:
    """Return the ids of a shard's trajectories, in row order.

    Raises:
        DamagedShardError: The file is torn or is no shard.
    """
    pa, _ = _arrow()
    with _open(path) as file:
        try:
            ids = file.read(columns=["id"]).column("id").to_pylist()
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DamagedShardError(f"{path} is damaged: {error}") from error
    return [str(name) for name in ids]


def verify(path: Path) -> None:
    """Read every page of a shard against its checksum.

    Raises:
        DamagedShardError: A page is damaged or missing.
    """
    for _ in _groups(path):
        pass


def _groups(path: Path, only: int | None = None) -> Iterator[Any]:
    """Yield the Arrow table of each row group, or of one."""
    pa, _ = _arrow()
    with _open(path) as file:
        for number in range(file.num_row_groups) if only is None else (only,):
            try:
                table = file.read_row_group(number)
            except (pa.ArrowException, OSError) as error:
                raise DamagedShardError(f"{path} is damaged in row group {number}: {error}") from error
            yield table


def read_shard(path: Path) -> Iterator[Trajectory]:
    """Yield a shard's trajectories with at most one row group in memory.

    Raises:
        DamagedShardError: The file is damaged; what came before it was yielded.
    """
    for table in _groups(path):
        for row in table.to_pylist():
            yield from_row(row)


def read_row(path: Path, number: int) -> Trajectory:
    """Return the trajectory in row ``number`` of a shard."""
    for table in _groups(path, only=number // ROW_GROUP):
        return from_row(table.slice(number % ROW_GROUP, 1).to_pylist()[0])
    raise DamagedShardError(f"{path} has no row {number}")
