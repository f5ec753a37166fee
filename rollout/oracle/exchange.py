"""Requests and replies as the endpoints see them, between raw ASGI and the dialects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Protocol, TypeAlias

from turnwise.rollout.oracle.service import OracleService

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Incoming:
    """A request whose body was read and is within the limits.

    Attributes:
        body: The body.
        headers: Lower-case name to value.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def cookie(self, name: str) -> str | None:
        """Return a cookie, or None."""
        try:
            found = SimpleCookie(self.headers.get("cookie", "")).get(name)
        except CookieError:
            return None
        return None if found is None else found.value


@dataclass(frozen=True)
class Reply:
    """What to answer.

    Attributes:
        body: The body.
        status: The HTTP status.
        headers: Further headers.
        stream: Pieces of the body instead of ``body``.
        content_type: The media type.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    stream: AsyncIterator[bytes] | None = None
    content_type: str = JSON


class Answer(Protocol):
    """Answers the requests of one path."""

    async def __call__(self, request: Incoming, service: OracleService) -> Reply:
        """Answer a request.

        Raises:
            RejectedError: It is the caller's fault; becomes a 4xx.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One path of the served oracle.

    Attributes:
        dialect: Whose it is, for the counters.
        path: The path.
        answer: Answers it.
        summary: One line for the documentation.
        request: JSON Schema of the body.
        reply: JSON Schema of the reply.
        reply_type: Media type of the reply.
    """

    dialect: str
    path: str
    answer: Answer
    summary: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any]
    reply_type: str = JSON
