"""The guard: a small process between Playwright and Chromium that lets no browser outlive its owner.

    python -I -S guard.py OWNER FOLDER CHROMIUM FLAG...

It starts Chromium with a profile in ``FOLDER`` and waits until Chromium ends, the process ``OWNER`` ends (in whatever
way), or it is told to end. Then it kills everything below it. Its process id is in ``FOLDER/guard.pid``. A second
process, the sweeper, waits for the end of the guard, which may be a violent one (Playwright's driver kills the guard's
process group when it ends itself), kills what is left of that group, and removes ``FOLDER``.

Runs as a script by its path, with nothing but the standard library, so that it starts at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LINUX = sys.platform == "linux"
_POLL_S = 0.25  # where the system cannot wait for a process that is no child
_SWEEPS = 100
_ROUNDS = 200  # of killing, each a few milliseconds: killing a process may hand its children up to us


def _prctl(option: int, value: int) -> None:
    if _LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(folder: str, command: list[str]) -> int:
    """Start Chromium; it dies with this process, too."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        # An episode's limit on its own data would starve the browser's many address spaces.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        os.execv(command[0], [*command, f"--user-data-dir={folder}/profile"])  # noqa: S606 - the point of it
    except BaseException as error:  # noqa: BLE001 - a forked child must not return
        os.write(2, f"cannot start {command[0]}: {error}\n".encode())
    os._exit(127)


def _sweep(folder: str) -> tuple[int, int]:
    """Start the sweeper; returns its process id, and what must stay open for as long as we live."""
    guard = os.getpid()
    ends, open_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(ends)
        return pid, open_end
    try:
        os.setsid()  # out of the group that may be killed
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):  # Playwright waits for the end of these
            os.dup2(nothing, descriptor)
        for descriptor in (open_end, 3, 4):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        os.read(ends, 1)  # returns when the guard is gone
        with contextlib.suppress(OSError):
            os.killpg(guard, signal.SIGKILL)
        for _ in range(_SWEEPS):  # those that were killed may still be writing
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.exists(folder):
                break
            time.sleep(0.02)
    finally:
        os._exit(0)


def _ended(chromium: int) -> bool:
    """Reap what has ended; returns whether Chromium itself has."""
    ended = False
    with contextlib.suppress(ChildProcessError):
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
            ended = ended or pid == chromium
    return ended


def _watch(owner: int, chromium: int, wake: int) -> bool:
    """Return when Chromium or the owner has ended, or a signal tells us to end; says whether Chromium has."""
    try:
        watched = os.pidfd_open(owner)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):
        watched = -1  # another system than Linux, or an old one: look now and then
    sources = [wake, watched] if watched >= 0 else [wake]
    while True:
        ready, _, _ = select.select(sources, [], [], None if watched >= 0 else _POLL_S)
        if watched in ready:
            return False
        if wake in ready:
            signals = os.read(wake, 4096)
            ended = _ended(chromium)
            if ended or signals.strip(bytes([signal.SIGCHLD])):
                return ended
            continue
        try:
            os.kill(owner, 0)
        except OSError:
            return False


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as listed:
            return [int(pid) for pid in listed.read().split()]
    except OSError:
        return []


def _kill_all(chromium: int, sweeper: int, *, ended: bool) -> None:
    """Kill Chromium and, where orphans come to us, all that it leaves behind."""
    for _ in range(_ROUNDS):
        children = [pid for pid in _children() if pid != sweeper] or ([] if ended else [chromium])
        if not children:
            return
        for pid in children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        ended = _ended(chromium) or ended
        time.sleep(0.005)


def main(arguments: list[str]) -> int:
    """Guard a browser; returns an exit status."""
    owner, folder, command = int(arguments[0]), arguments[1], arguments[2:]
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    with open(f"{folder}/guard.pid", "w") as note:
        note.write(str(os.getpid()))
    sweeper, _ = _sweep(folder)
    chromium = _start(folder, command)
    for descriptor in (3, 4):  # Playwright's pipe: it must see Chromium's end of it close, not ours
        with contextlib.suppress(OSError):
            os.close(descriptor)
    ended = _watch(owner, chromium, wake)
    with contextlib.suppress(OSError):
        os.kill(sweeper, signal.SIGCONT)  # in case that somebody has stopped all that is below the owner
    _kill_all(chromium, sweeper, ended=ended)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
