"""What goes between the server and its workers: msgpack frames over a socket pair."""

from __future__ import annotations

import socket
import struct
from typing import Any, TypeAlias

import msgspec

from turnwise.records import Json
from turnwise.rollout.oracle.schema import EvidenceLevel

HEAD = struct.Struct("<I")
MAX_FRAME = 1 << 30


class Setup(msgspec.Struct, tag="setup", frozen=True, kw_only=True, array_like=True):
    """The first frame to a worker: what its oracle is made of."""

    path: list[str]
    rewards: Json
    registered: dict[str, str]
    env: str | None
    env_options: dict[str, Json]
    tokenizer: str | None
    match: str
    threads: int


class Job(msgspec.Struct, tag="job", frozen=True, array_like=True):
    """Something to score."""

    number: int
    kind: str
    evidence: EvidenceLevel
    payload: bytes


class Ping(msgspec.Struct, tag="ping", frozen=True, array_like=True):
    """Asks whether the worker still runs Python."""

    number: int


class Ready(msgspec.Struct, tag="ready", frozen=True, kw_only=True, array_like=True):
    """The worker's oracle is made; or why it is not."""

    problem: str | None = None


class Done(msgspec.Struct, tag="done", frozen=True, array_like=True):
    """A job's end: its status and reply; or 4xx, code, place and message of a payload that was refused."""

    number: int
    status: str
    body: bytes
    http: int = 0
    place: str = ""


class Pong(msgspec.Struct, tag="pong", frozen=True, array_like=True):
    """The answer to a ping."""

    number: int


ToWorker: TypeAlias = Setup | Job | Ping
FromWorker: TypeAlias = Ready | Done | Pong

_encoder = msgspec.msgpack.Encoder()
to_worker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Setup | Job | Ping)
from_worker: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Ready | Done | Pong)


def frame(message: ToWorker | FromWorker) -> bytes:
    """Return a message with its length in front."""
    body = _encoder.encode(message)
    return HEAD.pack(len(body)) + body


class FrameReader:
    """Reads frames from a blocking socket."""

    def __init__(self, end: socket.socket) -> None:
        """Read from ``end``."""
        self._file = end.makefile("rb", buffering=1 << 18)

    def read(self) -> bytes | None:
        """Return the next frame's body, or None at the end."""
        head = self._file.read(HEAD.size)
        if len(head) < HEAD.size:
            return None
        (length,) = HEAD.unpack(head)
        body = self._file.read(length)
        return body if len(body) == length else None
