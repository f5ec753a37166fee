"""Replies that were understood, kept in an sqlite file by prompt and model."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
import warnings
from pathlib import Path

from turnwise.errors import ConfigError

_BUSY_S = 5.0


def cache_key(body: bytes) -> str:
    """Return the key of a request's body, which holds the model, the sampling options and every message."""
    return hashlib.sha256(body).hexdigest()


class ReplyCache:
    """A table of replies that processes and threads may share.

    A cache that fails costs calls, never verdicts: what goes wrong after opening is warned of once and then the
    judge goes on without it.
    """

    def __init__(self, path: str | Path) -> None:
        """Name the file; it is opened when first used, in each process anew.

        Args:
            path: The sqlite file, made with its folder if missing.
        """
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._broken = False

    def get(self, key: str) -> str | None:
        """Return a reply, or None."""
        with self._lock:
            try:
                connection = self._open()
                if connection is None:
                    return None
                row = connection.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
        return None if row is None else str(row[0])

    def put(self, key: str, model: str, reply: str) -> None:
        """Keep a reply."""
        with self._lock:
            try:
                connection = self._open()
                if connection is not None:
                    values = (key, model, reply, time.time())
                    connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", values)
            except sqlite3.Error as error:
                self._give_up(error)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection | None:
        if self._broken:
            return None
        if self._connection is None or self._pid != os.getpid():
            # A connection must not cross a fork.
            self._connection, self._pid = self._connect(), os.getpid()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the judge's cache cannot be made at {str(self.path)!r}: {error}") from error
        connection = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT, reply TEXT, at REAL)")
        return connection

    def _give_up(self, error: sqlite3.Error) -> None:
        self._broken = True
        warnings.warn(f"the judge goes on without its cache {str(self.path)!r}: {error}", RuntimeWarning, stacklevel=3)
