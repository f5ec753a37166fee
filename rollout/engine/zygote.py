"""The zygote: a process that imports everything once, then forks one child per slot on request.

It is started by ``exec``, so it is single-threaded whatever its supervisor is (a Ray worker has dozens
of threads), and a fork of it is safe, takes about a millisecond and shares all imported memory. It
runs no code of a world after its start, so it does not hang when a world does. When its supervisor
dies, in whatever way, its control socket closes and it kills everything below it.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import psutil

from turnwise.errors import TurnwiseError
from turnwise.records import Failure
from turnwise.registry import load_entry_point
from turnwise.rollout.engine.journal import Journal
from turnwise.rollout.engine.player import Kit, load_kit
from turnwise.rollout.engine.processes import (
    adopt_orphans,
    die_with_parent,
    kill_group,
    kill_orphans,
    kill_remains,
    limit_memory,
)
from turnwise.rollout.engine.wire import decode_spec, encode

RunChild = Callable[[Kit, socket.socket, Journal], None]

COMMAND = struct.Struct("<cii")  # kind, slot, pid
FORK = b"F"  # comes with two descriptors: the child's socket and its journal
KILL = b"K"

REPORT = struct.Struct("<ciiI")  # kind, two numbers, length of the text that follows
HELLO = b"H"  # pid, number of threads
REFUSED = b"X"  # an encoded Failure: this specification cannot be run
STARTED = b"S"  # slot, pid
DIED = b"D"  # pid, wait status
UNFORKED = b"U"  # slot, 0, why


class Zygote:
    """The fork server's loop."""

    def __init__(self, control: socket.socket, beats: mmap.mmap, kit: Kit, run_child: RunChild) -> None:
        """Serve ``control``; children run ``run_child`` and write their heartbeats to ``beats``."""
        self._control = control
        self._beats = beats
        self._kit = kit
        self._run_child = run_child
        self._children: set[int] = set()
        self._commands = b""
        self._fds: list[int] = []
        self._stop = False
        # A signal writes a byte here, so that select wakes up for a dead child.
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def serve(self) -> None:
        """Fork and reap until the control socket closes or SIGTERM comes; then kill all children."""
        adopt_orphans()
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        try:
            self._report(HELLO, os.getpid(), psutil.Process().num_threads())
            while not self._stop:
                ready, _, _ = select.select([self._control.fileno(), self._wake], [], [])
                if self._wake in ready:
                    self._reap()
                if self._control.fileno() in ready:
                    self._obey()
        except (BrokenPipeError, ConnectionResetError):
            pass  # the parent died while we reported
        finally:
            self._kill_all()

    def _on_term(self, *_: object) -> None:
        self._stop = True

    def _report(self, kind: bytes, first: int, second: int, text: bytes = b"") -> None:
        self._control.sendall(REPORT.pack(kind, first, second, len(text)) + text)

    def _obey(self) -> None:
        data, fds, _, _ = socket.recv_fds(self._control, 1 << 16, 64)
        if not data:
            self._stop = True
            return
        for fd in fds:
            os.set_inheritable(fd, False)
        self._commands += data
        self._fds += fds
        while len(self._commands) >= COMMAND.size:
            kind, slot, pid = COMMAND.unpack_from(self._commands)
            self._commands = self._commands[COMMAND.size :]
            if kind == FORK:
                sock, journal = self._fds[:2]
                del self._fds[:2]
                self._fork(slot, sock, journal)
            elif kind == KILL and pid in self._children:
                kill_group(pid)

    def _fork(self, slot: int, sock: int, journal: int) -> None:
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._report(UNFORKED, slot, 0, str(error).encode())
        else:
            if pid == 0:
                self._become_slot(zygote, slot, sock, journal)
            self._children.add(pid)
            self._report(STARTED, slot, pid)
        os.close(sock)
        os.close(journal)

    def _become_slot(self, zygote: int, slot: int, sock: int, journal: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.setsid()
            die_with_parent(zygote)
            adopt_orphans()  # an environment's daemons stay below it, and die with it
            for fd in (self._wake, self._woken, *self._fds):
                os.close(fd)
            self._control.close()
            gc.enable()
            limit = self._kit.spec.memory_limit
            if limit is not None:
                limit_memory(limit)
            self._run_child(self._kit, socket.socket(fileno=sock), Journal(journal, self._beats, slot))
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BrokenPipeError:
            status = 0  # the supervisor hung up
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status & 0xFF)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake, 4096):
                pass
        deaths: list[tuple[int, int]] = []
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                if pid in self._children:
                    self._children.discard(pid)
                    deaths.append((pid, status))
        if deaths:
            # First what they left behind, then the news: nothing of an episode outlives its report.
            for pid, _ in deaths:
                kill_remains(pid)
            kill_orphans(self._children)
        for pid, status in deaths:
            self._report(DIED, pid, status)

    def _kill_all(self) -> None:
        for pid in self._children:
            kill_group(pid)
        kill_orphans(())


def _receive_spec(control: socket.socket) -> bytes:
    size = struct.unpack("<I", control.recv(4, socket.MSG_WAITALL))[0]
    return control.recv(size, socket.MSG_WAITALL)


@contextlib.contextmanager
def _mortal(control: socket.socket) -> Iterator[None]:
    """While the block runs, be killed by the kernel when the supervisor hangs up.

    What is imported may hang in C code, where no handler of ours would run: the signal that says
    "something happened on the socket" keeps its default action, which is death.
    """
    if not hasattr(os, "O_ASYNC"):  # pragma: no cover - other systems than Linux
        yield
        return
    flags = fcntl.fcntl(control, fcntl.F_GETFL)
    fcntl.fcntl(control, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(control, fcntl.F_SETFL, flags | os.O_ASYNC)
    try:
        yield
    finally:
        fcntl.fcntl(control, fcntl.F_SETFL, flags)


def main(argv: list[str]) -> int:
    """Serve the control socket ``argv[0]`` with the heartbeat table ``argv[1]``."""
    os.environ.pop("PYTHONSAFEPATH", None)  # ours, not for the environments' own children
    control = socket.socket(fileno=int(argv[0]))
    control.set_inheritable(False)  # a program that a world starts must not keep it open
    beats = mmap.mmap(int(argv[1]), 0)
    os.close(int(argv[1]))
    spec = decode_spec(_receive_spec(control))
    try:
        with _mortal(control):
            kit = load_kit(spec)
            run_child: RunChild = load_entry_point(spec.child)
    except TurnwiseError as error:
        text = encode(Failure(boundary=error.boundary, kind="boot", message=str(error)))
        control.sendall(REPORT.pack(REFUSED, 0, 0, len(text)) + text)
        return 1
    gc.freeze()  # what is here now never becomes garbage, and a collection would copy every page of it
    Zygote(control, beats, kit, run_child).serve()
    return 0
