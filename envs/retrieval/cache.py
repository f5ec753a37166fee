"""A cache of folders that any number of processes may fill at once: built aside, then renamed into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from turnwise.errors import ConfigError

CACHE_VARIABLE = "TURNWISE_CACHE"


def cache_root() -> Path:
    """Return the folder for generated data: ``$TURNWISE_CACHE``, the user's cache, or one in the temporary folder.

    Raises:
        ConfigError: None of them can be written to.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        candidates = [Path(named)]
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        candidates = [home / "turnwise", Path(tempfile.gettempdir()) / f"turnwise-{_user()}"]
    for folder in candidates:
        if _usable(folder):
            return folder
    tried = " and ".join(str(folder) for folder in candidates)
    raise ConfigError(f"cannot write to {tried}: set {CACHE_VARIABLE} to a folder that can be written to")


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    # A folder of somebody else's in the shared temporary folder must not be trusted.
    mine = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid() or CACHE_VARIABLE in os.environ
    return mine and os.access(folder, os.W_OK | os.X_OK)


def build_once(root: Path, key: str, build: Callable[[Path], None]) -> Path:
    """Return the folder ``root/key``; whoever comes first builds it, everybody else waits and reads.

    The folder appears by a rename, so it is complete or absent, also after a crash or on a file system without locks,
    where two processes may both build and one result is thrown away.

    Args:
        root: Where the folders are.
        key: Names the content; other content needs another key.
        build: Fills an empty folder.
    """
    final = root / key
    if final.is_dir():
        return final
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f".{key}.lock") as alone:
        if final.is_dir():
            return final
        if alone:
            for stale in root.glob(f".{key}-*"):  # of a process that died while it built
                shutil.rmtree(stale, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=root, prefix=f".{key}-"))
        try:
            build(work)
            work.chmod(0o755)
            os.rename(work, final)
        except OSError:
            if not final.is_dir():
                raise
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; yields False where the file system or the platform has no locks."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True
