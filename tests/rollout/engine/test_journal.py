"""The journal and the heartbeat table: what survives a killed writer."""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnwise.errors import TransportError
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.journal import (
    FIRST_BYTES,
    Heartbeats,
    Journal,
    Recording,
    parse,
    read_journal,
    shared_file,
)
from turnwise.rollout.engine.wire import Phase


@pytest.fixture
def beats() -> Iterator[Heartbeats]:
    table = Heartbeats(3)
    yield table
    table.close()


def open_journal(beats: Heartbeats, slot: int = 1) -> tuple[int, Journal]:
    fd = shared_file("test", FIRST_BYTES)
    return fd, Journal(fd, mmap.mmap(beats.fd, 0), slot)


steps = st.lists(st.tuples(st.text(max_size=200), st.text(max_size=50), st.binary(max_size=5000)), max_size=30)


@settings(deadline=None, max_examples=60)
@given(episodes=st.lists(steps, max_size=4), cut=st.sampled_from(["no", "observation", "action"]))
def test_what_is_written_is_read(episodes: list[list[tuple[str, str, bytes]]], cut: str) -> None:
    table = Heartbeats(1)
    fd, journal = open_journal(table, 0)
    for turns in episodes:
        journal.begin()
        for observation, action, turn in turns:
            journal.observation(observation)
            journal.action(action)
            journal.turn(turn)
        journal.observation("pending")
        if cut == "action":
            journal.action("doing")
        if cut == "no":
            journal.finish(entries.END, b"end")
        read = parse(read_journal(fd))
        assert read.turns == [turn for _, _, turn in turns]
        assert read.end == (b"end" if cut == "no" else None)
        assert read.pending_observation == ("" if cut == "no" else "pending")
        assert read.pending_action == ("doing" if cut == "action" else None)
    os.close(fd)
    table.close()


def test_a_journal_grows_and_shrinks(beats: Heartbeats) -> None:
    fd, journal = open_journal(beats)
    big = os.urandom(10 * FIRST_BYTES)
    journal.turn(big)
    journal.turn(b"small")
    assert parse(read_journal(fd)).turns == [big, b"small"]
    journal.turn(bytes(entries.KEEP_BYTES))
    journal.begin()
    assert os.fstat(fd).st_size == FIRST_BYTES
    assert read_journal(fd) == b""
    os.close(fd)


def test_images_come_before_their_turn(beats: Heartbeats) -> None:
    fd, journal = open_journal(beats)
    journal.image(b"png")
    journal.observation("seen")
    journal.turn(b"turn")
    read = parse(read_journal(fd))
    assert (read.images, read.turns, read.pending_observation) == ([b"png"], [b"turn"], "")
    os.close(fd)


def test_turns_survive_a_kill(beats: Heartbeats) -> None:
    fd = shared_file("test", FIRST_BYTES)
    pid = os.fork()
    if pid == 0:
        journal = Journal(fd, mmap.mmap(beats.fd, 0), 2)
        journal.observation("first")
        journal.action("go")
        journal.turn(b"one")
        journal.observation("second")
        journal.phase(Phase.ENV, 1)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    read = parse(read_journal(fd))
    assert (read.turns, read.pending_observation, read.pending_action) == ([b"one"], "second", None)
    phase, turn, since = beats.of(2)
    assert (phase, turn) == (Phase.ENV, 1)
    assert since > 0
    assert beats.of(1)[0] is Phase.IDLE
    os.close(fd)


def test_half_pairs_of_surrogates_do_not_stop_it(beats: Heartbeats) -> None:
    fd, journal = open_journal(beats)
    journal.observation("a\ud800b")
    journal.action("\udfff")
    assert parse(read_journal(fd)).pending_action == "?"
    os.close(fd)


def test_an_episode_without_end_is_an_error() -> None:
    with pytest.raises(TransportError, match="without its end"):
        Recording().decoded()


@given(st.lists(st.tuples(st.sampled_from([entries.TURN, entries.IMAGE]), st.binary(max_size=100))))
def test_packing_round_trips(given_entries: list[tuple[bytes, bytes]]) -> None:
    read = parse(entries.pack(given_entries))
    assert read.turns == [data for kind, data in given_entries if kind == entries.TURN]
    assert read.images == [data for kind, data in given_entries if kind == entries.IMAGE]
