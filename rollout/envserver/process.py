"""The server's end of one session's process: a socket with one question at a time on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

import msgspec

from turnwise.errors import EnvError, TransportError, TurnwiseError, error_of
from turnwise.records import Ending
from turnwise.rollout.engine import journal as entries
from turnwise.rollout.engine.journal import Recording, read_journal
from turnwise.rollout.envserver.frames import HEAD, About, Answer, Problem, Question, frame, read_answer

DEATH_S = 10.0  # what a killed process may take to be reported dead
MAX_ANSWER_BYTES = 256 * 2**20


class SessionProcess(asyncio.Protocol):
    """One environment in a process of its own. All methods are called on the event loop.

    Attributes:
        slot: Its row in the heartbeat table.
        pid: Its process, 0 until it was forked.
        cut: Why the server had it killed, or None.
        about: What the world says about itself, once the environment is made.
        dead: Done when the process is gone, with what its questions are answered by from then on.
    """

    def __init__(self, slot: int, journal: int, kill: Callable[[SessionProcess], None]) -> None:
        """Wait for a process.

        Args:
            slot: Its row in the heartbeat table.
            journal: Descriptor of its journal.
            kill: Has it killed.
        """
        self.slot = slot
        self.pid = 0
        self.cut: Ending | None = None
        self.about: About | None = None
        self._journal = journal
        self._kill = kill
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._hung_up = False
        self._remains: bytes | None = None  # what the journal held when it died
        loop = asyncio.get_running_loop()
        self._first: asyncio.Future[Answer] = loop.create_future()  # comes unasked
        self._first.add_done_callback(lambda first: first.cancelled() or first.exception())  # a spare is not waited for
        self._answer: asyncio.Future[Answer] | None = self._first
        self.dead: asyncio.Future[TurnwiseError] = loop.create_future()

    # -- asyncio.Protocol --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the process."""
        if isinstance(transport, asyncio.WriteTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect an answer."""
        self._received += data
        if len(self._received) < HEAD.size:
            return
        (size,) = HEAD.unpack_from(self._received)
        if size > MAX_ANSWER_BYTES:
            self.kill()
            return
        if len(self._received) < HEAD.size + size:
            return
        answer, self._answer = self._answer, None
        body = bytes(self._received[HEAD.size : HEAD.size + size])
        del self._received[: HEAD.size + size]
        if answer is not None and not answer.done():
            try:
                answer.set_result(read_answer(body))
            except msgspec.MsgspecError as error:
                answer.set_exception(TransportError(f"a session's process answered what cannot be read: {error}"))
                self.kill()

    # -- life and death ----------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """Whether it is dead, or is to be killed."""
        return self.dead.done() or self.cut is not None

    async def booted(self, limit_s: float | None) -> About:
        """Wait until the environment is made.

        Raises:
            TurnwiseError: It cannot be made, or its process died or was killed over it.
        """
        if self.about is None:
            answer = await self._wait(self._first, limit_s)
            if not isinstance(answer, About):
                raise self._as_error(answer)
            self.about = answer
        return self.about

    def died(self, error: TurnwiseError, *, keep: bool) -> None:
        """Note that the process is gone; whoever waits for an answer gets ``error``.

        Args:
            error: What happened.
            keep: Whether its recording may still be asked for.
        """
        self._hear_last_words()
        self._remains = read_journal(self._journal) if keep and not self._hung_up else b""
        os.close(self._journal)
        if not self.dead.done():
            self.dead.set_result(error)
        self._give_up(error)
        if self._transport is not None:
            self._transport.close()

    def _hear_last_words(self) -> None:
        """The news of a death may come before what the process said in its last moment."""
        sock = None if self._transport is None else self._transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            while data := os.read(sock.fileno(), 1 << 20):
                self.data_received(data)

    def kill(self) -> None:
        """Have the process killed."""
        self._kill(self)

    def hang_up(self) -> None:
        """Close the socket, which an idle process takes as the sign to close its environment and leave."""
        self._hung_up = True
        if self._transport is not None:
            self._transport.close()

    def recording(self) -> Recording:
        """Return what the process has recorded of its episode."""
        return entries.parse(read_journal(self._journal) if self._remains is None else self._remains)

    # -- questions ---------------------------------------------------------------------------------

    async def ask(self, question: Question, limit_s: float | None) -> Answer:
        """Ask, and wait for the answer.

        Args:
            question: What to do.
            limit_s: Seconds for a process that does not even begin; deadlines of its phases are the pool's.

        Raises:
            TurnwiseError: The process died or was killed, or answered a problem.
        """
        if self.dead.done():
            raise self.dead.result()
        if self._transport is None or self._answer is not None:
            raise TransportError("a session's process takes one question at a time")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame(question))
        answer = await self._wait(self._answer, limit_s)
        if isinstance(answer, Problem):
            raise self._as_error(answer)
        return answer

    async def _wait(self, answer: asyncio.Future[Answer], limit_s: float | None) -> Answer:
        late = None if limit_s is None else asyncio.get_running_loop().call_later(limit_s, self._too_late)
        try:
            return await answer
        except asyncio.CancelledError:
            self.kill()  # its answer would be taken for that of the next question
            raise
        finally:
            if late is not None:
                late.cancel()

    def _too_late(self) -> None:
        self.kill()
        error = EnvError("a session's process does not answer and could not be killed", kind="hang")
        asyncio.get_running_loop().call_later(DEATH_S, self._give_up, error)

    def _give_up(self, error: TurnwiseError) -> None:
        """Answer what is being waited for with an error."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def _as_error(self, answer: Answer) -> TurnwiseError:
        if isinstance(answer, Problem):
            return error_of(answer.boundary, answer.message, kind=answer.kind)
        return TransportError(f"a session's process answered a {type(answer).__name__}")
