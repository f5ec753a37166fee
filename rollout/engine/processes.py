"""What the engine asks of the operating system: whose death kills whom, and how much memory.

Linux is where all of it holds. Elsewhere the parts that only Linux has (death signals, subreapers,
data limits) are left out, and an environment's own detached processes may outlive a kill.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Collection

import psutil

MARK = "TURNWISE_ZYGOTE"  # every process below a zygote inherits this variable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True) if _LINUX else None


def _prctl(option: int, value: int) -> None:
    if _LIBC is not None:
        _LIBC.prctl(option, value, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that they can be found and killed."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Be killed when the parent dies; ends this process at once if it has died already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def kill_group(pid: int) -> None:
    """Kill a process and everything in the process group that it leads; fine if they are gone."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def kill_remains(pid: int) -> None:
    """Kill what is left of the process group of a dead leader."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_orphans(known: Collection[int]) -> None:
    """Kill all direct children of this process but the ``known`` ones.

    Below a subreaper these are what dead children left behind. Killing one hands its own children
    up to us, so this goes on until there are none.
    """
    me = psutil.Process()
    for _ in range(100):
        with contextlib.suppress(psutil.Error):
            strangers = [child.pid for child in me.children() if child.pid not in known]
            if not strangers:
                return
            for pid in strangers:
                kill_group(pid)
            time.sleep(0.002)
            for pid in strangers:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def kill_marked(mark: str) -> int:
    """Kill every process of ours whose environment carries ``MARK=mark``; returns how many there were.

    The last resort after a zygote was itself killed: what its children had detached can be found by
    nothing else.
    """
    found = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found += 1
                process.kill()
    return found


def limit_memory(limit: int) -> None:
    """Let this process allocate at most ``limit`` bytes more than it has: beyond, ``MemoryError``.

    The soft limit only, so that :func:`lift_memory_limit` can make room to report the failure.
    """
    if not _LINUX:
        return
    # Plain reads: text files would pull codecs into every child, each with copies of the pages they touch.
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        status = os.read(fd, 1 << 16)
    finally:
        os.close(fd)
    used = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(b"VmData:")), 0)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + limit
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def lift_memory_limit() -> None:
    """Undo :func:`limit_memory`."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def allow_open_files(count: int) -> None:
    """Raise this process's limit on open files to at least ``count``, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def describe_exit(status: int) -> str:
    """Say in words how a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "an unnamed signal"
        hint = " (by the kernel, if memory ran out)" if number == signal.SIGKILL else ""
        return f"was killed by signal {number} {name}{hint}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"
