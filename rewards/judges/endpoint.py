"""One chat completion over HTTP: bounded concurrency, a rate, retries by kind of failure, and a deadline."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from turnwise.errors import JudgeError, MissingExtraError
from turnwise.rewards.validity import cut

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MAX_REPLY_BYTES = 8_000_000
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Completion(NamedTuple):
    """A reply; ``cut`` says whether the model ran into its token limit."""

    text: str
    cut: bool


class _RetryableError(Exception):
    """A failure that may pass; ``after_s`` is how long the server wants us to wait."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class ChatEndpoint:
    """An OpenAI-compatible ``/chat/completions``, for use from several threads at once."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key_env: str,
        timeout_s: float,
        retries: int,
        max_concurrency: int,
        requests_per_minute: float | None,
    ) -> None:
        """Describe the endpoint; the options are those of :class:`turnwise.rewards.judges.llm.LLMJudge`.

        Raises:
            MissingExtraError: httpx is not installed.
        """
        if importlib.util.find_spec("httpx") is None:
            raise MissingExtraError("httpx", "llm")
        self.url = base_url.rstrip("/") + "/chat/completions"
        self.api_key_env = api_key_env
        self.timeout_s = timeout_s
        self.retries = retries
        self.max_concurrency = max_concurrency
        self._slots = threading.BoundedSemaphore(max_concurrency)
        self._pace_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._pid = 0

    def complete(self, body: bytes, deadline: float) -> Completion:
        """Send a request and return the reply.

        Args:
            body: The request as JSON.
            deadline: When to give up, on the clock of ``time.monotonic``.

        Raises:
            JudgeError: The endpoint cannot be reached, refuses, keeps failing or is too slow; kind ``"hang"`` when the
                deadline passed.
        """
        problem = "it was never asked"
        for attempt in range(self.retries + 1):
            self._wait_for_turn(deadline, problem)
            if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise JudgeError(f"the judge's {self.max_concurrency} connections stayed busy", kind="hang")
            try:
                return self._request(body, deadline)
            except _RetryableError as error:
                problem = str(error)
                pause = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)] if error.after_s is None else error.after_s
            finally:
                self._slots.release()
            if attempt < self.retries:
                self._sleep(pause, deadline, problem)
        raise JudgeError(f"the judge at {self.url} failed {self.retries + 1} times, the last: {problem}")

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None

    def _wait_for_turn(self, deadline: float, problem: str) -> None:
        if not self._pace_s:
            return
        with self._lock:
            turn = max(time.monotonic(), self._next)
            if turn > deadline:
                raise JudgeError("the judge's rate limit leaves no room before the deadline", kind="hang")
            self._next = turn + self._pace_s
        self._sleep(turn - time.monotonic(), deadline, problem)

    def _sleep(self, pause: float, deadline: float, problem: str) -> None:
        if time.monotonic() + pause > deadline:
            raise JudgeError(f"the judge at {self.url} did not answer in time: {problem}", kind="hang")
        if pause > 0:
            time.sleep(pause)

    def _request(self, body: bytes, deadline: float) -> Completion:
        import httpx

        client = self._open()
        left = deadline - time.monotonic()
        if left <= 0:
            raise JudgeError(f"the judge at {self.url} did not answer in time", kind="hang")
        try:
            with client.stream("POST", self.url, content=body, timeout=min(left, self.timeout_s)) as response:
                payload = self._read(response, deadline)
                status, headers = response.status_code, response.headers
        except httpx.TransportError as error:
            raise _RetryableError(f"{type(error).__name__}: {error}") from error
        except httpx.HTTPError as error:
            raise JudgeError(f"the judge at {self.url} cannot be asked: {type(error).__name__}: {error}") from error
        if status in _RETRIED:
            raise _RetryableError(f"HTTP {status}: {_text(payload)}", _seconds(headers.get("retry-after")))
        if status != 200:
            raise JudgeError(f"the judge at {self.url} refused: HTTP {status}: {_text(payload)}")
        return _completion(payload)

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > _MAX_REPLY_BYTES:
                raise JudgeError(f"the judge's reply is longer than {_MAX_REPLY_BYTES} bytes")
            # A server that sends a byte now and then never runs into the time limit of a single read.
            if time.monotonic() > deadline:
                raise JudgeError(f"the judge at {self.url} did not finish its reply in time", kind="hang")
        return b"".join(parts)

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                import httpx

                key = os.environ.get(self.api_key_env, "")
                headers = {"Content-Type": "application/json"}
                if key:
                    headers["Authorization"] = f"Bearer {key}"
                limits = httpx.Limits(
                    max_connections=self.max_concurrency, max_keepalive_connections=self.max_concurrency
                )
                self._client, self._pid = httpx.Client(headers=headers, limits=limits), os.getpid()
            return self._client


def _completion(payload: bytes) -> Completion:
    try:
        choice = json.loads(payload)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _RetryableError(f"no chat completion: {type(error).__name__} in {_text(payload)}") from error
    return Completion(text if isinstance(text, str) else "", choice.get("finish_reason") == "length")


def _seconds(value: str | None) -> float | None:
    try:
        seconds: Any = float(value or "")
    except ValueError:
        return None  # a date, or nothing
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None


def _text(payload: bytes) -> str:
    return cut(payload[:400].decode("utf-8", "replace"))


_encoder = msgspec.json.Encoder(order="deterministic")


def request_body(request: Mapping[str, Any]) -> bytes:
    """Return a request as JSON, with keys in order so that equal requests have equal bytes."""
    return _encoder.encode(request)
