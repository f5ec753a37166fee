"""Crashes and bad disks: nothing acknowledged is lost, nothing comes twice, damage is named."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from turnwise.rollout.store import RunStore, StoreError, StoreWarning, journal, shards
from turnwise.rollout.store.layout import journal_path, shard_path

WRITER = """
import sys
sys.path.insert(0, {here!r})
from conftest import trajectory
from turnwise.rollout.store import RunStore, shards
from pathlib import Path

path = Path({path!r})
store = RunStore.create(path, {{}}, shard_rows={rows}) if not path.exists() else RunStore.open(path, "a")
{patch}
number = len(store)
while True:
    store.append(trajectory(number, turns=3, text="x" * 500))
    print(number, flush=True)
    number += 1
"""


def start_writer(path: Path, *, rows: int = 7, patch: str = "") -> subprocess.Popen[str]:
    code = WRITER.format(here=str(Path(__file__).parent), path=str(path), rows=rows, patch=patch)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def numbers(store: RunStore) -> list[int]:
    return [t.seed for t in store.trajectories()]


def test_kill_9_while_appending_loses_nothing_acknowledged(tmp_path) -> None:
    """Five writers in a row are killed at an arbitrary moment; each goes on where the last was."""
    path = tmp_path / "run"
    acknowledged = -1
    for round_ in range(5):
        writer = start_writer(path)
        assert writer.stdout is not None
        for line in writer.stdout:
            acknowledged = int(line)
            if acknowledged >= (round_ + 1) * 11:
                break
        time.sleep(0.003 * round_)
        writer.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(n) for n in writer.stdout.read().split())])
        writer.wait(timeout=30)
        reader = RunStore.open(path)
        assert reader.status == "interrupted"
        stored = numbers(reader)
        assert stored == list(range(len(stored)))
        # One more may be on disk than the writer had time to report.
        assert len(stored) - 1 in (acknowledged, acknowledged + 1)
    with RunStore.open(path, "a") as store:
        assert numbers(store) == stored
    assert not list(path.glob("journal-*"))


@pytest.mark.parametrize(
    "moment",
    [
        "shards._arrow()[1].write_table = lambda table, temp, **_: (Path(temp).write_bytes(b'PAR1half'), die())",
        "import turnwise.rollout.store.layout as layout; layout.sync_folder = lambda folder: die()",
        "from turnwise.rollout.store import journal; journal.JournalWriter.drop = lambda self: die()",
    ],
    ids=["half-written shard", "renamed, not yet synced", "shard and journal both there"],
)
def test_kill_9_while_a_shard_is_written(tmp_path, moment) -> None:
    path = tmp_path / "run"
    patch = "import os\ndie = lambda: os.kill(os.getpid(), 9)\n" + moment
    writer = start_writer(path, rows=4, patch=patch)
    output = writer.communicate(timeout=60)[0]
    assert writer.returncode == -signal.SIGKILL
    assert output.split() == ["0", "1", "2"]  # the fourth append was committing
    assert numbers(RunStore.open(path)) == [0, 1, 2, 3]
    with RunStore.open(path, "a") as store:
        assert numbers(store) == [0, 1, 2, 3]
        assert not list(path.glob(".tmp-*"))
    assert numbers(RunStore.open(path)) == [0, 1, 2, 3]
    assert sorted(p.name for p in path.iterdir()) == [".lock", "manifest.json", "shard-00000.parquet"]


def interrupted(path: Path, make, count: int) -> Path:
    """A run whose writer died with ``count`` lines in its journal."""
    store = RunStore.create(path, {})
    for number in range(count):
        store.append(make(number))
    store._lock.release()  # as if the process had died
    return journal_path(path, 0)


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_half_written_line_is_ignored_and_removed(tmp_path, make, cut) -> None:
    journal_file = interrupted(tmp_path / "run", make, 3)
    data = journal_file.read_bytes()
    journal_file.write_bytes(data[:-cut])
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 1]
    with RunStore.open(tmp_path / "run", "a") as store:
        assert numbers(store) == [0, 1]
        store.append(make(2))
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 1, 2]


def test_an_empty_journal_is_no_obstacle(tmp_path, make) -> None:
    journal_file = interrupted(tmp_path / "run", make, 1)
    journal_file.write_bytes(b"")
    with RunStore.open(tmp_path / "run", "a") as store:
        assert store.ids() == set()
        store.append(make(0))
    assert numbers(RunStore.open(tmp_path / "run")) == [0]


def test_a_damaged_line_in_the_middle_is_named_and_the_rest_kept(tmp_path, make) -> None:
    journal_file = interrupted(tmp_path / "run", make, 4)
    lines = journal_file.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    journal_file.write_bytes(b"".join(lines))
    with pytest.warns(StoreWarning, match="line 2 of .*journal-00000"):
        assert numbers(RunStore.open(tmp_path / "run")) == [0, 2, 3]
    with pytest.warns(StoreWarning, match=r"kept as journal-00000.jsonl.corrupt"):
        store = RunStore.open(tmp_path / "run", "a")
    store.append(make(1))
    store.close("complete")
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 2, 3, 1]


def test_a_truncated_shard_is_set_aside_and_its_trajectories_count_as_missing(run, make) -> None:
    torn = shard_path(run, 1)
    torn.write_bytes(torn.read_bytes()[:-100])
    with pytest.warns(StoreWarning, match="shard-00001.parquet is damaged"):
        reader = RunStore.open(run)
    assert reader.damaged
    assert numbers(reader) == [0, 1, 2, 3, 8, 9]
    with pytest.warns(StoreWarning, match="kept as shard-00001.parquet.corrupt"):
        store = RunStore.open(run, "a")
    missing = {f"task-{n}#0" for n in range(10)} - store.ids()
    assert missing == {f"task-{n}#0" for n in (4, 5, 6, 7)}
    for number in (4, 5, 6, 7):
        store.append(make(number))
    store.close("complete")
    assert sorted(numbers(RunStore.open(run))) == list(range(10))
    assert (run / "shard-00001.parquet.corrupt").exists()


def test_a_flipped_bit_inside_a_shard_is_found_by_its_checksum(run) -> None:
    shard = shard_path(run, 0)
    data = bytearray(shard.read_bytes())
    data[data.index(b"room") if b"room" in data else len(data) // 3] ^= 0xFF
    shard.write_bytes(bytes(data))
    with pytest.warns(StoreWarning, match=r"kept as shard-00000\.parquet\.corrupt"):
        store = RunStore.open(run, "a")
    assert numbers(store) == [4, 5, 6, 7, 8, 9]
    store.close()


def test_a_reader_that_meets_damage_on_the_way_goes_on_with_the_next_shard(run) -> None:
    reader = RunStore.open(run)
    trajectories = reader.trajectories()
    assert next(trajectories).seed == 0
    torn = shard_path(run, 1)
    torn.write_bytes(b"PAR1")
    with pytest.warns(StoreWarning, match="shard-00001"):
        assert [t.seed for t in trajectories] == [1, 2, 3, 8, 9]


def test_a_damaged_shard_is_restored_from_its_journal_when_that_is_there(tmp_path, make) -> None:
    path = tmp_path / "run"
    interrupted(path, make, 5)
    shard_path(path, 0).write_bytes(b"PAR1 torn by a power cut")
    with pytest.warns(StoreWarning, match="shard-00000"):
        assert numbers(RunStore.open(path)) == [0, 1, 2, 3, 4]
    with pytest.warns(StoreWarning, match=r"shard-00000\.parquet\.corrupt"):
        store = RunStore.open(path, "a")
    assert numbers(store) == [0, 1, 2, 3, 4]
    store.close("complete")
    assert numbers(RunStore.open(path)) == [0, 1, 2, 3, 4]


def test_a_full_disk_while_appending_keeps_what_was_there(tmp_path, make, monkeypatch) -> None:
    store = RunStore.create(tmp_path / "run", {})
    store.append(make(0))
    real, calls = os.write, []

    def full(descriptor: int, data) -> int:
        calls.append(descriptor)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:40])  # half a line still fitted

    monkeypatch.setattr(journal.os, "write", full)
    with pytest.raises(StoreError, match=r"No space left on device.*resume"):
        store.append(make(1))
    monkeypatch.undo()
    assert len(calls) == 2
    assert store.ids() == {"task-0#0"}
    store.append(make(2))
    store.close("complete")
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 2]


def test_a_full_disk_while_committing_goes_on_with_the_journal(tmp_path, make, monkeypatch, caplog) -> None:
    def full(path, trajectories) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = RunStore.create(tmp_path / "run", {}, shard_rows=2)
    monkeypatch.setattr(shards, "write_shard", full)
    for number in range(3):
        store.append(make(number))
    assert "No space left" in caplog.text
    assert numbers(store) == [0, 1, 2]
    with pytest.raises(StoreError, match="No space left"):
        store.close("complete")
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 1, 2]
    monkeypatch.undo()
    with RunStore.open(tmp_path / "run", "a") as store:
        assert numbers(store) == [0, 1, 2]
    assert not list((tmp_path / "run").glob("journal-*"))


def test_a_full_disk_recovers_at_the_next_shard(tmp_path, make, monkeypatch) -> None:
    with RunStore.create(tmp_path / "run", {}, shard_rows=2) as store:
        with monkeypatch.context() as patch:
            patch.setattr(shards, "write_shard", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
            store.append(make(0))
            store.append(make(1))
        assert not shard_path(tmp_path / "run", 0).exists()
        store.append(make(2))
        store.append(make(3))
        assert shard_path(tmp_path / "run", 0).exists()
    assert numbers(RunStore.open(tmp_path / "run")) == [0, 1, 2, 3]


def test_a_directory_whose_writer_died_before_the_manifest_can_be_used(tmp_path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").write_text("123\n")
    (tmp_path / "run" / ".tmp-123-manifest.json").write_text("{")
    RunStore.create(tmp_path / "run", {}).close("complete")
    assert RunStore.open(tmp_path / "run").status == "complete"
