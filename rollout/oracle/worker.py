"""A worker: one process with an oracle in it, which may hang, crash or be killed without harm to the server.

python -m turnwise.rollout.oracle.worker FD
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading

from turnwise import registry
from turnwise.errors import TurnwiseError, attribute_to
from turnwise.rollout.engine.processes import die_with_parent
from turnwise.rollout.oracle.bodies import RejectedError
from turnwise.rollout.oracle.frames import (
    Done,
    FrameReader,
    FromWorker,
    Job,
    Ping,
    Pong,
    Ready,
    Setup,
    frame,
    to_worker,
)
from turnwise.rollout.oracle.kinds import Score, known_kinds
from turnwise.rollout.oracle.scorer import Oracle

_SWITCH_S = 0.001  # many threads wait for judges and few compute: whoever has a reply should get on soon


class _Worker:
    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._reader = FrameReader(end)
        self._kinds: dict[str, Score] = known_kinds()

    def run(self) -> None:
        first = self._reader.read()
        if first is None:
            return
        setup: Setup = to_worker.decode(first)
        try:
            with attribute_to("config", "making the rewards"):
                self._oracle = _make(setup)
        except TurnwiseError as error:
            self._send(Ready(problem=str(error)))
            return
        self._send(Ready())
        if setup.threads == 1:
            self._serve_here()
        else:
            self._serve_in_threads(setup.threads)

    def _serve_here(self) -> None:
        while (body := self._reader.read()) is not None:
            message = to_worker.decode(body)
            if isinstance(message, Job):
                self._send(self._score(message))
            elif isinstance(message, Ping):
                self._send(Pong(message.number))

    def _serve_in_threads(self, threads: int) -> None:
        sys.setswitchinterval(_SWITCH_S)
        jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()

        def work() -> None:
            while True:
                self._send(self._score(jobs.get()))

        for _ in range(threads):
            threading.Thread(target=work, daemon=True, name="score").start()
        while (body := self._reader.read()) is not None:
            message = to_worker.decode(body)
            if isinstance(message, Job):
                jobs.put(message)
            elif isinstance(message, Ping):
                self._send(Pong(message.number))

    def _score(self, job: Job) -> Done:
        try:
            with attribute_to("judge"):
                status, body = self._kinds[job.kind](job.payload, self._oracle, job.evidence)
            return Done(job.number, status, body)
        except RejectedError as error:
            return Done(job.number, error.code, str(error).encode("utf-8", "replace"), error.status, error.place)
        except TurnwiseError as error:
            return Done(job.number, "judge_failed", f"{error.boundary}: {error}".encode("utf-8", "replace"), 500)
        except (SystemExit, KeyboardInterrupt) as error:
            # A reward that calls sys.exit would take its thread, and whoever waits for it, along.
            return Done(job.number, "judge_failed", f"judge: {type(error).__name__} in a reward".encode(), 500)

    def _send(self, message: FromWorker) -> None:
        data = frame(message)
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._end.sendall(data)


def _make(setup: Setup) -> Oracle:
    for entry in setup.path:
        if entry not in sys.path:
            sys.path.append(entry)
    for name, entry_point in setup.registered.items():
        kind, _, what = name.partition(" ")
        register = registry.register_env if kind == "env" else registry.register_reward
        register(what, entry_point)
    return Oracle(
        setup.rewards,
        env=setup.env,
        env_options=setup.env_options or None,
        tokenizer=setup.tokenizer,
        match=setup.match,
        threads=setup.threads,
    )


def main() -> None:
    """Serve until the server goes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    die_with_parent(int(sys.argv[2]))
    # What rewards print must not end up in the output of `turnwise serve --schema | ..` and the like.
    os.dup2(2, 1)
    end = socket.socket(fileno=int(sys.argv[1]))
    _Worker(end).run()
    # Threads that hang must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
