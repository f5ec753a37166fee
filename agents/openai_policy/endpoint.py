"""The way to the server: one client, limits, and tries again where that may help."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from turnwise.agents.openai_policy.errors import (
    Failure,
    OversizedError,
    by_status,
    in_stream,
    one_line,
    read_error,
    retry_after,
)
from turnwise.agents.openai_policy.limits import Backoff, Clock, TokenBucket
from turnwise.agents.openai_policy.options import Options
from turnwise.agents.openai_policy.replies import Collector, MalformedError, Reply, read_completion, read_models
from turnwise.errors import ConfigError, MissingExtraError
from turnwise.records import Json

if TYPE_CHECKING:
    from openai import AsyncOpenAI

ResultT = TypeVar("ResultT")
MAX_RESPONSE_BYTES = 32_000_000
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Endpoint:
    """An OpenAI-compatible API, used from one event loop."""

    def __init__(self, url: str, options: Options, clock: Clock) -> None:
        """Describe the server; nothing is opened.

        Args:
            url: Address of the API.
            options: Limits, retries, and where the key is.
            clock: Where the limits take the time from.
        """
        self.url = url
        self._timeout_s = options.timeout_s
        self._retries = options.retries
        self._key_env = options.key_env
        self._clock = clock
        self._backoff = Backoff(options.pause_s)
        self._slots = asyncio.Semaphore(options.concurrency)
        self._bucket = TokenBucket(options.rate, clock)
        self._client: AsyncOpenAI | None = None
        self._key = ""
        self._openai: Any = None
        self._bounded: Any = None
        self._http: Any = None

    def open(self) -> AsyncOpenAI:
        """Make the client, once, and return it.

        Raises:
            ConfigError: The key cannot be sent.
            MissingExtraError: The library ``openai`` is not installed.
        """
        if self._client is not None:
            return self._client
        try:
            import openai
        except ModuleNotFoundError as error:
            raise MissingExtraError("openai", "llm") from error
        self._openai = openai
        self._http = _http_library(openai)
        self._key = _key(self._key_env)
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._key or "none",  # the library wants one; without a key the header is taken off again
            max_retries=0,
            timeout=self._timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(
                # A redirect would take the conversation, and on the same host the key, to where nobody sent it.
                follow_redirects=False,
                # Proxies of the environment are for the way out of this machine.
                trust_env=urlsplit(self.url).hostname not in _LOOPBACK,
                event_hooks={"request": [self._before], "response": [self._bound]},
            ),
        )
        self._bounded = _bounded_stream(self._http)
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- requests ----------------------------------------------------------------------------------

    async def complete(self, body: dict[str, Json]) -> Reply:
        """Ask for a message.

        Raises:
            Failure: The request failed for good.
        """
        return await self._tried(self._streamed if body.get("stream") else self._whole, body, str(body["model"]))

    async def models(self) -> list[str]:
        """Ask for the names of the models.

        Raises:
            Failure: The request failed for good.
        """
        return await self._tried(self._models, {}, "")

    async def _whole(self, client: AsyncOpenAI, body: dict[str, Json]) -> Reply:
        response = await client.post("/chat/completions", cast_to=self._http.Response, body=body)
        return read_completion(response.content)

    async def _streamed(self, client: AsyncOpenAI, body: dict[str, Json]) -> Reply:
        stream: Any = await client.post(
            "/chat/completions", cast_to=object, body=body, stream=True, stream_cls=self._openai.AsyncStream[object]
        )
        collected = Collector()
        async with stream:
            async for chunk in stream:
                collected.add(chunk)
        if not collected.complete:
            raise Failure("the stream ended before the message did", blame="transport", kind="connection", retry=True)
        return collected.reply()

    async def _models(self, client: AsyncOpenAI, _: dict[str, Json]) -> list[str]:
        response = await client.get("/models", cast_to=self._http.Response)
        return read_models(response.content)

    async def _tried(
        self, ask: Callable[[AsyncOpenAI, dict[str, Json]], Awaitable[ResultT]], body: dict[str, Json], model: str
    ) -> ResultT:
        attempt = 0
        while True:
            try:
                return await self._once(ask, body, model)
            except Failure as failure:
                if not failure.retry or attempt >= self._retries:
                    failure.attempts = attempt + 1
                    raise
                pause = self._backoff.pause(attempt, failure.after_s)
            attempt += 1
            # The slot is free meanwhile: a request that waits keeps no other one waiting.
            await self._clock.sleep(pause)

    async def _once(
        self, ask: Callable[[AsyncOpenAI, dict[str, Json]], Awaitable[ResultT]], body: dict[str, Json], model: str
    ) -> ResultT:
        async with self._slots:
            await self._bucket.take()
            client = self.open()
            try:
                # The client's own limit is per read: a server that drips would never run into it.
                return await asyncio.wait_for(ask(client, body), self._timeout_s)
            except Failure:
                raise
            except Exception as error:
                failure = self._read_failure(error, model)
                if failure is None:
                    raise
                raise failure from None  # the library's error may quote the key

    def _read_failure(self, error: Exception, model: str) -> Failure | None:
        """Classify what a request raised; None for what is no failure of a request."""
        openai, http = self._openai, self._http
        oversized = next((cause for cause in _causes(error) if isinstance(cause, OversizedError)), None)
        if oversized is not None:
            return Failure(str(oversized), blame="policy", kind="oversized")
        if isinstance(error, asyncio.TimeoutError | openai.APITimeoutError | http.TimeoutException):
            return Failure(f"no answer in {self._timeout_s:g} s", blame="transport", kind="timeout", retry=True)
        if isinstance(error, openai.APIStatusError):
            said = read_error(error.response.content, secret=self._key)
            after_s = retry_after(error.response.headers)
            return by_status(
                error.status_code, said, key_env=self._key_env, has_key=bool(self._key), model=model, after_s=after_s
            )
        if isinstance(error, openai.APIConnectionError | http.TransportError | http.StreamError):
            cause = error.__cause__ or error
            text = one_line(f"{type(cause).__name__}: {cause}", secret=self._key)
            return Failure(text, blame="transport", kind="connection", retry=True)
        if isinstance(error, openai.APIError):
            said = read_error(error.body if isinstance(error.body, dict) else str(error.body), secret=self._key)
            return in_stream(said, key_env=self._key_env, has_key=bool(self._key))
        # ValueError: JSON that is broken, or text that is no UTF-8; DecodingError: a broken compression.
        if isinstance(error, MalformedError | ValueError | http.DecodingError):
            text = one_line(f"{error}", secret=self._key)
            return Failure(f"no chat completion: {text}", blame="policy", kind="malformed")
        return None

    # -- hooks of the HTTP client --------------------------------------------------------------------

    async def _before(self, request: Any) -> None:
        # Compressed, a small response could grow beyond all bounds when it is read.
        request.headers["Accept-Encoding"] = "identity"
        if not self._key:
            request.headers.pop("Authorization", None)

    async def _bound(self, response: Any) -> None:
        coding = response.headers.get("content-encoding", "identity")
        if coding != "identity":
            raise OversizedError(f"the response is compressed ({one_line(coding)}), which was not asked for")
        response.stream = self._bounded(response.stream)


def _http_library(openai: Any) -> Any:
    """Return what ``openai`` is built on: httpx, or httpx2 since its version 3."""
    base = next(one for one in openai.DefaultAsyncHttpxClient.__mro__ if one.__name__ == "AsyncClient")
    return importlib.import_module(base.__module__.partition(".")[0])


def _bounded_stream(http: Any) -> Any:
    """Return the class of streams that raise :class:`OversizedError` beyond the bound."""

    class Bounded(http.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, stream: Any) -> None:
            self._stream = stream

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for part in self._stream:
                size += len(part)
                if size > MAX_RESPONSE_BYTES:
                    raise OversizedError(f"the response is larger than {MAX_RESPONSE_BYTES} bytes")
                yield part

        async def aclose(self) -> None:
            await self._stream.aclose()

    return Bounded


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip() if name else ""
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the key in the environment variable {name!r} holds characters that no header may have")
    return key
