from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from turnwise.errors import ConfigError
from turnwise.rewards.judges.cache import ReplyCache, cache_key


def test_replies_stay_over_processes_and_openings(tmp_path: Path) -> None:
    path = tmp_path / "new" / "judge.sqlite"
    first = ReplyCache(path)
    assert first.get("k") is None
    first.put("k", "m", "reply")
    assert first.get("k") == "reply"
    first.close()
    assert ReplyCache(path).get("k") == "reply"


WRITE = """
import sys
from turnwise.rewards.judges.cache import ReplyCache
cache = ReplyCache(sys.argv[1])
for n in range(20):
    cache.put(f"{sys.argv[2]}-{n}", "m", "r")
"""


def test_processes_and_threads_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    workers = [subprocess.Popen([sys.executable, "-W", "error", "-c", WRITE, str(path), str(n)]) for n in range(2)]
    shared = ReplyCache(path)
    threads = [
        threading.Thread(target=lambda n=n: [shared.put(f"t{n}-{i}", "m", "r") for i in range(20)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for worker in workers:
        assert worker.wait(60) == 0
    (count,) = sqlite3.connect(path).execute("SELECT count(*) FROM replies").fetchone()
    assert count == 120


def test_a_broken_file_costs_calls_and_no_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    path.write_bytes(b"this is no database" * 100)
    cache = ReplyCache(path)
    with pytest.warns(RuntimeWarning, match="goes on without its cache"):
        assert cache.get("k") is None
    cache.put("k", "m", "r")
    assert cache.get("k") is None


def test_a_place_that_cannot_be_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        ReplyCache(tmp_path / "file" / "judge.sqlite").get("k")


def test_the_key_is_the_whole_request() -> None:
    assert cache_key(b"a") == cache_key(b"a") != cache_key(b"b")
