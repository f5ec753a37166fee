"""The run directory's interface: create, append, read, close, one writer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading

import pytest

import turnwise
from turnwise.errors import ConfigError, UnknownNameError
from turnwise.rollout.store import RunStore, StoreError, export_jsonl, import_jsonl, journal, read_actions, read_jsonl

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))


def test_a_finished_run_is_shards_and_a_manifest(run, make) -> None:
    assert names(run) == ["manifest.json", "shard-00000.parquet", "shard-00001.parquet", "shard-00002.parquet"]
    store = RunStore.open(run)
    assert store.ids() == {f"task-{n}#0" for n in range(10)}
    assert len(store) == 10
    assert "task-7#0" in store
    assert [t.id for t in store.trajectories()] == [f"task-{n}#0" for n in range(10)]
    assert store.get("task-3#0") == make(3, failed=True)
    assert store.get("task-9#0") == make(9)


def test_the_manifest_says_what_was_run_with_what(run) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest == RunStore.open(run).manifest
    assert manifest["env"] == "turnwise/Test-v0"
    assert manifest["status"] == "complete"
    assert manifest["counts"] == {"trajectories": 10}
    assert manifest["store_version"] == 1
    assert manifest["schema_version"] == 1
    assert manifest["turnwise_version"] == turnwise.__version__
    assert {"run_id", "created", "python_version", "git_revision"} <= manifest.keys()


def test_the_git_revision_is_that_of_the_working_directory(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with RunStore.create(tmp_path / "a", {}) as store:
        assert store.manifest["git_revision"] is None
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    with RunStore.create(tmp_path / "b", {}) as store:
        assert store.manifest["git_revision"].removesuffix("-dirty") == head


def test_the_caller_cannot_overwrite_what_the_store_fills_in(tmp_path) -> None:
    with pytest.raises(ConfigError, match="created, status"):
        RunStore.create(tmp_path / "run", {"status": "x", "created": "y"})
    with pytest.raises(ConfigError, match="JSON-compatible"):
        RunStore.create(tmp_path / "run", {"env": object()})
    RunStore.create(tmp_path / "run", {}).close()


def test_no_trajectory_twice(tmp_path, make) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        store.append(make(1))
        with pytest.raises(ConfigError, match="none is stored twice"):
            store.append(make(1))
    with RunStore.open(tmp_path / "run", "a") as store:
        with pytest.raises(ConfigError, match="none is stored twice"):
            store.append(make(1))
        assert len(store) == 1


def test_the_status_follows_the_with_block(tmp_path, make) -> None:
    path = tmp_path / "run"
    with contextlib.suppress(KeyError), RunStore.create(path, {}) as store:
        assert RunStore.open(path).status == "running"
        store.append(make(1))
        raise KeyError("stop")
    assert RunStore.open(path).status == "interrupted"
    assert RunStore.open(path).ids() == {"task-1#0"}
    with RunStore.open(path, "a") as store:
        assert RunStore.open(path).status == "running"
        store.append(make(2))
    again = RunStore.open(path)
    assert (again.status, again.ids()) == ("complete", {"task-1#0", "task-2#0"})


def test_fields_of_the_manifest_can_be_set_while_it_runs(tmp_path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        store.update(summary={"success": 0.5})
    assert RunStore.open(tmp_path / "run").manifest["summary"] == {"success": 0.5}
    with pytest.raises(StoreError, match="open it with mode 'a'"):
        RunStore.open(tmp_path / "run").update(summary={})


def test_a_reader_sees_what_a_running_writer_has_acknowledged(tmp_path, make) -> None:
    path = tmp_path / "run"
    with RunStore.create(path, {}, shard_rows=3) as store:
        store.append(make(0))
        reader = RunStore.open(path)
        assert reader.get("task-0#0") == make(0)
        for number in range(1, 8):
            store.append(make(number))
        # The journal that the reader listed is a shard by now.
        assert reader.get("task-0#0") == make(0)
        reader.refresh()
        assert [t.id for t in reader.trajectories()] == [f"task-{n}#0" for n in range(8)]


def test_reading_while_a_writer_commits_yields_everything_once(tmp_path, make) -> None:
    path = tmp_path / "run"
    store = RunStore.create(path, {}, shard_rows=5)
    for number in range(3):
        store.append(make(number))

    def write() -> None:
        for number in range(3, 60):
            store.append(make(number))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            seen = [t.id for t in RunStore.open(path).trajectories()]
            assert len(seen) == len(set(seen))
            assert seen == [f"task-{n}#0" for n in range(len(seen))]
            assert len(seen) >= 3
    finally:
        writer.join()
        store.close()


def test_a_reader_on_its_way_survives_the_commit_of_the_next_journal(tmp_path, make) -> None:
    path = tmp_path / "run"
    with RunStore.create(path, {}, shard_rows=3) as store:
        for number in range(4):
            store.append(make(number))
        trajectories = RunStore.open(path).trajectories()
        assert next(trajectories).seed == 0
        for number in (4, 5):
            store.append(make(number))  # the journal that the reader is going to read is gone now
        assert [t.seed for t in trajectories] == [1, 2, 3, 4, 5]


def test_a_journal_that_is_committed_while_it_is_listed(tmp_path, make, monkeypatch) -> None:
    path = tmp_path / "run"
    store = RunStore.create(path, {}, shard_rows=3)
    for number in range(2):
        store.append(make(number))
    scan = journal.scan

    def commit_first(journal_file):
        monkeypatch.setattr(journal, "scan", scan)
        store.append(make(2))
        return scan(journal_file)

    monkeypatch.setattr(journal, "scan", commit_first)
    assert [t.seed for t in RunStore.open(path).trajectories()] == [0, 1, 2]
    store.close()


def test_a_reader_never_sees_half_a_manifest(tmp_path) -> None:
    store = RunStore.create(tmp_path / "run", {})
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            store.update(note="x" * (7000 * (number % 3)))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert RunStore.open(tmp_path / "run").manifest["status"] == "running"
    writer.join()
    store.close()


def test_a_journal_is_committed_when_it_grows_large(tmp_path, make) -> None:
    with RunStore.create(tmp_path / "run", {}, shard_bytes=3000) as store:
        for number in range(3):
            store.append(make(number, text="x" * 2000))
        assert "shard-00000.parquet" in names(tmp_path / "run")


def test_one_writer_at_a_time(tmp_path, make) -> None:
    path = tmp_path / "run"
    store = RunStore.create(path, {})
    with pytest.raises(StoreError, match=f"pid {os.getpid()}"):
        RunStore.open(path, "a")
    code = f"from turnwise.rollout.store import RunStore; RunStore.open({str(path)!r}, 'a')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "is being written by another process" in other.stderr
    store.append(make(1))
    store.close()
    RunStore.open(path, "a").close()


def test_a_forked_child_does_not_keep_the_lock(tmp_path) -> None:
    """A worker forked by a writer that is then killed must not stop the run from being resumed."""
    code = (
        "import os, sys, time\n"
        "from turnwise.rollout.store import RunStore\n"
        f"store = RunStore.create({str(tmp_path / 'run')!r}, {{}})\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1); os.close(2)\n"
        "    time.sleep(60)\n"
        "print(child, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    child = int(parent.stdout)
    try:
        RunStore.open(tmp_path / "run", "a").close()
    finally:
        os.kill(child, 9)


def test_a_closed_or_read_only_store_refuses_appends(run, make) -> None:
    with pytest.raises(StoreError, match="open for reading"):
        RunStore.open(run).append(make(99))
    store = RunStore.open(run, "a")
    store.close("complete")
    store.close()
    with pytest.raises(StoreError, match="open for reading"):
        store.append(make(99))
    assert RunStore.open(run).status == "complete"


def test_wrong_paths_are_explained(run, tmp_path) -> None:
    with pytest.raises(ConfigError, match="not a run"):
        RunStore.open(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=f"Runs in {tmp_path}: {run}"):
        RunStore.open(tmp_path / "rum")
    with pytest.raises(ConfigError, match="holds a run already"):
        RunStore.create(run, {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        RunStore.create(tmp_path / "file", {})
    with pytest.raises(ConfigError, match="not empty"):
        RunStore.create(tmp_path, {})
    with pytest.raises(ConfigError, match="'r' or 'a'"):
        RunStore.open(run, "w")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="shard_rows"):
        RunStore.create(tmp_path / "new", {}, shard_rows=0)


def test_a_newer_store_is_refused(run) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "store_version": 2}))
    with pytest.raises(ConfigError, match="upgrade"):
        RunStore.open(run)


def test_ids_may_be_shortened_when_unambiguous(run) -> None:
    store = RunStore.open(run)
    assert store.resolve("task-7") == "task-7#0"
    assert store.resolve("task-7#0") == "task-7#0"
    with pytest.raises(UnknownNameError, match=r"begins 10 trajectories.*'task-0#0'"):
        store.resolve("task-")
    with pytest.raises(UnknownNameError, match="Did you mean"):
        store.resolve("tusk-7#0")
    with pytest.raises(UnknownNameError, match="Did you mean"):
        store.get("task-7#")


def test_images_are_stored_once_under_their_hash(tmp_path) -> None:
    with RunStore.create(tmp_path / "run", {}) as store:
        name = store.images.put(PNG)
        assert store.images.put(PNG) == name
        assert names(tmp_path / "run" / "images") == [f"{name}.png"]
        with pytest.raises(ConfigError, match="PNG"):
            store.images.put(b"GIF89a")
    reader = RunStore.open(tmp_path / "run")
    assert reader.images.get(name) == PNG
    with pytest.raises(ConfigError, match="no image"):
        reader.images.get("0" * 64)
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        reader.images.get("../../etc/passwd")
    (tmp_path / "run" / "images" / f"{name}.png").write_bytes(PNG + b"!")
    with pytest.raises(StoreError, match="damaged"):
        reader.images.get(name)


def test_jsonl_export_and_import_keep_every_trajectory(run, tmp_path) -> None:
    store = RunStore.open(run)
    assert export_jsonl(store, tmp_path / "run.jsonl") == 10
    assert list(read_jsonl(tmp_path / "run.jsonl")) == list(store.trajectories())
    assert import_jsonl(tmp_path / "run.jsonl", tmp_path / "copy") == 10
    copy = RunStore.open(tmp_path / "copy")
    assert list(copy.trajectories()) == list(store.trajectories())
    assert copy.manifest["env"] == "turnwise/Test-v0"
    assert copy.manifest["source"] == {"jsonl": str(tmp_path / "run.jsonl")}


def test_bad_jsonl_is_named_by_line(run, tmp_path) -> None:
    export_jsonl(RunStore.open(run), tmp_path / "run.jsonl")
    lines = (tmp_path / "run.jsonl").read_text().splitlines()
    (tmp_path / "bad.jsonl").write_text("\n".join([lines[0], "", "{", lines[1]]))
    with pytest.raises(ConfigError, match=r"line 3 of .*bad\.jsonl"):
        import_jsonl(tmp_path / "bad.jsonl", tmp_path / "copy")
    with pytest.raises(ConfigError, match="no JSONL file"):
        list(read_jsonl(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no trajectories"):
        import_jsonl(tmp_path / "empty.jsonl", tmp_path / "copy2")
    with pytest.raises(ConfigError, match="does not exist"):
        export_jsonl(RunStore.open(run), tmp_path / "no" / "where.jsonl")


def test_recorded_actions_come_from_a_run_or_a_jsonl_file(run, tmp_path) -> None:
    export_jsonl(RunStore.open(run), tmp_path / "run.jsonl")
    assert read_actions(run)["task-3#0"] == ("look", "look")
    assert read_actions(tmp_path / "run.jsonl") == read_actions(run)


def test_the_store_imports_no_pyarrow_until_it_is_used(tmp_path) -> None:
    code = "import sys, turnwise.rollout.store; print('pyarrow' in sys.modules, 'ray' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.split() == ["False", "False"]


def test_a_missing_pyarrow_is_named_with_its_install_command(run, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="pip install"):
        RunStore.open(run)
