"""Clients of a served oracle: typed, with retries that cost nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import msgspec

from turnwise.errors import MissingExtraError, TransportError
from turnwise.records import Json, Trajectory
from turnwise.rollout.oracle.calls import RETRIED, TIMEOUT_S, CallPlan, read_results, request_body
from turnwise.rollout.oracle.schema import CreditSpec, EvidenceLevel, Item, ItemResult, StreamLine

_line = msgspec.json.Decoder(StreamLine)


def _httpx() -> Any:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise MissingExtraError("httpx", "serve") from error
    return httpx


class OracleClient:
    """A blocking client; one object may be used from several threads."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = 4,
        connections: int = 64,
    ) -> None:
        """Name the server; nothing is opened yet.

        Args:
            url: Its address, such as ``"http://127.0.0.1:8000"``.
            token: Its token, or None.
            timeout_s: Seconds to wait for a reply; longer than the server's deadline.
            retries: How often a call that failed for a reason that may pass is sent again.
            connections: Connections kept open.

        Raises:
            ConfigError: An option is out of range.
            MissingExtraError: httpx is not installed.
        """
        self._plan = CallPlan(url=url, token=token, timeout_s=timeout_s, retries=retries)
        httpx = _httpx()
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http: Any = httpx.Client(timeout=timeout_s, limits=limits)

    def __enter__(self) -> OracleClient:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(
        self,
        items: Sequence[Item | Trajectory],
        *,
        credit: CreditSpec | None = None,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
    ) -> list[ItemResult]:
        """Score items or trajectories, as :meth:`turnwise.rollout.oracle.Oracle.score_items`.

        Raises:
            ConfigError: The server refuses the request.
            TransportError: It cannot be reached, or keeps failing.
        """
        if not items:
            return []
        body = request_body(items, credit, evidence, deadline_s)
        return read_results(self._send("POST", "/v1/score", body), len(items))

    def stream(
        self, items: Sequence[Item | Trajectory], *, evidence: EvidenceLevel = "total", deadline_s: float | None = None
    ) -> Iterator[tuple[int, ItemResult]]:
        """Yield each item's place and result as soon as it is scored. Not retried: what was yielded stays.

        Raises:
            ConfigError: The server refuses the request.
            TransportError: The connection broke.
        """
        httpx = _httpx()
        body = request_body(items, None, evidence, deadline_s)
        try:
            with self._http.stream(
                "POST", self._plan.at("/v1/score/stream"), content=body, headers=self._plan.headers()
            ) as response:
                if response.status_code >= 400:
                    self._plan.check(response.status_code, response.read())
                for line in response.iter_lines():
                    read = _line.decode(line)
                    yield read.index, read.result
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise TransportError(f"the oracle at {self._plan.url} broke off: {error}") from error

    def health(self) -> Mapping[str, Json]:
        """Return what the server says about itself.

        Raises:
            TransportError: It cannot be reached.
        """
        state: dict[str, Json] = msgspec.json.decode(self._send("GET", "/health", b""))
        return state

    def _send(self, method: str, path: str, body: bytes) -> bytes:
        httpx, plan = _httpx(), self._plan
        headers, problem = plan.headers(), ""
        for attempt in range(plan.retries + 1):
            after = None
            try:
                response = self._http.request(method, plan.at(path), content=body, headers=headers)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.status_code not in RETRIED:
                    plan.check(response.status_code, response.content)
                    return bytes(response.content)
                problem, after = f"HTTP {response.status_code}", response.headers.get("retry-after")
            if attempt < plan.retries:
                time.sleep(plan.pause(attempt, after))
        raise plan.gave_up(problem)


class AsyncOracleClient:
    """The same for asyncio; one object belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = 4,
        connections: int = 64,
    ) -> None:
        """Name the server; the options are those of :class:`OracleClient`.

        Raises:
            ConfigError: An option is out of range.
            MissingExtraError: httpx is not installed.
        """
        self._plan = CallPlan(url=url, token=token, timeout_s=timeout_s, retries=retries)
        httpx = _httpx()
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http: Any = httpx.AsyncClient(timeout=timeout_s, limits=limits)

    async def __aenter__(self) -> AsyncOracleClient:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(
        self,
        items: Sequence[Item | Trajectory],
        *,
        credit: CreditSpec | None = None,
        evidence: EvidenceLevel = "total",
        deadline_s: float | None = None,
    ) -> list[ItemResult]:
        """Score items or trajectories, as :meth:`OracleClient.score`.

        Raises:
            ConfigError: The server refuses the request.
            TransportError: It cannot be reached, or keeps failing.
        """
        if not items:
            return []
        body = request_body(items, credit, evidence, deadline_s)
        return read_results(await self._send("POST", "/v1/score", body), len(items))

    async def stream(
        self, items: Sequence[Item | Trajectory], *, evidence: EvidenceLevel = "total", deadline_s: float | None = None
    ) -> AsyncIterator[tuple[int, ItemResult]]:
        """Yield each item's place and result as soon as it is scored, as :meth:`OracleClient.stream`.

        Raises:
            ConfigError: The server refuses the request.
            TransportError: The connection broke.
        """
        httpx = _httpx()
        body = request_body(items, None, evidence, deadline_s)
        try:
            async with self._http.stream(
                "POST", self._plan.at("/v1/score/stream"), content=body, headers=self._plan.headers()
            ) as response:
                if response.status_code >= 400:
                    self._plan.check(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    read = _line.decode(line)
                    yield read.index, read.result
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            raise TransportError(f"the oracle at {self._plan.url} broke off: {error}") from error

    async def health(self) -> Mapping[str, Json]:
        """Return what the server says about itself.

        Raises:
            TransportError: It cannot be reached.
        """
        state: dict[str, Json] = msgspec.json.decode(await self._send("GET", "/health", b""))
        return state

    async def _send(self, method: str, path: str, body: bytes) -> bytes:
        httpx, plan = _httpx(), self._plan
        headers, problem = plan.headers(), ""
        for attempt in range(plan.retries + 1):
            after = None
            try:
                response = await self._http.request(method, plan.at(path), content=body, headers=headers)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            else:
                if response.status_code not in RETRIED:
                    plan.check(response.status_code, response.content)
                    return bytes(response.content)
                problem, after = f"HTTP {response.status_code}", response.headers.get("retry-after")
            if attempt < plan.retries:
                await asyncio.sleep(plan.pause(attempt, after))
        raise plan.gave_up(problem)
