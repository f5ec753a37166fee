"""What the blocking and the async client do the same way: requests, retries, and reading replies."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from turnwise.errors import ConfigError, TransportError
from turnwise.records import Trajectory
from turnwise.rollout.oracle.schema import (
    CreditSpec,
    ErrorReply,
    EvidenceLevel,
    Item,
    ItemResult,
    ScoreReply,
    ScoreRequest,
)

TIMEOUT_S = 150.0
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)

_reply = msgspec.json.Decoder(ScoreReply)


@dataclass(frozen=True, kw_only=True)
class CallPlan:
    """What both clients do the same way."""

    url: str
    token: str | None
    timeout_s: float
    retries: int

    def __post_init__(self) -> None:
        if not isinstance(self.url, str) or not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"the oracle's address begins with http:// or https://, got {self.url!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise ConfigError(f"retries must be a whole number of at least 0, got {self.retries!r}")
        if not self.timeout_s > 0:
            raise ConfigError(f"timeout_s must be a positive number of seconds, got {self.timeout_s!r}")

    def at(self, path: str) -> str:
        """Return the address of a path."""
        return self.url.rstrip("/") + path

    def headers(self) -> dict[str, str]:
        """Return the headers of one call."""
        # One key for all tries of a call: the server knows a retry from another call.
        made = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        if self.token is not None:
            made["Authorization"] = f"Bearer {self.token}"
        return made

    def pause(self, attempt: int, retry_after: str | None) -> float:
        """Return the seconds before the next try, some of them by chance so that clients do not come back at once."""
        base = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
        if retry_after is not None and retry_after.isdigit():
            base = max(base, float(retry_after))
        return base * (0.5 + random.random())  # noqa: S311 - not for secrets, and no result depends on it

    def check(self, status: int, body: bytes) -> None:
        """Raise for what no retry can help.

        Raises:
            ConfigError: The server refuses the request.
        """
        if status < 400:
            return
        try:
            error = msgspec.json.decode(body, type=ErrorReply).error
            place = f"{error.place}: " if error.place else ""
            raise ConfigError(f"the oracle refused (HTTP {status}, {error.code}): {place}{error.message}")
        except msgspec.MsgspecError:
            text = body[:200].decode("utf-8", "replace")
            raise ConfigError(f"the oracle at {self.url} refused: HTTP {status}: {text}") from None

    def gave_up(self, problem: str) -> TransportError:
        """Return the error of a call that failed for the last time."""
        return TransportError(f"the oracle at {self.url} failed {self.retries + 1} times, the last: {problem}")


def as_items(items: Sequence[Item | Trajectory]) -> list[Item]:
    """Return items, where trajectories become items with their tasks as groups."""
    return [
        Item(id=item.id, trajectory=item, group=f"{item.env_id} {item.group}"[:512])
        if isinstance(item, Trajectory)
        else item
        for item in items
    ]


def request_body(
    items: Sequence[Item | Trajectory],
    credit: CreditSpec | None,
    evidence: EvidenceLevel,
    deadline_s: float | None,
) -> bytes:
    """Return the body of a call.

    Raises:
        ConfigError: An item holds what JSON has no form for.
    """
    request = ScoreRequest(items=as_items(items), credit=credit, evidence=evidence, deadline_s=deadline_s)
    try:
        return msgspec.json.encode(request)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the items cannot be sent as JSON: {error}") from error


def read_results(body: bytes, count: int) -> list[ItemResult]:
    """Return the results in a reply.

    Raises:
        TransportError: It is no such reply, or has another number of results.
    """
    try:
        results = _reply.decode(body).results
    except msgspec.MsgspecError as error:
        raise TransportError(f"the oracle's reply cannot be read: {error}") from error
    if len(results) != count:
        raise TransportError(f"the oracle returned {len(results)} results for {count} items")
    return results
