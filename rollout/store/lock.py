"""One writer at a time: an advisory lock on the run directory."""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path

from turnwise.rollout.store.errors import StoreError
from turnwise.rollout.store.layout import LOCK


class WriterLock:
    """Holds ``.lock`` with ``flock`` until released or until the process dies, however it dies."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            StoreError: Another writer holds it.
        """
        self._fd: int | None = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 64, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            self._fd = None
            raise StoreError(
                f"{folder} is being written by another process (pid {holder}): wait for it or stop it, "
                "or write to another directory. Reading needs no lock."
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        _held.add(self)

    def forget(self) -> None:
        """Close a forked child's copy, which would keep the lock alive after its owner is killed."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def release(self) -> None:
        """Give the lock up; calling it again does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


_held: weakref.WeakSet[WriterLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    for lock in list(_held):
        lock.forget()


os.register_at_fork(after_in_child=_forget_in_child)


def is_locked(folder: Path) -> bool:
    """Whether a living writer holds the directory."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
