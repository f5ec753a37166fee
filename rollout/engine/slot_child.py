"""The process of one slot: plays episodes one after another, told by its supervisor over a socket.

The socket carries jobs down and single bytes up; what an episode was is in the journal.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Iterator

from turnwise.errors import TurnwiseError
from turnwise.records import Failure
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.journal import Journal, Recording
from turnwise.rollout.engine.player import Kit, Player
from turnwise.rollout.engine.processes import lift_memory_limit
from turnwise.rollout.engine.wire import Phase, decode_request, encode, end_of

log = logging.getLogger(__name__)

READY = b"R"  # booted, wants a job
UNBOOTABLE = b"X"  # cannot boot, the journal says why; leaves
DONE = b"D"  # the job's journal is complete, wants another
LEAVING = b"L"  # the job's journal is complete; closes the environment and leaves
FRAME = struct.Struct("<cI")
PLAY = b"P"
GRADE = b"G"


def frame(kind: bytes, data: bytes) -> bytes:
    """Return one job as it goes over the socket."""
    return FRAME.pack(kind, len(data)) + data


def _receive(sock: socket.socket, size: int) -> bytes | None:
    parts = []
    while size > 0:
        part = sock.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _jobs(sock: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Yield jobs until the supervisor closes its end."""
    while (head := _receive(sock, FRAME.size)) is not None:
        kind, size = FRAME.unpack(head)
        data = _receive(sock, size)
        if data is None:
            return
        yield kind, data


def run_slot(kit: Kit, sock: socket.socket, journal: Journal) -> None:
    """Boot, then play and grade what comes, until the supervisor hangs up or an episode fails.

    After a failure the process leaves: a fresh fork costs a millisecond, and no state of a broken
    environment or agent reaches the next episode.
    """
    player = Player(kit)
    journal.phase(Phase.BOOT)
    try:
        player.boot()
    except TurnwiseError as error:
        failure = Failure(boundary=error.boundary, kind="boot", message=str(error))
        journal.finish(entries.FAILURE, encode(failure))
        sock.sendall(UNBOOTABLE)
        return
    journal.phase(Phase.IDLE)
    sock.sendall(READY)
    for kind, data in _jobs(sock):
        journal.begin()
        failed = _grade(player, data, journal) if kind == GRADE else _play(player, data, journal)
        journal.phase(Phase.CLOSE if failed else Phase.IDLE)
        sock.sendall(LEAVING if failed else DONE)
        if failed:
            break
    journal.phase(Phase.CLOSE)
    player.close()


def _play(player: Player, data: bytes, journal: Journal) -> bool:
    trajectory = player.play(decode_request(data), journal)
    if trajectory.failed:
        lift_memory_limit()  # whatever used it up, reporting comes first
    journal.finish(entries.END, encode(end_of(trajectory)))
    return trajectory.failed


def _grade(player: Player, data: bytes, journal: Journal) -> bool:
    """Grade a job of one request and the entries of a killed episode; its turns stay where they are."""
    played: Recording = entries.parse(data)
    trajectory = player.grade(decode_request(played.request), played, journal)
    journal.finish(entries.END, encode(end_of(trajectory)))
    return False
