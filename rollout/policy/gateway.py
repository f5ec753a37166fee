"""A worker's gateway: carries the questions of its slots' processes to the policy's replicas.

The slots are plain processes that know nothing of Ray. They reach the worker over a Unix socket in a
folder that only this user may enter; the worker asks the replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import zlib
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Protocol

from turnwise.errors import TurnwiseError, attribute_to
from turnwise.rollout.policy.frames import (
    HEAD,
    MAX_FRAME,
    Act,
    Forget,
    decode_question,
    encode,
    frame,
    problem_of,
)


class Replica(Protocol):
    """One copy of a policy, as the gateway sees it."""

    def ask(self, data: bytes) -> Awaitable[bytes]:
        """Return the encoded answer to an encoded question.

        Raises:
            TurnwiseError: The replica cannot be reached any more.
        """
        ...


class Gateway:
    """Serves the slots of one worker, on that worker's event loop."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        """Prepare a gateway.

        Args:
            replicas: The policy's replicas, at least one.
        """
        self._replicas = tuple(replicas)
        self._folder = ""
        self._server: asyncio.AbstractServer | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> str:
        """Where the slots connect to."""
        return str(Path(self._folder) / "policy.sock")

    async def start(self) -> None:
        """Listen."""
        self._folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="turnwise-")
        self._server = await asyncio.start_unix_server(self._accept, self.path)

    async def close(self) -> None:
        """Hang up on all slots; what they had asked for is given up."""
        if self._server is not None:
            self._server.close()
        for talk in tuple(self._talks):
            talk.cancel()
        if self._talks:
            await asyncio.wait(self._talks, timeout=1.0)
        if self._farewells:
            await asyncio.wait(self._farewells, timeout=1.0)
        if self._folder:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one slot until it hangs up, as a killed process does."""
        session = ""
        try:
            while True:
                (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
                if size > MAX_FRAME:
                    return
                data = await reader.readexactly(size)
                question = decode_question(data)
                if isinstance(question, Act):
                    session = question.request.session
                answer = await _unless_hung_up(self._ask(session, data), reader)
                if isinstance(question, Forget):
                    session = ""
                if answer is None:
                    return
                writer.write(frame(answer))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, TurnwiseError):
            return
        finally:
            writer.close()
            if session:
                farewell = asyncio.get_running_loop().create_task(self._forget(session))
                self._farewells.add(farewell)
                farewell.add_done_callback(self._farewells.discard)

    async def _ask(self, session: str, data: bytes) -> bytes:
        # An episode stays with its replica, which keeps what it has computed for it.
        replica = self._replicas[zlib.crc32(session.encode("utf-8", "replace")) % len(self._replicas)]
        try:
            with attribute_to("policy", "asking the policy"):
                return await replica.ask(data)
        except TurnwiseError as error:
            return encode(problem_of(error))

    async def _forget(self, session: str) -> None:
        with contextlib.suppress(TurnwiseError, asyncio.CancelledError):
            await self._ask(session, encode(Forget(session=session)))


async def _unless_hung_up(asking: Awaitable[bytes], reader: asyncio.StreamReader) -> bytes | None:
    """Return the answer, or None as soon as the other side is gone: then the question is given up."""
    asked = asyncio.ensure_future(asking)
    # A slot says nothing while it waits, so whatever comes is the end of the stream.
    hung_up = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({asked, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        return asked.result() if asked.done() else None
    finally:
        for future in (asked, hung_up):
            if not future.done():
                future.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await future
