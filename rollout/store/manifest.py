"""The manifest: what was run, with what, and how the run stands."""

from __future__ import annotations

import datetime as dt
import platform
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

import turnwise
from turnwise.errors import ConfigError
from turnwise.records import SCHEMA_VERSION, Json
from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.layout import MANIFEST, write_atomically

Status = Literal["running", "complete", "interrupted"]
STORE_VERSION = 1


# What the store fills in itself; the rest of a manifest is the run's configuration.
FACTS = (
    "store_version",
    "schema_version",
    "run_id",
    "created",
    "turnwise_version",
    "python_version",
    "git_revision",
    "status",
    "counts",
)


def configuration(manifest: Mapping[str, Json]) -> dict[str, Json]:
    """Return a manifest without what the store fills in: what a run of the same kind is made with."""
    return {key: value for key, value in manifest.items() if key not in FACTS}


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


def new_manifest(given: Mapping[str, Json]) -> dict[str, Json]:
    """Add to the caller's configuration what every run records about itself.

    Args:
        given: The run's configuration: environment, options, tasks, group, agent, seed, rewards.

    Raises:
        ConfigError: A key is one of those that the store fills in.
    """
    taken = [key for key in FACTS if key in given]
    if taken:
        raise ConfigError(f"the store fills in {', '.join(taken)} of the manifest itself: leave them out")
    facts: dict[str, Json] = {
        "store_version": STORE_VERSION,
        "schema_version": SCHEMA_VERSION,
        "run_id": uuid.uuid4().hex[:12],
        "created": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "turnwise_version": turnwise.__version__,
        "python_version": platform.python_version(),
        "git_revision": git_revision(Path.cwd()),
        "status": "running",
        "counts": {"trajectories": 0},
    }
    return {**facts, **given}


def write_manifest(folder: Path, manifest: Mapping[str, Json]) -> None:
    """Replace the manifest in one step.

    Raises:
        ConfigError: A value is not JSON-compatible.
    """
    try:
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"a manifest holds JSON-compatible values only: {error}") from error
    write_atomically(folder / MANIFEST, data + b"\n")


def read_manifest(folder: Path) -> dict[str, Json]:
    """Read the manifest of a run directory.

    Raises:
        ConfigError: There is no run, or it was written by a newer turnwise.
        StoreError: The manifest is damaged.
    """
    path = folder / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{folder} is not a run: it has no {MANIFEST}.{_near(folder)}") from None
    try:
        manifest = msgspec.json.decode(data, type=dict[str, Json])
    except msgspec.MsgspecError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    version = manifest.get("store_version")
    if not isinstance(version, int) or version > STORE_VERSION:
        raise ConfigError(f"{path} has store version {version!r}, this turnwise reads up to {STORE_VERSION}: upgrade")
    return manifest


def _near(folder: Path) -> str:
    """Name the runs beside a wrong path, or inside it."""
    for place in (folder, folder.parent):
        if place.is_dir():
            runs = sorted(p.parent for p in place.glob(f"*/{MANIFEST}"))
            if runs:
                shown = ", ".join(str(p) for p in runs[-5:])
                return f" Runs in {place}: {shown}."
    return ""


def git_revision(folder: Path) -> str | None:
    """Return the commit of the repository around ``folder``, with "-dirty" for changes, or None."""
    if shutil.which("git") is None:
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
