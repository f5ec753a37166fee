"""Runs as JSON Lines, one trajectory a line, for exchange with other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from turnwise.errors import ConfigError
from turnwise.records import Json, Trajectory, from_json, to_json
from turnwise.rollout.store.layout import atomic_file
from turnwise.rollout.store.run_store import RunStore


def export_jsonl(store: RunStore, target: str | Path) -> int:
    """Write all trajectories of a run to a JSONL file and return how many there are.

    Args:
        store: The run.
        target: File to write; it is replaced only once the new one is complete.

    Raises:
        ConfigError: The target's folder does not exist.
    """
    path = Path(target)
    if not path.parent.is_dir():
        raise ConfigError(f"cannot write {path}: the folder {path.parent} does not exist")
    count = 0
    with atomic_file(path) as temp, temp.open("wb") as file:
        for trajectory in store.trajectories():
            file.write(to_json(trajectory) + b"\n")
            count += 1
    return count


def read_jsonl(source: str | Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a JSONL file; blank lines are skipped.

    Raises:
        ConfigError: There is no such file, or a line is no trajectory; the message has its number.
    """
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"no JSONL file at {path}")
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    yield from_json(line)
                except ConfigError as error:
                    raise ConfigError(f"line {number} of {path}: {error}") from error


def import_jsonl(source: str | Path, run: str | Path, manifest: Mapping[str, Json] | None = None) -> int:
    """Make a run directory of a JSONL file and return the number of trajectories.

    Args:
        source: The JSONL file.
        run: Directory of the new run.
        manifest: Fields for its manifest; the source's path is added.

    Raises:
        ConfigError: As :func:`read_jsonl` and :meth:`RunStore.create`.
    """
    trajectories = read_jsonl(source)
    first = next(trajectories, None)
    if first is None:
        raise ConfigError(f"{source} holds no trajectories")
    facts = {"env": first.env_id, "agent": first.agent, "source": {"jsonl": str(source)}, **(manifest or {})}
    with RunStore.create(run, facts) as store:
        store.append(first)
        for trajectory in trajectories:
            store.append(trajectory)
        return len(store)
